"""One epoch, or one evaluation, of any model: a loop over Keras's own step."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from batchlab.training.programs.cache import held_with, twin
from batchlab.training.programs.loop import Compiled, cut, gather
from batchlab.training.rows import Rows


class EpochProgram:
    """Keras's own `train_step` and `test_step` in a loop over the batches.

    Args:
        model: A built and compiled model; the program works on a twin of it, see `load`.
        batch_size: Rows of a batch; the last one holds the remainder.
        train: Training rows.
        valid: Validation rows; as for the training rows, only their shapes matter.
    """

    def __init__(self, model: keras.Model, batch_size: int, train: Rows, valid: Rows | None) -> None:
        self._model = twin(model, train.part(0, min(batch_size, len(train))).data)
        self._held = held_with(model) if self._model is model else ()
        self._batch_size = batch_size
        self._train = Compiled(self._train_loop, train.data, np.arange(len(train), dtype=np.int32), np.int32(0))
        self._test = Compiled(self._test_loop, valid.data) if valid else None

    def compile(self) -> None:
        """Let XLA compile both loops before anything is trained, so that a refusal comes before any effect.

        Raises:
            CannotCompileError: XLA cannot.
        """
        self._train.compile()
        if self._test:
            self._test.compile()

    def load(self, model: keras.Model) -> None:
        """Take over the weights and the optimizer's state of a model."""
        self._copy(model, self._model)

    def store(self, model: keras.Model) -> None:
        """Hand the weights and the optimizer's state back."""
        self._copy(self._model, model)

    def train(self, train: Rows, order: np.ndarray) -> dict[str, tf.Tensor]:
        """Run one epoch."""
        return self._train(train.data, order, np.int32(1))

    def test(self, valid: Rows) -> dict[str, tf.Tensor]:
        """Evaluate."""
        return self._test(valid.data)

    @staticmethod
    def _copy(source: keras.Model, target: keras.Model) -> None:
        if source is not target:
            for model in (lambda m: m.variables, lambda m: m.optimizer.variables):
                for value, variable in zip(model(source), model(target), strict=True):
                    variable.assign(value)

    def _train_loop(self, data: tuple, order: tf.Tensor, times: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._loop(self._model.train_step, gather(data, order), times)

    def _test_loop(self, data: tuple) -> dict[str, tf.Tensor]:
        return self._loop(self._model.test_step, data, 1)

    def _loop(self, step: Callable, data: tuple, times: tf.Tensor | int) -> dict[str, tf.Tensor]:
        """Step through the data; with times 0 compile the same steps and take none."""
        self._model.reset_metrics()
        rows = next(leaf.shape[0] for leaf in keras.tree.flatten(data) if leaf is not None)
        full, rest = divmod(rows, self._batch_size)

        def turn(i: tf.Tensor) -> tf.Tensor:
            step(cut(data, i * self._batch_size, self._batch_size))
            return i + 1

        def last(i: tf.Tensor) -> tf.Tensor:
            step(cut(data, full * self._batch_size, rest))
            return i + 1

        if full:
            tf.while_loop(lambda i: i < full * times, turn, (0,))
        if rest:
            tf.while_loop(lambda i: i < times, last, (0,))
        return self._model.get_metrics_result()
