"""`fit` against `keras.Model.fit`: equal figures, weights and state, and the same behaviour around them.

Almost every test trains twins: two models with equal weights, one by `model.fit`, one by `training.fit`. With
`shuffle=False` nothing may differ by more than 1e-5. A spy on `model.fit` shows that the second was not handed over.
"""

import re
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import layers, optimizers
from scipy import stats

import helpers
from batchlab import training

ROOT = Path(__file__).resolve().parent.parent
X, Y = helpers.scale_features(helpers.load_ads(ROOT / "data" / "stand_in.csv"))
TRAIN_ROWS = 320  # of 400, with validation_split=0.2
THREE_CLASSES = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.8])  # 0, 1 or 2
WEIGHTS = np.random.default_rng(5).uniform(0.2, 3, len(Y)).astype(np.float32)
TOLERANCE = 1e-5


# --- twins -------------------------------------------------------------------------------------------


def fresh(make):
    """What `make` builds, with equal weights and equal dropout seeds on every call."""
    keras.utils.set_random_seed(7)
    return make()


def shared(make):
    """Mark a build as one of many tests: its plain twin is kept, so that Keras traces it once, not in every test."""
    make.kept = []
    return make


def twins(make):
    """A plain model and ours, equal in every variable."""
    ours = fresh(make)
    if not hasattr(make, "kept"):
        return fresh(make), ours
    if not make.kept:
        plain = fresh(make)
        plain.optimizer.build(plain.trainable_variables)
        make.kept.append((plain, values([*plain.variables, *plain.optimizer.variables])))
    ((plain, begin),) = make.kept
    for variable, value in zip([*plain.variables, *plain.optimizer.variables], begin, strict=True):
        variable.assign(value)
    return plain, ours


@shared
def documented(optimizer="rmsprop", **compiled):
    model = helpers.build_model(seed=7, optimizer=optimizer)
    if compiled:
        model.compile(**{"optimizer": optimizer, "loss": "binary_crossentropy", "metrics": ["accuracy"], **compiled})
    return model


def stack(*inner, outputs=1, head="sigmoid", features=2, **compiled):
    """A sequential model with these inner layers and one Dense head."""
    model = keras.Sequential([keras.Input((features,)), *inner, layers.Dense(outputs, head)])
    model.compile(**{"optimizer": "rmsprop", "loss": "binary_crossentropy", "metrics": ["accuracy"], **compiled})
    return model


@contextmanager
def spy_on_model_fit():
    """Count the calls of `keras.Model.fit`, and collect the warnings of the meantime."""
    seen = SimpleNamespace(calls=0)
    own = keras.Model.fit

    def fit(self, *arguments, **named):
        seen.calls += 1
        return own(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patch.setattr(keras.Model, "fit", fit)
        yield seen
    seen.warnings = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]


def train(model, x=X, y=Y, *, may_hand_over=False, **arguments):
    """Train with our `fit`, which must not fall back on the model's own."""
    with spy_on_model_fit() as seen:
        history = training.fit(model, x, y, **{"batch_size": 32, "epochs": 3, "shuffle": False, **arguments})
    if seen.calls:
        assert may_hand_over, f"handed to model.fit: {seen.warnings}"
        assert len(seen.warnings) == 1, seen.warnings
    return history


def plainly(model, x=X, y=Y, **arguments):
    """Train with the model's own `fit`."""
    return model.fit(x, y, **{"batch_size": 32, "epochs": 3, "shuffle": False, "verbose": 0, **arguments})


def values(variables):
    return [np.asarray(keras.ops.convert_to_numpy(v)) for v in variables]


def largest_step(before, after):
    return max(np.abs(a - b).max() for a, b in zip(before, after, strict=True))


def assert_same_figures(ours, plain, tolerance=TOLERANCE):
    assert (ours.epoch, ours.params) == (plain.epoch, plain.params)
    assert list(ours.history) == list(plain.history)
    for name, expected in plain.history.items():
        np.testing.assert_allclose(ours.history[name], expected, rtol=0, atol=tolerance, err_msg=name)


