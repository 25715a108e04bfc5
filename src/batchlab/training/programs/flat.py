"""Many epochs of a plain model, all of its parameters in one vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from batchlab.training import keras_internals as internals
from batchlab.training.programs.loop import (
    CannotCompileError,
    Compiled,
    gather,
    in_blocks,
    joined,
    no_orders,
    over_batches,
    over_epochs,
)
from batchlab.training.recognise import is_measured_at_once
from batchlab.training.rows import Rows
from batchlab.training.self_check import Step, plain
from batchlab.training.state import copy, read, write
from batchlab.training.subject import Subject

_UNROLLED = 4


class FlatProgram:
    """One vector of parameters means one kernel for the optimizer's step instead of one for each parameter.

    Args:
        subject: What is trained, one for which `why_not_flat` finds no reason. It serves as the pattern for all models
            of its structure.
        batch_size: Rows of a batch; the last one holds the remainder.
        train: Training rows.
        valid: Validation rows; as for the training rows, only their shapes matter.
    """

    def __init__(self, subject: Subject, batch_size: int, train: Rows, valid: Rows | None) -> None:
        subject = subject.clone()
        self._model = model = subject.model
        self._batch_size = batch_size
        self._valid_size = batch_size if valid is None or not is_measured_at_once(subject) else len(valid)
        self._shapes = [tuple(v.shape) for v in model.trainable_variables]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self._theta = keras.Variable(np.zeros(sum(self._sizes), np.float32), name="parameters")
        self._optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
        self._optimizer.build([self._theta])
        self._run = Compiled(self._epochs, train.data, valid.data if valid else None, no_orders(len(train)), 0)

    def compile(self) -> None:
        """Let XLA compile before anything is trained, so that a refusal comes before any effect.

        Raises:
            CannotCompileError: XLA cannot.
        """
        self._run.compile()

    def __call__(
        self,
        subject: Subject,
        train: Rows,
        valid: Rows | None,
        orders: Iterator[np.ndarray],
        advance: Callable[[int], object],
    ) -> dict[str, np.ndarray]:
        """Train a model.

        Args:
            subject: Its weights and its optimizer's state are where training begins, and hold where it ends.
            train: The training rows.
            valid: The validation rows.
            orders: For each epoch the order of the rows, int32 of shape (rows,).
            advance: Called with the number of epochs done since the last call.

        Returns:
            One value an epoch for each figure.
        """
        state = self._state(subject.model)
        self._load(state)
        logs = []
        try:
            for block, count in in_blocks(orders, len(train)):
                result = self._run(train.data, valid.data if valid else None, block, count)
                logs.append({name: values.numpy()[:count] for name, values in result.items()})
                advance(count)
        finally:  # after Ctrl-C too, the model holds what has been trained, as it does in Keras
            self._store(state)
            copy(self._model.metrics_variables, subject.model.metrics_variables)
        return joined(logs)

    def step(self, subject: Subject, gradients: list[tf.Tensor]) -> Step:
        """Take a step as this program does it, uncompiled, from the state of a subject.

        Args:
            subject: As at the beginning of training.
            gradients: What the optimizer is to be given.
        """
        model = subject.model
        state = self._state(model)
        self._load(state)
        x, y, weight = keras.tree.map_structure(lambda a: a if a is None else tf.constant(a), subject.batch)
        self._model.reset_metrics()
        self._measure(x, y, weight, self._weights(), training=False)
        evaluated = plain(self._model.get_metrics_result())
        self._model.reset_metrics()
        own = self._gradients(x, y, weight)
        self._apply([tf.zeros(shape) if g is None else g for g, shape in zip(gradients, self._shapes, strict=True)])
        figures = plain(self._model.get_metrics_result())
        self._store(state)
        return Step(figures, evaluated, own, read([*model.variables, *model.optimizer.variables]))

    def _state(self, model: keras.Model) -> tuple[list[tuple], list[tuple]]:
        """Return what of a model's state is what of ours: pairs of scalars, and vectors with the arrays in them."""
        scalars, slots = internals.optimizer_state(model.optimizer, model.trainable_variables)
        flat_scalars, flat_slots = internals.optimizer_state(self._optimizer, [self._theta])
        vectors = [(self._theta, model.trainable_variables)]
        vectors += [(flat, slots[name]) for name, (flat,) in flat_slots.items()]
        return list(zip(flat_scalars, scalars, strict=True)), vectors

    def _load(self, state: tuple[list[tuple], list[tuple]]) -> None:
        scalars, vectors = state
        copy([theirs for _, theirs in scalars], [ours for ours, _ in scalars])
        packed = [np.concatenate([value.numpy().ravel() for value in read(arrays)]) for _, arrays in vectors]
        write([vector for vector, _ in vectors], packed)

    def _store(self, state: tuple[list[tuple], list[tuple]]) -> None:
        scalars, vectors = state
        copy([ours for ours, _ in scalars], [theirs for _, theirs in scalars])
        for value, (_, arrays) in zip(read([vector for vector, _ in vectors]), vectors, strict=True):
            parts = np.split(value.numpy(), np.cumsum(self._sizes)[:-1])
            write(arrays, [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)])

    def _weights(self) -> list[tf.Tensor]:
        parts = tf.split(self._theta.value, self._sizes)
        return [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _measure(self, x: Any, y: Any, weight: Any, weights: list[tf.Tensor], *, training: bool) -> tf.Tensor:  # noqa: ANN401
        """Return the loss of a batch, and count it and the metrics in, as Keras's steps do."""
        predicted, _, penalties = self._model.stateless_call(weights, [], x, training=training, return_losses=True)
        loss = internals.compiled_loss(self._model)(y, predicted, weight)
        loss = tf.add_n([tf.cast(tf.reduce_sum(term), tf.float32) for term in (loss, *penalties)])
        internals.loss_tracker(self._model).update_state(loss, sample_weight=_rows(x))
        self._model.compute_metrics(x, y, predicted, sample_weight=weight)
        return loss

    def _gradients(self, x: Any, y: Any, weight: Any) -> list[tf.Tensor]:  # noqa: ANN401
        weights = self._weights()
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = self._measure(x, y, weight, weights, training=True)
        gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
        if any(isinstance(gradient, tf.IndexedSlices) for gradient in gradients):
            raise CannotCompileError("a gradient is sparse, and its optimizer would leave the other rows alone")
        return gradients

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        self._optimizer.apply([tf.concat([tf.reshape(g, [-1]) for g in gradients], 0)], [self._theta])

    def _epoch(self, data: tuple, valid: tuple | None) -> dict[str, tf.Tensor]:
        self._model.reset_metrics()
        over_batches(
            lambda *batch: self._apply(self._gradients(*batch)),
            data,
            _rows(data[0]),
            self._batch_size,
            unrolled=_UNROLLED,
        )
        figures = self._model.get_metrics_result()
        if valid is not None:
            self._model.reset_metrics()
            weights = self._weights()
            over_batches(
                lambda *batch: self._measure(*batch, weights, training=False), valid, _rows(valid[0]), self._valid_size
            )
            figures |= {f"val_{name}": value for name, value in self._model.get_metrics_result().items()}
        return {name: tf.cast(value, tf.float32) for name, value in figures.items()}

    def _epochs(self, data: tuple, valid: tuple | None, orders: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        shapes = {name: figure.shape for name, figure in self._model.get_metrics_result().items()}
        if valid is not None:
            shapes |= {f"val_{name}": shape for name, shape in shapes.items()}
        return over_epochs(lambda order: self._epoch(gather(data, order), valid), orders, count, shapes)


def _rows(tree: Any) -> int:  # noqa: ANN401
    return next(leaf.shape[0] for leaf in keras.tree.flatten(tree) if leaf is not None)
