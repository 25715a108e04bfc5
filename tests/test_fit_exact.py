"""Cases that are easily lost between Keras's loop and a compiled one: each is trained as `model.fit` trains it."""

import functools
from types import MethodType

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import layers, losses, metrics, optimizers
from twins import (
    THREE_CLASSES,
    WEIGHTS,
    X,
    Y,
    assert_same_state,
    assert_twins,
    fresh,
    plainly,
    spy_on_model_fit,
    stack,
    train,
    twins,
    values,
    with_callbacks,
)

from batchlab import training

ONE_HOT = np.eye(3, dtype=np.float32)[THREE_CLASSES]
NUMBERS = np.stack([X[:, 0], X[:, 0] - X[:, 1]], 1)


def slow(**compiled):
    return {"optimizer": optimizers.SGD(0.05), "metrics": None, **compiled}


# --- what a configuration forgets --------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.3, pytest.param(2.0, marks=pytest.mark.thorough)])
def test_a_loss_keeps_its_options(delta):
    assert_twins(lambda: stack(layers.Dense(4, "tanh"), head="linear", loss=losses.Huber(delta), metrics=["mae"]))


@pytest.mark.thorough
def test_two_losses_that_differ_in_an_option_alone_share_nothing():
    final = []
    for delta in (0.05, 0.5, 0.05):
        model = fresh(lambda delta=delta: stack(head="linear", **slow(loss=losses.Huber(delta))))
        train(model)
        final.append(values(model.variables))
    assert not np.allclose(final[0][0], final[1][0])
    np.testing.assert_array_equal(final[0][0], final[2][0])


@pytest.mark.thorough
def test_options_of_metrics():
    def make():
        return stack(outputs=2, head="linear", loss="mse", metrics=[metrics.CosineSimilarity(axis=0), "mae"])

    assert_twins(make, y=NUMBERS)


def regularizer_of_a_weight(model):
    model.layers[0].kernel.regularizer = keras.regularizers.L2(0.3)


def constraint_of_a_weight(model):
    model.layers[0].kernel.constraint = keras.constraints.NonNeg()


def frozen_weight(model):
    model.layers[0].bias.trainable = False


def another_activation(model):
    model.layers[0].activation = keras.activations.sigmoid


def method_of_its_own(model):
    def call(self, inputs, training=None):
        return keras.ops.tanh(inputs @ self.kernel)

    model.layers[0].call = MethodType(call, model.layers[0])


def partial_in_place_of_a_method(model):
    def call(layer, inputs, training=None):
        return keras.ops.sin(inputs @ layer.kernel)

    model.layers[0].call = functools.partial(call, model.layers[0])


@pytest.mark.thorough
@pytest.mark.parametrize(
    "change",
    [
        regularizer_of_a_weight,
        constraint_of_a_weight,
        frozen_weight,
        another_activation,
        method_of_its_own,
        partial_in_place_of_a_method,
    ],
)
def test_what_is_set_after_building(change):
    def make():
        model = stack(layers.Dense(4, "tanh"), **slow())
        change(model)
        model.compile(optimizers.SGD(0.05), "binary_crossentropy")
        return model

    assert_twins(make)


@pytest.mark.thorough
def test_an_evaluate_of_its_own_is_called():
    class Model(keras.Sequential):
        def evaluate(self, *arguments, **named):
            return {"own": 3.0}

    def make():
        model = Model([keras.Input((2,)), layers.Dense(1, "sigmoid")])
        model.compile(optimizers.SGD(0.05), "binary_crossentropy")
        return model

    _, history = assert_twins(make, may_hand_over=True)
    assert history.history["val_own"] == [3.0] * 3


def test_state_that_is_no_variable_of_the_model():
    x, y = X[:384].reshape(192, 2, 2), Y[:192]

    def make():
        model = keras.Sequential(
            [keras.Input((2, 2), batch_size=32), layers.LSTM(3, stateful=True), layers.Dense(1, "sigmoid")]
        )
        model.compile(optimizers.SGD(0.3), "binary_crossentropy")
        return model

    plain, ours = twins(make)
    plainly(plain, x, y)
    train(ours, x, y)
    assert_same_state(ours, plain)
    np.testing.assert_allclose(values(ours.layers[0].states)[0], values(plain.layers[0].states)[0], atol=1e-5)
    assert np.abs(values(ours.layers[0].states)[0]).max() > 1e-3


