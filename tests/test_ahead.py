"""Epochs trained before they are asked for: no callback can tell, and nobody else."""

import itertools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import callbacks, layers
from twins import X, Y, assert_same_state, fresh, stack, train, values, with_callbacks

from batchlab import training
from batchlab.training import ahead
from batchlab.training.programs.single import SingleProgram

EPOCHS = 20


def random():
    return stack(layers.Dense(8, "tanh"), layers.Dropout(0.3, seed=2), optimizer="adam", jit_compile=False)


@pytest.fixture
def calls(monkeypatch):
    """How many epochs each call of a program trains, none of which takes any time."""
    monkeypatch.setattr(ahead, "time", SimpleNamespace(perf_counter=itertools.count(step=1e-6).__next__))
    counted, own = [], SingleProgram.at

    def at(self, *arguments):
        work = own(self, *arguments)

        def counting(orders):
            counted.append(len(orders))
            return work.train(orders)

        return work._replace(train=counting)

    monkeypatch.setattr(SingleProgram, "at", at)
    return counted


class Seen(callbacks.Callback):
    """A user's own, which looks at everything after each epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append([value.copy() for value in values([*self.model.variables, *self.model.optimizer.variables])])


OF_KERAS = {
    "EarlyStopping": lambda folder: callbacks.EarlyStopping(patience=3),
    "EarlyStopping that restores": lambda folder: callbacks.EarlyStopping(patience=4, restore_best_weights=True),
    "ReduceLROnPlateau": lambda folder: callbacks.ReduceLROnPlateau(patience=2, factor=0.5),
    "ModelCheckpoint": lambda folder: callbacks.ModelCheckpoint(folder / "{epoch}.weights.h5", save_weights_only=True),
    "the best alone": lambda folder: callbacks.ModelCheckpoint(folder / "best.keras", save_best_only=True),
    "CSVLogger": lambda folder: callbacks.CSVLogger(folder / "log.csv"),
    "TerminateOnNaN": lambda folder: callbacks.TerminateOnNaN(),
    "BackupAndRestore": lambda folder: callbacks.BackupAndRestore(folder / "backup"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if "restores" in name else pytest.mark.thorough) for name in OF_KERAS]
)
def test_keras_callbacks_leave_what_they_leave_in_keras(name, tmp_path):
    folders = {who: tmp_path / who for who in ("plain", "ours")}
    for folder in folders.values():
        folder.mkdir()
    run = with_callbacks(lambda who: [OF_KERAS[name](folders[who])], random, epochs=EPOCHS)
    assert run.ours[0].model is run.model and run.model.history.model is run.model
    written = [sorted(path.name for path in folder.rglob("*.*")) for folder in folders.values()]
    assert written[0] == written[1]
    for file in written[0]:
        if file.endswith(".weights.h5"):
            ours, plain = fresh(random), fresh(random)
            ours.load_weights(folders["ours"] / file)
            plain.load_weights(folders["plain"] / file)
            assert_same_state(ours, plain)


@pytest.mark.thorough
def test_the_rate_may_change_before_every_epoch():
    with_callbacks(lambda who: [callbacks.LearningRateScheduler(lambda epoch, rate: 0.97 * rate)], random)


def test_log_only_callbacks_are_trained_ahead_of(calls):
    train(fresh(random), epochs=EPOCHS, validation_split=0.2, callbacks=[callbacks.EarlyStopping(patience=EPOCHS)])
    assert sum(calls) == EPOCHS and len(calls) <= 7
    assert calls[:4] == [1, 1, 2, 4]  # it asks the model for its metrics once, after the first epoch


def test_a_users_own_callback_is_not(calls):
    with_callbacks(lambda who: [Seen(), callbacks.EarlyStopping(patience=2)], random, epochs=8)
    assert set(calls) == {1}
    plain, ours = [], []
    with_callbacks(lambda who: [callbacks.LambdaCallback(on_epoch_end=lambda e, logs: None)], random, epochs=3)
    assert set(calls) == {1} and plain == ours


def test_a_users_own_callback_sees_every_epoch_as_keras_leaves_it():
    run = with_callbacks(lambda who: [Seen()], random, epochs=4)
    for ours, plain in zip(run.ours[0].seen, run.plain[0].seen, strict=True):
        for one, other in zip(ours, plain, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


class Counting(layers.Dense):
    """A user's own layer, which keeps state that only its code knows of."""

    def build(self, shape):
        super().build(shape)
        self.called = tf.Variable(0.0)

    def call(self, inputs, training=False):
        if training:
            self.called.assign_add(0.01)
        return super().call(inputs) + self.called


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["EarlyStopping that restores", "TerminateOnNaN"])
def test_a_model_with_code_of_its_own_is_never_brought_back(name, tmp_path):
    make = lambda: stack(Counting(4, "tanh"))  # noqa: E731
    with_callbacks(lambda who: [OF_KERAS[name](tmp_path)], make, epochs=EPOCHS, may_hand_over=name == "TerminateOnNaN")


