"""One epoch, or one evaluation, of any model: a loop over Keras's own step."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from batchlab.training.programs.loop import CannotCompileError, Compiled, cut, gather
from batchlab.training.rows import Rows
from batchlab.training.self_check import Step, keras_step
from batchlab.training.state import copy
from batchlab.training.subject import Subject


class EpochProgram:
    """Keras's own `train_step` and `test_step` in a loop over the batches.

    Args:
        subject: What is trained; the program works on a clone of it where that is possible.
        batch_size: Rows of a batch; the last one holds the remainder.
        train: Training rows.
        valid: Validation rows; as for the training rows, only their shapes matter.
    """

    def __init__(self, subject: Subject, batch_size: int, train: Rows, valid: Rows | None) -> None:
        self._subject = subject.clone()
        self._model = self._subject.model
        self._batch_size = batch_size
        self._steps = train.steps(batch_size)
        self._train = Compiled(self._train_loop, train.data, np.arange(len(train), dtype=np.int32), np.int32(0))
        self._test = Compiled(self._test_loop, valid.data, np.int32(0)) if valid else None

    def compile(self) -> None:
        """Let XLA compile both loops before anything is trained, so that a refusal comes before any effect.

        Raises:
            CannotCompileError: XLA cannot.
        """
        self._train.compile()
        if self._test:
            self._test.compile()

    def step(self, subject: Subject, gradients: list[tf.Tensor]) -> Step | None:
        """Take a step as this program does it, from the state of a subject; None if that is Keras's own on the subject.

        Args:
            subject: As at the beginning of training.
            gradients: What the optimizer is to be given.
        """
        if self._subject.model is subject.model:
            return None
        self.load(subject)
        return keras_step(self._subject, subject.batch, gradients)

    def load(self, subject: Subject) -> None:
        """Take over the state of a subject."""
        copy(subject.variables, self._subject.variables)

    def store(self, subject: Subject) -> None:
        """Hand the state back."""
        copy(self._subject.variables, subject.variables)

    def train(self, train: Rows, order: np.ndarray, steps: int | None = None) -> None:
        """Train one epoch, or the first steps of it; the metrics hold its figures."""
        self._train(train.data, order, np.int32(self._steps if steps is None else steps))

    def test(self, valid: Rows) -> None:
        """Evaluate; the metrics hold the figures."""
        self._test(valid.data, np.int32(valid.steps(self._batch_size)))

    def _train_loop(self, data: tuple, order: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        return self._loop(self._model.train_step, gather(data, order), steps)

    def _test_loop(self, data: tuple, steps: tf.Tensor) -> tf.Tensor:
        return self._loop(self._model.test_step, data, steps)

    def _loop(self, step: Callable, data: tuple, steps: tf.Tensor) -> tf.Tensor:
        """Take the first steps through the data; with 0 compile the same steps and take none."""
        rows = next(leaf.shape[0] for leaf in keras.tree.flatten(data) if leaf is not None)
        full, rest = divmod(rows, self._batch_size)

        def take(start: tf.Tensor | int, size: int) -> None:
            logs = step(cut(data, start, size))
            if set(logs) != set(self._model.get_metrics_result()):  # Keras then reports the last batch's logs
                raise CannotCompileError("its compute_metrics returns other figures than its metrics hold")

        def turn(i: tf.Tensor) -> tf.Tensor:
            take(i * self._batch_size, self._batch_size)
            return i + 1

        def last(i: tf.Tensor) -> tf.Tensor:
            take(full * self._batch_size, rest)
            return i + 1

        done = tf.constant(0)
        if full:
            (done,) = tf.while_loop(lambda i: i < tf.minimum(steps, full), turn, (done,))
        if rest:
            (done,) = tf.while_loop(lambda i: (i < steps) & (i == full), last, (done,))
        return done
