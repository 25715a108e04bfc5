"""Values of many variables, read and written without Keras's checks, which cost ten times as much as the copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
import tensorflow as tf


def read(variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
    """Return the present values; later assignments do not change them."""
    own = [variable.value for variable in variables]
    return [tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype) for variable in own]


def write(variables: Sequence[keras.Variable], values: Sequence) -> None:
    """Assign values of the variables' own shapes and types."""
    for variable, value in zip(variables, values, strict=True):
        tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=value)


def copy(source: Sequence[keras.Variable], target: Sequence[keras.Variable]) -> None:
    """Assign to each variable the value of its counterpart."""
    write(target, read(source))


@contextmanager
def restored(variables: Sequence[keras.Variable]) -> Iterator[None]:
    """Put variables back to their present values in the end."""
    values = read(variables)
    try:
        yield
    finally:
        write(variables, values)
