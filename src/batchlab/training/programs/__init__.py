"""Whole epochs of training as one XLA program each.

Keras spends most of a step on a small model in Python. Here the loop over batches is inside the program, so
Python is entered once an epoch, or once for many epochs. There are three programs:

- `EpochProgram` runs Keras's own `train_step` and `test_step` on the live model: any model, any optimizer.
- `FlatProgram` keeps all parameters in one vector, many epochs at once: one model, elementwise optimizers.
- `SeedsProgram` keeps the runs of many seeds side by side in the last axis, so that one vector instruction
  serves several runs: chains of Dense layers, elementwise optimizers.

Programs are cached, and reused for every model of the same structure: `cached`.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from types import FunctionType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from batchlab.training.rows import Rows

#: Optimizers that treat every parameter by itself, so that it does not matter how parameters are laid out.
ELEMENTWISE = (
    keras.optimizers.SGD,
    keras.optimizers.RMSprop,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Adamax,
    keras.optimizers.Nadam,
    keras.optimizers.Adagrad,
    keras.optimizers.Adadelta,
    keras.optimizers.Lion,
)

_UNROLLED = 4  # steps written out in one turn of the loop: fewer, larger kernels
_EPOCHS_AT_ONCE = 512
_ENTRIES_AT_ONCE = 2**22  # of row orders handed to one call, so that Ctrl-C is answered within seconds
_CACHED = 64

_cache: OrderedDict[tuple, Any] = OrderedDict()


def cached(key: tuple, make: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return the program for this key, made at the first call; the least recently used ones are dropped."""
    if key not in _cache:
        _cache[key] = make()
        while len(_cache) > _CACHED:
            _cache.popitem(last=False)
    _cache.move_to_end(key)
    return _cache[key]


def structure(model: keras.Model) -> tuple:
    """Return a key that two models share only if one compiled program serves both.

    Names, initial values and the learning rate (a variable) do not matter. A model with functions or
    classes of the user's own has a key of its own: two functions can share a name. Its program holds the
    model, so that the `id` in the key cannot be given to another one meanwhile.
    """
    try:
        if _has_hidden_state(model):
            raise _OwnCodeError
        config = {"model": model.get_config(), "compiled": model.get_compile_config()}
        config["compiled"]["optimizer"]["config"].pop("name", None)  # counts up: rm_sprop, rm_sprop_1, …
        names = {}
        for layer in model._flatten_layers():
            names.setdefault(layer.name, f"#{len(names)}")
        return ("shared", type(model).__name__, json.dumps(_scrubbed(config, names), sort_keys=True))
    except (_OwnCodeError, NotImplementedError, TypeError, KeyError):
        parts = (model, model.optimizer, model._compile_loss, model._compile_metrics)
        return ("own", *map(id, parts), tuple(layer.trainable for layer in model._flatten_layers()))


def _has_hidden_state(model: keras.Model) -> bool:
    """Whether something that matters is neither in the configuration nor in a variable."""
    optimizer = model.optimizer
    functions = [value for layer in model._flatten_layers() for value in vars(layer).values()]
    functions += keras.tree.flatten(model.loss)
    if model._compile_metrics is not None:
        functions += keras.tree.flatten([model._compile_metrics._user_metrics])
        functions += keras.tree.flatten([model._compile_metrics._user_weighted_metrics])
    return (
        not all(type(layer).__module__.startswith("keras.") for layer in model._flatten_layers())
        or any(isinstance(f, FunctionType) and not f.__module__.startswith("keras.") for f in functions)
        or bool(getattr(optimizer, "_exclude_from_weight_decay", None))
        or getattr(optimizer, "_exclude_from_weight_decay_pattern", None) is not None
        or any(hasattr(layer, "adapt") for layer in model._flatten_layers())  # keeps what it adapted to as constants
    )


class _OwnCodeError(Exception):
    """The configuration names code that is not Keras's."""


_REFERENCES = ("name", "keras_history", "input_layers", "output_layers")


