"""Many runs of what hypothesis draws are each what `fit` gives; `make fuzz` draws any number more."""

import pytest
from generated import DRAWN, MANY, hold_runs
from hypothesis import given, settings


@pytest.mark.thorough
@settings(max_examples=12, **DRAWN)
@given(MANY)
def test_whatever_is_drawn_is_trained_in_many_runs_as_in_one(case):
    hold_runs(case)