@pytest.mark.thorough
def test_a_global_setting_that_is_read_while_tracing():
    def make():
        return stack(layers.Dense(3, "tanh"), head="linear", loss="mape", metrics=None, optimizer=optimizers.SGD(1e-4))

    before, losses_of = keras.config.epsilon(), []
    try:
        for epsilon in (1e-7, 2.0):
            keras.config.set_epsilon(epsilon)
            losses_of.append(assert_twins(make, y=Y + 0.5, tolerance=1e-4)[1].history["loss"][0])
    finally:
        keras.config.set_epsilon(before)
    assert losses_of[0] > 1.3 * losses_of[1]


# --- what a step computed ----------------------------------------------------------------------------


def saturated():
    model = stack(**slow())
    model.layers[-1].set_weights([np.full((2, 1), 500, np.float32), np.zeros(1, np.float32)])
    return model


def test_the_loss_of_a_saturated_sigmoid_is_taken_from_its_logits():
    _, history = assert_twins(saturated, tolerance=1e-3)  # of losses above 100
    assert history.history["loss"][0] > 20  # from the sigmoid it could not be above 16


@pytest.mark.thorough
def test_a_metric_that_uses_logits():
    assert_twins(
        lambda: stack(layers.Dense(3), **slow(metrics=["binary_crossentropy"])), x=X * 30, y=Y[:, None], tolerance=1e-4
    )


MIXED = {
    "dice": (losses.Dice(axis=None), "sigmoid", 1, Y),
    "tversky": (losses.Tversky(alpha=0.3, beta=0.7), "sigmoid", 1, Y),
    "circle": (losses.Circle(gamma=2.0), "linear", 3, THREE_CLASSES),
    "cosine over the rows": (losses.CosineSimilarity(axis=0), "linear", 2, NUMBERS),
    "ignored class": (losses.SparseCategoricalCrossentropy(ignore_class=1), "softmax", 3, THREE_CLASSES),
    "sum": (losses.MeanSquaredError(reduction="sum"), "linear", 2, NUMBERS),
    "mean over weights": (losses.MeanSquaredError(reduction="mean_with_sample_weight"), "linear", 2, NUMBERS),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "ignored class" else pytest.mark.thorough) for name in MIXED]
)
def test_losses_that_are_no_mean_over_rows(name):
    loss, head, outputs, y = MIXED[name]
    rate = 0.001 if name == "sum" else 0.05

    def make():
        return stack(
            layers.Dense(4, "tanh"), outputs=outputs, head=head, **slow(loss=loss, optimizer=optimizers.SGD(rate))
        )

    assert_twins(make, y=y, **({} if name == "cosine over the rows" else {"sample_weight": WEIGHTS}))
    frame = training.fit_seeds(make, X, y, seeds=2, batch_size=32, epochs=2, shuffle=False)
    model = fresh(make)
    training.draw_weights(model, 1)
    expected = plainly(model, y=y, epochs=2).history["loss"]
    np.testing.assert_allclose(frame[frame["seed"] == 1]["loss"], expected, atol=1e-4)


@pytest.mark.thorough
def test_masked_steps():
    x = np.repeat(X[:, None], 3, axis=1)
    x[::2, 1:] = 0

    def make():
        model = keras.Sequential(
            [keras.Input((3, 2)), layers.Masking(), layers.LSTM(3, return_sequences=True), layers.Dense(1)]
        )
        model.compile(optimizers.SGD(0.1), "mse", metrics=["mae"], weighted_metrics=["mse"])
        return model

    assert_twins(make, x=x, y=np.repeat(Y[:, None, None], 3, axis=1))


# --- data --------------------------------------------------------------------------------------------

