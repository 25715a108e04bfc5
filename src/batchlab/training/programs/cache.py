"""Compiled programs, kept for the next model of the same structure, and lent to one user at a time. Never trains.

A program keeps its state in variables, so two threads must never be in one. `lease` hands out a program that nobody
else holds, and makes another one where all are in use.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import keras
import tensorflow as tf

from batchlab.training import keras_internals as internals
from batchlab.training.programs.device import device_for
from batchlab.training.rows import Rows

_KEPT = 64

_idle: OrderedDict[tuple, list] = OrderedDict()  # by key, the key used last at the end
_lock = threading.Lock()
# One at a time: Keras counts names for the whole process while a model is built, and TensorFlow the functions that it
# traces; both counts are part of the name under which XLA's own cache on disk knows a program.
_making = threading.Lock()


@contextmanager
def lease(kind: type, model: keras.Model, batch_size: int, train: Rows, valid: Rows | None, **extra: int) -> Iterator:
    """Lend a program of this kind that fits the model and the data, compiled already if one was used before.

    Args:
        kind: The class of the program.
        model: A built model; see `structure` for which others it stands for.
        batch_size: Rows of a batch.
        train: The training rows.
        valid: The validation rows.
        **extra: Further numbers that a program is made for.
    """
    what = structure(model)
    # A program that works on the user's own model runs where that model is.
    device = device_for(model, batch_size, **extra) if what[0] == "shared" else None
    key = (kind, what, device, batch_size, train.signature(), valid and valid.signature(), *extra.items())
    with _lock:
        waiting = _idle.get(key)
        program = waiting.pop() if waiting else None
    if program is None:
        with _making, tf.device(device):
            program = kind(model, batch_size, train, valid, **extra)
    try:
        yield program
    finally:
        with _lock:
            _idle.setdefault(key, []).append(program)
            _idle.move_to_end(key)
            while sum(map(len, _idle.values())) > _KEPT:
                oldest = next(iter(_idle))
                if _idle[oldest]:
                    _idle[oldest].pop(0)
                if not _idle[oldest]:
                    del _idle[oldest]


def is_shared(model: keras.Model) -> bool:
    """Whether other models of the same structure may use this model's programs."""
    return structure(model)[0] == "shared"


def structure(model: keras.Model) -> tuple:
    """Return a key that two models share only if one compiled program serves both.

    Names, initial values and the learning rate (a variable) do not matter. A model with functions or
    classes of the user's own has a key of its own: two functions can share a name. Its program holds the
    model, so that the `id` in the key cannot be given to another one meanwhile.
    """
    config = configuration(model, with_values=False)
    if config is None:
        trainable = tuple(layer.trainable for layer in internals.layers_of(model))
        return ("own", *map(id, held_with(model)), trainable)
    return ("shared", type(model).__name__, config)


def configuration(model: keras.Model, *, with_values: bool) -> str | None:
    """Return all that is configured of a built model as one text, the same in every process; None for code of its own.

    Args:
        model: The model, compiled.
        with_values: Whether its initializers and its learning rate are part of the text.
    """
    layers = internals.layers_of(model)
    try:
        if _has_hidden_state(model, layers):
            return None
        config = {"model": model.get_config(), "compiled": model.get_compile_config()}
        config["compiled"]["optimizer"]["config"].pop("name", None)  # counts up: rm_sprop, rm_sprop_1, …
        names = {}
        for layer in layers:
            names.setdefault(layer.name, f"#{len(names)}")
        return json.dumps(_scrubbed(config, names, with_values), sort_keys=True)
    except (_OwnCodeError, NotImplementedError, TypeError, KeyError):
        return None


def held_with(model: keras.Model) -> tuple:
    """Return what a program must hold so that the `id`s in an own structure stay taken."""
    metrics = [metric for metric, _ in internals.compiled_metrics(model)]
    return (model, model.optimizer, internals.compiled_loss(model), *metrics)


def twin(model: keras.Model, data: tuple) -> keras.Model:
    """Return a model of the same structure for a program to keep, so that no user's model is held or touched.

    A model with code of its own may not survive the copy; its program then works on the model itself.
    """
    if not is_shared(model):
        return model
    copy = type(model).from_config(model.get_config())
    copy.compile_from_config(model.get_compile_config())
    internals.build(copy, data)
    return copy


def _has_hidden_state(model: keras.Model, layers: list[keras.Layer]) -> bool:
    """Whether something that matters is neither in the configuration nor in a variable."""
    optimizer = model.optimizer
    metrics = [metric for metric, _ in internals.compiled_metrics(model)]
    functions = [value for layer in layers for value in vars(layer).values()]
    functions += keras.tree.flatten(model.loss)
    means = [metric for metric in metrics if isinstance(metric, keras.metrics.MeanMetricWrapper)]
    functions += [internals.metric_function(metric)[0] for metric in means]
    return (
        not all(type(layer).__module__.startswith("keras.") for layer in layers)
        or any(isinstance(f, FunctionType) and not f.__module__.startswith("keras.") for f in functions)
        or not all(type(metric).__module__.startswith("keras.") for metric in metrics)
        or any(hasattr(layer, "adapt") for layer in layers)  # keeps what it adapted to as constants
        or (
            optimizer.weight_decay is not None
            and not all(internals.decays(optimizer, variable) for variable in model.trainable_variables)
        )
    )


class _OwnCodeError(Exception):
    """The configuration names code that is not Keras's."""


_REFERENCES = ("name", "keras_history", "input_layers", "output_layers")


def _scrubbed(config: Any, names: dict[str, str], with_values: bool, key: str = "") -> Any:  # noqa: ANN401
    """Number the layers in place of names; without values drop initializers and rates, which no program depends on."""
    if isinstance(config, dict):
        if config.get("registered_name") or config.get("class_name") in ("function", "__lambda__", "Lambda"):
            raise _OwnCodeError
        return {
            name: _scrubbed(value, names, with_values, name)
            for name, value in config.items()
            if with_values
            or not (name.endswith("_initializer") or (name == "learning_rate" and isinstance(value, float)))
        }
    if isinstance(config, list | tuple):
        return [_scrubbed(value, names, with_values, key) for value in config]
    if isinstance(config, str) and key in _REFERENCES:
        return names.get(config, config)
    if callable(config):
        raise _OwnCodeError
    return config
