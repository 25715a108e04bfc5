"""Compiled programs are kept, shared and bounded: nothing is compiled twice, and memory does not pile up."""

import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from batchlab import training

ROOT = Path(__file__).resolve().parent.parent
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(90, 2)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.float32)


# --- nothing is compiled twice -----------------------------------------------------------------------


@pytest.fixture
def traces(monkeypatch):
    """How often Adam's step was called in a graph: when a program is traced, and never while one runs."""
    seen = []
    own = keras.optimizers.Adam.update_step

    def update_step(self, *arguments):
        if not tf.executing_eagerly():
            seen.append(1)
        return own(self, *arguments)

    monkeypatch.setattr(keras.optimizers.Adam, "update_step", update_step)
    return seen


UNITS = iter(range(3, 1000))


@pytest.fixture
def units():
    """A width that no test before this one has used, so that the first call of every test has to compile."""
    return next(UNITS)


def chain(units, optimizer="adam", loss="binary_crossentropy"):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(units, "relu"), layers.Dense(1, "sigmoid")])
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def normalised(units):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(units), layers.BatchNormalization(), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def constrained(units):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(units, kernel_constraint="non_neg"), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def own_loss(units):
    return chain(units, loss=lambda y_true, y_pred: keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1))


def fit(model, x=X, y=Y, **arguments):
    return training.fit(model, x, y, **{"batch_size": 16, "epochs": 2, "validation_split": 0.2, **arguments})


def note_epochs():
    return [keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: None)]


def once(traces, first, *further):
    """The first call compiles, the others do not."""
    first()
    before = len(traces)
    assert before > 0
    for call in further:
        call()
        assert len(traces) == before


@pytest.mark.parametrize(
    "build", [chain, *(pytest.param(b, marks=pytest.mark.thorough) for b in (normalised, own_loss))]
)
@pytest.mark.parametrize("callbacks", [list, note_epochs], ids=["without callbacks", "with callbacks"])
def test_a_second_call_does_not_compile(traces, units, build, callbacks):
    model = build(units)
    once(
        traces,
        lambda: fit(model, callbacks=callbacks()),
        lambda: fit(model, callbacks=callbacks()),
        lambda: fit(model, X[::-1], 1 - Y, callbacks=callbacks(), seed=3),
        lambda: fit(model, callbacks=callbacks(), epochs=5),
        lambda: fit(model, callbacks=callbacks(), epochs=6, initial_epoch=5),
    )


@pytest.mark.parametrize("build", [chain, pytest.param(normalised, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("callbacks", [list, note_epochs], ids=["without callbacks", "with callbacks"])
def test_a_new_model_of_the_same_build_does_not_compile(traces, units, build, callbacks):
    once(traces, *[lambda: fit(build(units), callbacks=callbacks())] * 3)


def test_a_changed_learning_rate_does_not_compile(traces, units):
    model = chain(units)

    def change():
        model.optimizer.learning_rate = 0.5
        fit(model)

    once(traces, lambda: fit(model), change, lambda: fit(chain(units, keras.optimizers.Adam(0.03))))


@pytest.mark.thorough
def test_several_batch_sizes_are_kept(traces, units):
    def one_after_the_other():
        for batch_size in (16, 9, 72):
            fit(chain(units), batch_size=batch_size)

    once(traces, one_after_the_other, one_after_the_other)


def test_a_second_sweep_over_seeds_does_not_compile(traces, units):
    def sweep(seeds):
        training.fit_seeds(lambda: chain(units), X, Y, seeds=seeds, batch_size=16, epochs=2)

    once(traces, lambda: sweep(4), lambda: sweep([9, 7, 5, 3]))


def test_runs_one_after_the_other_compile_once(traces, units):
    def sweep(seeds):
        training.fit_seeds(lambda: constrained(units), X, Y, seeds=seeds, batch_size=16, epochs=1)

    once(traces, lambda: sweep(1), lambda: sweep(3))


# --- memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [chain, pytest.param(normalised, marks=pytest.mark.thorough)])
def test_a_trained_model_is_not_kept_alive(units, build):
    fit(build(units))  # a program may keep the first of its kind as its pattern
    second = build(units)
    fit(second)
    gone = weakref.ref(second)
    del second
    gc.collect()
    assert gone() is None


SCRIPT = """
import json, sys
import keras, numpy as np, psutil
from keras import layers
from batchlab import training

x = np.random.default_rng(0).normal(size=(100, 2)).astype("float32")
y = (x.sum(axis=1) > 0).astype("float32")

def chain(*units, activation="relu"):
    hidden = [layers.Dense(n, activation) for n in units]
    model = keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(1, "sigmoid")])
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    return model

def normalised():
    hidden = [layers.Dense(6), layers.BatchNormalization(), layers.ReLU()]
    model = keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    return model

# A fresh model each time, but for one that lives as long as the process does.
lasting = chain(7)
models = [lambda: chain(10, 10), lambda: chain(32, activation="tanh"), normalised, lambda: lasting]
batch_sizes = [1, 16, 32, 80]
pairs = [(make, size) for make in models for size in batch_sizes]
order = np.random.default_rng(1).permuted(np.tile(np.arange(len(pairs)), (13, 1)), axis=1).ravel()[:200]
process, resident = psutil.Process(), []
for i in order:
    make, size = pairs[i]
    training.fit(make(), x, y, batch_size=size, epochs=2, validation_split=0.2)
    resident.append(process.memory_info().rss / 2**20)
for i in order:  # the same models, never trained
    model = pairs[i][0]()
    model.optimizer.build(model.trainable_variables)
untrained = process.memory_info().rss / 2**20 - resident[-1]
json.dump([resident, untrained], sys.stdout)
"""


@pytest.mark.thorough
def test_two_hundred_fits_grow_the_process_by_less_than_200_mb():
    """Beyond what Keras never gives back of the models themselves, some 0.4 MB each, trained or not."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    resident, untrained = json.loads(ran.stdout)  # MB after each call; 16 programs; the first 5 calls warm up
    assert len(resident) == 200
    assert max(resident) - resident[4] - untrained < 200, (*[round(m) for m in resident[4::15]], untrained)
