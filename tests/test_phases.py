"""Runs in phases, held against `fit_seeds` and against Keras itself."""

from functools import partial

import keras
import numpy as np
import pandas as pd
import pytest

from batchlab.models import build_model
from batchlab.study.phases import Phase, fit_phases
from batchlab.training import draw_weights, fit_seeds

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2)).astype(np.float32)
Y = (X[:, 0] + 0.3 * rng.normal(size=60) > 0).astype(np.float32)
build = partial(build_model, (4,), optimizer="momentum")


@pytest.mark.parametrize("phases", [[Phase(6, 10, 0.05)], [Phase(2, 10, 0.05), Phase(4, 10, 0.05)]])
def test_phases_that_are_all_alike_are_one_run_with_its_momentum_and_its_row_orders(phases):
    in_phases = fit_phases(build, X, Y, phases, seeds=3, validation_split=0.2)
    expected = fit_seeds(build, X, Y, seeds=3, batch_size=10, epochs=6, learning_rates=[0.05], validation_split=0.2)
    pd.testing.assert_frame_equal(in_phases, expected, rtol=1e-4, check_dtype=False)


def test_batch_size_and_rate_change_and_updates_count_on():
    frame = fit_phases(build, X, Y, [Phase(1, 10, 0.05), Phase(2, 24, 0.1), Phase(1, 60, 0.2)], seeds=2)
    one = frame[frame["seed"] == 1]
    assert one["epoch"].tolist() == [1, 2, 3, 4]
    assert one["updates"].tolist() == [6, 9, 12, 13]
    assert one["batch_size"].tolist() == [10, 24, 24, 60]
    assert one["learning_rate"].tolist() == [0.05, 0.1, 0.1, 0.2]


def test_the_last_phase_equals_keras_which_goes_on_with_all_rows():
    frame = fit_phases(build, X, Y, [Phase(3, 60, 0.05), Phase(3, 60, 0.2)], seeds=1)
    model = build()
    draw_weights(model, 0)
    losses = []
    for rate in (0.05, 0.2):
        model.optimizer.learning_rate = rate
        losses += model.fit(X, Y, batch_size=60, epochs=3, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(frame["loss"], losses, rtol=1e-5)


def test_a_run_does_not_depend_on_those_before_it():
    phases = [Phase(2, 20, 0.1), Phase(1, 60, 0.1)]
    three, two = (fit_phases(build, X, Y, phases, seeds=seeds) for seeds in (3, 2))
    pd.testing.assert_frame_equal(three[three["seed"] < 2], two)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (lambda: fit_phases(build, X, Y, [], seeds=1), ValueError, "no phase"),
        (lambda: fit_phases(build, X, Y, [Phase(1, 10, 0.1)], seeds=0), ValueError, "`seeds` is 0"),
        (lambda: fit_phases(scheduled, X, Y, [Phase(1, 10, 0.1)], seeds=1), ValueError, "schedule"),
        (lambda: Phase(0, 10, 0.1), ValueError, "`epochs` is 0"),
        (lambda: Phase(1, 1.5, 0.1), TypeError, "`batch_size` is 1.5"),
        (lambda: Phase(1, 10, 0.0), ValueError, "`learning_rate` is 0.0"),
    ],
)
def test_what_is_refused(wrong, error, said):
    with pytest.raises(error, match=said):
        wrong()


def scheduled():
    return build_model((4,), optimizer=keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)))
