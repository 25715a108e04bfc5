"""Initial weights: drawn from a seed, by a model's own initializers. Never trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

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
    for variable, value in zip(model.variables, drawer(model)(seed), strict=True):
        variable.assign(value)


def drawer(model: keras.Model) -> Callable[[int], list[np.ndarray]]:
    """Return a function from a seed to what `draw_weights` would assign: a value for each of `model.variables`.

    Args:
        model: A built Keras model.

    Raises:
        ValueError: A layer has a weight without an initializer to draw it from.
    """
    holders = owners(model)
    initializers: list[keras.initializers.Initializer | None] = []
    for variable in model.variables:
        found = (getattr(layer, f"{variable.name}_initializer", None) for layer in holders.get(id(variable), ()))
        initializer = next(filter(None, found), None)
        if initializer is None and "seed_generator" not in variable.path:
            raise ValueError(
                f"The weight {variable.path} has no initializer to draw it from; give `initial_weights` instead."
            )
        initializers.append(initializer)
    places = [(tuple(variable.shape), variable.dtype) for variable in model.variables]
    # An initializer is a call of TensorFlow, which costs as much as hundreds of updates: zeros are made once.
    zeros = keras.initializers.Zeros
    fixed = [
        np.asarray(i(shape, dtype=dtype)) if isinstance(i, zeros) else None
        for i, (shape, dtype) in zip(initializers, places, strict=True)
    ]

    def draw(seed: int) -> list[np.ndarray]:
        numbers = np.random.SeedSequence([seed, 0]).generate_state(len(places))
        values = []
        for (shape, dtype), initializer, same, number in zip(
            places, initializers, fixed, map(int, numbers), strict=True
        ):
            if same is not None:
                values.append(same)
                continue
            if initializer is None:
                values.append(np.array([number, 0], dtype))  # as keras.random.SeedGenerator begins
                continue
            values.append(_drawn(initializer, shape, dtype, number))
        return values

    return draw


def _drawn(initializer: keras.initializers.Initializer, shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Draw one weight; small ones are remembered, since the runs of a grid begin alike at every learning rate."""
    kind, config = type(initializer), initializer.get_config()
    if "seed" in config:
        config |= {"seed": seed}
        if kind.__module__.startswith("keras.") and np.prod(shape) <= _LARGEST_KEPT:
            return _remembered(kind, tuple(config.items()), shape, dtype)
        initializer = kind.from_config(config)
    return np.asarray(initializer(shape, dtype=dtype))


_LARGEST_KEPT, _MOST_KEPT = 1024, 16_384  # numbers of a weight; weights: 64 MB of float32 at most


@lru_cache(_MOST_KEPT)
def _remembered(kind: type, config: tuple, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    weight = np.array(kind.from_config(dict(config))(shape, dtype=dtype))
    weight.flags.writeable = False  # everybody is given the same array
    return weight


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