def _scrubbed(config: Any, names: dict[str, str], key: str = "") -> Any:  # noqa: ANN401
    """Drop from a configuration what does not change the program, and number the layers in place of names."""
    if isinstance(config, dict):
        if config.get("registered_name") or config.get("class_name") in ("function", "__lambda__", "Lambda"):
            raise _OwnCodeError
        return {
            name: _scrubbed(value, names, name)
            for name, value in config.items()
            if not name.endswith("_initializer") and not (name == "learning_rate" and isinstance(value, float))
        }
    if isinstance(config, list | tuple):
        return [_scrubbed(value, names, key) for value in config]
    if isinstance(config, str) and key in _REFERENCES:
        return names.get(config, config)
    if callable(config):
        raise _OwnCodeError
    return config


def _twin(model: keras.Model, data: tuple) -> keras.Model:
    """Return a model of the same structure for a program to keep, so that no user's model is held or touched.

    A model with code of its own may not survive the copy; its program then works on the model itself.
    """
    if structure(model)[0] == "own":
        return model
    twin = type(model).from_config(model.get_config())
    twin.compile_from_config(model.get_compile_config())
    twin._symbolic_build(data_batch=data)
    return twin


def is_elementwise(optimizer: object) -> bool:
    """Whether the optimizer's step for one parameter depends on that parameter and its gradient alone."""
    return (
        type(optimizer) in ELEMENTWISE
        and optimizer.clipnorm is None
        and optimizer.global_clipnorm is None
        and not optimizer.use_ema
        and not optimizer.gradient_accumulation_steps
        and not optimizer.loss_scale_factor
    )


def has_default_reduction(model: keras.Model) -> bool:
    """Whether the loss of a batch is the mean over its rows, so that an epoch's loss is a mean over rows too."""
    loss = model.loss
    if isinstance(loss, keras.losses.Loss):
        return loss.reduction in ("sum_over_batch_size", "mean")
    return isinstance(loss, str)


def has_additive_metrics(model: keras.Model) -> bool:
    """Whether every metric is a mean over rows by a function of Keras's, so that an epoch can be measured at once."""
    metrics = compiled_metrics(model)
    return all(
        isinstance(metric, keras.metrics.MeanMetricWrapper) and metric._fn.__module__.startswith("keras.")
        for metric, _ in metrics
    )


def compiled_metrics(model: keras.Model) -> list[tuple[keras.metrics.Metric, bool]]:
    """Return the compiled metrics of a built model, each with whether it takes the sample weights."""
    if model._compile_metrics is None:
        return []
    flat = [
        (model._compile_metrics._flat_metrics, False),
        (model._compile_metrics._flat_weighted_metrics, True),
    ]
    return [(metric, weighted) for lists, weighted in flat for one in lists if one for metric in one.metrics]


def is_plain(model: keras.Model) -> bool:
    """Whether one input becomes one output through trainable float32 parameters without any other state."""
    layers = list(model._flatten_layers(include_self=False))
    return (
        structure(model)[0] == "shared"
        and (type(model) is keras.Sequential or type(model).__module__ == "keras.src.models.functional")
        and len(model.inputs) == len(model.outputs) == 1
        and len(model.variables) == len(model.trainable_variables) > 0
        and all(v.dtype == "float32" and len(v.shape) and v.constraint is None for v in model.variables)
        and all(layer.dtype_policy.name == "float32" for layer in layers)
        and not any(isinstance(layer, keras.layers.Masking | keras.layers.Embedding) for layer in layers)
        # Its penalty is a sum over the batch, so an evaluation in one batch would not give Keras's figure.
        and not any(getattr(layer, "activity_regularizer", None) for layer in layers)
        and isinstance(model.loss, str | keras.losses.Loss)
    )


