"""What `fit` and `fit_seeds` accept, arrays checked, converted and split, and the shuffles of their rows."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd

ORDERS_AT_ONCE = 2**13
"""Row numbers that `row_orders` draws in one call."""

Tree = Any
"""An array, or a nested list, tuple or dict of arrays, as Keras takes for several inputs or outputs."""


@dataclass(frozen=True)
class Rows:
    """Features, targets and weights of the same rows; weights may be None."""

    x: Tree
    y: Tree
    weight: Tree | None

    def __len__(self) -> int:
        return len(keras.tree.flatten(self.x)[0])

    def part(self, start: int, stop: int) -> Rows:
        """Return the rows from start up to, and without, stop."""
        return self.take(slice(start, stop))

    def take(self, which: slice | np.ndarray) -> Rows:
        """Return some rows, in the order that is given."""
        return Rows(*(_map(lambda a: a[which], tree) for tree in self.data))

    def steps(self, batch_size: int) -> int:
        """Return the updates of one epoch: every batch is one, the smaller last one too."""
        return math.ceil(len(self) / batch_size)

    @property
    def data(self) -> tuple[Tree, Tree, Tree | None]:
        """The three trees, in the order in which `keras.Model.train_step` takes them."""
        return self.x, self.y, self.weight

    def signature(self) -> str:
        """Shapes and types, which decide whether a compiled program fits."""
        return str([_map(lambda a: (a.shape, str(a.dtype)), tree) for tree in self.data])


def are_arrays(*trees: Tree) -> bool:
    """Whether every leaf is a numeric array, or something that NumPy turns into one."""
    leaves = [leaf for tree in trees for leaf in keras.tree.flatten(tree) if leaf is not None]
    return all(hasattr(leaf, "__array__") and np.asarray(leaf).dtype.kind in "fiub" for leaf in leaves)


def prepare(
    x: Tree,
    y: Tree,
    *,
    sample_weight: Tree | None,
    class_weight: Mapping[int, float] | None,
    validation_split: float,
    validation_data: tuple | None,
) -> tuple[Rows, Rows | None]:
    """Check arrays, turn class weights into sample weights, and cut off the validation part.

    As in Keras, the validation part is the last share of the rows, unshuffled, and class weights apply to
    the training part alone.

    Returns:
        The training rows, and the validation rows or None.

    Raises:
        ValueError: Lengths differ, a value is NaN or infinite, a part is empty, or both kinds of weights are given.
    """
    if sample_weight is not None and class_weight is not None:
        raise ValueError("You cannot use `class_weight` and `sample_weight` at the same time: multiply them yourself.")
    train = _checked(x, y, sample_weight, "")
    if validation_data is not None:
        if not isinstance(validation_data, list | tuple) or len(validation_data) not in (2, 3):
            raise ValueError("`validation_data` must be (x, y) or (x, y, sample_weight).")
        valid = _checked(*validation_data, *(None,) * (3 - len(validation_data)), "validation ")
    elif validation_split:
        rows = len(train)
        if not (isinstance(validation_split, numbers.Real) and 0 < validation_split < 1):
            raise ValueError(f"`validation_split` is {validation_split!r}; give a share of at least 0 and below 1.")
        cut = math.floor(rows * (1.0 - validation_split))  # written as Keras writes it, so that rounding agrees
        if cut in (0, rows):
            raise ValueError(
                f"`validation_split`={validation_split} of {rows} rows leaves {cut} for training and {rows - cut} "
                "for validation; neither part may be empty."
            )
        train, valid = train.part(0, cut), train.part(cut, rows)
    else:
        valid = None
    if class_weight is not None:
        train = Rows(train.x, train.y, _class_weights(train.y, class_weight))
    return train, valid


def row_orders(seed: int | None, rows: int, span: range, shuffle: bool) -> Iterator[np.ndarray]:
    """Yield the order of the rows for each epoch, int32 of shape (rows,).

    An epoch has its order whether or not the run begins before it, so that a run that goes on repeats nothing.

    Args:
        seed: Decides the orders. None takes NumPy's global state, which `keras.utils.set_random_seed` sets.
        rows: Number of training rows.
        span: The epochs, counted from 0 at the very first run.
        shuffle: Whether to shuffle; without it every order is that of the file.
    """
    if not shuffle:
        straight = np.arange(rows, dtype=np.int32)
        yield from (straight for _ in span)
        return
    if seed is None:
        seed = int(np.random.randint(2**31))  # noqa: NPY002
    generator = np.random.default_rng([seed, 1])  # 1: a stream apart from that of the initial weights
    # Many epochs a call: the same orders as `permutation` gives one by one, without its cost in Python each time.
    at_once = max(1, ORDERS_AT_ONCE // rows)
    for first in range(0, span.stop, at_once):
        # As int64, which NumPy shuffles in two thirds of the time that int32 takes, to the same orders.
        orders = np.tile(np.arange(rows), (min(at_once, span.stop - first), 1))
        generator.permuted(orders, axis=1, out=orders)
        yield from orders[max(0, span.start - first) :].astype(np.int32)


def _map(function: Any, tree: Tree) -> Tree:  # noqa: ANN401
    if isinstance(tree, np.ndarray):  # most are, and to look for branches takes longer than many a function
        return function(tree)
    return keras.tree.map_structure(lambda leaf: None if leaf is None else function(leaf), tree)


def _checked(x: Tree, y: Tree, weight: Tree | None, what: str) -> Rows:
    for name, tree in zip(("x", "y", "sample_weight"), (x, y, weight), strict=True):
        if any(leaf is not None and np.ndim(leaf) == 0 for leaf in keras.tree.flatten(tree)):
            raise ValueError(f"{what}`{name}` is a single number; give an array with one entry a row.")

    def convert(leaf: object) -> np.ndarray:
        array = np.asarray(leaf)
        if isinstance(leaf, pd.Series):  # to Keras a column
            array = array[:, None]
        # Floats take the float type in use, whole numbers stay what they are, as in Keras.
        kind = keras.config.floatx() if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
        return np.ascontiguousarray(array, kind)

    rows = Rows(*(_map(convert, tree) for tree in (x, y, weight)))
    lengths = {}
    for name, tree in zip(("x", "y", "sample_weight"), rows.data, strict=True):
        for array in keras.tree.flatten(tree):
            if array is None:
                continue
            lengths.setdefault(len(array), name)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0][0])
                raise ValueError(
                    f"{what}`{name}` holds {array[row].ravel()[~np.isfinite(array[row].ravel())][0]} in row {row} "
                    "(counted from 0). Remove or correct that value before training."
                )
    if len(lengths) > 1:
        found = ", ".join(f"{name} has {length}" for length, name in lengths.items())
        raise ValueError(f"Data cardinality is ambiguous: {what}rows differ in number, {found}.")
    if 0 in lengths:
        raise ValueError(f"{what}data are empty: there are no rows.")
    return rows


def _class_weights(y: Tree, class_weight: Mapping[int, float]) -> np.ndarray:
    """One weight a row, from the weight of its class; a class without a weight counts 1, as in Keras."""
    if not isinstance(y, np.ndarray):
        raise ValueError("`class_weight` is only supported for models with a single output.")
    if not all(math.isfinite(weight) and weight >= 0 for weight in class_weight.values()):
        raise ValueError(f"`class_weight` is {dict(class_weight)!r}; give each class a finite weight of at least 0.")
    classes = y.argmax(axis=-1) if y.ndim > 1 and y.shape[-1] > 1 else np.rint(y.reshape(len(y), -1)[:, 0])
    return np.array([class_weight.get(int(c), 1.0) for c in classes], dtype=keras.config.floatx())
