"""Many epochs of a plain model, all of its parameters in one vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from batchlab.results import ordered_figures
from batchlab.training import keras_internals as internals
from batchlab.training.programs.cache import twin
from batchlab.training.programs.loop import Compiled, gather, in_blocks, joined, no_orders, over_batches, over_epochs
from batchlab.training.rows import Rows

_UNROLLED = 4


class FlatProgram:
    """One vector of parameters means one kernel for the optimizer's step instead of one for each parameter.

    Predictions are kept, and the loss and the metrics of an epoch are computed from all of them together.

    Args:
        model: A built model for which `why_not_flat` finds no reason. It serves as the pattern for all models of its
            `structure`.
        batch_size: Rows of a batch; the last one holds the remainder.
        train: Training rows.
        valid: Validation rows; as for the training rows, only their shapes matter.
    """

    def __init__(self, model: keras.Model, batch_size: int, train: Rows, valid: Rows | None) -> None:
        self._model = twin(model, train.part(0, min(batch_size, len(train))).data)
        self._batch_size = batch_size
        self._shapes = [tuple(v.shape) for v in model.trainable_variables]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self._theta = keras.Variable(np.zeros(sum(self._sizes), np.float32), name="parameters")
        self._optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
        self._optimizer.build([self._theta])
        self._loss = internals.compiled_loss(self._model)
        self._has_penalty = False  # known once the model has been called
        self._run = Compiled(self._epochs, train.data, valid.data if valid else None, no_orders(len(train)), 0)

    def compile(self) -> None:
        """Let XLA compile before anything is trained, so that a refusal comes before any effect.

        Raises:
            CannotCompileError: XLA cannot.
        """
        self._run.compile()

    def __call__(
        self,
        model: keras.Model,
        train: Rows,
        valid: Rows | None,
        orders: Iterator[np.ndarray],
        advance: Callable[[int], object],
    ) -> dict[str, np.ndarray]:
        """Train the model.

        Args:
            model: Its weights and its optimizer's state are where training begins, and hold where it ends.
            train: The training rows.
            valid: The validation rows.
            orders: For each epoch the order of the rows, int32 of shape (rows,).
            advance: Called with the number of epochs done since the last call.

        Returns:
            One value an epoch for each figure.
        """
        self._theta.assign(self._pack([v.numpy() for v in model.trainable_variables]))
        scalars, slots = internals.optimizer_state(model.optimizer, model.trainable_variables)
        flat_scalars, flat_slots = internals.optimizer_state(self._optimizer, [self._theta])
        for flat, value in zip(flat_scalars, scalars, strict=True):
            flat.assign(value)
        for name, (flat,) in flat_slots.items():
            flat.assign(self._pack([part.numpy() for part in slots[name]]))
        logs = []
        try:
            for block, count in in_blocks(orders, len(train)):
                result = self._run(train.data, valid.data if valid else None, block, count)
                logs.append({name: values.numpy()[:count] for name, values in result.items()})
                advance(count)
        finally:  # after Ctrl-C too, the model holds what has been trained, as it does in Keras
            self._unpack(self._theta, model.trainable_variables)
            for variable, value in zip(scalars, flat_scalars, strict=True):
                variable.assign(value)
            for name, (flat,) in flat_slots.items():
                self._unpack(flat, slots[name])
        return joined(logs)

    @staticmethod
    def _pack(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([array.ravel() for array in arrays])

    def _unpack(self, flat: keras.Variable, variables: Sequence[keras.Variable]) -> None:
        parts = np.split(flat.numpy(), np.cumsum(self._sizes)[:-1])
        for variable, part, shape in zip(variables, parts, self._shapes, strict=True):
            variable.assign(part.reshape(shape))

    def _predict(self, weights: list[tf.Tensor], x: Any, training: bool) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: ANN401
        predicted, _, penalties = self._model.stateless_call(weights, [], x, training=training, return_losses=True)
        # A penalty depends on the weights at each step, so it cannot be computed from predictions afterwards.
        self._has_penalty |= bool(penalties)
        return predicted, tf.add_n([tf.cast(p, tf.float32) for p in penalties]) if penalties else tf.constant(0.0)

    def _weights(self) -> list[tf.Tensor]:
        parts = tf.split(self._theta.value, self._sizes)
        return [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _step(self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Make one update; return the predictions before it, and the penalty."""
        weights = self._weights()
        with tf.GradientTape() as tape:
            tape.watch(weights)
            predicted, penalty = self._predict(weights, x, training=True)
            loss = self._loss(y, predicted, weight) + penalty
        gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
        self._optimizer.apply([tf.concat([tf.reshape(g, [-1]) for g in gradients], 0)], [self._theta])
        return predicted, penalty

    def _figures(self, data: tuple, predicted: tf.Tensor, penalty: tf.Tensor, prefix: str = "") -> dict[str, tf.Tensor]:
        self._model.reset_metrics()
        _, y, weight = data
        figures = self._model.compute_metrics(None, y, predicted, sample_weight=weight)
        figures["loss"] = self._loss(y, predicted, weight) + penalty
        return {prefix + name: tf.cast(value, tf.float32) for name, value in figures.items()}

    def _epoch(self, data: tuple, valid: tuple | None) -> dict[str, tf.Tensor]:
        predicted, penalty = over_batches(
            self._step,
            data,
            keras.tree.flatten(data)[0].shape[0],
            self._batch_size,
            predicted=self._model.outputs[0].shape[1:],
            penalty=tf.constant(0.0),
            unrolled=_UNROLLED,
        )
        figures = self._figures(data, predicted, penalty if self._has_penalty else tf.constant(0.0))
        if valid is not None:
            figures |= self._figures(valid, *self._predict(self._weights(), valid[0], training=False), prefix="val_")
        return figures

    def _epochs(self, data: tuple, valid: tuple | None, orders: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        names = ["loss", *(metric.name for metric, _ in internals.compiled_metrics(self._model))]
        names += [f"val_{name}" for name in names if valid is not None]
        return over_epochs(lambda order: self._epoch(gather(data, order), valid), orders, count, ordered_figures(names))
