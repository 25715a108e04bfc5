"""Keras's step as a function of values: what it changes is returned, and nothing is assigned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from batchlab.training import keras_internals as internals
from batchlab.training.programs.loop import CannotCompileError
from batchlab.training.subject import Subject

State = list[tf.Tensor]
"""The values of `PureStep.kept`, in this order."""


class PureStep:
    """The loss of a batch, its gradients, and what of the model's state changes with them.

    Args:
        subject: The model; its variables only say where in it a value belongs.

    Attributes:
        trained: The parameters.
        kept: All other state but the optimizer's: of layers, of their seeds, of metrics.
    """

    def __init__(self, subject: Subject) -> None:
        self._model = subject.model
        self.trained = subject.model.trainable_variables
        self.kept = subject.kept

    def measure(self, batch: tuple, weights: Sequence, state: State, *, training: bool) -> tuple[tf.Tensor, State]:
        """Return the loss of a batch, and the state after it, the batch's figures counted in.

        Args:
            batch: Of (x, y, weight).
            weights: The values of `trained`.
            state: The values of `kept`.
            training: Whether layers behave as in training.
        """
        model = self._model
        x, y, weight = batch
        given = [*zip(self.trained, weights, strict=True), *zip(self.kept, state, strict=True)]
        with keras.StatelessScope(given, collect_losses=True) as scope:
            predicted = model(x, training=training)
            loss = model.compute_loss(x, y, predicted, sample_weight=weight, training=training)
            rows = next(leaf.shape[0] for leaf in keras.tree.flatten(x) if leaf is not None)
            internals.loss_tracker(model).update_state(loss, sample_weight=rows)
            model.compute_metrics(x, y, predicted, sample_weight=weight)
        return loss, self._after(scope)

    def gradients(self, batch: tuple, weights: Sequence, state: State) -> tuple[list[tf.Tensor], State]:
        """Return the gradient of a batch's loss for each parameter, and the state after it.

        Raises:
            CannotCompileError: A gradient is sparse.
        """
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss, state = self.measure(batch, weights, state, training=True)
        gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
        if any(isinstance(gradient, tf.IndexedSlices) for gradient in gradients):
            raise CannotCompileError("a gradient is sparse, and its optimizer would leave the other rows alone")
        return gradients, state

    def reset(self, state: State) -> State:
        """Return the state with nothing counted."""
        with keras.StatelessScope(zip(self.kept, state, strict=True)) as scope:
            self._model.reset_metrics()
        return self._after(scope)

    def figures(self, state: State) -> dict[str, Any]:
        """Return what has been counted, by name."""
        with keras.StatelessScope(zip(self.kept, state, strict=True)):
            return self._model.get_metrics_result()

    def _after(self, scope: keras.StatelessScope) -> State:
        return [scope.get_current_value(variable) for variable in self.kept]


def apply(
    optimizer: keras.optimizers.Optimizer,
    gradients: list[tf.Tensor],
    variables: list[keras.Variable],
    rates: tf.Tensor | None,
) -> None:
    """Do what `optimizer.apply` does for elementwise optimizers, but for the learning rate, which may differ by run.

    Args:
        optimizer: Built on the variables.
        gradients: One for each variable.
        variables: With the runs in one axis.
        rates: A learning rate for each run, of a shape that broadcasts; None takes the optimizer's.
    """
    rates = optimizer.learning_rate if rates is None else rates
    if optimizer.clipvalue:
        gradients = [tf.clip_by_value(g, -optimizer.clipvalue, optimizer.clipvalue) for g in gradients]
    if optimizer.weight_decay is not None:
        for variable in variables:
            variable.assign(variable - variable * optimizer.weight_decay * rates)
    internals.update(optimizer, gradients, variables, rates)
    optimizer.iterations.assign_add(1)
