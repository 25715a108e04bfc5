"""The documented network, and others of its kind. Never trains."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from batchlab.checks import whole_number
from batchlab.training import draw_weights


def build_model(
    hidden: Sequence[int] = (10, 10),
    *,
    features: int = 2,
    optimizer: str | keras.optimizers.Optimizer = "rmsprop",
    seed: int | None = None,
    name: str | None = None,
) -> keras.Sequential:
    """Build and compile a binary classifier: ReLU layers, one sigmoid output, binary cross-entropy.

    The defaults are the documented network: 2 inputs, two layers of 10, 1 output, which makes
    30 + 110 + 11 = 151 parameters. `compile()` was documented without an optimizer, and Keras then
    takes RMSprop with learning rate 0.001.

    Args:
        hidden: Units of each hidden layer; may be empty, which leaves logistic regression.
        features: Number of input columns.
        optimizer: A Keras optimizer or its name.
        seed: Decides the initial weights (Glorot uniform; Glorot & Bengio 2010), the same ones that
            `fit_seeds` gives the run of this seed. Without it every call draws fresh weights.
        name: The model's name, shown in its summary.

    Returns:
        The compiled model; it maps float32 of shape (rows, features) to probabilities (rows, 1).

    Raises:
        TypeError: A size is not a whole number.
        ValueError: A size is below 1.
    """
    features = whole_number(features, "features", 1)
    units = [whole_number(size, f"hidden[{i}]", 1) for i, size in enumerate(hidden)]
    layers = [keras.layers.Dense(size, "relu") for size in units]
    model = keras.Sequential(
        [keras.Input((features,)), *layers, keras.layers.Dense(1, "sigmoid")],
        name=name,
    )
    if seed is not None:
        draw_weights(model, seed)
    model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    return model
