"""What Keras keeps private and compiled training needs: the one file that touches it, a small function for each.

Every private name is read through `_read`, which says what is missing instead of guessing. A Keras that has moved a
name is then trained through `model.fit`: slower, and right.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras


class MissingInternalError(Exception):
    """This Keras lacks a private name that compiled training relies on."""


def _read(owner: object, name: str) -> Any:  # noqa: ANN401
    try:
        return getattr(owner, name)
    except AttributeError:
        raise MissingInternalError(
            f"this Keras ({keras.__version__}) has no {type(owner).__name__}.{name}, on which compiled training relies"
        ) from None


def build(model: keras.Model, data: tuple) -> None:
    """Create the variables of a compiled model, its optimizer and its metrics, from one batch of (x, y, weight).

    Public would be a `build` that reaches optimizer and metrics.
    """
    _read(model, "_symbolic_build")(data_batch=data)


def trained_by(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Return the variables that a built optimizer was built on."""
    return _read(optimizer, "_trainable_variables")


def compiled_loss(model: keras.Model) -> Callable:
    """Return the loss as compiled, of (y, predicted, weight). `compute_loss` is public, but adds `model.losses`."""
    return _read(model, "_compile_loss")


def only_loss(model: keras.Model) -> keras.losses.Loss | None:
    """Return the one loss object of a built model; None for several or a weighted one. `loss` may be but its name."""
    losses = _read(compiled_loss(model), "_flat_losses") if compiled_loss(model) else []
    if len(losses) != 1 or losses[0].loss_weights is not None:
        return None
    return losses[0].loss


def loss_function(loss: keras.losses.Loss) -> tuple[Callable | None, dict]:
    """Return the function of (y, predicted) that gives the loss of each row, and its options; None if it is no such."""
    function = getattr(loss, "fn", None)
    return function, _read(loss, "_fn_kwargs") if function else {}


def loss_tracker(model: keras.Model) -> keras.metrics.Metric:
    """Return the metric that averages the loss of the batches; `metrics` is public, but does not tell which it is."""
    return _read(model, "_loss_tracker")


def compiled_metrics(model: keras.Model) -> list[tuple[keras.metrics.Metric, bool]]:
    """Return the metrics of a built model, each with whether it takes the sample weights.

    `model.metrics` is public, but does not tell the weighted ones from the others.
    """
    compiled = _read(model, "_compile_metrics")
    if compiled is None:
        return []
    flat = [(_read(compiled, "_flat_metrics"), False), (_read(compiled, "_flat_weighted_metrics"), True)]
    return [(metric, weighted) for lists, weighted in flat for one in lists if one for metric in one.metrics]


def metric_function(metric: keras.metrics.MeanMetricWrapper) -> tuple[Callable, dict]:
    """Return the function of (y, predicted) whose mean a metric is, and its options; `get_config` only names it."""
    return _read(metric, "_fn"), _read(metric, "_fn_kwargs")


def maker(tensor: keras.KerasTensor) -> keras.Operation:
    """Return the layer that a symbolic tensor comes from."""
    return _read(tensor, "_keras_history").operation


def made_by(tensor: keras.KerasTensor) -> tuple[object, int]:
    """Return the call of a layer, a node of the graph, that made a symbolic tensor, and which of its outputs it is."""
    layer, call, output = _read(tensor, "_keras_history")
    return _read(layer, "_inbound_nodes")[call], output


