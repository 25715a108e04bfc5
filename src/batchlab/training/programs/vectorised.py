"""Many runs of any model that TensorFlow can vectorise, the run in the first axis of every array."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from batchlab.results import ordered_figures
from batchlab.training import keras_internals as internals
from batchlab.training.programs.convolution import as_products
from batchlab.training.programs.loop import (
    CannotCompileError,
    Compiled,
    constants,
    epochs_at_once,
    gather,
    over_batches,
    over_epochs,
)
from batchlab.training.programs.philox import mapped
from batchlab.training.programs.pure import PureStep, apply
from batchlab.training.programs.side_by_side import SideBySide
from batchlab.training.recognise import is_measured_at_once
from batchlab.training.rows import Rows
from batchlab.training.self_check import Step, plain
from batchlab.training.state import read, write
from batchlab.training.subject import Subject

_LEAST_RUNS, _MOST_RUNS = 16, 64


class VectorisedProgram(SideBySide):
    """Keras's step of one run, for all of them at once.

    Args:
        subject: A built model for which `why_not_side_by_side` finds no reason; the pattern for all runs.
        batch_size: Rows of a batch; the last one holds the remainder.
        train: Training rows.
        valid: Validation rows; as for the training rows, only their shapes matter.
        runs: Number of runs; they are independent of each other.

    Raises:
        CannotCompileError: TensorFlow cannot vectorise an operation of the model.
    """

    def __init__(self, subject: Subject, batch_size: int, train: Rows, valid: Rows | None, runs: int) -> None:
        copy = subject.clone()
        self._model = model = copy.model
        self._pure = PureStep(copy)
        self._batch_size = batch_size
        self._valid_size = len(valid) if valid and is_measured_at_once(subject) else batch_size
        self._runs = runs
        self._shapes = [tuple(v.shape) for v in model.trainable_variables]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self._theta = keras.Variable(np.zeros((runs, sum(self._sizes)), np.float32))
        self._kept = [keras.Variable(self._repeated(v.numpy()), dtype=v.dtype) for v in self._pure.kept]
        self._optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
        self._optimizer.build([self._theta])
        own = [*self._kept, *self._optimizer.variables]
        self._fresh = list(zip(own, [v.numpy() for v in own], strict=True))
        has_rates = isinstance(model.optimizer.learning_rate, keras.Variable)
        rates = np.zeros(runs, np.float32) if has_rates else None
        orders = np.zeros((epochs_at_once(len(train), runs), len(train), runs), np.int32)
        self._once: Callable | None = None
        try:
            with mapped(), as_products():
                self._run = Compiled(self._epochs, train.data, valid.data if valid else None, rates, orders, 0)
        except (ValueError, NotImplementedError) as error:
            found = re.search(r"(?:vectorization defined for |of op ')(\w+)", str(error))
            what = found[1] if found else str(error).strip().splitlines()[-1][:200]
            raise CannotCompileError(f"TensorFlow cannot vectorise an operation of it, {what}") from error

    @staticmethod
    def bytes_per_run(model: keras.Model, train: Rows, valid: Rows | None, batch_size: int) -> int:
        """Estimate the memory that one run needs within a call, in bytes."""
        width = sum(math.prod(size or 1 for size in tensor.shape[1:]) for tensor in internals.outputs(model))
        rows = 4 * min(batch_size, len(train)) + (len(valid) if valid else 0)
        return 4 * (len(train) + rows * (width + _places(model)) + 8 * model.count_params())

    @staticmethod
    def fitting(batch_size: int, wanted: int, bytes_per_run: int) -> tuple[int, int]:
        """Return how many runs, of those wanted, fill a program well: at least, and at most."""
        return min(_LEAST_RUNS, wanted), _MOST_RUNS

    @staticmethod
    def whole(runs: int) -> int:
        """Return how many runs a program for so many is made for."""
        return runs

    def weights(self, runs: int) -> list[np.ndarray]:
        """Return the present weights of the first runs, the run in the first axis."""
        parts = np.split(self._theta.numpy(), np.cumsum(self._sizes)[:-1], axis=1)
        found = {id(v): part.reshape(-1, *v.shape) for v, part in zip(self._pure.trained, parts, strict=True)}
        found |= {id(v): ours.numpy() for v, ours in zip(self._pure.kept, self._kept, strict=True)}
        return [found[id(variable)][:runs] for variable in self._model.weights]

    def step(self, subject: Subject, gradients: list[tf.Tensor]) -> Step:
        """Take a step of all runs, uncompiled, and return that of the first, which begins as the subject is.

        Args:
            subject: As at the beginning of training.
            gradients: What the optimizer is to be given.
        """
        model, runs = subject.model, self._runs
        apart = np.random.default_rng(0)  # the other runs begin elsewhere, so that it shows if they reach the first
        begin = [self._repeated(variable.numpy()) for variable in model.variables]
        for value in begin:
            if value.dtype.kind == "f":
                value[1:] += apart.normal(0, 0.1, value[1:].shape)
        self._begin(begin)
        for ours, theirs in zip(self._kept, subject.kept, strict=True):
            if id(theirs) not in {*map(id, model.variables)}:
                ours.assign(self._repeated(theirs.numpy()))
        scalars, slots = internals.optimizer_state(model.optimizer, model.trainable_variables)
        our_scalars, our_slots = internals.optimizer_state(self._optimizer, [self._theta])
        write(our_scalars, read(scalars))
        for name, (ours,) in our_slots.items():
            ours.assign(self._repeated(self._flat(read(slots[name])).numpy()))
        given = constants(subject.batch), read(self._kept)
        if self._once is None:  # to map a function takes a second, and every new model is checked
            self._once = tf.function(self._evaluation_and_step, autograph=False).get_concrete_function(*given)
        evaluated, own, figures = self._once(*given)
        parts = zip(tf.split(own[0], self._sizes), self._shapes, strict=True)
        given = [tf.zeros(shape) if g is None else g for g, shape in zip(gradients, self._shapes, strict=True)]
        rate = None
        if isinstance(model.optimizer.learning_rate, keras.Variable):
            rate = tf.fill([runs], tf.cast(model.optimizer.learning_rate, tf.float32))
        self._apply(tf.stack([self._flat(given)] * runs), rate)
        values = tf.split(self._theta.value[0], self._sizes)
        state = {id(v): tf.reshape(p, v.shape) for v, p in zip(model.trainable_variables, values, strict=True)}
        state |= {id(theirs): ours[0] for theirs, ours in zip(subject.kept, self._state(), strict=True)}
        state |= {id(theirs): ours for theirs, ours in zip(scalars, read(our_scalars), strict=True)}
        for name, (ours,) in our_slots.items():
            values = tf.split(ours.value[0], self._sizes)
            state |= {id(v): tf.reshape(part, v.shape) for v, part in zip(slots[name], values, strict=True)}
        after = [state[id(variable)] for variable in (*model.variables, *model.optimizer.variables)]
        first = [{name: values[0] for name, values in plain(found).items()} for found in (figures, evaluated)]
        return Step(*first, [tf.reshape(part, shape) for part, shape in parts], after)

    def _repeated(self, value: np.ndarray) -> np.ndarray:
        return np.repeat(value[None], self._runs, 0)

    def _begin(self, values: list[np.ndarray]) -> None:
        """Set the model's variables, (runs, …) each."""
        given = dict(zip(map(id, self._model.variables), values, strict=True))
        trained = [given[id(variable)].reshape(self._runs, -1) for variable in self._pure.trained]
        write([self._theta], [np.concatenate(trained, 1)])
        for ours, theirs in zip(self._kept, self._pure.kept, strict=True):
            if id(theirs) in given:
                write([ours], [given[id(theirs)]])

    def _flat(self, arrays: list[tf.Tensor]) -> tf.Tensor:
        return tf.concat([tf.reshape(array, [-1]) for array in arrays], 0)

    def _weights(self, theta: tf.Tensor) -> list[tf.Tensor]:
        return [tf.reshape(p, shape) for p, shape in zip(tf.split(theta, self._sizes), self._shapes, strict=True)]

    def _gradients(self, data: tuple, orders: tf.Tensor) -> tf.Tensor:
        """Return the gradients of all runs, shape (runs, parameters), and count their batches' figures in.

        Args:
            data: Of (x, y, weight).
            orders: Which rows are a run's batch, shape (runs, rows).
        """

        def one(arguments: tuple) -> tuple[tf.Tensor, list[tf.Tensor]]:
            theta, state, order = arguments
            gradients, state = self._pure.gradients(gather(data, order), self._weights(theta), state)
            return self._flat(gradients), state

        gradients, state = self._mapped(one, (self._theta.value, self._state(), orders))
        self._keep(state)
        return gradients

    def _apply(self, gradients: tf.Tensor, rates: tf.Tensor | None) -> None:
        apply(self._optimizer, [gradients], [self._theta], None if rates is None else rates[:, None])

    def _evaluate(self, *batch: Any) -> None:  # noqa: ANN401
        def one(arguments: tuple) -> list[tf.Tensor]:
            theta, state = arguments
            return self._pure.measure(batch, self._weights(theta), state, training=False)[1]

        self._keep(self._mapped(one, (self._theta.value, self._state())))

    def _reset(self) -> None:
        self._keep(self._mapped(self._pure.reset, self._state()))

    def _figures(self) -> dict[str, tf.Tensor]:
        figures = self._mapped(self._pure.figures, self._state())
        if any(value.shape.rank != 1 for value in figures.values()):
            raise CannotCompileError("a metric is an array")
        return {name: tf.cast(value, tf.float32) for name, value in figures.items()}

    def _evaluation_and_step(self, batch: tuple, state: list[tf.Tensor]) -> tuple[dict, tf.Tensor, dict]:
        """Evaluate a batch, put the state back, and take a step but for the update; return what both give."""
        with mapped(), as_products():
            self._reset()
            self._evaluate(*batch)
            evaluated = self._figures()
            self._keep(state)
            self._reset()
            rows = keras.tree.flatten(batch[0])[0].shape[0]
            own = self._gradients(batch, tf.stack([tf.range(rows)] * self._runs))
            return evaluated, own, self._figures()

    def _mapped(self, function: Callable, arguments: Any) -> Any:  # noqa: ANN401
        return tf.vectorized_map(function, arguments, fallback_to_while_loop=False)

    def _state(self) -> list[tf.Tensor]:
        return read(self._kept)

    def _keep(self, state: list[tf.Tensor]) -> None:
        for variable, value in zip(self._kept, state, strict=True):
            variable.assign(value)

    def _epochs(
        self, data: tuple, valid: tuple | None, rates: tf.Tensor | None, orders: tf.Tensor, count: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        rows = orders.shape[1]

        def step(order: tf.Tensor) -> None:
            self._apply(self._gradients(data, tf.transpose(order)), rates)

        def epoch(order: tf.Tensor) -> dict[str, tf.Tensor]:
            self._reset()
            over_batches(step, (order,), rows, self._batch_size)
            figures = self._figures()
            if valid is not None:
                self._reset()
                of_valid = next(leaf.shape[0] for leaf in keras.tree.flatten(valid) if leaf is not None)
                over_batches(self._evaluate, valid, of_valid, self._valid_size)
                figures |= {f"val_{name}": value for name, value in self._figures().items()}
            return figures

        own = self._pure.figures([value[0] for value in self._state()])  # of one run, for their names
        names = ordered_figures([*own, *(f"val_{name}" for name in own if valid is not None)])
        return over_epochs(epoch, orders, count, dict.fromkeys(names, (self._runs,)))


def _places(model: keras.Model) -> int:
    """Count what the filters of a model see, laid side by side, of one row."""
    total = 0
    for layer in internals.layers_of(model)[1:]:
        if hasattr(layer, "kernel_size") and getattr(layer, "kernel", None) is not None:
            seen = math.prod(layer.kernel.shape[:-1])
            total += seen * math.prod(size or 1 for size in layer.output.shape[1:-1])
    return total
