"""`fit` equals `model.fit` on what hypothesis draws, or hands over; `make fuzz` draws any number more."""

import pytest
from generated import CASES, DRAWN, hold
from hypothesis import given, settings


@pytest.mark.thorough
@settings(max_examples=40, **DRAWN)
@given(CASES)
def test_whatever_is_drawn_is_trained_as_keras_does_or_handed_over(case):
    hold(case)
