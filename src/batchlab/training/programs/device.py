"""Where a program runs: on the processor, or where TensorFlow puts it, which is a graphics card if there is one."""

from __future__ import annotations

import math

import keras

from batchlab.cores import process_cores

# Floating-point operations of an update. Measured on an H200 beside a core of its host: the card takes some 30 µs from
# 30 thousand operations to 4 million, for its small kernels; the core takes 12 for 30 thousand, 25 for 0.9 million and
# 98 for 4 million.
_WORTH_A_CARD = 1e6


def device_for(model: keras.Model, batch_size: int, runs: int = 1) -> str | None:
    """Name the device for a program that has variables of its own; None leaves it to TensorFlow.

    Args:
        model: A built model.
        batch_size: Rows of a batch.
        runs: How many one program trains side by side. Such programs fill all cores, one each, or share one card.
    """
    least = _WORTH_A_CARD * (process_cores() if runs > 1 else 1)
    return "CPU:0" if operations(model, batch_size * runs) < least else None


def operations(model: keras.Model, rows: int) -> int:
    """Estimate the floating-point operations of training on rows: a product forward, two backward, each added up."""
    return 6 * rows * multiplications(model)


def multiplications(model: keras.Model) -> int:
    """Estimate the multiplications for one row, forward: each parameter once a position that its layer looks at."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += multiplications(layer)
        else:
            total += layer.count_params() * max(_positions(layer, "input"), _positions(layer, "output"))
    return total


def _positions(layer: keras.Layer, side: str) -> int:
    """Count the pixels or time steps of what goes into a layer or comes out; 1 where it does not tell."""
    try:
        tensors = keras.tree.flatten(getattr(layer, side))
    except (AttributeError, ValueError):  # part of a model without a graph, or called in several places
        return 1
    return max((math.prod(size or 1 for size in tensor.shape[1:-1]) for tensor in tensors), default=1)
