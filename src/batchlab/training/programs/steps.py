"""Updates and evaluations of one run, batch by batch: Keras's own, or the same with all parameters in one vector.

A step works on variables of its own. Before the first batch a user's model is loaded into them, and after the last one
they are stored there: `places` says what goes where.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from batchlab.training import keras_internals as internals
from batchlab.training.programs.loop import CannotCompileError, constants
from batchlab.training.programs.pure import PureStep
from batchlab.training.recognise import keeps_state
from batchlab.training.self_check import keras_step, plain
from batchlab.training.state import read
from batchlab.training.subject import Subject

_UNROLLED = 4


class Place(NamedTuple):
    """A variable of a step, and what of a user's model it holds: one variable, or the entries of several."""

    ours: keras.Variable
    theirs: Sequence[keras.Variable]


class KerasStep:
    """Keras's own `train_step` and `test_step`: of any model, with any optimizer.

    Args:
        subject: The model whose variables it works on.
    """

    unrolled = 1

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._model = subject.model

    def places(self, subject: Subject) -> list[Place]:
        """Say where the state of a model of the same structure is held; nowhere else if it can only be this model."""
        if not subject.shared:
            return []
        return [Place(ours, [theirs]) for ours, theirs in zip(self._subject.variables, subject.variables, strict=True)]

    def reset(self) -> None:
        """Begin to count anew.

        Raises:
            CannotCompileError: A metric cannot do so in a compiled program.
        """
        try:
            self._model.reset_metrics()
        except NotImplementedError as error:
            raise CannotCompileError("a metric of its own is reset by code that TensorFlow cannot trace") from error

    def train(self, *batch: Any) -> None:  # noqa: ANN401
        """Take an update, and count the batch's figures in."""
        self._require_figures(self._model.train_step(batch))

    def evaluate(self, *batch: Any) -> None:  # noqa: ANN401
        """Count the figures of a batch in."""
        self._require_figures(self._model.test_step(batch))

    def figures(self) -> dict[str, tf.Tensor]:
        """Return what has been counted, by name."""
        return self._model.get_metrics_result()

    def once(self, batch: tuple, gradients: list[tf.Tensor]) -> tuple[dict, dict, list[tf.Tensor]]:
        """Take a step on a batch, the optimizer being given these gradients.

        Returns:
            The figures of the step, those of an evaluation before it, and the step's own gradients.
        """
        step = keras_step(self._subject, batch, gradients)
        return step.figures, step.evaluated, step.gradients

    def _require_figures(self, logs: dict[str, tf.Tensor]) -> None:
        if set(logs) != set(self.figures()):  # Keras then reports the last batch's logs
            raise CannotCompileError("its compute_metrics returns other figures than its metrics hold")


class PackedStep:
    """One vector of parameters means one kernel for the optimizer's step instead of one for each parameter.

    Args:
        subject: A model for which `why_not_packed` finds no reason.
    """

    def __init__(self, subject: Subject) -> None:
        model = subject.model
        self._pure = PureStep(subject)
        self._shapes = [tuple(v.shape) for v in model.trainable_variables]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self._theta = keras.Variable(np.zeros(sum(self._sizes), np.float32), name="parameters")
        self._optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
        self._optimizer.build([self._theta])
        self._optimizer_state = internals.optimizer_state(self._optimizer, [self._theta])
        # Where a step is little work, larger kernels; elsewhere they would only take longer to compile.
        self.unrolled = 1 if keeps_state(model) else _UNROLLED

    def places(self, subject: Subject) -> list[Place]:
        """Say where the state of a model of the same structure is held."""
        model = subject.model
        scalars, slots = internals.optimizer_state(model.optimizer, model.trainable_variables)
        our_scalars, our_slots = self._optimizer_state
        singles = [*zip(our_scalars, scalars, strict=True), *zip(self._pure.kept, subject.kept, strict=True)]
        return [
            Place(self._theta, model.trainable_variables),
            *(Place(ours, slots[name]) for name, (ours,) in our_slots.items()),
            *(Place(ours, [theirs]) for ours, theirs in singles),
        ]

    def reset(self) -> None:
        """Begin to count anew."""
        self._keep(self._pure.reset(self._state()))

    def train(self, *batch: Any) -> None:  # noqa: ANN401
        """Take an update, and count the batch's figures in."""
        self._apply(self._gradients(batch))

    def evaluate(self, *batch: Any) -> None:  # noqa: ANN401
        """Count the figures of a batch in."""
        self._keep(self._pure.measure(batch, self._weights(), self._state(), training=False)[1])

    def figures(self) -> dict[str, tf.Tensor]:
        """Return what has been counted, by name."""
        return self._pure.figures(self._state())

    def once(self, batch: tuple, gradients: list[tf.Tensor]) -> tuple[dict, dict, list[tf.Tensor]]:
        """As `KerasStep.once`."""
        batch = constants(batch)
        before = self._state()
        self.reset()
        self.evaluate(*batch)
        evaluated = plain(self.figures())
        self._keep(before)
        self.reset()
        own = self._gradients(batch)
        self._apply([tf.zeros(shape) if g is None else g for g, shape in zip(gradients, self._shapes, strict=True)])
        return plain(self.figures()), evaluated, own

    def _state(self) -> list[tf.Tensor]:
        return read(self._pure.kept)

    def _keep(self, state: list[tf.Tensor]) -> None:
        for variable, value in zip(self._pure.kept, state, strict=True):
            variable.assign(value)

    def _weights(self) -> list[tf.Tensor]:
        parts = tf.split(self._theta.value, self._sizes)
        return [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _gradients(self, batch: tuple) -> list[tf.Tensor]:
        gradients, state = self._pure.gradients(batch, self._weights(), self._state())
        self._keep(state)
        return gradients

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        self._optimizer.apply([tf.concat([tf.reshape(g, [-1]) for g in gradients], 0)], [self._theta])