def decays(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Whether weight decay reaches this variable; `exclude_from_weight_decay` is public, asking is not."""
    return bool(_read(optimizer, "_use_weight_decay")(variable))


def update(
    optimizer: keras.optimizers.Optimizer,
    gradients: list[Any],
    variables: list[keras.Variable],
    rate: Any,  # noqa: ANN401
) -> None:
    """Take the optimizer's bare step at this learning rate, which may be an array that broadcasts.

    `update_step` is public, but takes one variable, and Nadam does more than that once for all of them.
    """
    _read(optimizer, "_backend_update_step")(gradients, variables, rate)


def outputs(model: keras.Model) -> list[keras.KerasTensor]:
    """Return what the layers of a model make, as far as that is known before it is called."""
    called = [layer for layer in layers_of(model)[1:] if getattr(layer, "_inbound_nodes", None)]
    return keras.tree.flatten([[node.outputs for node in layer._inbound_nodes] for layer in called])


def resumed_epoch(model: keras.Model) -> int | None:
    """Return the epoch from which a callback, `BackupAndRestore`, wants the run to go on; there is no public name."""
    return _read(model, "_initial_epoch")


def show(callbacks: Sequence[keras.callbacks.Callback], model: Any) -> None:  # noqa: ANN401
    """Have callbacks see this as their model. `set_model` is public, but some begin anew with it."""
    for callback in callbacks:
        _read(callback, "_model")
        callback._model = model


def flat_call(function: Any) -> Callable | None:  # noqa: ANN401
    """Return a call of a traced function that takes its tensors in one list; None if this TensorFlow has none.

    The public call looks at the type of each argument anew, which takes longer than many a program.
    """
    call, captured = getattr(function, "_call_flat", None), function.captured_inputs
    return call and (lambda tensors: call(tensors, captured))


def converters_of_mapping() -> dict[str, Callable]:
    """Return what `tf.vectorized_map` makes of an operation of each kind, to be changed for a while.

    Raises:
        MissingInternalError: This TensorFlow keeps it elsewhere.
    """
    return _read(_mapping(), "_pfor_converter_registry")


def mapped_result(tensor: Any) -> Any:  # noqa: ANN401
    """Return as the result of such a function a tensor that differs from run to run, the run in the first axis."""
    return _read(_mapping(), "wrap")(tensor, is_stacked=True)


def _mapping() -> Any:  # noqa: ANN401
    try:
        return importlib.import_module("tensorflow.python.ops.parallel_for.pfor")
    except ImportError as error:
        raise MissingInternalError(f"this TensorFlow has no {error.name}") from None


def profiles_batches(callback: keras.callbacks.TensorBoard) -> bool:
    """Whether TensorBoard wants to profile single batches; `profile_batch` is not kept."""
    return bool(_read(callback, "_start_batch") or _read(callback, "_stop_batch"))


# --- found by looking at what an object holds, under whatever name ----------------------------------


def layers_of(model: keras.Model) -> list[keras.Layer]:
    """Return the model and every layer in it, each once. `model.layers` is public, but stops at the first level."""
    found: dict[int, keras.Layer] = {}
    waiting: list[keras.Layer] = [model]
    while waiting:
        layer = waiting.pop()
        if id(layer) not in found:
            found[id(layer)] = layer
            waiting += reversed(list(_held(vars(layer), keras.Layer)))
    return list(found.values())


def owners(model: keras.Model) -> dict[int, list[keras.Layer]]:
    """Return for the `id` of each variable the layers that hold it themselves, not through another layer."""
    found: dict[int, list[keras.Layer]] = {}
    for layer in layers_of(model):
        for variable in _held(vars(layer), keras.Variable):
            if layer not in (known := found.setdefault(id(variable), [])):
                known.append(layer)
    return found


def optimizer_state(
    optimizer: keras.optimizers.Optimizer, parameters: list[keras.Variable]
) -> tuple[list[keras.Variable], dict[str, list[keras.Variable]]]:
    """Split an optimizer's variables into scalars (iterations, learning rate, …) and slots.

    Args:
        optimizer: A built optimizer.
        parameters: The variables that it was built on.

    Returns:
        The scalars, and the slots by name: one variable for each parameter, in their order.

    Raises:
        MissingInternalError: An optimizer variable is neither, so its meaning is not known.
    """
    own = {id(variable) for variable in optimizer.variables}
    shapes = [tuple(variable.shape) for variable in parameters]
    slots = {
        name: list(value)
        for name, value in vars(optimizer).items()
        if isinstance(value, list)
        and all(isinstance(v, keras.Variable) and id(v) in own for v in value)
        and [tuple(v.shape) for v in value] == shapes
    }
    slotted = {id(v) for variables in slots.values() for v in variables}
    scalars = [v for v in optimizer.variables if id(v) not in slotted]
    if any(len(v.shape) for v in scalars):
        raise MissingInternalError(f"{type(optimizer).__name__} keeps variables that belong to no parameter")
    return scalars, slots


def _held(value: object, kind: type) -> Iterator[Any]:
    """Yield what of this kind is held directly or in containers, but not what a layer inside holds."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _held(item, kind)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _held(item, kind)
