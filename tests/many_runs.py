"""What the tests of `fit_seeds` share: models, single runs to compare with, and the comparison of every run."""

import importlib
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers

import helpers
from batchlab import training

ROOT = Path(__file__).resolve().parent.parent
X, Y = helpers.scale_features(helpers.load_ads(ROOT / "data" / "stand_in.csv"))
TRAIN_ROWS = 320  # of 400, with validation_split=0.2
THREE_CLASSES = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.8])
WEIGHTS = np.random.default_rng(5).uniform(0.2, 3, len(Y)).astype(np.float32)
FIGURES = ["loss", "accuracy", "val_loss", "val_accuracy"]
TOLERANCE = 1e-5
# A graphics card would round the factors of a product to ten bits.
tf.config.experimental.enable_tensor_float_32_execution(False)


def documented(optimizer="rmsprop"):
    return helpers.build_model(optimizer=optimizer)


def stack(*inner, outputs=1, head="sigmoid", **compiled):
    model = keras.Sequential([keras.Input((2,)), *inner, layers.Dense(outputs, head)])
    model.compile(**{"optimizer": "rmsprop", "loss": "binary_crossentropy", "metrics": ["accuracy"], **compiled})
    return model


def runs(build=documented, x=X, y=Y, **arguments):
    return training.fit_seeds(
        build, x, y, **{"seeds": 3, "batch_size": 32, "epochs": 3, "validation_split": 0.2, **arguments}
    )