def assert_same_state(ours, plain, tolerance=TOLERANCE):
    """Weights, non-trainable state and every optimizer variable."""
    for what in ("variables", "optimizer.variables"):
        ours_now, plain_now = ours, plain
        for part in what.split("."):
            ours_now, plain_now = getattr(ours_now, part), getattr(plain_now, part)
        for variable, a, b in zip(ours_now, values(ours_now), values(plain_now), strict=True):
            np.testing.assert_allclose(
                a.astype(float), b.astype(float), rtol=0, atol=tolerance, err_msg=f"{what}: {variable.path}"
            )


def assert_twins(make, x=X, y=Y, *, may_hand_over=False, tolerance=TOLERANCE, **arguments):
    """Train twins, compare them, and return the plain one and its history."""
    if "validation_data" not in arguments:
        arguments = {"validation_split": 0.2, **arguments}
    plain, ours = twins(make)
    before = values(plain.trainable_variables)
    expected = plainly(plain, x, y, **arguments)
    got = train(ours, x, y, may_hand_over=may_hand_over, **arguments)
    if before:  # an unbuilt model has no weights yet
        assert largest_step(before, values(plain.trainable_variables)) > 10 * tolerance, "nothing was learned"
    assert_same_figures(got, expected, tolerance)
    assert_same_state(ours, plain, tolerance)
    return plain, expected


# --- the documented model: batch sizes and optimizers ------------------------------------------------

MAIN_OPTIMIZERS = {
    "rmsprop": lambda: optimizers.RMSprop(),
    "sgd": lambda: optimizers.SGD(0.01),
    "momentum": lambda: optimizers.SGD(0.01, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(),
    "adamw": lambda: optimizers.AdamW(weight_decay=0.02),
    "schedule": lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.05, 20, 0.9)),
    "clipnorm": lambda: optimizers.RMSprop(clipnorm=0.02),
}
MAIN_MODELS = {name: shared(lambda make=make: documented(make())) for name, make in MAIN_OPTIMIZERS.items()}
BATCH_SIZES = {
    1: ("rmsprop", "sgd"),  # a plain epoch takes 0.3 s, so not all of them
    7: tuple(MAIN_OPTIMIZERS),
    32: tuple(MAIN_OPTIMIZERS),
    250: tuple(MAIN_OPTIMIZERS),
    TRAIN_ROWS: ("rmsprop", "sgd", "adam"),
}


@pytest.mark.parametrize(
    ("batch_size", "optimizer"), [(size, name) for size, names in BATCH_SIZES.items() for name in names]
)
def test_ten_epochs_equal_model_fit(batch_size, optimizer):
    plain, ours = twins(MAIN_MODELS[optimizer])
    arguments = {"batch_size": batch_size, "epochs": 10, "validation_split": 0.2}
    expected = plainly(plain, **arguments)
    assert_same_figures(train(ours, **arguments), expected)
    assert_same_state(ours, plain)
    assert ours.optimizer.iterations.numpy() == 10 * -(-TRAIN_ROWS // batch_size)


@pytest.mark.parametrize("batch_size", [7, 400, 1000])
def test_without_a_validation_part(batch_size):
    assert_twins(documented, batch_size=batch_size, validation_split=0.0)


# --- further optimizers ------------------------------------------------------------------------------

FURTHER_OPTIMIZERS = {
    "centered rmsprop with momentum": lambda: optimizers.RMSprop(centered=True, momentum=0.5),
    "amsgrad": lambda: optimizers.Adam(amsgrad=True),
    "nadam": lambda: optimizers.Nadam(),
    "adagrad": lambda: optimizers.Adagrad(0.02),
    "adamax": lambda: optimizers.Adamax(),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.003),
    "weight decay": lambda: optimizers.SGD(0.05, weight_decay=0.1),
    "moving average": lambda: optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8),
    "moving average that overwrites": lambda: optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=4
    ),
}
# Not elementwise, or with a rhythm of their own: computed right or handed over, never wrong.
DELICATE_OPTIMIZERS = {
    "global_clipnorm": lambda: optimizers.SGD(0.1, global_clipnorm=0.05),
    "lamb": lambda: optimizers.Lamb(),
    "muon": lambda: optimizers.Muon(0.001),
    "adafactor": lambda: optimizers.Adafactor(0.01),
    "lion": lambda: optimizers.Lion(0.0005),
    "accumulation": lambda: optimizers.SGD(0.2, gradient_accumulation_steps=3),  # 10 steps an epoch: crosses its end
    "scaled loss": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1), initial_scale=8, dynamic_growth_steps=7),
}


