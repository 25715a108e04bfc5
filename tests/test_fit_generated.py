"""`fit` and `fit_seeds` equal `model.fit` on what hypothesis draws, or hand over; `make fuzz` draws any number more."""

import pytest
from generated import CASES, MANY, hold, hold_runs
from hypothesis import HealthCheck, Phase, given, settings

# The same cases every time, and no smaller ones looked for: a failure prints its case, and `make fuzz` makes it small.
DRAWN = {
    "deadline": None,
    "derandomize": True,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}


@pytest.mark.thorough
@settings(max_examples=40, **DRAWN)
@given(CASES)
def test_whatever_is_drawn_is_trained_as_keras_does_or_handed_over(case):
    hold(case)


@pytest.mark.thorough
@settings(max_examples=12, **DRAWN)
@given(MANY)
def test_whatever_is_drawn_is_trained_in_many_runs_as_in_one(case):
    hold_runs(case)
