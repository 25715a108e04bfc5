"""Many runs of a chain of Dense layers side by side, the run in the last axis of every array."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from batchlab.results import ordered_figures
from batchlab.training import keras_internals as internals
from batchlab.training.programs.loop import (
    Compiled,
    epochs_at_once,
    over_batches,
    over_epochs,
)
from batchlab.training.programs.pure import apply
from batchlab.training.programs.side_by_side import SideBySide
from batchlab.training.rows import Rows
from batchlab.training.self_check import Step, plain
from batchlab.training.state import copy, read, write
from batchlab.training.subject import Subject

_BY_ELEMENT = (
    keras.activations.linear,
    keras.activations.relu,
    keras.activations.sigmoid,
    keras.activations.tanh,
    keras.activations.elu,
    keras.activations.selu,
    keras.activations.gelu,
    keras.activations.silu,
    keras.activations.softplus,
    keras.activations.softsign,
    keras.activations.leaky_relu,
)
_MOST_RUNS = 128  # more no longer fill the vector registers better, and leave the fast caches
_KEPT_BETWEEN_CALLS = 2**25  # bytes: larger blocks Linux's C library returns at once, and gets anew page by page
_LANES = 16  # float32 numbers in the widest vector register of today's processors
# Measured with XLA of TensorFlow 2.21 on rows from 1 to 1437, 2 to 128 inputs, 1 to 128 units, 16 and 128 runs.
_TERMS_WRITTEN_OUT = 32  # of a sum
_PRODUCTS_IN_CACHE = 2**13  # of each run


class SeedsProgram(SideBySide):
    """One vector instruction serves several runs.

    Args:
        subject: A built model for which `why_not_by_lanes` finds no reason; the pattern for all runs.
        batch_size: Rows of a batch; the last one holds the remainder.
        train: Training rows.
        valid: Validation rows; as for the training rows, only their shapes matter.
        runs: Number of runs, as `whole` gives it; they are independent of each other.
    """

    def __init__(self, subject: Subject, batch_size: int, train: Rows, valid: Rows | None, runs: int) -> None:
        self._model = model = subject.clone().model
        self._batch_size = batch_size
        self._runs = runs
        self._variables = [keras.Variable(np.zeros((*v.shape, self._runs), np.float32)) for v in model.weights]
        self._optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
        self._optimizer.build(self._variables)
        self._fresh = [(v, v.numpy()) for v in self._optimizer.variables]
        self._loss = internals.only_loss(model)
        self._metrics = internals.compiled_metrics(model)
        self._totals = [keras.Variable(np.zeros(runs, np.float32)) for _ in range(1 + len(self._metrics))]
        self._regularizers = [v.regularizer for v in model.trainable_variables]
        self._has_penalty = any(self._regularizers)
        has_rates = isinstance(model.optimizer.learning_rate, keras.Variable)
        self._rates = np.zeros(self._runs, np.float32) if has_rates else None
        self._run = Compiled(
            self._epochs,
            train.data,
            valid.data if valid else None,
            self._rates,
            np.zeros((epochs_at_once(len(train), self._runs), len(train), self._runs), np.int32),
            0,
        )

    @staticmethod
    def bytes_per_run(model: keras.Model, train: Rows, valid: Rows | None, batch_size: int) -> int:
        """Estimate the memory that one run needs within a call, in bytes."""
        widths = [model.inputs[0].shape[-1], *(layer.units for layer in _dense_layers(model))]
        data = len(train) * (2 * widths[0] + widths[-1] + 3)  # features in the order of the epoch, and transposed
        layers = sum(widths) * (3 * min(batch_size, len(train)) + (len(valid) if valid else 0))
        return 4 * (data + layers + 6 * model.count_params())

    @staticmethod
    def fitting(batch_size: int, wanted: int, bytes_per_run: int) -> tuple[int, int]:
        """Return how many runs, of those wanted, fill a program well: at least, and at most."""
        # With batches of this size fewer runs side by side take longer than all of them, some of which are idle: XLA
        # computes arrays below 16 KiB anew wherever they are used. Measured at 2 to 250 rows and 16 to 512 runs.
        least = _MOST_RUNS if 8 < batch_size < 64 <= wanted else min(_LANES, wanted)
        most = _MOST_RUNS
        if batch_size >= 64:  # beyond that memory 16 runs are faster than 128; measured at 64 to 1437 rows
            most = min(most, max(_LANES, _KEPT_BETWEEN_CALLS // (_LANES * bytes_per_run) * _LANES))
        return least, most

    @staticmethod
    def whole(runs: int) -> int:
        """Return how many a program for so many is made for: more cost nothing until a vector register is full."""
        return -(-runs // _LANES) * _LANES

    def _begin(self, values: list[np.ndarray]) -> None:
        write(self._variables, [np.moveaxis(value, 0, -1) for value in values])

    def weights(self, runs: int) -> list[np.ndarray]:
        """Return the present weights of the first runs, the run in the first axis."""
        return [np.moveaxis(v.numpy()[..., :runs], -1, 0) for v in self._variables]

    def _predict(self, x: tf.Tensor, once: tf.Tensor | None = None) -> tf.Tensor:
        """Map features (rows, features, runs) to predictions (rows, runs, outputs); for `once` see `_computed_once`."""
        values = iter(self._variables)
        layers = [layer for layer in self._model.layers if not isinstance(layer, keras.layers.InputLayer)]
        for layer in layers:
            if isinstance(layer, keras.layers.Dense):
                x = _dense(x, next(values).value)
                if layer.use_bias:
                    x = x + next(values).value
                if layer is layers[-1] and once is not None:
                    x = _computed_once(x, once)
            if layer.activation in _BY_ELEMENT and layer is not layers[-1]:
                x = layer.activation(x)
            else:  # Keras's functions and losses expect the units in the last axis; softmax depends on it
                x = layer.activation(tf.transpose(x, [0, 2, 1]))
                x = x if layer is layers[-1] else tf.transpose(x, [0, 2, 1])
        return x

    def _penalty(self) -> tf.Tensor:
        """Return the regularisation loss of each run, shape (runs,)."""
        total = tf.zeros(self._runs)
        for variable, regularizer in zip(self._variables, self._regularizers, strict=True):
            axes = list(range(len(variable.shape) - 1))
            total += getattr(regularizer, "l1", 0.0) * tf.reduce_sum(tf.abs(variable.value), axes)
            total += getattr(regularizer, "l2", 0.0) * tf.reduce_sum(tf.square(variable.value), axes)
        return total

    def step(self, subject: Subject, gradients: list[tf.Tensor]) -> Step:
        """Take a step of all runs, uncompiled, and return that of the first, which begins as the subject is.

        Args:
            subject: As at the beginning of training.
            gradients: What the optimizer is to be given.
        """
        model, runs = subject.model, self._runs
        apart = np.random.default_rng(0)  # the other runs begin elsewhere, so that it shows if they reach the first
        for variable, weight in zip(self._variables, model.get_weights(), strict=True):
            others = weight[..., None] + apart.normal(0, 0.1, (*weight.shape, runs - 1))
            variable.assign(np.concatenate([weight[..., None], others], -1))
        scalars, slots = internals.optimizer_state(model.optimizer, model.trainable_variables)
        our_scalars, our_slots = internals.optimizer_state(self._optimizer, self._variables)
        copy(scalars, our_scalars)
        for name, ours in our_slots.items():
            write(ours, [tf.repeat(value[..., None], runs, -1) for value in read(slots[name])])
        x, y, weight = subject.batch
        figures = [metric.name for metric, _ in self._metrics]
        alike = (
            tf.tile(tf.constant(x)[:, :, None], [1, 1, runs]),
            tf.tile(_with_outputs(tf.constant(y))[:, None], [1, runs, 1]),
            None if weight is None else tf.tile(tf.reshape(tf.constant(weight), [-1, 1]), [1, runs]),
        )

        def first(totals: list[tf.Tensor]) -> dict[str, np.ndarray]:
            return plain(dict(zip(("loss", *figures), self._means(totals, weight, x.shape[0])[:, 0], strict=True)))

        evaluated = first(self._contributions(alike[1], self._predict(alike[0]), alike[2], self._penalty()))
        for total in self._totals:
            total.assign(tf.zeros(self._runs))
        own = [gradient[..., 0] for gradient in self._gradients(*alike, tf.constant(1))]
        given = [tf.zeros(v.shape[:-1]) if g is None else g for g, v in zip(gradients, self._variables, strict=True)]
        rates = None if self._rates is None else tf.fill([runs], tf.cast(model.optimizer.learning_rate, tf.float32))
        self._apply([tf.repeat(tf.convert_to_tensor(g)[..., None], runs, -1) for g in given], rates)
        kept = read([*self._variables, *self._optimizer.variables])
        after = [value[..., 0] if value.shape.rank else value for value in kept]
        return Step(first([total.value for total in self._totals]), evaluated, own, after)

    def _contributions(
        self, y: tf.Tensor, predicted: tf.Tensor, weight: tf.Tensor | None, penalty: tf.Tensor
    ) -> list[tf.Tensor]:
        """Return what rows add to the total of each figure, of shape (runs,)."""
        losses = self._row_losses(y, predicted, weight)
        totals = [tf.reduce_sum(losses, 0) + penalty * losses.shape[0]]
        for metric, weighted in self._metrics:
            function, options = internals.metric_function(metric)
            values = tf.cast(function(y, predicted, **options), tf.float32)
            if values.shape.rank > 2:  # some functions leave the mean over outputs to the metric
                values = tf.reduce_mean(values, -1)
            totals.append(tf.reduce_sum(values * weight if weighted and weight is not None else values, 0))
        return totals

    def _means(self, totals: list[tf.Tensor], weight: tf.Tensor | None, rows: int) -> tf.Tensor:
        """Return the figures, shape (figures, runs), from their totals over rows with these weights."""
        over = [tf.constant(float(rows))]
        for _, weighted in self._metrics:
            over.append(tf.reduce_sum(weight) if weighted and weight is not None else over[0])
        return tf.math.divide_no_nan(tf.stack(totals), tf.stack(over)[:, None])

    def _row_losses(self, y: tf.Tensor, predicted: tf.Tensor, weight: tf.Tensor | None) -> tf.Tensor:
        """Return the loss of each row and run, shape (rows, runs)."""
        losses = self._loss.call(tf.cast(y, self._loss.dtype), predicted)
        return losses if weight is None else losses * weight

    def _gradients(self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor | None, once: tf.Tensor) -> list[tf.Tensor]:
        """Return the gradients of all runs, and count the batch's figures in."""
        values = [v.value for v in self._variables]
        with tf.GradientTape() as tape:
            tape.watch(values)
            predicted = self._predict(x, once)
            # The sum over runs has, for the weights of one run, that run's own gradient.
            loss = tf.reduce_sum(self._row_losses(y, predicted, weight)) / x.shape[0]
            penalty = self._penalty() if self._has_penalty else tf.zeros(self._runs)
            loss += tf.reduce_sum(penalty)
        for total, more in zip(self._totals, self._contributions(y, predicted, weight, penalty), strict=True):
            total.assign_add(more)
        return tape.gradient(loss, values)

    def _apply(self, gradients: list[tf.Tensor], rates: tf.Tensor | None) -> None:
        apply(self._optimizer, gradients, self._variables, rates)

    def _epoch(
        self, data: tuple, valid: tuple | None, rates: tf.Tensor | None, order: tf.Tensor, once: tf.Tensor
    ) -> tf.Tensor:
        """Train one epoch; return its figures, shape (figures, runs), those of validation after the others."""
        x, y, weight = data
        batches = (
            tf.transpose(tf.gather(x, order), [0, 2, 1]),
            tf.gather(_with_outputs(y), order),
            None if weight is None else tf.gather(tf.reshape(weight, [-1]), order),
        )
        for total in self._totals:
            total.assign(tf.zeros(self._runs))
        over_batches(
            lambda *batch: self._apply(self._gradients(*batch, once), rates), batches, x.shape[0], self._batch_size
        )
        figures = [self._means([total.value for total in self._totals], weight, x.shape[0])]
        if valid is not None:
            vx, vy, vweight = valid
            predicted = self._predict(tf.tile(vx[:, :, None], [1, 1, self._runs]))
            vy = tf.tile(_with_outputs(vy)[:, None], [1, self._runs, 1])
            column = None if vweight is None else tf.reshape(vweight, [-1, 1])
            penalty = self._penalty() if self._has_penalty else tf.zeros(self._runs)
            figures.append(self._means(self._contributions(vy, predicted, column, penalty), vweight, vx.shape[0]))
        return tf.concat(figures, 0)

    def _epochs(
        self, data: tuple, valid: tuple | None, rates: tf.Tensor | None, orders: tf.Tensor, count: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        names = ["loss", *(metric.name for metric, _ in self._metrics)]
        names += [f"val_{name}" for name in names if valid is not None]
        once = tf.minimum(count, 1)

        def epoch(order: tf.Tensor) -> dict[str, tf.Tensor]:
            return dict(zip(names, tf.unstack(self._epoch(data, valid, rates, order, once)), strict=True))

        return over_epochs(epoch, orders, count, dict.fromkeys(ordered_figures(names), (self._runs,)))


def _with_outputs(y: tf.Tensor) -> tf.Tensor:
    """Return targets with an axis for the outputs, even if there is one alone."""
    return y if y.shape.rank > 1 else y[:, None]


def _dense_layers(model: keras.Model) -> list[keras.layers.Dense]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]