FRAME = pd.DataFrame(X, columns=["age", "salary"], index=np.arange(len(X))[::-1])
FORMS = {
    "series of targets": (X, pd.Series(Y, index=FRAME.index)),
    "frame": (FRAME, pd.DataFrame({"y": Y}, index=FRAME.index)),
    "float64": (X.astype(float), Y.astype(float)),
    "whole numbers": (np.rint(X).astype(int), Y.astype(int)),
    "bool": (X > 0, Y > 0.5),
    "big-endian": (X.astype(">f4"), Y.astype(">f8")),
    "not contiguous": (np.asfortranarray(X), np.repeat(Y, 2)[::2]),
    "tensors": (tf.constant(X), tf.constant(Y)),
    "frame of mixed columns": (FRAME.assign(age=FRAME["age"].round().astype(int)), Y),
}


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=[] if form == "frame" else pytest.mark.thorough) for form in FORMS]
)
def test_forms_of_data(form):
    x, y = FORMS[form]
    make = lambda: stack(layers.Dense(4, "tanh"), metrics=["accuracy", "mae"])  # noqa: E731
    assert_twins(make, x=x, y=y, **({"validation_split": 0.0} if form == "tensors" else {}))
    frame = training.fit_seeds(make, x, y, seeds=2, batch_size=32, epochs=2, shuffle=False)
    model = fresh(make)
    training.draw_weights(model, 1)
    expected = plainly(model, x, y, epochs=2).history
    for name in ("loss", "mae"):
        np.testing.assert_allclose(frame[frame["seed"] == 1][name], expected[name], atol=1e-5, err_msg=name)


@pytest.mark.thorough
def test_a_dict_of_series():
    def make():
        age, salary = keras.Input((1,), name="age"), keras.Input((1,), name="salary")
        hidden = layers.Concatenate()([age, salary * 0.5])
        model = keras.Model({"age": age, "salary": salary}, layers.Dense(1, "sigmoid")(hidden))
        model.compile(optimizers.SGD(0.1), "binary_crossentropy", metrics=["mae"])
        return model

    assert_twins(make, x=dict(FRAME.items()), y=pd.Series(Y))


@pytest.mark.thorough
def test_a_column_of_weights():
    assert_twins(lambda: stack(**slow(weighted_metrics=["mse"])), sample_weight=pd.Series(WEIGHTS))


@pytest.mark.thorough
def test_a_model_whose_layers_alone_make_up_its_loss():
    def make():
        model = keras.Sequential([keras.Input((2,)), layers.Dense(1, activity_regularizer="l2")])
        model.compile(optimizers.SGD(0.1))
        return model

    assert_twins(make)


# --- metrics -----------------------------------------------------------------------------------------


def test_a_metric_of_several_numbers():
    make = lambda: stack(outputs=3, head="softmax", loss="categorical_crossentropy", metrics=[metrics.F1Score()])  # noqa: E731
    _, history = assert_twins(make, y=ONE_HOT)
    assert np.shape(history.history["f1_score"]) == (3, 3)
    with pytest.raises(ValueError, match="f1_score"), pytest.warns(UserWarning, match="one after the other"):
        training.fit_seeds(make, X, ONE_HOT, seeds=2, batch_size=32, epochs=1)


@pytest.mark.thorough
def test_metrics_of_one_name():
    _, history = assert_twins(lambda: stack(**slow(metrics=["mse", "mse"])))
    assert len(history.history) == 6
    assert_twins(lambda: stack(**slow(metrics=[metrics.MeanSquaredError(name="loss")])))


class EagerReset(metrics.MeanSquaredError):
    def reset_state(self):
        super().reset_state()
        self.resets = getattr(self, "resets", 0) + int(self.count.numpy() == 0)


@pytest.mark.thorough
def test_a_metric_that_is_reset_by_code_of_no_graph():
    assert_twins(lambda: stack(**slow(metrics=[EagerReset(name="mse")])), may_hand_over=True)


