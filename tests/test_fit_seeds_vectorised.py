"""Runs of `fit_seeds` that TensorFlow vectorises equal `fit`, each with masks and statistics of its own."""

import importlib
import warnings
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers
from many_runs import VECTORISED, X, Y, assert_every_run, on_every_core, runs, single_runs, stack

from batchlab import training
from batchlab.training.programs.vectorised import VectorisedProgram

BOTH = VECTORISED["both"]


@pytest.fixture(autouse=True)
def side_by_side():
    """A warning would say that the runs are trained one after the other."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "both" else pytest.mark.thorough) for name in VECTORISED]
)
def test_every_run_equals_fit(name):
    assert_every_run(VECTORISED[name], seeds=(0, 1), epochs=2)


def test_more_runs_than_a_program_holds_and_rates_of_their_own(monkeypatch):
    monkeypatch.setattr(VectorisedProgram, "fitting", staticmethod(lambda *_: (2, 2)))
    arguments = {"epochs": 2, "learning_rates": [0.02, 0.1], "keep_weights": True}
    with on_every_core():
        frame, weights = runs(BOTH, seeds=[3, 1, 4], **arguments)
    assert len(frame) == 12 and all(len(weight) == 6 for weight in weights)
    for position, (rate, seed) in enumerate([(r, s) for r in (0.02, 0.1) for s in (3, 1, 4)]):
        model = BOTH()
        model.optimizer.learning_rate = rate
        training.draw_weights(model, seed)
        history = training.fit(model, X, Y, batch_size=32, epochs=2, validation_split=0.2, seed=seed).history
        rows = frame[(frame["seed"] == seed) & np.isclose(frame["learning_rate"], rate)]
        np.testing.assert_allclose(rows["val_loss"], history["val_loss"], atol=1e-5)
        for found, expected in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_allclose(found[position], expected, atol=1e-5)


@pytest.mark.thorough
def test_programs_that_are_made_at_a_time_leave_each_other_alone():
    sizes = [16, 24, 40]
    with ThreadPoolExecutor(len(sizes)) as pool:
        found = pool.map(lambda size: runs(BOTH, seeds=2, epochs=1, batch_size=size), sizes)
    for size, frame in zip(sizes, found, strict=True):
        history, _ = single_runs(BOTH)(1, epochs=1, batch_size=size)
        np.testing.assert_allclose(frame[frame["seed"] == 1]["loss"], history["loss"], atol=1e-5)


@pytest.mark.thorough
def test_weights_that_all_runs_share_leave_each_its_own_masks():
    begin = BOTH().get_weights()
    frame = runs(BOTH, seeds=[0, 1], shuffle_seed=7, initial_weights=begin, epochs=2)
    run = single_runs(
        BOTH, lambda model, *a, **n: model.set_weights(begin) or training.fit(model, *a, **n | {"seed": 7})
    )
    for seed in (0, 1):
        history, _ = run(seed, epochs=2)
        np.testing.assert_allclose(frame[frame["seed"] == seed]["loss"], history["loss"], atol=1e-5)
    assert frame[frame["seed"] == 0]["loss"].iloc[0] != frame[frame["seed"] == 1]["loss"].iloc[0]


@pytest.mark.thorough
def test_sample_weights_reach_every_run():
    assert_every_run(BOTH, seeds=(0, 1), epochs=2, class_weight={0: 1.0, 1: 3.0})


@pytest.mark.thorough
def test_a_broken_program_is_not_used(monkeypatch):
    own = VectorisedProgram._reset

    def mixes(self):
        own(self)
        self._theta.assign(self._theta + 0.01 * keras.ops.roll(self._theta, 1, axis=0))

    monkeypatch.setattr(VectorisedProgram, "_reset", mixes)
    with pytest.warns(UserWarning, match="its compiled step differs from Keras's"):
        runs(lambda: stack(layers.Dense(5), layers.Dropout(0.3)), seeds=2, epochs=1)


def test_memory_asks_for_fewer_runs_at_once(monkeypatch):
    made, own = [], VectorisedProgram.__init__

    def noted(self, *arguments, runs):
        made.append(runs)
        own(self, *arguments, runs=runs)

    monkeypatch.setattr(VectorisedProgram, "__init__", noted)
    build = lambda: stack(layers.Dense(7), layers.LayerNormalization())  # noqa: E731
    train, valid = (training.rows.Rows(X[part], Y[part], None) for part in (slice(320), slice(320, 400)))
    a_run = VectorisedProgram.bytes_per_run(build(), train, valid, 32)
    monkeypatch.setattr(importlib.import_module("batchlab.training.fit_seeds"), "process_cores", lambda: 1)
    runs(build, seeds=5, epochs=1, memory_budget=2 * a_run)
    assert set(made) == {2}
