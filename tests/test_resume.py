"""A run that goes on: after `initial_epoch`, after a backup, and after an error or Ctrl-C in its middle."""

import _thread
import signal
import sys
import threading
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from batchlab import training
from batchlab.cores import one_core_each
from batchlab.training.programs import loop
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


@pytest.mark.parametrize("seconds", [0.0001, 0.003, 0.3])
def test_a_block_lasts_a_fifth_of_a_second_or_one_epoch(seconds, monkeypatch):
    """So that Ctrl-C, which is answered between two blocks, is answered within a second."""
    now = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    lasted, counts = [], []
    for orders in loop.in_blocks(iter(np.zeros((5000, 8), np.int32)), 8):
        count = len(orders)
        now[0] += count * seconds
        lasted.append(count * seconds)
        counts.append(count)
    assert sum(counts) == 5000
    assert max(lasted) < max(0.25, 1.01 * seconds)
    assert lasted[1] > 0.15 or counts[1] == 512  # as long as may be: a call costs time, too


# Of hundreds: the main thread looks for Ctrl-C ten times a second, and other programs may hold it up.
A_FEW = 30


def blocks_after_ctrl_c(call):
    """Call, with Ctrl-C while the sixth block is trained; return how many more were begun."""
    begun, after, sixth, is_over = [], [], threading.Event(), False
    own = loop.Compiled.__call__

    def counted(self, *arguments):
        begun.append(self)
        if len(begun) == 6:
            sixth.set()
        return own(self, *arguments)

    def press():
        sixth.wait()
        if not is_over:
            _thread.interrupt_main()
            after.append(len(begun))

    def press_again(unraisable):
        # Python loses an interrupt that arrives inside a callback, of a weak reference or of the garbage collector.
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            threading.Timer(0.01, press).start()

    # Where tests run in the background of a shell, the process was started with SIGINT ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    hook, sys.unraisablehook = sys.unraisablehook, press_again
    presser = threading.Thread(target=press)
    try:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(loop.Compiled, "__call__", counted)
            presser.start()
            call()
    finally:
        is_over = True
        sixth.set()
        presser.join()
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, handler)
    return len(begun) - after[-1]


def test_ctrl_c_ends_many_runs_at_once_and_the_next_call_is_right():
    def sweep(epochs):
        return training.fit_seeds(model, X, Y, seeds=512, batch_size=1, epochs=epochs)

    expected = sweep(2)
    before = threading.active_count()
    assert blocks_after_ctrl_c(lambda: sweep(20_000)) < A_FEW
    assert threading.active_count() == before
    np.testing.assert_allclose(sweep(2).to_numpy(), expected.to_numpy(), atol=1e-6)


def test_ctrl_c_ends_several_calls_on_a_core_each():
    def sweep(epochs):
        def call(size):
            return training.fit_seeds(model, X, Y, seeds=64, batch_size=size, epochs=epochs)

        return dict(one_core_each(call, [1, 2, 3]))

    expected = sweep(2)  # compiles
    before = threading.active_count()
    assert blocks_after_ctrl_c(lambda: sweep(20_000)) < A_FEW
    assert threading.active_count() == before
    again = sweep(2)
    for size, frame in expected.items():
        np.testing.assert_allclose(again[size].to_numpy(), frame.to_numpy(), atol=1e-6)


def test_ctrl_c_ends_one_run_which_keeps_what_it_learned():
    built = model()
    train(built, 1)  # compiles
    assert blocks_after_ctrl_c(lambda: train(built, 2_000_000)) <= 1
    assert int(built.optimizer.iterations.numpy()) > 8


def test_a_run_that_goes_one_after_the_other_moves_its_bar_within_a_run(capsys, monkeypatch):
    moves = []
    monkeypatch.setattr(keras.utils, "Progbar", lambda total: type("Bar", (), {"add": staticmethod(moves.append)}))

    def constrained():
        built = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_constraint="non_neg")])
        built.compile("sgd", "mse")
        return built

    with pytest.warns(UserWarning, match="2 runs one after the other, not side by side: .* is constrained"):
        training.fit_seeds(constrained, X, Y, seeds=2, batch_size=32, epochs=4, verbose=1)
    assert moves[0] == moves[len(moves) // 2] == 1 and sum(moves) == 8
