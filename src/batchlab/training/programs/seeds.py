"""Many runs of a chain of Dense layers side by side, the run in the last axis of every array."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from batchlab.results import ordered_figures
from batchlab.training import keras_internals as internals
from batchlab.training.programs.cache import twin
from batchlab.training.programs.loop import (
    Compiled,
    in_blocks,
    joined,
    no_orders,
    over_batches,
    over_epochs,
)
from batchlab.training.rows import Rows

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
_LANES = 16  # float32 numbers in the widest vector register of today's processors
# Measured with XLA of TensorFlow 2.21 on rows from 1 to 1437, 2 to 128 inputs, 1 to 128 units, 16 and 128 runs.
_TERMS_WRITTEN_OUT = 32  # of a sum
_PRODUCTS_IN_CACHE = 2**13  # of each run


class SeedsProgram:
    """One vector instruction serves several runs.

    Args:
        model: A built model for which `why_not_side_by_side` finds no reason; the pattern for all runs.
        batch_size: Rows of a batch; the last one holds the remainder.
        train: Training rows.
        valid: Validation rows; as for the training rows, only their shapes matter.
        runs: Number of runs, as `whole_registers` gives it; they are independent of each other.
    """

    def __init__(self, model: keras.Model, batch_size: int, train: Rows, valid: Rows | None, runs: int) -> None:
        self._model = twin(model, train.part(0, min(batch_size, len(train))).data)
        self._batch_size = batch_size
        self._runs = runs
        self._variables = [keras.Variable(np.zeros((*v.shape, self._runs), np.float32)) for v in model.weights]
        self._optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
        self._optimizer.build(self._variables)
        self._fresh = [(v, v.numpy()) for v in self._optimizer.variables]
        self._loss = keras.losses.get(model.loss)
        self._has_penalty = any(
            layer.kernel_regularizer or layer.bias_regularizer for layer in _dense_layers(self._model)
        )
        has_rates = isinstance(model.optimizer.get_config()["learning_rate"], float)
        self._run = Compiled(
            self._epochs,
            train.data,
            valid.data if valid else None,
            np.zeros(self._runs, np.float32) if has_rates else None,
            no_orders(len(train), self._runs),
            0,
        )

    @staticmethod
    def bytes_per_run(model: keras.Model, train: Rows, valid: Rows | None, batch_size: int) -> int:
        """Estimate the memory that one run needs within a call, in bytes."""
        widths = [model.inputs[0].shape[-1], *(layer.units for layer in _dense_layers(model))]
        data = len(train) * (2 * widths[0] + 2 * widths[-1] + 3)  # features in the order of the epoch, and transposed
        layers = sum(widths) * (3 * min(batch_size, len(train)) + (len(valid) if valid else 0))
        return 4 * (data + layers + 6 * model.count_params())

    def compile(self) -> None:
        """Let XLA compile before anything is trained.

        Raises:
            CannotCompileError: XLA cannot.
        """
        self._run.compile()

    def __call__(
        self,
        weights: list[np.ndarray],
        rates: np.ndarray | None,
        train: Rows,
        valid: Rows | None,
        orders: Iterator[np.ndarray],
        advance: Callable[[int], object],
    ) -> dict[str, np.ndarray]:
        """Train all runs.

        Args:
            weights: For each of the model's weights, an array (…, runs) of initial values.
            rates: Learning rates, shape (runs,), or None where the optimizer follows a schedule.
            train: The training rows.
            valid: The validation rows.
            orders: For each epoch the orders of the rows, int32 of shape (rows, runs).
            advance: Called with the number of epochs done since the last call.

        Returns:
            For each figure an array (epochs, runs).
        """
        runs = weights[0].shape[-1]

        def padded(array: np.ndarray) -> np.ndarray:
            if runs == self._runs:
                return array
            return np.concatenate([array, np.repeat(array[..., -1:], self._runs - runs, axis=-1)], axis=-1)

        for variable, value in zip(self._variables, weights, strict=True):
            variable.assign(padded(value))
        for variable, value in self._fresh:
            variable.assign(value)
        rates = None if rates is None else padded(rates)
        logs = []
        for block, count in in_blocks(map(padded, orders), len(train), self._runs):
            result = self._run(train.data, valid.data if valid else None, rates, block, count)
            logs.append({name: values.numpy()[:count, :runs] for name, values in result.items()})
            advance(count)
        return joined(logs)

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
        values = iter(self._variables)
        for layer in _dense_layers(self._model):
            for regularizer in (layer.kernel_regularizer, layer.bias_regularizer)[: 1 + layer.use_bias]:
                value = next(values).value
                axes = list(range(value.shape.rank - 1))
                total += getattr(regularizer, "l1", 0.0) * tf.reduce_sum(tf.abs(value), axes)
                total += getattr(regularizer, "l2", 0.0) * tf.reduce_sum(tf.square(value), axes)
        return total

    def _row_losses(self, y: tf.Tensor, predicted: tf.Tensor, weight: tf.Tensor | None) -> tf.Tensor:
        """Return the loss of each row and run, shape (rows, runs)."""
        function = self._loss.call if isinstance(self._loss, keras.losses.Loss) else self._loss
        losses = function(y, predicted)
        return losses if weight is None else losses * weight

    def _step(
        self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor | None, rates: tf.Tensor | None, once: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Make one update of all runs; return the predictions before it, and the penalties."""
        values = [v.value for v in self._variables]
        with tf.GradientTape() as tape:
            tape.watch(values)
            predicted = self._predict(x, once)
            # The sum over runs has, for the weights of one run, that run's own gradient.
            loss = tf.reduce_sum(self._row_losses(y, predicted, weight)) / x.shape[0]
            penalty = self._penalty() if self._has_penalty else tf.zeros(self._runs)
            loss += tf.reduce_sum(penalty)
        gradients = tape.gradient(loss, values)
        # What optimizer.apply does for these optimizers, but for the learning rate, which may differ from run to run.
        optimizer = self._optimizer
        rates = optimizer.learning_rate if rates is None else rates
        if optimizer.clipvalue:
            gradients = [tf.clip_by_value(g, -optimizer.clipvalue, optimizer.clipvalue) for g in gradients]
        if optimizer.weight_decay is not None:
            for variable in self._variables:
                variable.assign(variable - variable * optimizer.weight_decay * rates)
        internals.update(optimizer, gradients, self._variables, rates)
        optimizer.iterations.assign_add(1)
        return predicted, penalty

    def _figures(
        self, y: tf.Tensor, predicted: tf.Tensor, weight: tf.Tensor | None, penalty: tf.Tensor, prefix: str = ""
    ) -> dict[str, tf.Tensor]:
        losses = self._row_losses(y, predicted, weight)
        figures = {"loss": tf.reduce_mean(losses, 0) + penalty}
        for metric, weighted in internals.compiled_metrics(self._model):
            function, options = internals.metric_function(metric)
            values = tf.cast(function(y, predicted, **options), tf.float32)
            if values.shape.rank > 2:  # some functions leave the mean over outputs to the metric
                values = tf.reduce_mean(values, -1)
            if weighted and weight is not None:
                figures[metric.name] = tf.math.divide_no_nan(
                    tf.reduce_sum(values * weight, 0), tf.reduce_sum(weight + tf.zeros_like(values), 0)
                )
            else:
                figures[metric.name] = tf.reduce_mean(values, 0)
        return {prefix + name: value for name, value in figures.items()}

    def _epoch(
        self, data: tuple, valid: tuple | None, rates: tf.Tensor | None, order: tf.Tensor, once: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        x, y, weight = data
        batches = (
            tf.transpose(tf.gather(x, order), [0, 2, 1]),
            tf.gather(y if y.shape.rank > 1 else y[:, None], order),
            None if weight is None else tf.gather(tf.reshape(weight, [-1]), order),
        )
        predicted, penalty = over_batches(
            lambda *batch: self._step(*batch, rates, once),
            batches,
            x.shape[0],
            self._batch_size,
            predicted=(self._runs, self._model.outputs[0].shape[-1]),
            penalty=tf.zeros(self._runs),
        )
        figures = self._figures(batches[1], predicted, batches[2], penalty)
        if valid is not None:
            vx, vy, vweight = valid
            vx = tf.tile(vx[:, :, None], [1, 1, self._runs])
            vy = vy if vy.shape.rank > 1 else vy[:, None]
            vy = tf.tile(vy[:, None], [1, self._runs, 1])
            vweight = None if vweight is None else tf.reshape(vweight, [-1, 1])
            penalty = self._penalty() if self._has_penalty else tf.zeros(self._runs)
            figures |= self._figures(vy, self._predict(vx), vweight, penalty, prefix="val_")
        return figures

    def _epochs(
        self, data: tuple, valid: tuple | None, rates: tf.Tensor | None, orders: tf.Tensor, count: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        names = ["loss", *(metric.name for metric, _ in internals.compiled_metrics(self._model))]
        names += [f"val_{name}" for name in names if valid is not None]
        once = tf.minimum(count, 1)
        return over_epochs(
            lambda order: self._epoch(data, valid, rates, order, once),
            orders,
            count,
            ordered_figures(names),
            (self._runs,),
        )


def whole_registers(runs: int) -> int:
    """Return how many runs a program for these is made for: further ones cost nothing until the register is full."""
    return -(-runs // _LANES) * _LANES


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
