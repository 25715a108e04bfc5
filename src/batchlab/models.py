"""The documented network, and others of its kind. Never trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from batchlab.checks import whole_number
from batchlab.training import draw_weights

OPTIMIZERS = ("SGD", "momentum", "RMSprop", "Adam")
"""The optimizers that are compared: names that `build_model` knows."""

_MOMENTUM = 0.9


def build_model(
    hidden: Sequence[int] = (10, 10),
    *,
    features: int = 2,
    classes: int | None = 2,
    optimizer: str | keras.optimizers.Optimizer = "rmsprop",
    dropout: float = 0.0,
    batch_normalization: bool = False,
    seed: int | None = None,
    name: str | None = None,
) -> keras.Sequential:
    """Build and compile a network: ReLU layers, one sigmoid output, binary cross-entropy.

    The defaults are the documented network: 2 inputs, two layers of 10, 1 output, which makes
    30 + 110 + 11 = 151 parameters. `compile()` was documented without an optimizer, and Keras then
    takes RMSprop with learning rate 0.001.

    Args:
        hidden: Units of each hidden layer; may be empty, which leaves logistic regression.
        features: Number of input columns.
        classes: More than two make a softmax output for each and sparse categorical cross-entropy; None makes one
            linear output and the mean squared error, for a target that is a number.
        optimizer: A Keras optimizer or its name; "momentum" stands for SGD with momentum 0.9.
        dropout: Share of each hidden layer's outputs that a training step drops (Srivastava et al. 2014).
        batch_normalization: Whether each hidden layer is normalised by its batch before its ReLU (Ioffe & Szegedy
            2015); it then has no bias, which the normalisation would take away again.
        seed: Decides the initial weights (Glorot uniform; Glorot & Bengio 2010), the same ones that
            `fit_seeds` gives the run of this seed. Without it every call draws fresh weights.
        name: The model's name, shown in its summary.

    Returns:
        The compiled model; it maps float32 of shape (rows, features) to probabilities (rows, 1), or (rows, classes);
        to numbers (rows, 1) without classes. Its metric is accuracy; none where there are no classes.

    Raises:
        TypeError: A size is not a whole number.
        ValueError: A size is below 1, there are fewer than 2 classes, or the share is not at least 0 and below 1.
    """
    features = whole_number(features, "features", 1)
    units = [whole_number(size, f"hidden[{i}]", 1) for i, size in enumerate(hidden)]
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` is {dropout!r}; give a share of at least 0 and below 1.")
    layers = [layer for size in units for layer in _hidden(size, dropout, batch_normalization)]
    if classes is None:
        output, loss = keras.layers.Dense(1), "mean_squared_error"
    elif whole_number(classes, "classes", 2) == 2:
        output, loss = keras.layers.Dense(1, "sigmoid"), "binary_crossentropy"
    else:
        output, loss = keras.layers.Dense(classes, "softmax"), "sparse_categorical_crossentropy"
    model = keras.Sequential([keras.Input((features,)), *layers, output], name=name)
    if seed is not None:
        draw_weights(model, seed)
    if optimizer == "momentum":
        optimizer = keras.optimizers.SGD(momentum=_MOMENTUM)
    model.compile(optimizer=optimizer, loss=loss, metrics=None if classes is None else ["accuracy"])
    return model


@keras.saving.register_keras_serializable("batchlab")
class GhostBatchNormalization(keras.layers.BatchNormalization):
    """BatchNormalization by parts of a batch, "ghost batches" (Hoffer, Hubara & Soudry 2017).

    In training, mean and variance are those of `ghost_size` rows each, so that their noise can be chosen apart from the
    number of rows in an update. The moving averages take the mean over the parts; an evaluation is as without parts.

    Args:
        ghost_size: Rows of a part; has to divide the rows of a batch.
        **options: As of `keras.layers.BatchNormalization`; the axis is always the last.
    """

    def __init__(self, ghost_size: int, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self.ghost_size = whole_number(ghost_size, "ghost_size", 1)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ANN401
        """Normalise rows of shape (rows, units).

        Raises:
            ValueError: The ghost size does not divide the rows.
        """
        if not training or not self.trainable:
            return super().call(inputs, training=False, mask=mask)
        rows, units = inputs.shape
        if rows is not None and rows % self.ghost_size:
            raise ValueError(f"`ghost_size` is {self.ghost_size}, which does not divide a batch of {rows} rows.")
        parts = keras.ops.reshape(inputs, (-1, self.ghost_size, units))
        mean, variance = keras.ops.moments(parts, axes=1, keepdims=True)
        for moving, seen in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average = keras.ops.reshape(keras.ops.mean(seen, axis=0), (units,))
            moving.assign(moving * self.momentum + average * (1 - self.momentum))
        normalised = (parts - mean) / keras.ops.sqrt(variance + self.epsilon)
        if self.scale:
            normalised *= self.gamma
        if self.center:
            normalised += self.beta
        return keras.ops.reshape(normalised, (-1, units))

    def get_config(self) -> dict[str, Any]:
        """Return what the layer is made of."""
        return super().get_config() | {"ghost_size": self.ghost_size}


def _hidden(units: int, dropout: float, batch_normalization: bool) -> list[keras.Layer]:
    if batch_normalization:
        layers = [
            keras.layers.Dense(units, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("relu"),
        ]
    else:
        layers = [keras.layers.Dense(units, "relu")]
    return [*layers, keras.layers.Dropout(dropout)] if dropout else layers
