"""A program proves itself: before a model is first trained, one step of both is compared. Never compiles, never trains.

A list of what a program serves rightly always misses something. So its own step is taken without compiling, on one real
batch and from the model's own state, beside Keras's step on the very model, which is put back afterwards.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from batchlab.training.state import read, restored
from batchlab.training.subject import Subject

TOLERANCE = 1e-4
"""Of a figure, relative to it; of gradients, relative to the largest of all; of a variable, relative to its change."""
_ROUNDING = 16  # units in the last place of the largest entry, which sums of many terms may differ by

_passed: weakref.WeakKeyDictionary[keras.Model, set[tuple]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class DiffersError(Exception):
    """A program's step is not that of the model; nothing has been trained."""


@dataclass(frozen=True)
class Step:
    """What one step of training gives, and an evaluation before it.

    Attributes:
        figures: Loss and metrics of the batch.
        evaluated: The same without training.
        gradients: Of the loss, one for each trainable variable; None where it does not depend on it.
        after: The model's variables, and then its optimizer's, after an update with given gradients.
    """

    figures: Mapping[str, Any]
    evaluated: Mapping[str, Any]
    gradients: Sequence[Any]
    after: Sequence[Any]


class _Program(Protocol):
    def step(self, subject: Subject, gradients: list[tf.Tensor]) -> Step | None: ...


def check(program: _Program, subject: Subject) -> None:
    """Compare a program's step with Keras's, once for each model and kind of data.

    Raises:
        DiffersError: They differ; the message says in what, and by how much.
    """
    if not subject.shared:
        return  # the program is Keras's step on this very model
    data = keras.tree.map_structure(lambda a: a if a is None else (a.shape, str(a.dtype)), subject.batch)
    key = (type(program), subject.structure.text, str(data))
    with _lock:
        if key in _passed.setdefault(subject.model, set()):
            return
    with restored(subject.variables):
        try:
            expected = keras_step(subject, subject.batch)
        except Exception as error:
            # Keras may say the same of its graph, or may not; it is its to say.
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise DiffersError(
                f"its step cannot be compared with Keras's, which fails uncompiled: {reason[0]}"
            ) from error
    with restored(subject.variables):
        found = program.step(subject, list(expected.gradients))
    if found is not None and (difference := _difference(found, expected, subject)):
        raise DiffersError(f"its compiled step differs from Keras's: {difference}")
    with _lock:
        _passed[subject.model].add(key)


def keras_step(subject: Subject, batch: tuple, gradients: Sequence[tf.Tensor] | None = None) -> Step:
    """Take Keras's own step, uncompiled, on a model; its state changes.

    Args:
        subject: The model.
        batch: Of (x, y, weight).
        gradients: What the optimizer is given; None for the step's own.
    """
    model = subject.model
    batch = keras.tree.map_structure(lambda a: a if a is None else tf.constant(a), batch)
    with restored(subject.variables):
        model.reset_metrics()
        model.test_step(batch)
        evaluated = plain(model.get_metrics_result())
    model.reset_metrics()
    own: list[tf.Tensor] = []
    with _intercepted(model.optimizer, gradients, own):
        model.train_step(batch)
    figures = plain(model.get_metrics_result())
    return Step(figures, evaluated, own, read([*model.variables, *model.optimizer.variables]))


def plain(figures: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return figures as arrays."""
    return {name: np.asarray(keras.ops.convert_to_numpy(value)) for name, value in figures.items()}


@contextmanager
def _intercepted(
    optimizer: keras.optimizers.Optimizer, given: Sequence[tf.Tensor] | None, own: list[tf.Tensor]
) -> Iterator[None]:
    """Note the gradients with which an optimizer is called, and hand it the given ones in their place."""

    def apply_gradients(pairs: Iterable[tuple]) -> object:
        gradients, variables = zip(*pairs, strict=True)
        own.extend(gradients)
        return type(optimizer).apply_gradients(
            optimizer, zip(gradients if given is None else given, variables, strict=True)
        )

    object.__setattr__(optimizer, "apply_gradients", apply_gradients)  # unseen by Keras, which tracks attributes
    try:
        yield
    finally:
        object.__delattr__(optimizer, "apply_gradients")


def _difference(found: Step, expected: Step, subject: Subject) -> str | None:
    """Say what differs by more than the tolerance, if anything does."""
    for what, ours, theirs in (
        ("", found.figures, expected.figures),
        (" of an evaluation", found.evaluated, expected.evaluated),
    ):
        if set(ours) != set(theirs):
            return f"the figures{what} are {sorted(ours)}, and {sorted(theirs)} in Keras"
        for name, value in theirs.items():
            if not np.allclose(ours[name], value, rtol=TOLERANCE, atol=1e-6, equal_nan=True):
                return f"the {name}{what} is {_short(ours[name])}, and {_short(value)} in Keras"
    model = subject.model
    variables = [*model.variables, *model.optimizer.variables]
    names = [variable.path for variable in variables]
    largest = max(map(_size, expected.gradients), default=0.0)
    scales = [largest] * len(expected.gradients)  # of all, for optimizers make much of what is rounding in a small one
    trained = [variable.path for variable in model.trainable_variables]
    if worst := _farthest(found.gradients, expected.gradients, scales, trained):
        return f"the gradient of {worst} of the largest one"
    scales = [_size(after - before) for after, before in zip(expected.after, read(variables), strict=True)]
    if worst := _farthest(found.after, expected.after, scales, names):
        return f"after an update {worst} of its change"
    return None


def _farthest(found: Sequence, expected: Sequence, scales: Sequence[float], names: Sequence[str]) -> str | None:
    """Name the array that differs most, if one differs by more than the tolerance, and by how much of its scale."""
    if len(found) != len(expected):
        return f"all arrays, {len(found)} in place of {len(expected)}, is off by all"
    worst, which = 0.0, None
    for name, scale, ours, theirs in zip(names, scales, map(_dense, found), map(_dense, expected), strict=True):
        if np.array_equal(ours, theirs, equal_nan=True):  # infinities too
            continue
        rounding = _ROUNDING * np.finfo(theirs.dtype).eps * _size(theirs) if theirs.dtype.kind == "f" else 0
        off = np.abs(ours.astype(float) - theirs.astype(float)).max(initial=0)
        share = (off - rounding) / scale if scale else np.inf
        if not off <= rounding and not share <= max(worst, TOLERANCE):  # so NaN is far off
            worst, which = share, name
    return None if which is None else f"{which} is off by {worst:.2g}"


def _size(array: Any) -> float:  # noqa: ANN401
    """Return the largest entry, without its sign."""
    return float(np.abs(_dense(array)).max(initial=0))


def _dense(gradient: Any) -> np.ndarray:  # noqa: ANN401
    if gradient is None:
        return np.zeros(())
    return tf.convert_to_tensor(gradient).numpy()


def _short(value: np.ndarray) -> str:
    return np.array2string(np.asarray(value), precision=6, threshold=4)