class Looks(callbacks.Callback):
    """Looks at the model at some epochs, and changes it at some. It passes for one of Keras's own."""

    __module__ = "keras.callbacks.test"

    def __init__(self, looks, changes, rates):
        super().__init__()
        self.looks, self.changes, self.rates, self.seen = looks, changes, rates, []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch in self.looks[0]:
            self.seen += [np.sum(weight) for weight in self.model.get_weights()]

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(logs["loss"])
        if epoch in self.looks[1]:
            self.seen += [float(self.model.get_metrics_result()["loss"]), int(self.model.optimizer.iterations.numpy())]
        if epoch in self.changes:
            self.model.layers[0].kernel.assign(0.5 * self.model.layers[0].kernel)
        if epoch in self.rates:
            self.model.optimizer.learning_rate = 0.5 * float(self.model.optimizer.learning_rate.numpy())


EPOCHS_DRAWN = st.sets(st.integers(0, 15), max_size=4)


@pytest.mark.thorough
@settings(deadline=None, derandomize=True, max_examples=6)
@given(st.tuples(EPOCHS_DRAWN, EPOCHS_DRAWN), EPOCHS_DRAWN, EPOCHS_DRAWN)
def test_whoever_looks_finds_the_model_where_keras_would_have_it(looks, changes, rates):
    run = with_callbacks(lambda who: [Looks(looks, changes, rates)], random, epochs=16)
    np.testing.assert_allclose(run.ours[0].seen, run.plain[0].seen, rtol=1e-4, atol=1e-5)


class Fails(callbacks.Callback):
    __module__ = "keras.callbacks.test"

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 4:  # of a block from 3 to 6
            raise KeyboardInterrupt


def test_an_interruption_leaves_the_model_where_the_callbacks_are(calls):
    ours, whole = fresh(random), fresh(random)
    fails = Fails()
    with pytest.raises(KeyboardInterrupt):
        training.fit(ours, X, Y, batch_size=32, epochs=EPOCHS, shuffle=False, callbacks=[fails])
    assert calls[:3] == [1, 2, 4] and calls[3:] == [2]  # of the block the first two again
    training.fit(whole, X, Y, batch_size=32, epochs=5, shuffle=False)
    assert_same_state(ours, whole)
    assert fails.model is ours


@pytest.mark.parametrize(
    ("callback", "closed"),
    [
        (callbacks.EarlyStopping(), True),
        (callbacks.History(), True),
        (callbacks.CSVLogger("log.csv"), True),
        (callbacks.ReduceLROnPlateau(), True),
        (Seen(), False),
        (callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None), False),
        (callbacks.LearningRateScheduler(lambda epoch, rate: rate), False),
        (callbacks.LearningRateScheduler(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)), False),
    ],
)
def test_what_counts_as_closed(callback, closed):
    assert ahead.is_closed(callback) == closed
    callback.own = layers.Dense(1)
    assert not ahead.is_closed(callback)


def test_nan_ends_a_run_at_the_batch_at_which_keras_ends_it(capsys):
    left = []
    for fit in (keras.Model.fit, training.fit):
        model = fresh(lambda: stack(head="linear", loss="mse", metrics=[], optimizer=keras.optimizers.SGD(40.0)))
        history = fit(
            model, X, Y, batch_size=32, epochs=40, shuffle=False, callbacks=[callbacks.TerminateOnNaN()], verbose=0
        )
        left.append((history.epoch, int(model.optimizer.iterations.numpy())))
    assert left[0] == left[1] and len(left[0][0]) < 40
    plain, ours = (line for line in capsys.readouterr().out.splitlines() if "Invalid loss" in line)
    assert ours == plain
