"""Runs of `fit_seeds` equal `fit` over optimizers and models, those that lie side by side and those that cannot."""

import pytest
from many_runs import (
    BUILDERS,
    ONE_BY_ONE,
    assert_every_run,
)

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("build", BUILDERS)
def test_optimizers_and_models(build):
    assert_every_run(BUILDERS[build])


@pytest.mark.parametrize("build", ONE_BY_ONE)
def test_what_is_trained_one_after_the_other(build):
    assert_every_run(ONE_BY_ONE[build], seeds=(0, 1), epochs=2)
