"""What the three programs share: compiling, cutting rows into batches, the loops over batches and epochs.

Never knows a model, a loss or an optimizer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from batchlab import xla
from batchlab.training import keras_internals as internals

_EPOCHS_AT_ONCE = 512
EPOCHS_WATCHED = 32
"""The most epochs of a call while somebody looks at the figures of each: less to train again where one looks deeper."""
_ENTRIES_AT_ONCE = 2**20  # of row orders handed to one call
_BLOCK_SECONDS = 0.2  # of one call, about: Ctrl-C is answered, and a progress bar moves, between two calls


class CannotCompileError(Exception):
    """XLA refuses a program; nothing has been trained."""


class Compiled:
    """A Python function that is traced at once, and compiled by XLA at its first call. It runs where its variables are.

    Args:
        function: The function.
        *idle: Arguments with which a call has no effect; their shapes are those of all calls.

    Attributes:
        device: Where its variables are; None without any.
    """

    def __init__(self, function: Callable, *idle: Any) -> None:  # noqa: ANN401
        self._idle = constants(idle)
        # Not through tf.function: it would warn of "retracing" when programs for several shapes are made.
        self._call = tf.function(function, jit_compile=True, autograph=False).get_concrete_function(*self._idle)
        self._flat_call = internals.flat_call(self._call)
        variables = self._call.variables
        self.device = variables[0].device if variables else None

    def compile(self) -> None:
        """Let XLA compile, by a call without effect, unless it has done so.

        Raises:
            CannotCompileError: XLA cannot; the message is its first line.
        """
        if self._idle is None:
            return
        try:
            self(*self._idle)
        except tf.errors.OpError as error:
            raise CannotCompileError(f"XLA cannot compile the model: {str(error).splitlines()[0][:200]}") from error
        self._idle = None
        xla.keep()

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401
        """Run the compiled function."""
        flat = [
            leaf if tf.is_tensor(leaf) else tf.constant(leaf) for leaf in tf.nest.flatten(arguments) if leaf is not None
        ]
        with tf.device(self.device):
            return self._flat_call(flat) if self._flat_call else self._call(*constants(arguments))


def constants(tree: Any) -> Any:  # noqa: ANN401
    """Return a tree of arrays as one of tensors."""
    return keras.tree.map_structure(
        lambda leaf: leaf if leaf is None or tf.is_tensor(leaf) else tf.constant(leaf), tree
    )


# --- outside the compiled program --------------------------------------------------------------------


def block(orders: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Return row orders as a block that holds so many: those behind the last one do not count."""
    filled = np.zeros((size, *orders[0].shape), np.int32)
    for i, order in enumerate(orders):
        filled[i] = order
    return filled


def in_blocks(orders: Iterator[np.ndarray], rows: int, *runs: int) -> Iterator[list[np.ndarray]]:
    """Gather row orders into groups of at most as many as a block holds.

    The next group is taken when the last one has been trained, and its size follows from how long that took.
    """
    size = epochs_at_once(rows, *runs)
    take = 1
    while orders_now := list(islice(orders, take)):
        start = time.perf_counter()
        yield orders_now
        seconds = (time.perf_counter() - start) / len(orders_now)
        take = min(size, max(1, int(_BLOCK_SECONDS / seconds)))


def epochs_at_once(rows: int, *runs: int) -> int:
    """Return how many row orders a block holds."""
    return max(1, min(_EPOCHS_AT_ONCE, _ENTRIES_AT_ONCE // (rows * int(np.prod(runs)))))


def joined(logs: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join the figures of consecutive blocks, epochs in the first axis."""
    return {name: np.concatenate([log[name] for log in logs]) for name in logs[0]} if logs else {}


# --- inside the compiled program ---------------------------------------------------------------------


def cut(tree: Any, start: tf.Tensor | int, size: int) -> Any:  # noqa: ANN401
    """Return `size` rows from `start` on, of every array in the tree."""

    def cut_one(tensor: tf.Tensor) -> tf.Tensor:
        return tf.slice(tensor, [start, *[0] * (tensor.shape.rank - 1)], [size, *tensor.shape[1:]])

    return keras.tree.map_structure(lambda leaf: None if leaf is None else cut_one(leaf), tree)


def gather(tree: Any, order: tf.Tensor) -> Any:  # noqa: ANN401
    """Return the rows of every array in the tree in the given order."""
    return keras.tree.map_structure(lambda leaf: None if leaf is None else tf.gather(leaf, order), tree)


def over_batches(step: Callable[..., object], data: tuple, rows: int, size: int, *, unrolled: int = 1) -> None:
    """Take one step for every batch, the last one of which holds the remainder.

    Args:
        step: Takes a batch; what it changes is in variables.
        data: What is cut into batches along the first axis.
        rows: Its length.
        size: Rows of a batch.
        unrolled: Steps written out in one turn of the loop: fewer, larger kernels.
    """
    full, rest = divmod(rows, size)
    unrolled = unrolled if full >= 16 * unrolled else 1

    def turn(i: tf.Tensor) -> tf.Tensor:
        for _ in range(unrolled):
            step(*cut(data, i * size, size))
            i += 1
        return i

    whole = full - full % unrolled
    if whole:
        tf.while_loop(lambda i: i < whole, turn, (0,))
    for i in range(whole, full):
        step(*cut(data, i * size, size))
    if rest:
        step(*cut(data, full * size, rest))


def over_epochs(
    epoch: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    orders: tf.Tensor,
    count: tf.Tensor,
    shapes: Mapping[str, Sequence[int]],
) -> dict[str, tf.Tensor]:
    """Train the first `count` epochs of a block; return for each figure an array (epochs, …).

    Args:
        epoch: Trains one epoch in the given order of the rows; returns its figures.
        orders: The block of row orders.
        count: How many of them count; 0 compiles the program and trains nothing.
        shapes: Of the figures, by name.
    """

    def turn(e: tf.Tensor, *kept: tf.TensorArray) -> tuple:
        figures = epoch(orders[e])
        return e + 1, *(k.write(e, figures[name]) for k, name in zip(kept, shapes, strict=True))

    size = orders.shape[0]
    kept = tuple(tf.TensorArray(tf.float32, size=size, element_shape=tuple(shape)) for shape in shapes.values())
    _, *kept = tf.while_loop(lambda e, *_: e < count, turn, (0, *kept))
    return {name: k.stack() for name, k in zip(shapes, kept, strict=True)}