@pytest.mark.parametrize("optimizer", FURTHER_OPTIMIZERS)
def test_further_optimizers(optimizer):
    assert_twins(lambda: documented(FURTHER_OPTIMIZERS[optimizer]()), validation_split=0.0)


@pytest.mark.parametrize("optimizer", DELICATE_OPTIMIZERS)
def test_delicate_optimizers_are_right_or_handed_over(optimizer):
    assert_twins(lambda: documented(DELICATE_OPTIMIZERS[optimizer]()), may_hand_over=True, validation_split=0.0)


# --- models ------------------------------------------------------------------------------------------


def frozen_part():
    backbone = keras.Sequential([keras.Input((2,)), layers.Dense(6, "tanh"), layers.BatchNormalization()])
    backbone.trainable = False
    return stack(backbone, layers.Dense(4, "relu"))


def unbuilt():
    model = keras.Sequential([layers.Dense(5, "relu"), layers.Dense(1, "sigmoid")])
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    return model


class Penalty(layers.Layer):
    def call(self, inputs):
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


MODELS = {
    "wider and deeper": lambda: stack(layers.Dense(64, "tanh"), layers.Dense(64, "elu"), layers.Dense(64, "tanh")),
    "logistic regression": lambda: stack(optimizer=optimizers.SGD(0.1)),
    "l2": lambda: stack(layers.Dense(8, "relu", kernel_regularizer="l2", bias_regularizer="l1")),
    "activity regularizer": lambda: stack(layers.Dense(8, "relu", activity_regularizer="l2")),
    "batch normalization": lambda: stack(layers.Dense(8), layers.BatchNormalization(), layers.ReLU()),
    # XLA draws other numbers than TensorFlow does from one seed, so the plain twin is compiled by XLA as well.
    "dropout": lambda: stack(layers.Dense(16, "relu"), layers.Dropout(0.4), jit_compile=True),
    "dropout with a seed": lambda: stack(layers.Dense(16, "relu"), layers.Dropout(0.4, seed=3), jit_compile=True),
    "constraint": lambda: stack(layers.Dense(8, "relu", kernel_constraint=keras.constraints.MaxNorm(0.5))),
    "frozen part": frozen_part,
    "not yet built": unbuilt,
    "double precision": lambda: stack(layers.Dense(8, "relu", dtype="float64"), optimizer="sgd"),
    "loss added in a layer": lambda: stack(layers.Dense(8, "relu"), Penalty()),
    "weighted loss": lambda: stack(layers.Dense(8, "relu"), loss_weights=[0.3], optimizer=optimizers.SGD(0.1)),
    "convolution": lambda: stack(layers.Reshape((2, 1)), layers.Conv1D(4, 2, activation="relu"), layers.Flatten()),
}


@pytest.mark.parametrize("model", MODELS)
def test_models(model):
    assert_twins(MODELS[model])


def test_dropout_goes_on_from_its_seed_whatever_compiles_it():
    plain, ours = twins(lambda: stack(layers.Dense(16, "relu"), layers.Dropout(0.4, seed=3), jit_compile=False))
    plainly(plain)
    train(ours)
    assert [v.tolist() for v in values(ours.non_trainable_variables)] == [
        v.tolist() for v in values(plain.non_trainable_variables)
    ]


def test_embedding_of_whole_numbers():
    ages = np.digitize(X[:, :1], np.linspace(-2, 2, 9)).astype(np.int32)
    assert_twins(lambda: stack(layers.Embedding(10, 4), layers.Flatten(), features=1), ages)


