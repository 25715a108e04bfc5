"""Convolutions as matrix products, so that each of many runs can have a filter of its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import tensorflow as tf

_MOST_PLACES = 49  # of a filter: each is a part of a copy of the image


@contextmanager
def as_products() -> Iterator[None]:
    """Have the convolutions of Keras's layers computed as here, where that can be."""
    own = tf.nn.convolution
    tf.nn.convolution = _in_place_of(own)
    try:
        yield
    finally:
        tf.nn.convolution = own


def _in_place_of(own: Callable) -> Callable:
    @wraps(own)
    def convolved(
        input: tf.Tensor,
        filters: tf.Tensor,
        strides: Any = None,  # noqa: ANN401
        padding: Any = "VALID",  # noqa: ANN401
        data_format: str | None = None,
        dilations: Any = None,  # noqa: ANN401
        name: str | None = None,
    ) -> tf.Tensor:
        input, filters = tf.convert_to_tensor(input), tf.convert_to_tensor(filters)
        *places, channels, _ = filters.shape
        steps, holes = (set(tf.nest.flatten([given or 1])) for given in (strides, dilations))
        plain = steps == holes == {1} and padding in ("VALID", "SAME") and (data_format or "N").endswith("C")
        grouped = input.shape[-1] != channels
        if not plain or grouped or math.prod(places) > _MOST_PLACES or not input.shape.is_fully_defined():
            return own(input, filters, strides, padding, data_format, dilations, name)
        return _convolve(input, filters, padding)

    return convolved


def _convolve(image: tf.Tensor, filters: tf.Tensor, padding: str) -> tf.Tensor:
    """Convolve (rows, …, channels) by (…, channels, units): what a filter sees, laid side by side, times the filter."""
    *places, channels, units = filters.shape
    if padding == "SAME":
        around = [[(size - 1) // 2, size // 2] for size in places]
        image = tf.pad(image, [[0, 0], *around, [0, 0]])
    rows, *sizes, _ = image.shape
    reached = [size - place + 1 for size, place in zip(sizes, places, strict=True)]
    corners = list(itertools.product(*map(range, places)))

    @tf.custom_gradient
    def seen(image: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        """Lay side by side what the filter sees at each place; `tf.slice` has a gradient that cannot be vectorised."""

        def backward(upstream: tf.Tensor) -> tf.Tensor:
            margins = [
                [[0, 0], *([at, place - 1 - at] for place, at in zip(places, corner, strict=True)), [0, 0]]
                for corner in corners
            ]
            parts = zip(tf.split(upstream, len(corners), -1), margins, strict=True)
            return tf.add_n([tf.pad(part, margin) for part, margin in parts])

        parts = [tf.slice(image, [0, *corner, 0], [rows, *reached, channels]) for corner in corners]
        return tf.concat(parts, -1), backward

    matrix = tf.reshape(seen(image), [-1, math.prod(places) * channels])
    return tf.reshape(matrix @ tf.reshape(filters, [-1, units]), [rows, *reached, units])