@tf.custom_gradient
def _dense(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Multiply (rows, inputs, runs) by (inputs, units, runs), run by run, to (rows, units, runs).

    Small ones are written as products and sums over axes other than the last, so that XLA runs through the last axis
    with whole vector registers; a matrix product run by run could not. Of a sum with more terms than it writes out, XLA
    makes a loop at scalar speed, and before it sums over rows it stores all products; there the matrix product is up to
    twenty times as fast. Which of them it is depends on nothing but the shapes of one run.
    """
    (rows, inputs, _), units = x.shape, kernel.shape[1]
    is_large = min(inputs, units) > 1 and rows * inputs * units > _PRODUCTS_IN_CACHE

    def backward(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if is_large and units > _TERMS_WRITTEN_OUT:
            to_x = tf.einsum("bur,iur->bir", upstream, kernel)
        else:
            to_x = tf.reduce_sum(upstream[:, None] * kernel[None], 2)
        if is_large:
            to_kernel = tf.einsum("bir,bur->iur", x, upstream)
        else:
            to_kernel = tf.reduce_sum(x[:, :, None] * upstream[:, None], 0)
        return to_x, to_kernel

    if is_large and inputs > _TERMS_WRITTEN_OUT:
        return tf.einsum("bir,iur->bur", x, kernel), backward
    return tf.reduce_sum(x[:, :, None] * kernel[None], 1), backward


def _computed_once(x: tf.Tensor, once: tf.Tensor) -> tf.Tensor:
    """Return x, and have XLA compute the gradient that arrives here once, not anew for each unit that uses it.

    XLA fuses what computes a small array into every reader of it, and the logarithms and exponentials of a loss are
    dear. It cannot fuse across a loop, here one of a single turn.

    Args:
        x: Any array.
        once: 1, as a number that XLA does not know beforehand.
    """

    @tf.custom_gradient
    def kept(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        def backward(upstream: tf.Tensor) -> tf.Tensor:
            factor = tf.cast(once, upstream.dtype)
            return tf.while_loop(lambda i, _: i < once, lambda i, value: (i + 1, value * factor), (0, upstream))[1]

        return tf.identity(x), backward

    return kept(x)
