"""Convolutions as matrix products, so that each of many runs can have a filter of its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from batchlab.training.programs.patches import replaced

_MOST_PLACES = 49  # of a filter: each is a part of a copy of the image


@contextmanager
def as_products() -> Iterator[None]:
    """Have the convolutions of Keras's layers computed as here, where that can be."""
    with replaced(tf.nn, "convolution", _in_place_of):
        yield


def _in_place_of(own: Callable) -> Callable:
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
        steps = _each(strides, len(places))
        plain = set(_each(dilations, len(places))) == {1} and (data_format or "NC").endswith("C")
        grouped = input.shape[-1] != channels
        many = math.prod(places) > _MOST_PLACES
        if not plain or padding not in ("VALID", "SAME") or grouped or many or not input.shape.is_fully_defined():
            return own(input, filters, strides, padding, data_format, dilations, name)
        return _convolve(input, filters, steps, padding)

    return convolved


def _each(given: Any, number: int) -> list[int]:  # noqa: ANN401
    """Return an option of a convolution for each of its axes."""
    sizes = [1] if given is None else tf.nest.flatten(given)
    return sizes * number if len(sizes) == 1 else sizes


def _convolve(image: tf.Tensor, filters: tf.Tensor, steps: list[int], padding: str) -> tf.Tensor:
    """Convolve (rows, …, channels) by (…, channels, units): what a filter sees, laid side by side, times the filter."""
    *places, channels, units = filters.shape
    sizes = image.shape[1:-1]
    if padding == "SAME":
        wanted = [-(-size // step) for size, step in zip(sizes, steps, strict=True)]
        over = [
            max(0, (want - 1) * step + place - size)
            for want, step, place, size in zip(wanted, steps, places, sizes, strict=True)
        ]
        image = tf.pad(image, [[0, 0], *([more // 2, more - more // 2] for more in over), [0, 0]])
    rows, *sizes, _ = image.shape
    reached = [(size - place) // step + 1 for size, place, step in zip(sizes, places, steps, strict=True)]
    spans = [(reach - 1) * step + 1 for reach, step in zip(reached, steps, strict=True)]
    corners = list(itertools.product(*map(range, places)))

    @tf.custom_gradient
    def seen(image: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        """Lay side by side what the filter sees at each place; a slice has a gradient that cannot be vectorised."""

        def backward(upstream: tf.Tensor) -> tf.Tensor:
            total = []
            for corner, part in zip(corners, tf.split(upstream, len(corners), -1), strict=True):
                ends = zip(corner, spans, sizes, strict=True)
                margins = [[0, 0], *([at, size - span - at] for at, span, size in ends), [0, 0]]
                total.append(tf.pad(_spread(part, steps), margins))
            return tf.add_n(total)

        parts = [
            tf.strided_slice(
                image,
                [0, *corner, 0],
                [rows, *(at + span for at, span in zip(corner, spans, strict=True)), channels],
                [1, *steps, 1],
            )
            for corner in corners
        ]
        return tf.concat(parts, -1), backward

    matrix = tf.reshape(seen(image), [-1, math.prod(places) * channels])
    return tf.reshape(matrix @ tf.reshape(filters, [-1, units]), [rows, *reached, units])


def _spread(part: tf.Tensor, steps: list[int]) -> tf.Tensor:
    """Put zeros between the entries of (rows, …, channels), so that they stand so many places apart."""
    for axis, step in enumerate(steps, 1):
        if step > 1:
            before, size, after = part.shape[:axis], part.shape[axis], part.shape[axis + 1 :]
            apart = tf.reshape(part, [*before, size, 1, *after])
            apart = tf.pad(apart, [*[[0, 0]] * (axis + 1), [0, step - 1], *[[0, 0]] * len(after)])
            begin = [0] * part.shape.rank
            part = tf.slice(
                tf.reshape(apart, [*before, size * step, *after]), begin, [*before, (size - 1) * step + 1, *after]
            )
    return part
