"""One run: many epochs in one compiled call, on the variables of the model itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from batchlab.training.programs.loop import (
    EPOCHS_WATCHED,
    Compiled,
    block,
    constants,
    epochs_at_once,
    gather,
    over_batches,
    over_epochs,
)
from batchlab.training.programs.philox import written_out
from batchlab.training.programs.steps import KerasStep, PackedStep, Place
from batchlab.training.recognise import is_measured_at_once, why_not_packed
from batchlab.training.rows import Rows
from batchlab.training.self_check import Step
from batchlab.training.state import copy, read
from batchlab.training.subject import Subject


class AtWork(NamedTuple):
    """A program that has been given a model and its rows.

    Attributes:
        variables: All state of the model and its optimizer that is known.
        epochs: The most that one call trains.
        train: Trains an epoch for each of the row orders that it is given. Returns the figures by name, the epochs in
            the first axis; with those of validation, unless they are apart.
        evaluate: Returns the figures of validation by name; for a program that has them apart.
    """

    variables: list[keras.Variable]
    epochs: int
    train: Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]
    evaluate: Callable[[], dict[str, np.ndarray]]


class SingleProgram:
    """Steps in a loop over batches, in a loop over epochs.

    Each call is given the variables of the model that it trains. It begins from what they hold, and when it is done
    they hold what has been trained; nothing is copied outside of it.

    Args:
        subject: What is trained. It serves as the pattern for all models of its structure, if it is shared.
        batch_size: Rows of a batch; the last one holds the remainder.
        train: Training rows.
        valid: Validation rows; as for the training rows, only their shapes matter.
        watched: Whether somebody looks after each epoch, so that a call trains few.
        apart: Whether somebody looks between an epoch and its validation, so that they are two calls.
    """

    def __init__(
        self, subject: Subject, batch_size: int, train: Rows, valid: Rows | None, *, watched: bool, apart: bool
    ) -> None:
        self._subject = subject.clone()
        self._batch_size = batch_size
        self._valid_size = len(valid) if valid and is_measured_at_once(subject) else batch_size
        self._step = PackedStep(self._subject) if why_not_packed(subject) is None else KerasStep(self._subject)
        self._places = self._step.places(self._subject)
        handles = _handles(_like(_theirs(self._places)))  # for the idle call: no variable may come twice
        most = epochs_at_once(len(train))
        self._at_once = min(most, EPOCHS_WATCHED) if watched else most
        orders = np.zeros((self._at_once, len(train)), np.int32)
        with written_out():
            self._train = Compiled(
                self._epochs, train.data, valid.data if valid and not apart else None, orders, 0, handles
            )
            self._test = Compiled(self._evaluation, valid.data, 0, handles) if valid and apart else None

    def compile(self) -> None:
        """Let XLA compile before anything is trained, so that a refusal comes before any effect.

        Raises:
            CannotCompileError: XLA cannot.
        """
        self._train.compile()
        if self._test:
            self._test.compile()

    def at(self, subject: Subject, train: Rows, valid: Rows | None) -> AtWork:
        """Return this program at work on a model of its structure, with rows of its shapes."""
        theirs = _theirs(self._step.places(subject))
        with tf.device(self._train.device):  # a program reads no variable of another one
            ours = theirs if not theirs or theirs[0].value.device == self._train.device else _like(theirs)
        handles, rows = _handles(ours), constants(train.data)
        others = constants(valid.data if valid else None)

        def call(program: Compiled, *arguments: object) -> dict[str, np.ndarray]:
            if ours is not theirs:
                copy(theirs, ours)
            logs = program(*arguments, handles)
            if ours is not theirs:
                copy(ours, theirs)
            return {name: values.numpy() for name, values in logs.items()}

        def train_epochs(orders: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
            count = len(orders)
            logs = call(self._train, rows, None if self._test else others, block(orders, self._at_once), count)
            return {name: values[:count] for name, values in logs.items()}

        return AtWork(subject.variables, self._at_once, train_epochs, lambda: call(self._test, others, 1))

    def step(self, subject: Subject, gradients: list[tf.Tensor]) -> Step:
        """Take a step as this program does it, uncompiled, from the state of a subject.

        Args:
            subject: As at the beginning of training.
            gradients: What the optimizer is to be given.
        """
        handles = _handles(_theirs(self._step.places(subject)))
        self._load(handles)
        with written_out():
            figures, evaluated, own = self._step.once(subject.batch, gradients)
        self._store(handles)
        return Step(figures, evaluated, own, read([*subject.model.variables, *subject.model.optimizer.variables]))

    def _load(self, handles: Sequence[tf.Tensor]) -> None:
        rest = iter(handles)
        for place in self._places:
            values = [
                tf.ensure_shape(tf.raw_ops.ReadVariableOp(resource=handle, dtype=like.dtype), like.shape)
                for like, handle in zip(place.theirs, rest, strict=False)
            ]
            value = values[0] if len(values) == 1 else tf.concat([tf.reshape(v, [-1]) for v in values], 0)
            place.ours.assign(tf.reshape(value, place.ours.shape))

    def _store(self, handles: Sequence[tf.Tensor]) -> None:
        rest = iter(handles)
        for place in self._places:
            parts = tf.split(tf.reshape(place.ours.value, [-1]), [math.prod(like.shape) for like in place.theirs])
            for like, part, handle in zip(place.theirs, parts, rest, strict=False):
                tf.raw_ops.AssignVariableOp(resource=handle, value=tf.reshape(part, like.shape))

    def _epochs(
        self, data: tuple, valid: tuple | None, orders: tf.Tensor, count: tf.Tensor, handles: Sequence[tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        self._load(handles)
        shapes = {name: tuple(figure.shape) for name, figure in self._step.figures().items()}
        if valid is not None:
            shapes |= {f"val_{name}": shape for name, shape in shapes.items()}

        def epoch(order: tf.Tensor) -> dict[str, tf.Tensor]:
            step, shuffled = self._step, gather(data, order)
            step.reset()
            over_batches(step.train, shuffled, _length(data), self._batch_size, unrolled=step.unrolled)
            figures = step.figures()
            return _floats(figures if valid is None else figures | self._validated(valid))

        logs = over_epochs(epoch, orders, count, shapes)
        self._store(handles)
        return logs

    def _validated(self, valid: tuple) -> dict[str, tf.Tensor]:
        self._step.reset()
        over_batches(self._step.evaluate, valid, _length(valid), self._valid_size)
        return {f"val_{name}": value for name, value in self._step.figures().items()}

    def _evaluation(self, valid: tuple, count: tf.Tensor, handles: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Evaluate; with a count of 0 do nothing."""
        self._load(handles)

        def evaluate(turn: tf.Tensor) -> tf.Tensor:
            self._validated(valid)
            return turn + 1

        tf.while_loop(lambda turn: turn < count, evaluate, (0,))
        self._store(handles)
        return _floats({f"val_{name}": value for name, value in self._step.figures().items()})


def _theirs(places: Sequence[Place]) -> list[keras.Variable]:
    return [variable for place in places for variable in place.theirs]


def _like(variables: Sequence[keras.Variable]) -> list[keras.Variable]:
    """Return further variables of the same shapes and types."""
    return [keras.Variable(np.zeros(v.shape, v.dtype), dtype=v.dtype, trainable=False) for v in variables]


def _handles(variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
    return [variable.value.handle for variable in variables]


def _length(data: tuple) -> int:
    return next(leaf.shape[0] for leaf in keras.tree.flatten(data[0]) if leaf is not None)


def _floats(figures: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {name: tf.cast(value, tf.float32) for name, value in figures.items()}
