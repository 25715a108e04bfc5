"""`fit` equals `keras.Model.fit` over models and kinds of arrays; see `twins`."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import layers, optimizers
from twins import (
    THREE_CLASSES,
    WEIGHTS,
    X,
    Y,
    assert_twins,
    documented,
    stack,
)

pytestmark = pytest.mark.thorough

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
    # XLA draws other numbers than TensorFlow does from one seed, so the plain twin is not compiled by it.
    "dropout": lambda: stack(layers.Dense(16, "relu"), layers.Dropout(0.4), jit_compile=False),
    "noise": lambda: stack(
        layers.GaussianNoise(0.1, seed=3), layers.Dense(16, "relu"), layers.GaussianDropout(0.2), jit_compile=False
    ),
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
