"""Runs of `fit_seeds` that cannot lie side by side equal `fit`: models that compile much, in a process of their own."""

import pytest
from many_runs import ONE_BY_ONE, assert_every_run

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_what_is_trained_one_after_the_other(name):
    build, reason = ONE_BY_ONE[name]
    with pytest.warns(UserWarning, match=f"one after the other, not side by side: .*{reason}"):
        assert_every_run(build, seeds=(0, 1), epochs=2)
