"""What `fit` hands over to Keras, what it refuses, what it warns of, and how it shuffles."""

import re

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import layers, optimizers
from scipy import stats
from twins import (
    THREE_CLASSES,
    WEIGHTS,
    Recorder,
    X,
    Y,
    assert_same_figures,
    assert_same_state,
    cubic_loss,
    documented,
    fresh,
    largest_step,
    plainly,
    spy_on_model_fit,
    stack,
    train,
    twins,
    values,
    with_callbacks,
)

from batchlab import training
from batchlab.training.recognise import why_not_compiled

# --- what cannot be compiled is handed over ----------------------------------------------------------


def handed_over(make, x=X, y=Y, **arguments):
    """Twins that both end in `model.fit`; the one warning."""
    plain, ours = fresh(make), fresh(make)
    expected = plainly(plain, x, y, **arguments)
    with spy_on_model_fit() as seen:
        got = training.fit(ours, x, y, **{"batch_size": 32, "epochs": 3, "shuffle": False, **arguments})
    assert seen.calls == 1
    assert_same_figures(got, expected)
    assert_same_state(ours, plain)
    assert len(seen.warnings) == 1, seen.warnings
    return seen.warnings[0]


def test_a_dataset_is_handed_over():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(40)
    assert "Dataset" in handed_over(documented, data, None, batch_size=None)


HOOKS = ("on_batch_end", "on_train_batch_begin", "on_test_batch_end")


@pytest.mark.parametrize(
    "hook", ["on_train_batch_end", *(pytest.param(hook, marks=pytest.mark.thorough) for hook in HOOKS)]
)
def test_a_callback_with_batch_hooks_is_handed_over(hook):
    steps = {"plain": [], "ours": []}
    who = iter(steps)

    class PerBatch(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.steps = steps[next(who)]

    setattr(PerBatch, hook, lambda self, batch, logs=None: self.steps.append(batch))
    plain, ours = twins(documented)
    plainly(plain, validation_split=0.2, callbacks=[PerBatch()])
    with spy_on_model_fit() as seen:
        training.fit(ours, X, Y, batch_size=32, epochs=3, shuffle=False, validation_split=0.2, callbacks=[PerBatch()])
    assert steps["ours"] == steps["plain"] != []
    (warning,) = seen.warnings
    assert "PerBatch" in warning
    assert_same_state(ours, plain)


@pytest.mark.parametrize(
    ("asked", "wants_batches"),
    [({}, False), ({"update_freq": 3}, True), ({"update_freq": "batch"}, True), ({"profile_batch": 2}, True)],
    ids=["nothing", "every third batch", "every batch", "a profile of the second batch"],
)
def test_a_board_that_wants_batches_is_handed_over(tmp_path, asked, wants_batches):
    board = keras.callbacks.TensorBoard(tmp_path, **asked)
    why_not = why_not_compiled(fresh(documented), X, Y, callbacks=[board])
    assert why_not == ("TensorBoard wants to be called at every batch" if wants_batches else None)


@pytest.mark.thorough
def test_a_checkpoint_within_the_epoch_is_handed_over(tmp_path):
    file = str(tmp_path / "{batch}.weights.h5")
    model = fresh(documented)
    with spy_on_model_fit() as seen:
        training.fit(
            model,
            X,
            Y,
            batch_size=32,
            epochs=1,
            callbacks=[keras.callbacks.ModelCheckpoint(file, save_freq=5, save_weights_only=True)],
        )
    assert {path.name for path in tmp_path.iterdir()} == {"5.weights.h5", "10.weights.h5"}  # of 13 batches
    assert len(seen.warnings) == 1
    assert "ModelCheckpoint" in seen.warnings[0]


def share_in_python(y_true, y_pred):
    """A metric that only the Python interpreter can compute."""
    share = tf.numpy_function(lambda p: np.float32((p > 0.5).mean()), [y_pred], tf.float32)
    return tf.ensure_shape(share, ())


class InPython(layers.Layer):
    """Adds nothing, by way of the Python interpreter; if asked, only outside training."""

    def __init__(self, in_training):
        super().__init__()
        self.in_training = in_training

    def call(self, inputs, training=False):
        if training and not self.in_training:
            return inputs
        return inputs + tf.ensure_shape(tf.numpy_function(np.zeros_like, [inputs], tf.float32), (None, 6))


WITHOUT_KERNEL = {
    "metric": lambda: documented(metrics=[share_in_python], jit_compile=False),
    "layer": lambda: stack(layers.Dense(6, "relu"), InPython(True), jit_compile=False),
    # Found out late: by then nothing may have been trained.
    "layer in validation": lambda: stack(layers.Dense(6, "relu"), InPython(False), jit_compile=False),
}


@pytest.mark.parametrize(
    "place",
    [pytest.param(place, marks=[] if place == "layer" else pytest.mark.thorough) for place in WITHOUT_KERNEL],
)
def test_an_operation_without_xla_kernel_is_handed_over(place):
    assert "XLA" in handed_over(WITHOUT_KERNEL[place], validation_split=0.2)


def test_nothing_was_trained_before_the_validation_could_not_be_compiled():
    def note_epochs(_):
        return [keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: None)]  # so that epochs are run one by one

    with_callbacks(note_epochs, WITHOUT_KERNEL["layer in validation"], epochs=2, may_hand_over=True)


