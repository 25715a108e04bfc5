"""A run that goes on: after `initial_epoch`, after a backup, and after an error or Ctrl-C in its middle."""

import _thread
import signal
import sys
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from batchlab import training
from batchlab.cores import one_core_each
from batchlab.training.rows import row_orders

GENERATOR = np.random.default_rng(6)
X = GENERATOR.normal(size=(120, 2)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.float32)


def model():
    built = keras.Sequential([keras.Input((2,)), keras.layers.Dense(5, "relu"), keras.layers.Dense(1, "sigmoid")])
    built.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    training.draw_weights(built, 0)
    return built


def train(built, epochs, initial_epoch=0, **arguments):
    return training.fit(
        built, X, Y, batch_size=16, epochs=epochs, initial_epoch=initial_epoch, seed=5, **arguments
    ).history["loss"]


def nothing():
    return keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: None)


@pytest.mark.parametrize(("rows", "first", "last"), [(7, 3, 9), (320, 20, 200), (20_000, 0, 3), (400, 30, 31)])
def test_orders_are_permutations_drawn_one_by_one(rows, first, last):
    generator = np.random.default_rng([5, 1])
    expected = [generator.permutation(rows) for _ in range(last)]
    drawn = [*row_orders(5, rows, range(first, last), shuffle=True)]
    np.testing.assert_array_equal(drawn, expected[first:])


@pytest.mark.parametrize("callbacks", [list, lambda: [nothing()]], ids=["flat", "epoch by epoch"])
def test_two_parts_are_the_whole(callbacks):
    whole, parts = model(), model()
    expected = train(whole, 6, callbacks=callbacks())
    losses = train(parts, 3, callbacks=callbacks()) + train(parts, 6, initial_epoch=3, callbacks=callbacks())
    np.testing.assert_allclose(losses, expected, atol=1e-6)
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


class PowerError(Exception):
    pass


def fails_after(epoch):
    def stop(now, logs):
        if now == epoch:
            raise PowerError

    return keras.callbacks.LambdaCallback(on_epoch_end=stop)


def test_a_backup_resumes_exactly(tmp_path):
    expected = train(model(), 6)
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    with pytest.raises(PowerError):
        train(model(), 6, callbacks=[backup, fails_after(3)])
    again = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    losses = train(model(), 6, callbacks=[again])
    np.testing.assert_allclose(losses, expected[-len(losses) :], atol=1e-6)
    assert len(losses) < 6


def test_an_error_of_a_callback_is_the_users_and_nothing_is_trained_again(monkeypatch):
    calls = []
    monkeypatch.setattr(keras.Model, "fit", lambda *a, **n: calls.append(1))
    built, updates = model(), []

    def break_off(epoch, logs):
        updates.append(int(built.optimizer.iterations.numpy()))
        # The kind and the words of a refusal of XLA.
        raise tf.errors.InvalidArgumentError(None, None, "XLA cannot compile this")

    with pytest.raises(tf.errors.InvalidArgumentError, match="XLA cannot compile this"):
        train(built, 3, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=break_off)])
    assert (calls, updates) == ([], [8])
    assert int(built.optimizer.iterations.numpy()) == 8


A_SECOND = 2  # on the wall is at most two of the processor, of two threads; 0.25 where this was written


def pressed_while(call):
    """Call, with Ctrl-C a second in; return the processor seconds from there to the answer.

    Processor seconds of this process do not pass while another program has the machine, so a busy one cannot fail this.
    """
    pressed = []

    def press():
        pressed.append(time.process_time())
        _thread.interrupt_main()

    def press_again(unraisable):
        # Python loses an interrupt that arrives inside a callback, of a weak reference or of the garbage collector.
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            threading.Timer(0.01, press).start()

    # Where tests run in the background of a shell, the process was started with SIGINT ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    hook, sys.unraisablehook = sys.unraisablehook, press_again
    threading.Timer(1.0, press).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
            time.sleep(60)  # too quick: then the interrupt must at least not hit another test
            pytest.fail("the run ended before it was interrupted")
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, handler)
    return time.process_time() - pressed[-1]


def test_ctrl_c_ends_many_runs_at_once_and_the_next_call_is_right():
    def sweep(epochs):
        return training.fit_seeds(model, X, Y, seeds=512, batch_size=1, epochs=epochs)

    expected = sweep(2)
    pressed_while(lambda: sweep(20_000))  # more work, so that it compiles for two cores, which cannot be interrupted
    before = threading.active_count()
    assert pressed_while(lambda: sweep(20_000)) < A_SECOND
    assert threading.active_count() == before
    np.testing.assert_allclose(sweep(2).to_numpy(), expected.to_numpy(), atol=1e-6)


def test_ctrl_c_ends_several_calls_on_a_core_each():
    def sweep(epochs):
        def call(size):
            return training.fit_seeds(model, X, Y, seeds=64, batch_size=size, epochs=epochs)

        return dict(one_core_each(call, [1, 2, 3]))

    expected = sweep(2)  # compiles
    before = threading.active_count()
    assert pressed_while(lambda: sweep(20_000)) < A_SECOND
    assert threading.active_count() == before
    again = sweep(2)
    for size, frame in expected.items():
        np.testing.assert_allclose(again[size].to_numpy(), frame.to_numpy(), atol=1e-6)


def test_ctrl_c_ends_one_run_which_keeps_what_it_learned():
    built = model()
    train(built, 1)  # compiles
    assert pressed_while(lambda: train(built, 2_000_000)) < 1
    assert int(built.optimizer.iterations.numpy()) > 8


def test_a_run_that_goes_one_after_the_other_moves_its_bar_within_a_run(capsys, monkeypatch):
    moves = []
    monkeypatch.setattr(keras.utils, "Progbar", lambda total: type("Bar", (), {"add": staticmethod(moves.append)}))

    def normalised():
        built = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
        built.compile("sgd", "mse")
        return built

    with pytest.warns(UserWarning, match="2 runs one after the other, not side by side: it keeps state .* BatchNorm"):
        training.fit_seeds(normalised, X, Y, seeds=2, batch_size=32, epochs=4, verbose=1)
    assert moves == [1] * 8
