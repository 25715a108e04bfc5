"""Initial weights: drawn from a seed, by a model's own initializers. Never trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import keras
import numpy as np
import tensorflow as tf

from batchlab.training.keras_internals import owners

_WORTH_A_PROGRAM = 16  # draws of one weight: a program takes as long to make as some eighty calls of an initializer


def draw_weights(model: keras.Model, seed: int) -> None:
    """Draw a built model's initial weights anew, in place, from its own initializers.

    Args:
        model: A built Keras model.
        seed: Decides the weights, whatever was drawn before and whatever seeds the initializers hold.

    Raises:
        ValueError: A layer has a weight without an initializer to draw it from.
    """
    for variable, (value,) in zip(model.variables, drawer(model)([seed]), strict=True):
        variable.assign(value)


def drawer(
    model: keras.Model, given: Sequence[np.ndarray] | None = None
) -> Callable[[Sequence[int]], list[np.ndarray]]:
    """Return a function from seeds to what `draw_weights` would assign with each of them.

    Args:
        model: A built Keras model.
        given: Weights, as `model.get_weights()` gives them, that all seeds share: only what else is random is drawn.

    Returns:
        A function that returns for each of `model.variables` an array (seeds, …).

    Raises:
        ValueError: A layer has a weight without an initializer to draw it from.
    """
    holders = owners(model)
    fixed = {} if given is None else dict(zip(map(id, model.weights), given, strict=True))
    initializers: list[keras.initializers.Initializer | None] = []
    for variable in model.variables:
        found = (getattr(layer, f"{variable.name}_initializer", None) for layer in holders.get(id(variable), ()))
        initializer = next(filter(None, found), None)
        if initializer is None and "seed_generator" not in variable.path and id(variable) not in fixed:
            raise ValueError(
                f"The weight {variable.path} has no initializer to draw it from; give `initial_weights` instead."
            )
        initializers.append(initializer)
    places = [(tuple(variable.shape), variable.dtype, fixed.get(id(variable))) for variable in model.variables]

    def draw(seeds: Sequence[int]) -> list[np.ndarray]:
        numbers = np.array([np.random.SeedSequence([seed, 0]).generate_state(len(places)) for seed in seeds], np.int64)
        with tf.device("CPU:0"):  # the same values on a machine with a graphics card
            return [
                _drawn(initializer, shape, dtype, of_seeds)
                if same is None
                else np.broadcast_to(same, (len(seeds), *shape))
                for initializer, (shape, dtype, same), of_seeds in zip(initializers, places, numbers.T, strict=True)
            ]

    return draw


def _drawn(
    initializer: keras.initializers.Initializer | None, shape: tuple[int, ...], dtype: str, numbers: np.ndarray
) -> np.ndarray:
    """Draw one weight with each of these numbers as its seed."""
    if initializer is None:
        return np.array([[number, 0] for number in numbers], dtype)  # as keras.random.SeedGenerator begins
    kind, config = type(initializer), initializer.get_config()
    if "seed" not in config:
        once = kind.__module__.startswith("keras.")  # zeros, ones; what a user's own does is its affair
        values = [keras.ops.convert_to_numpy(initializer(shape, dtype=dtype)) for _ in numbers[: 1 if once else None]]
        return np.broadcast_to(values[0], (len(numbers), *shape)) if once else np.stack(values)
    del config["seed"]
    if kind.__module__.startswith("keras.") and len(numbers) >= _WORTH_A_PROGRAM:
        return _program(kind, tuple(config.items()), shape, dtype)(tf.constant(numbers)).numpy()
    seeded = (kind.from_config(config | {"seed": int(number)}) for number in numbers)
    return np.stack([keras.ops.convert_to_numpy(one(shape, dtype=dtype)) for one in seeded])


@lru_cache(256)
def _program(kind: type, config: tuple, shape: tuple[int, ...], dtype: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function from seeds, int64 of shape (draws,), to (draws, …); 30 µs a draw, where Keras takes 1 ms."""

    def draw(number: tf.Tensor) -> tf.Tensor:
        return kind.from_config(dict(config) | {"seed": _Seed(number)})(shape, dtype=dtype)

    def draw_all(numbers: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(draw, numbers, fn_output_signature=tf.as_dtype(dtype))

    return tf.function(draw_all, autograph=False).get_concrete_function(tf.TensorSpec([None], tf.int64))


class _Seed(keras.random.SeedGenerator):
    """Hands out a seed that is known only when the program runs, in the form that Keras makes of a whole number."""

    def __init__(self, number: tf.Tensor) -> None:  # without super: nothing is to be kept in a variable
        self._number = number

    def next(self, ordered: bool = True) -> tf.Tensor:
        return tf.stack([self._number, 0])


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