@contextmanager
def on_every_core():
    """Have each core train a chunk of the runs, however short they are, as it otherwise does only if they are long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("batchlab.training.fit_seeds"), "_WORTH_A_CORE", 1)
        yield


def drawn(build, seed):
    model = build()
    training.draw_weights(model, seed)
    return model


def single_runs(build, train=training.fit):
    """A function that trains one run from its seed, always on one model, put back to its beginning."""
    model = build()
    model.optimizer.build(model.trainable_variables)
    begin = [v.numpy() for v in model.optimizer.variables]

    def run(seed, x=X, y=Y, **arguments):
        training.draw_weights(model, seed)
        for variable, value in zip(model.optimizer.variables, begin, strict=True):
            variable.assign(value)
        arguments = {"batch_size": 32, "epochs": 3, "validation_split": 0.2, "seed": seed, **arguments}
        return train(model, x, y, **arguments).history, model.get_weights()

    return run


def differences(one, other):
    return max(np.abs(np.subtract(a, b)).max() for a, b in zip(one, other, strict=True))


def assert_run(frame, weights, position, seed, history, expected_weights, tolerance=TOLERANCE):
    """One run of a frame, and its weights, equal those of a run on its own."""
    rows = frame[frame["seed"] == seed]
    assert set(history) == set(frame.columns) - {"batch_size", "seed", "epoch", "updates", "learning_rate"}
    for name, values in history.items():
        np.testing.assert_allclose(rows[name], values, rtol=0, atol=tolerance, err_msg=f"seed {seed}, {name}")
    for kept, expected in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(kept[position], expected, rtol=0, atol=tolerance, err_msg=f"seed {seed}")


def assert_every_run(build, seeds=(0, 1, 2), **arguments):
    """All runs of `fit_seeds` equal runs of `fit`."""
    frame, weights = runs(build, seeds=list(seeds), keep_weights=True, **arguments)
    assert frame["seed"].unique().tolist() == list(seeds)
    run = single_runs(build)
    for position, seed in enumerate(seeds):
        history, expected = run(seed, **arguments)
        assert_run(frame, weights, position, seed, history, expected)
        assert differences(drawn(build, seed).get_weights(), expected) > 100 * TOLERANCE, "nothing was learned"
    assert differences([w[0] for w in weights], [w[1] for w in weights]) > 100 * TOLERANCE, "the runs are all alike"


BUILDERS = {
    "sgd": lambda: documented(optimizers.SGD(0.05)),
    "momentum": lambda: documented(optimizers.SGD(0.02, momentum=0.9)),
    "nesterov": lambda: documented(optimizers.SGD(0.02, momentum=0.9, nesterov=True)),
    "adam": lambda: documented(optimizers.Adam(0.005)),
    "adamw": lambda: documented(optimizers.AdamW(0.005, weight_decay=0.05)),
    "schedule": lambda: documented(optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 10, 0.8))),
    "nadam": lambda: documented(optimizers.Nadam(0.005)),
    "adamax": lambda: documented(optimizers.Adamax(0.005)),
    "amsgrad": lambda: documented(optimizers.Adam(0.005, amsgrad=True)),
    "adagrad": lambda: documented(optimizers.Adagrad(0.05)),
    "centered rmsprop with momentum": lambda: documented(optimizers.RMSprop(centered=True, momentum=0.5)),
    "clipvalue": lambda: documented(optimizers.SGD(0.1, clipvalue=0.003)),
    "l2": lambda: stack(layers.Dense(6, "relu", kernel_regularizer="l2"), layers.Dense(4, "elu")),
    "no hidden layer": lambda: stack(optimizer=optimizers.SGD(0.1)),
    # Functions over the units, which must not run over the runs.
    "softmax inside": lambda: stack(layers.Dense(6, "softmax")),
    "log_softmax inside": lambda: stack(layers.Dense(6, "log_softmax")),
    "normalised exponentials in a layer": lambda: stack(layers.Dense(6), layers.Activation("softmax")),
    "weighted loss": lambda: stack(layers.Dense(6, "relu"), loss_weights=[0.3], optimizer=optimizers.SGD(0.1)),
    "no bias": lambda: stack(layers.Dense(6, "tanh", use_bias=False)),
    "from logits": lambda: stack(layers.Dense(6, "selu"), head=None, loss=keras.losses.BinaryCrossentropy(True)),
    "separate activation": lambda: stack(layers.Dense(6), layers.Activation("relu")),
}
#: No chains of Dense layers, or of losses that are no mean over rows: Keras's step, mapped over the runs.
VECTORISED = {
    "activity regularizer": lambda: stack(layers.Dense(6, "relu", activity_regularizer="l2")),
    "sum over the batch": lambda: stack(loss=keras.losses.BinaryCrossentropy(reduction="sum"), optimizer="sgd"),
    "area under the curve": lambda: stack(layers.Dense(6, "relu"), metrics=[keras.metrics.AUC(name="auc")]),
    "normalised": lambda: stack(layers.Dense(6, use_bias=False), layers.BatchNormalization(), layers.ReLU()),
    "normalised by rows": lambda: stack(layers.Dense(6), layers.LayerNormalization(), layers.Activation("tanh")),
    "with dropout": lambda: stack(layers.Dense(12, "relu"), layers.Dropout(0.4)),
    "both": lambda: stack(
        *(layers.Dense(6, use_bias=False), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.2)),
        optimizer=optimizers.SGD(0.1, momentum=0.9),
    ),
    "with noise": lambda: stack(layers.GaussianNoise(0.2), layers.Dense(6, "relu"), layers.GaussianDropout(0.1)),
    "a schedule": lambda: stack(
        layers.Dropout(0.1), optimizer=optimizers.AdamW(optimizers.schedules.ExponentialDecay(0.05, 10, 0.8))
    ),
    "residual": lambda: residual(),
    "two branches": lambda: residual(layers.Concatenate()),
    "images": lambda: stack(
        layers.Reshape((2, 1, 1)),
        layers.Conv2D(4, 2, padding="same", activation="relu"),
        layers.MaxPooling2D(1),
        layers.Conv2D(3, (2, 1)),
        layers.Flatten(),
    ),
    "sequences": lambda: stack(
        layers.Reshape((2, 1)), layers.Conv1D(4, 2, padding="same"), layers.AveragePooling1D(2), layers.Flatten()
    ),
    "clipvalue": lambda: stack(
        layers.Dense(4, "relu"), layers.Dropout(0.1), optimizer=optimizers.SGD(1.0, clipvalue=0.01)
    ),
}
#: Trained one after the other, and why.
ONE_BY_ONE = {
    # Its norm is that of one run's layer: over all runs at once it would tie them together.
    "clipnorm": (lambda: documented(optimizers.SGD(0.1, clipnorm=0.05)), "every parameter by itself"),
    "global_clipnorm": (lambda: documented(optimizers.SGD(0.1, global_clipnorm=0.05)), "every parameter by itself"),
    "constraint": (
        lambda: stack(layers.Dense(6, "relu", kernel_constraint=keras.constraints.MaxNorm(0.5))),
        "is constrained",
    ),
    "holes": (
        lambda: stack(layers.Reshape((2, 1)), layers.Conv1D(4, 2, dilation_rate=2, padding="same"), layers.Flatten()),
        "cannot vectorise an operation of it, ",
    ),
}


def residual(joined=None):
    inputs = keras.Input((2,))
    hidden = layers.Dense(4, "relu")(inputs)
    hidden = (joined or layers.Add())([hidden, layers.Dense(4, "tanh")(hidden)])
    model = keras.Model(inputs, layers.Dense(1, "sigmoid")(hidden))
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    return model
