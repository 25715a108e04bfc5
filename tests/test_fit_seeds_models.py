"""Runs of `fit_seeds` equal `fit` over optimizers and models that lie side by side."""

import pytest
from many_runs import BUILDERS, assert_every_run

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("build", BUILDERS)
def test_optimizers_and_models(build):
    assert_every_run(BUILDERS[build])