class HalvedSteps(keras.Model):
    """Its own training step: half the gradient, and an extra log."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply([0.5 * g for g in gradients], self.trainable_variables)
        return {"loss": loss, "twice": 2 * loss}


class HalvedLoss(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 0.5 * super().compute_loss(x, y, y_pred, sample_weight, training)


class FirstRowCounts(keras.Model):
    """Its own test step."""

    def test_step(self, data):
        x, y = data
        return {"loss": self.compute_loss(x[:1], y[:1], self(x[:1]), training=False)}


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.head = layers.Dense(6, "relu"), layers.Dense(1, "sigmoid")

    def call(self, inputs):
        return self.head(self.hidden(inputs))


def functional(kind):
    inputs = keras.Input((2,))
    model = kind(inputs, layers.Dense(1, "sigmoid")(layers.Dense(6, "relu")(inputs)))
    model.compile(optimizers.SGD(0.1), "binary_crossentropy")
    return model


def subclassed():
    model = Subclassed()
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    return model


UNUSUAL_MODELS = {
    "own training step": lambda: functional(HalvedSteps),
    "own loss computation": lambda: functional(HalvedLoss),
    "own test step": lambda: functional(FirstRowCounts),
    "subclassed": subclassed,
    "eager": lambda: documented(run_eagerly=True),
    "several steps an execution": lambda: documented(steps_per_execution=4),
}


@pytest.mark.parametrize("model", UNUSUAL_MODELS)
def test_unusual_models_are_right_or_handed_over(model):
    assert_twins(UNUSUAL_MODELS[model], may_hand_over=True, epochs=2)


# --- losses, metrics, weights ------------------------------------------------------------------------


def cubic_loss(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred) ** 3, axis=-1)


LOSSES = {
    "categorical": ("categorical_crossentropy", "softmax", keras.utils.to_categorical(THREE_CLASSES)),
    "sparse categorical": ("sparse_categorical_crossentropy", "softmax", THREE_CLASSES),
    "mean squared": ("mean_squared_error", "linear", (X @ [[1.0], [2.0]]).astype(np.float32)),
    "binary from logits": (keras.losses.BinaryCrossentropy(True, label_smoothing=0.1), "linear", Y),
    "sum": (keras.losses.BinaryCrossentropy(reduction="sum"), "sigmoid", Y),
    "custom function": (cubic_loss, "sigmoid", Y),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss):
    loss, head, y = LOSSES[loss]
    outputs = 3 if head == "softmax" else 1
    rate = 0.003 if getattr(loss, "reduction", "") == "sum" else 0.1
    metrics = ["mae"] if head == "linear" else ["accuracy"]
    compiled = {"outputs": outputs, "head": head, "loss": loss, "metrics": metrics}
    assert_twins(lambda: stack(layers.Dense(8, "tanh"), optimizer=optimizers.SGD(rate), **compiled), y=y)


def share_above_half(y_true, y_pred):
    return keras.ops.mean(keras.ops.cast(y_pred > 0.5, "float32"), axis=-1)


def test_metrics():
    metrics = ["accuracy", share_above_half, "mse"]

    def make():
        own = [keras.metrics.AUC(name="auc"), keras.metrics.Precision(name="precision")]
        weighted = [keras.metrics.BinaryAccuracy(name="weighted", threshold=0.4)]
        return documented(optimizers.Adam(0.01), metrics=[*metrics, *own], weighted_metrics=weighted)

    _, history = assert_twins(make, sample_weight=WEIGHTS)
    assert len(history.history) == 14
    assert all(np.ptp(history.history[name]) > 0 for name in ("auc", "weighted"))


def test_no_metrics():
    _, history = assert_twins(lambda: stack(layers.Dense(8, "tanh"), metrics=None))
    assert list(history.history) == ["loss", "val_loss"]


WITH_WEIGHTS = {
    "sample weights": {"sample_weight": WEIGHTS},
    "whole sample weights": {"sample_weight": WEIGHTS.astype(int)},
    "sample weights with a batch of zeros": {"sample_weight": np.where(np.arange(400) // 32 == 2, 0, WEIGHTS)},
    "class weights": {"class_weight": {0: 0.5, 1: 3.0}},
    "class weights for one class": {"class_weight": {1: 3.0}},
    "validation data": {"validation_data": (X[100:250], Y[100:250])},
    "validation data with weights": {"validation_data": (X[:150], Y[:150], WEIGHTS[:150]), "sample_weight": WEIGHTS},
    "validation data before validation split": {"validation_data": (X[:99], Y[:99]), "validation_split": 0.5},
    "validation data and class weights": {"validation_data": (X[:99], Y[:99]), "class_weight": {0: 0.5, 1: 3.0}},
}


@shared
def with_weighted_metric():
    return documented(weighted_metrics=["mae"])


@pytest.mark.parametrize("case", WITH_WEIGHTS)
def test_weights_and_validation(case):
    assert_twins(with_weighted_metric, **WITH_WEIGHTS[case])


def test_sample_weights_in_a_column():
    assert_twins(lambda: documented("adam"), sample_weight=WEIGHTS[:, None])


def test_sample_weights_matter():
    plain, ours = twins(documented)
    plainly(plain)
    train(ours, sample_weight=WEIGHTS)
    assert largest_step(values(plain.variables), values(ours.variables)) > 1e-3


# --- several inputs and outputs, and kinds of arrays -------------------------------------------------

TARGETS = {"bought": Y, "kind": THREE_CLASSES}


def branches(inputs_as, outputs_as):
    age, salary = keras.Input((1,), name="age"), keras.Input((1,), name="salary")
    hidden = layers.Dense(8, "relu")(layers.Concatenate()([age, salary]))
    bought = layers.Dense(1, "sigmoid", name="bought")(hidden)
    kind = layers.Dense(3, "softmax", name="kind")(hidden)
    losses = {"bought": "binary_crossentropy", "kind": "sparse_categorical_crossentropy"}
    metrics = {"bought": ["accuracy"], "kind": ["accuracy"]}
    weights = {"bought": 1.0, "kind": 0.3}
    if outputs_as is list:
        losses, metrics, weights = list(losses.values()), list(metrics.values()), list(weights.values())
    inputs = {"age": age, "salary": salary} if inputs_as is dict else [age, salary]
    outputs = {"bought": bought, "kind": kind} if outputs_as is dict else [bought, kind]
    model = keras.Model(inputs, outputs)
    model.compile("rmsprop", loss=losses, metrics=metrics, loss_weights=weights)
    return model


@pytest.mark.parametrize("kind", [dict, list])
def test_several_inputs_and_outputs(kind):
    x = {"age": X[:, :1], "salary": X[:, 1:]}
    x, y = (x, TARGETS) if kind is dict else (list(x.values()), list(TARGETS.values()))
    # Whole batches: where the last one is smaller, Keras averages the losses of single outputs over batches.
    _, history = assert_twins(lambda: branches(kind, kind), x, y, batch_size=40)
    assert {"bought_loss", "kind_loss", "val_kind_accuracy"} <= set(history.history)


def test_sample_weights_of_each_output():
    weights = {"bought": WEIGHTS, "kind": WEIGHTS[::-1].copy()}
    x = {"age": X[:, :1], "salary": X[:, 1:]}
    assert_twins(lambda: branches(dict, dict), x, TARGETS, sample_weight=weights, batch_size=40)


ARRAYS = {
    "pandas": lambda: (pd.DataFrame(X, columns=["age", "salary"]), pd.Series(Y, name="bought")),
    "pandas with its own index": lambda: (pd.DataFrame(X, index=range(900, 500, -1)), pd.Series(Y, index=[3] * 400)),
    "double precision": lambda: (X.astype(np.float64), Y.astype(np.float64)),
    "whole numbers": lambda: ((10 * X).round().astype(np.int64), Y.astype(np.int32)),
    "booleans": lambda: (X, Y.astype(bool)),
    "a column": lambda: (X, Y[:, None]),
    "reversed views": lambda: (X[::-1], Y[::-1]),
    "tensors": lambda: (tf.constant(X), tf.constant(Y)),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_kinds_of_arrays(kind):
    x, y = ARRAYS[kind]()
    assert_twins(lambda: documented("adam"), x, y, epochs=2)  # Keras refuses other ranks on a model once trained


def test_one_feature_without_a_second_axis():
    assert_twins(lambda: stack(layers.Dense(6, "relu"), features=1), X[:, 0])


def test_half_of_the_columns_from_a_frame_and_half_from_an_array():
    x = {"age": pd.DataFrame(X[:, :1]), "salary": X[:, 1:].astype(np.float64)}
    assert_twins(lambda: branches(dict, dict), x, TARGETS, epochs=2, batch_size=40)


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


@pytest.mark.parametrize("ours_first", [True, False])
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


@pytest.mark.parametrize("change", [change_rate, replace_optimizer, freeze, other_loss, set_weights])
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


class Recorder(keras.callbacks.Callback):
    """Every epoch-level call in order, with its logs and the weights at that moment."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def note(self, name, epoch=None, logs=None):
        self.calls.append((name, epoch, dict(logs or {}), values(self.model.variables)))

    def on_train_begin(self, logs=None):
        self.note("train begin", None, logs)

    def on_epoch_begin(self, epoch, logs=None):
        self.note("epoch begin", epoch, logs)

    def on_test_begin(self, logs=None):
        self.note("test begin", None, logs)

    def on_test_end(self, logs=None):
        self.note("test end", None, logs)

    def on_epoch_end(self, epoch, logs=None):
        self.note("epoch end", epoch, logs)

    def on_train_end(self, logs=None):
        self.note("train end", None, logs)


