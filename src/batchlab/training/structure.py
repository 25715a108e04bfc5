"""All on which a training step of a model depends, as one text: what is found in the live objects, not in their config.

`get_config()` forgets: options (`Huber.delta`), what was set after building (a regularizer of one weight), functions
put on an instance. So the objects themselves are walked, attribute by attribute. What a step cannot depend on is left
out by name; whatever else is found is part of the text, known or not. In doubt two models are thus told apart.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from batchlab.training import keras_internals as internals


@dataclass(frozen=True)
class Structure:
    """What decides a model's training step, apart from the values of its variables.

    Attributes:
        text: Equal for two models only if one compiled step serves both.
        variables: All variables that were found, in the order of the text: weights, state, metrics, the optimizer's.
        foreign: What only its identity describes, as code that is not Keras's. It has to be kept alive as long as the
            text is used, which holds its `id`.
    """

    text: str
    variables: tuple[keras.Variable, ...]
    foreign: tuple[object, ...]


def structure(model: keras.Model, *data: Any) -> Structure:  # noqa: ANN401
    """Describe a built and compiled model by all that a training step of it depends on.

    Names, initial values and the learning rate (a variable) do not matter. Names of inputs and outputs do where data
    are given by name.

    Args:
        model: The model.
        *data: What it is trained on; only the dicts in it matter.
    """
    return _Walk(model, _has_names(data)).result()


#: Attributes on which no training step depends, whatever object has them.
_NO_MATTER = frozenset(
    """
    _tracker _tracked _saved_model_inputs_spec _saved_model_arg_spec _auto_config _compile_config _lock
    _path _parent_path _called _build_shapes_dict build quantize _losses _loss_ids _losses_override _call_signature
    history train_function test_function predict_function stop_training stop_evaluating stop_predicting
    _initial_epoch _eval_epoch_iterator _compiled_trainable_state _trainable_variables_indices
    _jit_compile jit_compile steps_per_execution unrolled_steps_per_execution supports_jit _distribution_strategy
    _initial_seed seed _initializer _default_value _nodes _operations_by_depth _inbound_nodes _outbound_nodes
    outputs parent_nodes _unique_id _record_history _manual_input_spec
    _y_pred_build_structure _y_true_build_structure
    _exclude_from_weight_decay _exclude_from_weight_decay_pattern _exclude_from_weight_decay_cache
    """.split()  # noqa: SIM905
)
_NAMED = (
    keras.Operation,
    keras.Variable,
    keras.KerasTensor,
    keras.optimizers.Optimizer,
    keras.random.SeedGenerator,
)  # by automatic names
_WALKED = (keras.Operation, keras.Metric, keras.optimizers.Optimizer, keras.Loss)
#: Of these it does not matter whether two users have one or two that are alike.
_STATELESS = (
    keras.DTypePolicy,
    keras.InputSpec,
    keras.Regularizer,
    keras.constraints.Constraint,
    keras.Loss,
    keras.optimizers.schedules.LearningRateSchedule,
)
_NAMES = frozenset({"name", "_name"})
_VALUE = frozenset({"_value"})
_PLAIN = frozenset({bool, int, float, type(None)})
_VALUES = (bool, int, float, complex, bytes, type(None), type(Ellipsis))


class _Walk:
    """One pass over everything that can be reached from a model, each object once, in the order in which it is met."""

    def __init__(self, model: keras.Model, named_data: bool) -> None:
        self._parts: list[str] = [_global_settings()]
        self._met: dict[int, int] = {}
        self._waiting: deque[object] = deque()
        self._variables: list[keras.Variable] = []
        self._foreign: list[object] = []
        self._kept: list[object] = []  # temporary objects, so that no `id` is given twice
        self._model = model
        self._all_names = _goes_by_names(model.optimizer)
        outputs = list(map(internals.maker, getattr(model, "outputs", None) or ()))
        inputs = map(internals.maker, getattr(model, "inputs", None) or ())
        self._ends = set(map(id, [*inputs, *outputs])) if named_data else set()
        # An output's name begins those of its own loss and metrics.
        self._stands_for = {} if named_data else {one.name: f"<output {i}>" for i, one in enumerate(outputs)}

    def result(self) -> Structure:
        self._parts.append(self._token(self._model))
        optimizer = self._model.optimizer
        if getattr(optimizer, "weight_decay", None) is not None:  # asked, in place of ids and names of the variables
            self._parts.append(str([internals.decays(optimizer, v) for v in self._model.trainable_variables]))
        while self._waiting:
            self._parts.append(self._described(self._waiting.popleft()))
        return Structure("\n".join(self._parts), tuple(self._variables), tuple(self._foreign))

    def _token(self, value: Any) -> str:  # noqa: ANN401
        """Describe a value; an object by its number, its attributes follow later."""
        kind = type(value)
        form = _form(kind)
        if form == "value":
            return repr(value)
        if form == "text":
            return repr(self._without_output(value) if self._stands_for else value)
        if form == "list":
            return "[" + ",".join(map(self._token, value)) + "]"
        if form == "tuple":
            return "(" + ",".join(map(self._token, value)) + ")"
        if form == "dict" or (form == "other" and isinstance(value, dict)):  # TensorFlow wraps some of them
            return "{" + ",".join(f"{self._token(k)}:{self._token(v)}" for k, v in value.items()) + "}"
        if form == "object":
            return self._numbered(value)
        if form == "stateless":
            return f"<{self._described(value)}>"
        if form == "set":
            return "set" + str(sorted(map(self._token, value)))
        if form == "initializer":
            return form
        if isinstance(value, type):
            return _public(value) or self._by_identity(value)
        if isinstance(value, functools.partial):
            return f"partial{self._token((value.func, value.args, value.keywords))}"
        if inspect.ismethod(value):
            return f"method{self._token((value.__func__, value.__self__))}"
        if callable(value) and hasattr(value, "__qualname__"):
            return _public(value) or self._by_identity(value)
        if isinstance(value, np.ndarray | np.generic | tf.Tensor):
            return self._array(value)
        if isinstance(value, tf.DType | tf.TensorShape | np.dtype):
            return repr(value)
        if inspect.ismodule(value):
            return value.__name__
        foreign = self._by_identity(value)
        return foreign + self._numbered(value) if isinstance(value, _WALKED) else foreign

    def _without_output(self, text: str) -> str:
        for name, place in self._stands_for.items():
            if text == name or text.startswith(f"{name}_"):
                return place + text[len(name) :]
        return text

    def _array(self, value: Any) -> str:  # noqa: ANN401
        if isinstance(value, tf.Tensor) and not hasattr(value, "numpy"):  # a symbol of a graph
            return self._by_identity(value)
        array = np.ascontiguousarray(value)
        if array.dtype.kind not in "biufc":
            return self._by_identity(value)
        return f"array{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"

    def _numbered(self, value: object) -> str:
        number = self._met.get(id(value))
        if number is None:
            number = self._met[id(value)] = len(self._met)
            self._waiting.append(value)
            self._kept.append(value)
            if isinstance(value, keras.Variable):
                self._variables.append(value)
        return f"#{number}"

    def _by_identity(self, value: object) -> str:
        self._foreign.append(value)
        return f"foreign{id(value)}"

    def _described(self, value: object) -> str:
        kind = type(value)
        attributes = vars(value) if hasattr(value, "__dict__") else {}
        named = self._all_names or id(value) in self._ends
        title, fields = _fields(kind, tuple(attributes), named)
        parts = [f"{self._met.get(id(value), '')} {title}"]
        for name, begin in fields:
            held = attributes[name]
            if type(held) in _PLAIN:  # most are, and `fit` waits for this walk at every call
                parts.append(f"{begin}{held!r}")
                continue
            if name == "_keras_history":  # by the call that made it: a layer may have been called elsewhere before
                held = internals.made_by(value)
            parts.append(begin + self._token(held))
        return " ".join(parts)


def _global_settings() -> str:
    """Return what Keras and TensorFlow read while a step is traced."""
    config = keras.config
    policy = config.dtype_policy().name
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    return f"{config.floatx()} {config.epsilon()} {config.image_data_format()} {policy} {tf32}"


def _goes_by_names(optimizer: object) -> bool:
    """Whether an optimizer knows variables by their names, as those that treat some of them differently do."""
    return any(
        isinstance(value, list | tuple | set) and any(isinstance(item, str) for item in value)
        for name, value in vars(optimizer).items()
        if name not in _NO_MATTER and not name.startswith("_self_")
    )


def _has_names(tree: Any) -> bool:  # noqa: ANN401
    return isinstance(tree, dict) or (isinstance(tree, list | tuple) and any(map(_has_names, tree)))


@functools.lru_cache(4096)
def _fields(kind: type, names: tuple[str, ...], named: bool) -> tuple[str, list[tuple[str, str]]]:
    """Return the name of a type, and which attributes of an object of it matter: each with what it begins in the text.

    Args:
        kind: The type.
        names: All attributes of the object.
        named: Whether its own name matters.
    """
    without = frozenset() if named or not issubclass(kind, _NAMED) else _NAMES
    without |= _VALUE if issubclass(kind, keras.Variable) else frozenset()
    matter = [
        name for name in sorted(names) if not (name in _NO_MATTER or name in without or name.startswith("_self_"))
    ]
    return f"{kind.__module__}.{kind.__qualname__}", [(name, f"{name}=") for name in matter]


@functools.lru_cache(1024)
def _form(kind: type) -> str:
    """Say how values of a type are described; "other" where that depends on the value."""
    if kind is str:
        return "text"
    for form, kinds in (
        ("value", _VALUES),
        ("dict", dict),
        ("list", list),
        ("tuple", tuple),
        ("set", (set, frozenset)),
        ("initializer", keras.Initializer),
    ):
        if issubclass(kind, kinds):
            return form
    if kind.__module__.split(".")[0] not in ("keras", "batchlab"):
        return "other"
    # What `compile` makes of losses keeps metrics.
    return "stateless" if issubclass(kind, _STATELESS) and kind.__name__ != "CompileLoss" else "object"


@functools.lru_cache(1024)
def _public(value: Callable) -> str | None:
    """Return the full name of a function or class of Keras, TensorFlow or ours that is found under it; else None."""
    module, name = getattr(value, "__module__", None) or "", getattr(value, "__qualname__", "")
    if module.split(".")[0] not in ("keras", "tensorflow", "batchlab", "builtins"):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}.{name}" if found is value else None
