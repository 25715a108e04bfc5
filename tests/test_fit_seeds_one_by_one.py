"""Runs of `fit_seeds` that cannot lie side by side equal `fit`: models that compile much, in a process of their own."""

import pytest
from many_runs import ONE_BY_ONE, assert_every_run

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("build", ONE_BY_ONE)
def test_what_is_trained_one_after_the_other(build):
    assert_every_run(ONE_BY_ONE[build], seeds=(0, 1), epochs=2)
