"""Initial weights: drawn from a seed, by a model's own initializers. Never trains."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from batchlab.training.keras_internals import owners


def draw_weights(model: keras.Model, seed: int) -> None:
    """Draw a built model's initial weights anew, in place, from its own initializers.

    Args:
        model: A built Keras model.
        seed: Decides the weights, whatever was drawn before and whatever seeds the initializers hold.

    Raises:
        ValueError: A layer has a weight without an initializer to draw it from.
    """
    for variable, value in zip(model.variables, drawn(model, seed), strict=True):
        variable.assign(value)


def drawn(model: keras.Model, seed: int) -> list[np.ndarray]:
    """Return what `draw_weights` would assign: a value for each of `model.variables`.

    Raises:
        ValueError: A layer has a weight without an initializer to draw it from.
    """
    numbers = iter(np.random.SeedSequence([seed, 0]).generate_state(len(model.variables)))
    holders = owners(model)
    values = []
    for variable, number in zip(model.variables, map(int, numbers), strict=True):
        if "seed_generator" in variable.path:
            values.append(np.array([number, 0], variable.dtype))  # as keras.random.SeedGenerator begins
            continue
        found = (getattr(layer, f"{variable.name}_initializer", None) for layer in holders.get(id(variable), ()))
        initializer = next(filter(None, found), None)
        if initializer is None:
            raise ValueError(
                f"The weight {variable.path} has no initializer to draw it from; give `initial_weights` instead."
            )
        config = initializer.get_config()
        if "seed" in config:
            initializer = type(initializer).from_config({**config, "seed": number})
        values.append(np.asarray(initializer(variable.shape, dtype=variable.dtype)))
    return values


def checked_weights(weights: Sequence[np.ndarray], model: keras.Model) -> list[np.ndarray]:
    """Return given initial weights as arrays.

    Raises:
        ValueError: They do not fit the model, or hold NaN or infinity.
    """
    shapes = [tuple(w.shape) for w in model.get_weights()]
    if [tuple(np.shape(w)) for w in weights] != shapes:
        raise ValueError(f"`initial_weights` must have the shapes that model.get_weights() has: {shapes}.")
    if not all(np.isfinite(w).all() for w in weights):
        raise ValueError("`initial_weights` holds NaN or infinity; give finite weights.")
    return [np.asarray(w, np.float32) for w in weights]