def test_callbacks_of_a_run_that_was_handed_over_are_called_once():
    def names(train_one):
        recorder = Recorder()
        train_one(fresh(WITHOUT_KERNEL["metric"]), validation_split=0.2, callbacks=[recorder])
        return [call[:2] for call in recorder.calls]

    assert names(lambda *a, **named: train(*a, **named, may_hand_over=True)) == names(plainly)


def test_a_mistake_in_the_users_loss_reaches_the_user():
    def broken(y_true, y_pred):
        raise ArithmeticError("the loss is broken")

    with pytest.raises(ArithmeticError, match="the loss is broken"):
        training.fit(documented(loss=broken), X, Y, batch_size=32, epochs=1)


def test_targets_that_do_not_fit_the_loss_give_the_error_of_keras():
    model = stack(outputs=3, head="softmax", loss="categorical_crossentropy")
    with pytest.raises(ValueError) as expected:
        plainly(fresh(lambda: stack(outputs=3, head="softmax", loss="categorical_crossentropy")), y=THREE_CLASSES)
    with pytest.raises(ValueError) as got:
        training.fit(model, X, THREE_CLASSES, batch_size=32, epochs=1)
    assert str(got.value)[:60] == str(expected.value)[:60]  # shapes follow, in which Keras has None for the batch


# --- bad arguments -----------------------------------------------------------------------------------


def spoiled(array, value, *place):
    array = np.array(array, dtype=np.float32)
    array[place] = value
    return array


def says(*fragments):
    """A pattern that wants all fragments, in any order, as whole words."""
    return "(?is)" + "".join(rf"(?=.*(?<![\w.]){re.escape(str(f))}(?![\w]))" for f in fragments)