class Results(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append({name: float(value) for name, value in self.model.get_metrics_result().items()})


@pytest.mark.thorough
def test_a_callback_may_ask_for_the_metrics():
    run = with_callbacks(lambda who: [Results()], epochs=3)
    for ours, plain in zip(run.ours[0].seen, run.plain[0].seen, strict=True):
        assert ours == pytest.approx(plain, abs=1e-5)
    assert run.ours[0].seen[0]["loss"] > 0
    assert {k: float(v) for k, v in run.model.get_metrics_result().items()} == pytest.approx(
        {k: float(v) for k, v in run.plain_model.get_metrics_result().items()}, abs=1e-5
    )


# --- callbacks ---------------------------------------------------------------------------------------


def test_weights_that_are_swapped_for_an_evaluation():
    make = lambda: stack(optimizer=optimizers.SGD(0.5, use_ema=True, ema_momentum=0.8))  # noqa: E731
    with_callbacks(lambda who: [keras.callbacks.SwapEMAWeights(swap_on_epoch=False)], make, may_hand_over=True)
    with_callbacks(lambda who: [Halved()], make)


class Halved(keras.callbacks.Callback):
    def on_test_begin(self, logs=None):
        self.model.set_weights([weight / 2 for weight in self.model.get_weights()])


class Stops(keras.callbacks.Callback):
    def __init__(self, hook):
        super().__init__()
        setattr(self, hook, self.stop)

    def stop(self, *_, **__):
        self.model.stop_training = True


@pytest.mark.thorough
@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin", "on_test_begin", "on_test_end", "on_epoch_end"])
def test_who_stops_the_training_and_when(hook):
    run = with_callbacks(lambda who: [Stops(hook)])
    assert len(run.history.epoch) == 1


def test_a_callback_without_a_list():
    recorder = Results()
    train(fresh(lambda: stack(**slow())), callbacks=recorder)
    assert len(recorder.seen) == 3


# --- inputs and weights ------------------------------------------------------------------------------


@pytest.mark.thorough
def test_an_input_of_open_length():
    def make():
        model = keras.Sequential([keras.Input((None, 2)), layers.GlobalAveragePooling1D(), layers.Dense(1, "sigmoid")])
        model.compile(optimizers.SGD(0.3), "binary_crossentropy", metrics=["accuracy"])
        return model

    steps = np.repeat(X[:, None], 3, axis=1)
    assert_twins(make, x=steps)
    frame = training.fit_seeds(make, steps, Y, seeds=2, batch_size=32, epochs=1)
    model = fresh(make)
    training.draw_weights(model, 1)
    expected = training.fit(model, steps, Y, batch_size=32, epochs=1, seed=1).history["loss"]
    np.testing.assert_allclose(frame[frame["seed"] == 1]["loss"], expected, atol=1e-5)


@pytest.mark.parametrize("begin", [True, False], ids=["frozen", "unfrozen"])
def test_what_is_trained_has_changed_since_compile(begin):
    def make():
        model = stack(layers.Dense(3, "tanh"), **slow())
        model.layers[0].trainable = begin
        model.compile(optimizers.SGD(0.1), "binary_crossentropy")
        model.optimizer.build(model.trainable_variables)
        model.layers[0].trainable = not begin
        return model

    plain, ours = twins(make)
    arguments = {"batch_size": 32, "epochs": 2, "shuffle": False}
    with pytest.warns(UserWarning, match=r"call compile\(\) again"):
        if begin:
            training.fit(ours, X, Y, **arguments)
        else:
            with pytest.raises(ValueError, match="Unknown variable"):  # in Keras's words
                training.fit(ours, X, Y, **arguments)
    if begin:
        plainly(plain, epochs=2)
        assert_same_state(ours, plain)


# --- arguments ---------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize(
    "arguments",
    [
        {"validation_freq": 2},
        {"validation_batch_size": 50},
        {"validation_steps": 1},
        {"steps_per_epoch": 10},
        {"verbose": "auto"},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_all_arguments_of_model_fit(arguments, capsys):
    plain, ours = twins(lambda: stack(**slow()))
    expected = plainly(plain, **{"validation_split": 0.2, **arguments})
    with spy_on_model_fit() as seen:
        history = training.fit(ours, X, Y, batch_size=32, epochs=3, shuffle=False, validation_split=0.2, **arguments)
    assert seen.calls == ("verbose" not in arguments)
    assert all(next(iter(arguments)) in text for text in seen.warnings)
    assert list(history.history) == list(expected.history)
    np.testing.assert_allclose(history.history["val_loss"], expected.history["val_loss"], atol=1e-5)


@pytest.mark.thorough
def test_a_dataset_carries_its_targets():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(32)
    plain, ours = twins(lambda: stack(**slow()))
    plain.fit(data, epochs=2, verbose=0)
    with pytest.warns(UserWarning, match="model.fit|keras.Model.fit"):
        training.fit(ours, data, batch_size=32, epochs=2)
    assert_same_state(ours, plain)


def test_a_large_seed_of_a_run_that_is_handed_over():
    with pytest.warns(UserWarning, match="steps_per_epoch"):
        training.fit(stack(**slow()), X, Y, batch_size=32, epochs=1, steps_per_epoch=3, seed=2**40)