def with_callbacks(make_callbacks, make=documented, *, may_hand_over=False, **arguments):
    """Twins with callbacks of their own; what both runs left behind."""
    arguments = {"epochs": 6, "validation_split": 0.2, **arguments}
    plain, ours = twins(make)
    plain_callbacks, our_callbacks = make_callbacks("plain"), make_callbacks("ours")
    expected = plainly(plain, callbacks=plain_callbacks, **arguments)
    got = train(ours, callbacks=our_callbacks, may_hand_over=may_hand_over, **arguments)
    assert_same_figures(got, expected)
    assert_same_state(ours, plain)
    return SimpleNamespace(
        plain=plain_callbacks, ours=our_callbacks, history=got, model=ours, expected=expected, plain_model=plain
    )


@pytest.mark.parametrize("validation_split", [0.0, 0.2])
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
    rates = ran.history.history["learning_rate"]
    assert len(set(rates)) == 6


def test_reduce_on_plateau():
    def make(_):
        return [keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=0.05)]

    ran = with_callbacks(make)
    assert ran.history.history["learning_rate"][-1] < 1e-3


def test_csv_logger(tmp_path):
    ran = with_callbacks(lambda who: [keras.callbacks.CSVLogger(str(tmp_path / f"{who}.csv"))], epochs=3)
    ours, plain = (pd.read_csv(tmp_path / f"{who}.csv") for who in ("ours", "plain"))
    pd.testing.assert_frame_equal(ours, plain, rtol=0, atol=TOLERANCE)
    assert ran.history.epoch == list(ours["epoch"])


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    with_callbacks(lambda who: [keras.callbacks.TensorBoard(tmp_path / who)], epochs=2)
    ours, plain = (sorted(file.parent.name for file in (tmp_path / who).rglob("events*")) for who in ("ours", "plain"))
    assert ours == plain == ["train", "validation"]


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


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_batch_end", "on_train_batch_begin", "on_test_batch_end"])
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
    assert len(list(tmp_path.iterdir())) == 2  # after 5 and 10 of 13 batches
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


@pytest.mark.parametrize("place", WITHOUT_KERNEL)
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