GOOD = {"x": X, "y": Y, "batch_size": 32, "epochs": 2}
ILL_TYPED = (TypeError, ValueError)
BAD_ARGUMENTS = {
    "batch size 0": ({"batch_size": 0}, ValueError, says("batch_size", "0")),
    "batch size -1": ({"batch_size": -1}, ValueError, says("batch_size", "-1")),
    "batch size 2.5": ({"batch_size": 2.5}, ILL_TYPED, says("batch_size", "2.5")),
    "batch size True": ({"batch_size": True}, ILL_TYPED, says("batch_size", "True")),
    "batch size as text": ({"batch_size": "32"}, ILL_TYPED, says("batch_size", "'32'")),
    "epochs -3": ({"epochs": -3}, ValueError, says("epochs", "-3")),
    "epochs 2.5": ({"epochs": 2.5}, ILL_TYPED, says("epochs", "2.5")),
    "short targets": ({"y": Y[:-1]}, ValueError, says("400", "399")),
    "short weights": ({"sample_weight": WEIGHTS[:7]}, ValueError, says("400", "7")),
    "short validation targets": ({"validation_data": (X[:9], Y[:8])}, ValueError, says("9", "8")),
    "no rows": ({"x": X[:0], "y": Y[:0]}, ValueError, "(?i)empty|no rows"),
    "no validation rows": ({"validation_data": (X[:0], Y[:0])}, ValueError, "(?i)validation"),
    "NaN in x": ({"x": spoiled(X, np.nan, 17, 1)}, ValueError, says("x", "17", "NaN")),
    "infinity in x": ({"x": spoiled(X, np.inf, 18, 0)}, ValueError, says("x", "18")),
    "NaN in a frame": ({"x": pd.DataFrame(spoiled(X, np.nan, 17, 1))}, ValueError, says("x", "17", "NaN")),
    "NaN in y": ({"y": spoiled(Y, np.nan, 19)}, ValueError, says("y", "19", "NaN")),
    "infinity in y": ({"y": spoiled(Y, -np.inf, 20)}, ValueError, says("y", "20")),
    "NaN in weights": ({"sample_weight": spoiled(WEIGHTS, np.nan, 21)}, ValueError, says("sample_weight", "21", "NaN")),
    "NaN in the validation part": ({"x": spoiled(X, np.nan, 399, 1)} | {"validation_split": 0.2}, ValueError, "399"),
    "NaN in validation x": (
        {"validation_data": (spoiled(X[:50], np.nan, 23, 0), Y[:50])},
        ValueError,
        says("validation", "x", "23", "NaN"),
    ),
    "NaN in class weights": ({"class_weight": {0: 1.0, 1: np.nan}}, ValueError, says("class_weight", "NaN")),
    "validation split 1": ({"validation_split": 1.0}, ValueError, "validation_split"),
    "validation split -0.1": ({"validation_split": -0.1}, ValueError, "validation_split"),
    "empty validation part": ({"validation_split": 1e-20}, ValueError, "validation_split"),
    "empty training part": ({"validation_split": 0.9999}, ValueError, "validation_split"),
    "seed -1": ({"seed": -1}, ValueError, says("seed", "-1")),
    "seed 1.5": ({"seed": 1.5}, ILL_TYPED, says("seed", "1.5")),
    "two kinds of weights": ({"sample_weight": WEIGHTS, "class_weight": {0: 2.0}}, ValueError, says("class_weight")),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments_are_refused_before_anything_is_traced(case):
    bad, error, message = BAD_ARGUMENTS[case]
    traced = []

    def loss(y_true, y_pred):
        traced.append(1)
        return cubic_loss(y_true, y_pred)

    model = fresh(lambda: documented(loss=loss))
    before = values(model.variables)
    arguments = {**GOOD, **bad}
    with pytest.raises(error, match=message):
        training.fit(model, arguments.pop("x"), arguments.pop("y"), **arguments)
    assert not traced
    assert largest_step(before, values(model.variables)) == 0


def test_an_uncompiled_model_gets_the_message_of_keras():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    with pytest.raises(ValueError) as expected:
        plainly(model)
    with pytest.raises(ValueError) as got:
        training.fit(model, X, Y, batch_size=32, epochs=1)
    assert str(got.value) == str(expected.value)


def test_no_epochs_give_an_empty_history():
    model = fresh(documented)
    before = values(model.variables)
    history = train(model, epochs=0)
    assert (history.epoch, history.history) == ([], {})
    assert largest_step(before, values(model.variables)) == 0


@pytest.mark.parametrize("whole", [np.int64(32), np.int32(32)])
def test_whole_numbers_of_numpy_are_batch_sizes(whole):
    assert train(fresh(documented), batch_size=whole, epochs=1).params["steps"] == 13


# --- a loss that becomes NaN -------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, 3])
def test_the_epoch_in_which_the_loss_becomes_nan_is_named_once(epoch):
    explode = keras.callbacks.LearningRateScheduler(lambda i: 1e9 if i + 1 >= epoch else 1e-4)
    model = fresh(lambda: stack(head="linear", loss="mse", optimizer=optimizers.SGD(0.01)))
    with pytest.warns(UserWarning, match=rf"(?i)nan.*epoch {epoch}\b|epoch {epoch}\b.*nan") as caught:
        history = training.fit(model, X, Y, batch_size=1, epochs=5, callbacks=[explode], shuffle=False)
    assert np.isnan(history.history["loss"]).tolist() == [i + 1 >= epoch for i in range(5)]
    assert len([w for w in caught if issubclass(w.category, UserWarning)]) == 1


# --- shuffling ---------------------------------------------------------------------------------------


class StepNumber(optimizers.schedules.LearningRateSchedule):
    """A learning rate equal to the number of the step, from 1."""

    def __call__(self, step):
        return keras.ops.cast(step, "float32") + 1


def minus_prediction(y_true, y_pred):
    return -y_pred[:, 0]


ROWS = 40


def diary():
    """A model that writes down when it saw each row.

    Its inputs are one-hot, so weight i belongs to row i alone; a step at which row i is in the batch adds the
    step's number, divided by the batch's size, to it.
    """
    model = keras.Sequential([keras.Input((ROWS,)), layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(optimizers.SGD(StepNumber()), minus_prediction)
    return model


def read_diary(epochs, batch_size=1, **arguments):
    """The step within its epoch (from 0) at which each row was seen: shape (epochs, rows)."""
    model = diary()
    pages = [np.zeros(ROWS)]
    turn = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: pages.append(model.get_weights()[0][:, 0].astype(int))
    )
    x, y = np.eye(ROWS, dtype=np.float32), np.zeros(ROWS, np.float32)
    train(model, x, y, batch_size=batch_size, epochs=epochs, callbacks=[turn], **{"shuffle": True, **arguments})
    return np.diff(pages, axis=0).astype(int) - 1 - ROWS * np.arange(epochs)[:, None]


def test_without_shuffling_rows_come_in_order():
    assert (read_diary(2, shuffle=False) == np.arange(ROWS)).all()


def test_every_epoch_sees_every_row_once():
    assert (np.sort(read_diary(5), axis=1) == np.arange(ROWS)).all()


def test_the_last_batch_holds_the_remainder():
    model = diary()
    rates = optimizers.SGD(1.0)  # now a row's weight is 1 / the size of its batch
    model.compile(rates, minus_prediction)
    x, y = np.eye(ROWS, dtype=np.float32), np.zeros(ROWS, np.float32)
    train(model, x, y, batch_size=7, epochs=1, shuffle=True)
    sizes, rows = np.unique((1 / model.get_weights()[0][:, 0]).round().astype(int), return_counts=True)
    assert dict(zip(sizes.tolist(), rows.tolist(), strict=True)) == {5: 5, 7: 35}


def test_two_epochs_differ():
    first, second = read_diary(2, seed=1)
    assert (first != second).any()


def test_seeds_repeat_and_differ():
    one, again, other = read_diary(3, seed=1), read_diary(3, seed=1), read_diary(3, seed=2)
    assert (one == again).all()
    assert (one != other).any()


def test_without_a_seed_runs_differ():
    assert (read_diary(1) != read_diary(1)).any()


def test_keras_own_seed_repeats_a_run():
    pages = []
    for _ in range(2):
        keras.utils.set_random_seed(4)
        pages.append(read_diary(2))
    assert (pages[0] == pages[1]).all()


def test_shuffles_are_fair():
    pages = read_diary(400, seed=3)
    # Each row at each place: 1600 cells with 10 expected, of which row and column sums are fixed.
    places = np.stack([np.bincount(pages[:, row], minlength=ROWS) for row in range(ROWS)])
    assert stats.chi2.sf(((places - 10) ** 2 / 10).sum(), (ROWS - 1) ** 2) > 0.001
    # How often a row is followed by its neighbour in the table: 39/40 an epoch on average, with variance near 1.
    followed = (np.diff(pages, axis=1) == 1).sum(axis=1)
    assert abs(followed.mean() - 39 / 40) < 0.2
    # An epoch does not depend on the one before: rows keep their place as often as chance has it, once an epoch.
    kept = (pages[1:] == pages[:-1]).sum(axis=1)
    assert abs(kept.mean() - 1) < 0.2


def test_validation_rows_are_never_trained_on():
    model = diary()
    x, y = np.eye(ROWS, dtype=np.float32), np.zeros(ROWS, np.float32)
    train(model, x, y, batch_size=8, epochs=3, shuffle=True, validation_split=0.2)
    seen = model.get_weights()[0][:, 0] > 0
    assert seen.tolist() == [True] * 32 + [False] * 8