def optimizer_state(optimizer: keras.optimizers.Optimizer, parameters: int) -> tuple[list, dict[str, list]]:
    """Split an optimizer's variables into scalars (iterations, learning rate, …) and slots.

    Args:
        optimizer: A built optimizer.
        parameters: The number of variables that it was built on.

    Returns:
        The scalars, and the slots by name: one variable for each parameter, in their order.
    """
    slots = {
        name: list(value)
        for name, value in vars(optimizer).items()
        if isinstance(value, list) and len(value) == parameters and name not in ("_variables", "_trainable_variables")
        if all(isinstance(v, keras.Variable) for v in value)
    }
    slotted = {id(v) for variables in slots.values() for v in variables}
    scalars = [v for v in optimizer.variables if id(v) not in slotted]
    assert not any(len(v.shape) for v in scalars), "an optimizer variable is neither a scalar nor in a slot"
    return scalars, slots


def _like(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]) -> keras.optimizers.Optimizer:
    twin = type(optimizer).from_config(optimizer.get_config())
    twin.build(variables)
    return twin


def _chunks(orders: Iterator[np.ndarray], rows: int) -> Iterator[tuple[np.ndarray, int]]:
    """Gather row orders into blocks of one static shape, each with the number of orders that count."""
    size = max(1, min(_EPOCHS_AT_ONCE, _ENTRIES_AT_ONCE // rows))
    while block := list(islice(orders, size)):
        filled = np.zeros((size, *block[0].shape), np.int32)
        filled[: len(block)] = block
        yield filled, len(block)


def _slice(tree: Any, start: tf.Tensor | int, size: int) -> Any:  # noqa: ANN401
    def cut(tensor: tf.Tensor) -> tf.Tensor:
        return tf.slice(tensor, [start, *[0] * (tensor.shape.rank - 1)], [size, *tensor.shape[1:]])

    return keras.tree.map_structure(lambda leaf: None if leaf is None else cut(leaf), tree)


def _gather(tree: Any, order: tf.Tensor) -> Any:  # noqa: ANN401
    return keras.tree.map_structure(lambda leaf: None if leaf is None else tf.gather(leaf, order), tree)


class _Compiled:
    """A Python function compiled by XLA at its first call; further calls must have the same shapes."""

    def __init__(self, function: Callable) -> None:
        self._function = tf.function(function, jit_compile=True, autograph=False)
        self._concrete = None

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401
        arguments = keras.tree.map_structure(lambda a: None if a is None else tf.constant(a), arguments)
        if self._concrete is None:
            self._concrete = self._function.get_concrete_function(*arguments)
        # Not through tf.function: it would warn of "retracing" when programs for several shapes are made.
        return self._concrete(*arguments)


# --- any model ---------------------------------------------------------------------------------------


class EpochProgram:
    """One epoch, or one evaluation, of any model: a loop over Keras's own step.

    Args:
        model: A built and compiled model; the program works on a twin of it, see `load`.
        batch_size: Rows of a batch; the last one holds the remainder.
        data: One batch, for its shapes.
    """

    def __init__(self, model: keras.Model, batch_size: int, data: tuple) -> None:
        self._model = _twin(model, data)
        self._held = (model.optimizer, model._compile_loss, model._compile_metrics) if self._model is model else ()
        self._batch_size = batch_size
        self._train = _Compiled(self._train_loop)
        self._test = _Compiled(self._test_loop)
        self._is_compiled = False

    def compile(self, train: Rows, valid: Rows | None) -> None:
        """Let XLA compile both loops before anything is trained, so that a refusal comes before any effect."""
        if not self._is_compiled:
            self._train(train.data, np.arange(len(train), dtype=np.int32), np.int32(0))
            if valid is not None:
                self._test(valid.data)
            self._is_compiled = True

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
        return self._loop(self._model.train_step, _gather(data, order), times)

    def _test_loop(self, data: tuple) -> dict[str, tf.Tensor]:
        return self._loop(self._model.test_step, data, 1)

    def _loop(self, step: Callable, data: tuple, times: tf.Tensor | int) -> dict[str, tf.Tensor]:
        """Step through the data; with times 0 compile the same steps and take none."""
        self._model.reset_metrics()
        rows = next(leaf.shape[0] for leaf in keras.tree.flatten(data) if leaf is not None)
        full, rest = divmod(rows, self._batch_size)

        def turn(i: tf.Tensor) -> tf.Tensor:
            step(_slice(data, i * self._batch_size, self._batch_size))
            return i + 1

        def last(i: tf.Tensor) -> tf.Tensor:
            step(_slice(data, full * self._batch_size, rest))
            return i + 1

        if full:
            tf.while_loop(lambda i: i < full * times, turn, (0,))
        if rest:
            tf.while_loop(lambda i: i < times, last, (0,))
        return self._model.get_metrics_result()


# --- one plain model ---------------------------------------------------------------------------------


class FlatProgram:
    """Many epochs of a plain model, all of its parameters in one vector.

    One vector means one kernel for the optimizer's step instead of one for each parameter. Predictions are
    kept, and the loss and the metrics of an epoch are computed from all of them together.

    Args:
        model: A built model for which `is_plain`, `is_elementwise`, `has_default_reduction` and
            `has_additive_metrics` hold. It serves as the pattern for all models of its `structure`.
        batch_size: Rows of a batch; the last one holds the remainder.
        data: One batch, for its shapes.
    """

    def __init__(self, model: keras.Model, batch_size: int, data: tuple) -> None:
        self._model = _twin(model, data)
        self._batch_size = batch_size
        self._shapes = [tuple(v.shape) for v in model.trainable_variables]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self._theta = keras.Variable(np.zeros(sum(self._sizes), np.float32), name="parameters")
        self._optimizer = _like(model.optimizer, [self._theta])
        self._has_penalty = False  # known once the model has been called
        self._run = _Compiled(self._epochs)

    def __call__(
        self, model: keras.Model, train: Rows, valid: Rows | None, orders: Iterator[np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Train the model; return one value an epoch for each figure."""
        self._theta.assign(self._pack([v.numpy() for v in model.trainable_variables]))
        scalars, slots = optimizer_state(model.optimizer, len(self._sizes))
        flat_scalars, flat_slots = optimizer_state(self._optimizer, 1)
        for flat, value in zip(flat_scalars, scalars, strict=True):
            flat.assign(value)
        for name, (flat,) in flat_slots.items():
            flat.assign(self._pack([part.numpy() for part in slots[name]]))
        logs = []
        for block, count in _chunks(orders, len(train)):
            result = self._run(train.data, valid.data if valid else None, block, count)
            logs.append({name: values.numpy()[:count] for name, values in result.items()})
        self._unpack(self._theta, model.trainable_variables)
        for variable, value in zip(scalars, flat_scalars, strict=True):
            variable.assign(value)
        for name, (flat,) in flat_slots.items():
            self._unpack(flat, slots[name])
        return {name: np.concatenate([log[name] for log in logs]) for name in logs[0]} if logs else {}

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
            loss = self._model._compile_loss(y, predicted, weight) + penalty
        gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
        self._optimizer.apply([tf.concat([tf.reshape(g, [-1]) for g in gradients], 0)], [self._theta])
        return predicted, penalty

    def _figures(self, data: tuple, predicted: tf.Tensor, penalty: tf.Tensor, prefix: str = "") -> dict[str, tf.Tensor]:
        self._model.reset_metrics()
        _, y, weight = data
        figures = self._model.compute_metrics(None, y, predicted, sample_weight=weight)
        figures["loss"] = self._model._compile_loss(y, predicted, weight) + penalty
        return {prefix + name: tf.cast(value, tf.float32) for name, value in figures.items()}

    def _epoch(self, data: tuple, valid: tuple | None) -> dict[str, tf.Tensor]:
        rows, size = keras.tree.flatten(data)[0].shape[0], self._batch_size
        full, rest = divmod(rows, size)
        unrolled = _UNROLLED if full >= 16 * _UNROLLED else 1
        outputs = self._model.outputs[0].shape[1:]

        def turn(i: tf.Tensor, kept: tf.TensorArray, penalties: tf.Tensor) -> tuple:
            for k in range(unrolled):
                predicted, penalty = self._step(*_slice(data, (i + k) * size, size))
                kept = kept.write(i + k, predicted)
                penalties += penalty * size
            return i + unrolled, kept, penalties

        kept = tf.TensorArray(tf.float32, size=full, element_shape=(size, *outputs))
        whole = full - full % unrolled
        state = (0, kept, tf.constant(0.0))
        if whole:
            state = tf.while_loop(lambda i, *_: i < whole, turn, state)
        for i in range(whole, full):
            predicted, penalty = self._step(*_slice(data, i * size, size))
            state = (i + 1, state[1].write(i, predicted), state[2] + penalty * size)
        parts = [tf.reshape(state[1].stack(), (full * size, *outputs))] if full else []
        penalties = state[2]
        if rest:
            predicted, penalty = self._step(*_slice(data, full * size, rest))
            parts.append(predicted)
            penalties += penalty * rest
        figures = self._figures(data, tf.concat(parts, 0), penalties / rows if self._has_penalty else tf.constant(0.0))
        if valid is not None:
            figures |= self._figures(valid, *self._predict(self._weights(), valid[0], training=False), prefix="val_")
        return figures

    def _epochs(self, data: tuple, valid: tuple | None, orders: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        names = list(self._names(valid is not None))

        def turn(e: tf.Tensor, *kept: tf.TensorArray) -> tuple:
            figures = self._epoch(_gather(data, orders[e]), valid)
            return e + 1, *(k.write(e, figures[name]) for k, name in zip(kept, names, strict=True))

        kept = tuple(tf.TensorArray(tf.float32, size=orders.shape[0], element_shape=()) for _ in names)
        _, *kept = tf.while_loop(lambda e, *_: e < count, turn, (0, *kept))
        return {name: k.stack() for name, k in zip(names, kept, strict=True)}

    def _names(self, has_validation: bool) -> Iterator[str]:
        names = ["loss", *(metric.name for metric, _ in compiled_metrics(self._model))]
        for prefix in ("", "val_") if has_validation else ("",):
            yield from (prefix + name for name in sorted(names))


# --- many seeds --------------------------------------------------------------------------------------

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


class SeedsProgram:
    """Many runs of a chain of Dense layers side by side, the run in the last axis of every array.

    Args:
        model: A built model for which `is_dense_chain` holds; the pattern for all runs.
        batch_size: Rows of a batch; the last one holds the remainder.
        runs: Number of runs; they are independent of each other.
        data: One batch, for its shapes.
    """

    def __init__(self, model: keras.Model, batch_size: int, runs: int, data: tuple) -> None:
        self._model = _twin(model, data)
        self._batch_size = batch_size
        self._runs = -(-runs // _LANES) * _LANES  # further runs cost nothing until the register is full
        self._variables = [keras.Variable(np.zeros((*v.shape, self._runs), np.float32)) for v in model.weights]
        self._optimizer = _like(model.optimizer, self._variables)
        self._fresh = [(v, v.numpy()) for v in self._optimizer.variables]
        self._loss = keras.losses.get(model.loss)
        self._has_penalty = any(
            layer.kernel_regularizer or layer.bias_regularizer for layer in _dense_layers(self._model)
        )
        self._run = _Compiled(self._epochs)

    @staticmethod
    def bytes_per_run(model: keras.Model, train: Rows, valid: Rows | None, batch_size: int) -> int:
        """Estimate the memory that one run needs, in bytes."""
        widths = [model.inputs[0].shape[-1], *(layer.units for layer in _dense_layers(model))]
        data = len(train) * (widths[0] + 2 * widths[-1] + 2)
        layers = sum(widths) * (3 * min(batch_size, len(train)) + (len(valid) if valid else 0))
        orders = min(_ENTRIES_AT_ONCE // 64, _EPOCHS_AT_ONCE * len(train))
        return 4 * (data + layers + 6 * model.count_params() + orders)

    def __call__(
        self,
        weights: list[np.ndarray],
        rates: np.ndarray | None,
        train: Rows,
        valid: Rows | None,
        orders: Iterator[np.ndarray],
        after_block: Callable[[int], None],
    ) -> dict[str, np.ndarray]:
        """Train all runs.

        Args:
            weights: For each of the model's weights, an array (…, runs) of initial values.
            rates: Learning rates, shape (runs,), or None where the optimizer follows a schedule.
            train: The training rows.
            valid: The validation rows.
            orders: For each epoch the orders of the rows, int32 of shape (rows, runs).
            after_block: Called with the number of epochs done since the last call.

        Returns:
            For each figure an array (epochs, runs).
        """
        runs = weights[0].shape[-1]

        def padded(array: np.ndarray) -> np.ndarray:
            return np.concatenate([array, np.repeat(array[..., -1:], self._runs - runs, axis=-1)], axis=-1)

        for variable, value in zip(self._variables, weights, strict=True):
            variable.assign(padded(value))
        for variable, value in self._fresh:
            variable.assign(value)
        rates = None if rates is None else padded(rates)
        logs = []
        for block, count in _chunks((padded(order) for order in orders), len(train) * self._runs):
            result = self._run(train.data, valid.data if valid else None, rates, block, count)
            logs.append({name: values.numpy()[:count, :runs] for name, values in result.items()})
            after_block(count)
        return {name: np.concatenate([log[name] for log in logs]) for name in logs[0]}

    def weights(self, runs: int) -> list[np.ndarray]:
        """Return the present weights of the first runs, the run in the first axis."""
        return [np.moveaxis(v.numpy()[..., :runs], -1, 0) for v in self._variables]

    def _predict(self, x: tf.Tensor) -> tf.Tensor:
        """Map features (rows, features, runs) to predictions (rows, runs, outputs)."""
        values = iter(self._variables)
        layers = [layer for layer in self._model.layers if not isinstance(layer, keras.layers.InputLayer)]
        for layer in layers:
            if isinstance(layer, keras.layers.Dense):
                x = _dense(x, next(values).value)
                if layer.use_bias:
                    x = x + next(values).value
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

    def _step(self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor | None, rates: tf.Tensor | None) -> tuple:
        values = [v.value for v in self._variables]
        with tf.GradientTape() as tape:
            tape.watch(values)
            predicted = self._predict(x)
            # The sum over runs has, for the weights of one run, that run's own gradient.
            loss = tf.reduce_sum(self._row_losses(y, predicted, weight)) / x.shape[0]
            penalty = self._penalty() if self._has_penalty else tf.zeros(self._runs)
            loss += tf.reduce_sum(penalty)
        gradients = self._optimizer._clip_gradients(tape.gradient(loss, values))
        rates = self._optimizer.learning_rate if rates is None else rates
        # What optimizer.apply does, but for the learning rate, which may differ from run to run.
        if self._optimizer.weight_decay is not None:
            for variable in self._variables:
                variable.assign(variable - variable * self._optimizer.weight_decay * rates)
        self._optimizer._backend_update_step(gradients, self._variables, rates)
        self._optimizer.iterations.assign_add(1)
        return predicted, penalty

    def _figures(
        self, y: tf.Tensor, predicted: tf.Tensor, weight: tf.Tensor | None, penalty: tf.Tensor, prefix: str = ""
    ) -> dict[str, tf.Tensor]:
        losses = self._row_losses(y, predicted, weight)
        figures = {"loss": tf.reduce_mean(losses, 0) + penalty}
        for metric, weighted in compiled_metrics(self._model):
            values = tf.cast(metric._fn(y, predicted, **metric._fn_kwargs), tf.float32)
            if values.shape.rank > 2:  # some functions leave the mean over outputs to the metric
                values = tf.reduce_mean(values, -1)
            if weighted and weight is not None:
                figures[metric.name] = tf.math.divide_no_nan(
                    tf.reduce_sum(values * weight, 0), tf.reduce_sum(weight + tf.zeros_like(values), 0)
                )
            else:
                figures[metric.name] = tf.reduce_mean(values, 0)
        return {prefix + name: value for name, value in figures.items()}

    def _epoch(self, data: tuple, valid: tuple | None, rates: tf.Tensor | None, order: tf.Tensor) -> dict:
        x, y, weight = data
        rows, size = x.shape[0], self._batch_size
        x = tf.transpose(tf.gather(x, order), [0, 2, 1])
        y = tf.gather(y if y.shape.rank > 1 else y[:, None], order)
        weight = None if weight is None else tf.gather(tf.reshape(weight, [-1]), order)
        full, rest = divmod(rows, size)
        outputs = self._model.outputs[0].shape[-1]

        def turn(i: tf.Tensor, kept: tf.TensorArray, penalties: tf.Tensor) -> tuple:
            predicted, penalty = self._step(*_slice((x, y, weight), i * size, size), rates)
            return i + 1, kept.write(i, predicted), penalties + penalty * size

        kept = tf.TensorArray(tf.float32, size=full, element_shape=(size, self._runs, outputs))
        penalties = tf.zeros(self._runs)
        parts = []
        if full:
            _, kept, penalties = tf.while_loop(lambda i, *_: i < full, turn, (0, kept, penalties))
            parts.append(tf.reshape(kept.stack(), (full * size, self._runs, outputs)))
        if rest:
            predicted, penalty = self._step(*_slice((x, y, weight), full * size, rest), rates)
            parts.append(predicted)
            penalties += penalty * rest
        figures = self._figures(y, tf.concat(parts, 0), weight, penalties / rows)
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
        names = ["loss", *(metric.name for metric, _ in compiled_metrics(self._model))]
        names += [f"val_{name}" for name in names if valid is not None]

        def turn(e: tf.Tensor, *kept: tf.TensorArray) -> tuple:
            figures = self._epoch(data, valid, rates, orders[e])
            return e + 1, *(k.write(e, figures[name]) for k, name in zip(kept, names, strict=True))

        kept = tuple(tf.TensorArray(tf.float32, size=orders.shape[0], element_shape=(self._runs,)) for _ in names)
        _, *kept = tf.while_loop(lambda e, *_: e < count, turn, (0, *kept))
        return {name: k.stack() for name, k in zip(names, kept, strict=True)}


def is_dense_chain(model: keras.Model) -> bool:
    """Whether `SeedsProgram` can train the model: Dense and Activation layers in a row, functions of Keras's."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    own = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)
    return (
        is_plain(model)
        and type(model) is keras.Sequential
        and len(model.inputs[0].shape) == 2
        and all(type(layer) in (keras.layers.Dense, keras.layers.Activation) for layer in layers)
        and all((layer.activation.__module__ or "").startswith("keras.") for layer in layers)
        and not any(getattr(layer, "lora_enabled", False) or layer.activity_regularizer for layer in layers)
        and all(
            regularizer is None or type(regularizer) in own
            for layer in _dense_layers(model)
            for regularizer in (layer.kernel_regularizer, layer.bias_regularizer)
        )
        and model._compile_loss._user_loss_weights is None
        and is_elementwise(model.optimizer)
        and has_default_reduction(model)
        and has_additive_metrics(model)
    )


def _dense_layers(model: keras.Model) -> list[keras.layers.Dense]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]


@tf.custom_gradient
def _dense(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Multiply (rows, inputs, runs) by (inputs, units, runs), run by run, to (rows, units, runs).

    Written as products and sums over axes other than the last, so that XLA runs through the last axis with
    whole vector registers; a matrix product run by run could not.
    """

    def backward(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        to_x = tf.reduce_sum(upstream[:, None] * kernel[None], 2)
        to_kernel = tf.reduce_sum(x[:, :, None] * upstream[:, None], 0)
        return to_x, to_kernel

    return tf.reduce_sum(x[:, :, None] * kernel[None], 1), backward
