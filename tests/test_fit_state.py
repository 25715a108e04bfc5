"""Programs are never confused, state goes on from fit to fit, and callbacks see what they would see in Keras."""

import re
import warnings

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers, optimizers
from twins import (
    TOLERANCE,
    TRAIN_ROWS,
    Recorder,
    X,
    Y,
    assert_same_figures,
    assert_same_state,
    assert_twins,
    documented,
    fresh,
    largest_step,
    plainly,
    stack,
    train,
    twins,
    values,
    with_callbacks,
)

from batchlab import training

# --- programs are cached, and never confused ---------------------------------------------------------


class ExtraLoss:
    """A loss whose strength stands in no configuration."""

    def __init__(self, strength):
        self.strength = strength

    def __call__(self, y_true, y_pred):
        return self.strength * keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


class Times(layers.Layer):
    """A layer whose factor stands in no configuration."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, inputs):
        return self.factor * inputs


def excluding(*names):
    optimizer = optimizers.AdamW(0.002, weight_decay=2.0)
    optimizer.exclude_from_weight_decay(var_names=list(names))
    return optimizer


def scaled_relu(factor):
    return lambda t: factor * keras.ops.relu(t)


def half_frozen(frozen):
    model = stack(layers.Dense(6, "relu"))
    model.layers[0].trainable = not frozen
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    return model


# The same architecture in both columns; the difference is one that a careless cache would overlook.
LOOKALIKES = {
    "learning rate": (lambda: documented(optimizers.SGD(0.1)), lambda: documented(optimizers.SGD(0.02))),
    "momentum": (lambda: documented(optimizers.SGD(0.1, 0.5)), lambda: documented(optimizers.SGD(0.1, 0.9))),
    "excluded from decay": (lambda: documented(excluding("bias")), lambda: documented(excluding("kernel"))),
    "strength of l2": tuple(
        lambda a=a: stack(layers.Dense(6, "relu", kernel_regularizer=keras.regularizers.L2(a))) for a in (0.01, 0.2)
    ),
    "activation's closure": tuple(lambda a=a: stack(layers.Dense(6, scaled_relu(a))) for a in (1.0, 0.3)),
    # Scrubbing names from a configuration must leave these functions in it.
    "layers named like their functions": tuple(lambda a=a: stack(layers.Dense(6, a, name=a)) for a in ("relu", "tanh")),
    "layer's attribute": tuple(lambda a=a: stack(layers.Dense(6, "relu"), Times(a)) for a in (1.0, 0.3)),
    "loss's attribute": tuple(lambda a=a: documented(loss=ExtraLoss(a)) for a in (1.0, 0.1)),
    "metric's threshold": tuple(
        lambda a=a: documented(metrics=[keras.metrics.BinaryAccuracy("share", threshold=a)]) for a in (0.5, 0.35)
    ),
    "frozen layer": (lambda: half_frozen(False), lambda: half_frozen(True)),
}


@pytest.mark.thorough
@pytest.mark.parametrize("difference", LOOKALIKES)
def test_lookalikes_are_not_confused(difference):
    first, second = LOOKALIKES[difference]
    seen = train(fresh(first), epochs=2)
    _, history = assert_twins(second, epochs=2, validation_split=0.0)
    gap = max(np.abs(np.subtract(history.history[k], seen.history[k])).max() for k in seen.history)
    assert gap > 100 * TOLERANCE, "the two do not differ, so nothing is shown"


def test_other_data_of_the_same_shape():
    train(fresh(documented), validation_split=0.2)
    assert_twins(documented, X[::-1].copy(), 1 - Y, sample_weight=None)


@pytest.mark.thorough
def test_other_numbers_of_rows_through_one_model():
    plain, ours = twins(documented)
    for rows in (400, 123, 31):
        arguments = {"x": X[:rows], "y": Y[:rows], "validation_data": (X[rows // 2 :], Y[rows // 2 :])}
        assert_same_figures(train(ours, **arguments, epochs=2), plainly(plain, **arguments, epochs=2))
    assert_same_state(ours, plain)


def test_a_cleared_session_in_between():
    train(fresh(documented), validation_split=0.2)
    keras.utils.clear_session()
    assert_twins(documented)


# --- state goes on -----------------------------------------------------------------------------------


def test_three_epochs_and_three_more_equal_six():
    whole, parts = (fresh(lambda: documented("adam")) for _ in range(2))
    expected = train(whole, epochs=6, validation_split=0.2)
    first = train(parts, epochs=3, validation_split=0.2)
    second = train(parts, epochs=6, initial_epoch=3, validation_split=0.2)
    assert (first.epoch, second.epoch) == ([0, 1, 2], [3, 4, 5])
    for name in expected.history:
        np.testing.assert_allclose(first.history[name] + second.history[name], expected.history[name], atol=1e-6)
    assert_same_state(parts, whole, 1e-6)


def test_more_epochs_than_one_call_of_a_program_holds():
    whole, parts = (fresh(lambda: documented(optimizers.SGD(0.05))) for _ in range(2))
    expected = train(whole, batch_size=400, epochs=1100, seed=1)
    assert expected.epoch == list(range(1100))
    first = train(parts, batch_size=400, epochs=300)
    second = train(parts, batch_size=400, epochs=1100, initial_epoch=300)
    np.testing.assert_allclose(first.history["loss"] + second.history["loss"], expected.history["loss"], atol=1e-6)


@pytest.mark.parametrize("ours_first", [pytest.param(True, marks=pytest.mark.thorough), False])
def test_ours_and_plain_epochs_can_alternate(ours_first):
    plain, mixed = (fresh(lambda: documented("adam")) for _ in range(2))
    plainly(plain, epochs=4)
    (train if ours_first else plainly)(mixed, epochs=2)
    (plainly if ours_first else train)(mixed, epochs=4, initial_epoch=2)
    assert_same_state(mixed, plain)


def test_a_saved_and_loaded_model_goes_on(tmp_path):
    plain, ours = (fresh(lambda: documented("adam")) for _ in range(2))
    plainly(plain, epochs=4)
    train(ours, epochs=2)
    ours.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    train(loaded, epochs=4, initial_epoch=2)
    assert_same_state(loaded, plain)


def test_evaluate_and_predict_see_the_trained_weights():
    model = fresh(documented)
    model.evaluate(X, Y, verbose=0)  # whatever Keras caches for it now must not outlive the training
    untrained = model.predict(X, verbose=0)
    history = train(model, validation_split=0.2)
    loss, accuracy = model.evaluate(X[TRAIN_ROWS:], Y[TRAIN_ROWS:], verbose=0)
    assert loss == pytest.approx(history.history["val_loss"][-1], abs=TOLERANCE)
    assert accuracy == pytest.approx(history.history["val_accuracy"][-1], abs=TOLERANCE)
    assert np.abs(model.predict(X, verbose=0) - untrained).max() > 1e-3


def change_rate(model):
    model.optimizer.learning_rate = 0.05


def replace_optimizer(model):
    model.compile(optimizers.SGD(0.2, momentum=0.5), "binary_crossentropy", metrics=["accuracy"])


def freeze(model):
    model.layers[0].trainable = False
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])


def other_loss(model):
    model.compile("rmsprop", "mse", metrics=["accuracy"])


def set_weights(model):
    model.set_weights([0.7 * w for w in model.get_weights()])


@pytest.mark.parametrize(
    "change",
    [
        change_rate,
        replace_optimizer,
        set_weights,
        pytest.param(freeze, marks=pytest.mark.thorough),
        pytest.param(other_loss, marks=pytest.mark.thorough),
    ],
)
def test_a_change_between_two_fits_is_honoured(change):
    plain, ours, unchanged = (fresh(lambda: documented("rmsprop")) for _ in range(3))
    for model in (plain, ours, unchanged):
        train(model, epochs=2, validation_split=0.2)
    change(plain)
    change(ours)
    assert_same_figures(train(ours, validation_split=0.2), plainly(plain, validation_split=0.2))
    assert_same_state(ours, plain)
    train(unchanged, validation_split=0.2)
    assert largest_step(values(unchanged.variables), values(ours.variables)) > 100 * TOLERANCE


def test_the_history_belongs_to_the_model_and_holds_python_floats():
    model = fresh(documented)
    history = train(model, validation_split=0.2)
    assert isinstance(history, keras.callbacks.History)
    assert model.history is history
    assert history.model is model
    assert {type(value) for column in history.history.values() for value in column} == {float}


# --- callbacks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("validation_split", [pytest.param(0.0, marks=pytest.mark.thorough), 0.2])
def test_callbacks_are_called_in_order_with_equal_logs_and_weights(validation_split):
    ran = with_callbacks(lambda _: [Recorder()], epochs=3, validation_split=validation_split)
    (ours,), (plain,) = ran.ours, ran.plain
    assert [call[:2] for call in ours.calls] == [call[:2] for call in plain.calls]
    for (name, epoch, logs, weights), (*_, expected_logs, expected_weights) in zip(
        ours.calls, plain.calls, strict=True
    ):
        assert logs == pytest.approx(expected_logs, abs=TOLERANCE), (name, epoch)
        assert largest_step(weights, expected_weights) <= TOLERANCE, (name, epoch)


def test_early_stopping_stops_and_restores():
    def make(_):
        return [keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True, min_delta=0.05)]

    ran = with_callbacks(make, lambda: documented(optimizers.Adam(0.01)), epochs=40)
    assert len(ran.history.epoch) < 40
    assert ran.ours[0].stopped_epoch == ran.plain[0].stopped_epoch > 0
    assert ran.ours[0].best_epoch == ran.plain[0].best_epoch


def test_a_callback_can_stop_the_run():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    ran = with_callbacks(lambda _: [Stop()])
    assert ran.history.epoch == [0, 1]
    again = train(ran.model, epochs=1)
    assert again.epoch == [0]  # the request to stop does not outlive its run


@pytest.mark.thorough
def test_model_checkpoint_writes_the_weights_of_each_epoch(tmp_path):
    def make(who):
        return [keras.callbacks.ModelCheckpoint(str(tmp_path / f"{who}-{{epoch}}.weights.h5"), save_weights_only=True)]

    ran = with_callbacks(make, epochs=2)
    for epoch in (1, 2):
        ran.model.load_weights(tmp_path / f"ours-{epoch}.weights.h5")
        ran.plain_model.load_weights(tmp_path / f"plain-{epoch}.weights.h5")
        assert_same_state(ran.model, ran.plain_model)


def test_learning_rate_scheduler():
    ran = with_callbacks(lambda _: [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5**epoch)])
    halved = np.cumsum(range(6))  # times, so far
    assert ran.history.history["learning_rate"] == pytest.approx(0.001 * 0.5**halved)


@pytest.mark.thorough
def test_reduce_on_plateau():
    def make(_):
        return [keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=0.05)]

    ran = with_callbacks(make)
    assert ran.history.history["learning_rate"][-1] < 1e-3


@pytest.mark.thorough
def test_csv_logger(tmp_path):
    ran = with_callbacks(lambda who: [keras.callbacks.CSVLogger(str(tmp_path / f"{who}.csv"))], epochs=3)
    ours, plain = (pd.read_csv(tmp_path / f"{who}.csv") for who in ("ours", "plain"))
    pd.testing.assert_frame_equal(ours, plain, rtol=0, atol=TOLERANCE)
    assert ran.history.epoch == list(ours["epoch"])


@pytest.mark.thorough
def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    with_callbacks(lambda who: [keras.callbacks.TensorBoard(tmp_path / who)], epochs=2)
    ours, plain = (sorted(file.parent.name for file in (tmp_path / who).rglob("events*")) for who in ("ours", "plain"))
    assert ours == plain == ["train", "validation"]


@pytest.mark.thorough
def test_lambda_callback_of_the_epoch():
    seen = {"plain": [], "ours": []}

    def make(who):
        return [
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen[who].append((epoch, logs["loss"])))
        ]

    with_callbacks(make)
    np.testing.assert_allclose(seen["ours"], seen["plain"], atol=TOLERANCE)


def test_later_callbacks_see_what_earlier_ones_put_into_the_logs():
    def make(_):
        put = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(extra=-2.0 * epoch))
        return [put, keras.callbacks.EarlyStopping("extra", mode="max", patience=2)]

    ran = with_callbacks(make)
    assert ran.history.history["extra"] == [0.0, -2.0, -4.0]


def test_a_callback_may_change_weights_and_rate():
    class Meddle(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.001 * (1 + epoch)

        def on_epoch_end(self, epoch, logs=None):
            self.model.set_weights([0.9 * w for w in self.model.get_weights()])

    with_callbacks(lambda _: [Meddle()])


def test_a_callback_may_evaluate_the_model():
    class Evaluate(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.losses = []

        def on_epoch_end(self, epoch, logs=None):
            self.losses.append(self.model.evaluate(X[:50], Y[:50], verbose=0)[0])

    ran = with_callbacks(lambda _: [Evaluate()], epochs=3)
    np.testing.assert_allclose(ran.ours[0].losses, ran.plain[0].losses, atol=TOLERANCE)


def test_quiet_unless_asked(capfd):
    train(fresh(documented), validation_split=0.2)
    assert capfd.readouterr() == ("", "")
    train(fresh(documented), validation_split=0.2, verbose=2)
    assert re.search(r"Epoch 3/3(.|\n)*val_loss", capfd.readouterr().out)


def test_a_run_that_is_compiled_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        training.fit(fresh(documented), X, Y, batch_size=32, epochs=2, validation_split=0.2)
