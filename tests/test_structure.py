"""What tells models apart: no option of anything in Keras is invisible to the text by which programs are shared."""

import inspect
import warnings

import keras
import numpy as np
import pytest
from keras import layers

from batchlab.training import keras_internals
from batchlab.training.structure import structure
from batchlab.training.subject import Subject

KINDS = {
    "loss": (keras.losses, keras.Loss),
    "metric": (keras.metrics, keras.Metric),
    "layer": (keras.layers, keras.Layer),
    "regularizer": (keras.regularizers, keras.Regularizer),
    "constraint": (keras.constraints, keras.constraints.Constraint),
    "optimizer": (keras.optimizers, keras.Optimizer),
    "schedule": (keras.optimizers.schedules, keras.optimizers.schedules.LearningRateSchedule),
}
#: Of these no training step depends on the option.
NO_MATTER = {"name", "seed", "dtype", "trainable", "kwargs", "args", "batch_size", "input_dtype"}
#: What makes an object, where it needs something.
NEEDED = {
    "units": 3, "filters": 2, "kernel_size": 2, "input_dim": 5, "output_dim": 3, "n": 2, "dims": (2, 1), "rate": 0.3,
    "stddev": 0.2, "recall": 0.4, "precision": 0.4, "specificity": 0.4, "sensitivity": 0.4, "num_classes": 3,
    "target_class_ids": [0], "target_shape": (2,), "pool_size": 2, "num_heads": 2, "key_dim": 3, "head_dim": 3,
    "num_query_heads": 2, "num_key_value_heads": 1, "initial_learning_rate": 0.1, "decay_steps": 5, "decay_rate": 0.5,
    "boundaries": [2], "values": [0.1, 0.2], "first_decay_steps": 4, "learning_rate": 0.1,
}  # fmt: skip
#: Another value, where it does not follow from the default.
OTHER = {
    "activation": "tanh", "recurrent_activation": "tanh", "reduction": "sum", "axis": 1, "regularizer": "l2",
    "constraint": "non_neg", "threshold": 0.3, "thresholds": [0.2], "average": "macro", "ignore_class": 1,
    "weight_decay": 0.02, "clipnorm": 0.5, "clipvalue": 0.5, "global_clipnorm": 0.5, "curve": "PR",
    "summation_method": "minoring", "class_aggregation": "variance_weighted_average", "padding": "same",
    "strides": 3, "noise_shape": (None, 1), "implementation": 1, "bias_regularizer": "l2", "loss_scale_factor": 4.0,
    "gradient_accumulation_steps": 2, "ema_overwrite_frequency": 3, "alpha": 0.4, "class_weights": [1.0, 2.0],
    "label_weights": [0.5], "max_value": 0.7, "mode": "columns", "merge_mode": "sum", "interpolation": "nearest",
    "alpha_initializer": None, "shared_axes": [1], "num_labels": 2, "max_lr": 0.3, "warmup_target": 0.4,
}  # fmt: skip


def classes(kind):
    home, base = KINDS[kind]
    found = {}
    for name in sorted(dir(home)):
        one = getattr(home, name)
        if inspect.isclass(one) and issubclass(one, base) and one is not base and not inspect.isabstract(one):
            found.setdefault(one, name)
    return found


def parameters(one):
    """All options of a constructor, those that it passes on to Keras's bases too."""
    found = {}
    for ancestor in one.__mro__:
        if "__init__" not in vars(ancestor):
            continue
        own = inspect.signature(ancestor.__init__).parameters
        for name, parameter in own.items():
            if name != "self" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                found.setdefault(name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
            break
    return found


def another(name, default):
    """A value other than the default, or None if none is known."""
    for known, value in OTHER.items():
        if name == known or (name.endswith(f"_{known}") and known in ("regularizer", "constraint")):
            return value if value != default else None
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    if isinstance(default, float):
        return default / 2 + 0.01
    return None


def text_of(kind, one, options):
    made = one(
        **{name: NEEDED[name] for name in NEEDED if parameters(one).get(name) is inspect.Parameter.empty} | options
    )
    body, compiled = [layers.Dense(2)], {"optimizer": "sgd", "loss": "mse"}
    if kind == "layer":
        body = [made]
    elif kind in ("regularizer", "constraint"):
        body = [layers.Dense(2, **{f"kernel_{kind}": made})]
    elif kind == "schedule":
        compiled["optimizer"] = keras.optimizers.SGD(made)
    elif kind == "metric":
        compiled["metrics"] = [made]
    else:
        compiled[kind] = made
    model = keras.Sequential(body)
    model.compile(**compiled)
    return structure(model).text


@pytest.mark.parametrize("kind", KINDS)
def test_no_option_is_invisible(kind):
    tried, hidden = 0, []
    for one, name in classes(kind).items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                plain = text_of(kind, one, {})
        except (TypeError, ValueError, NotImplementedError):  # it needs what is not in the table, as wrappers do
            continue
        for option, default in parameters(one).items():
            value = None if option in NO_MATTER or option.endswith("initializer") else another(option, default)
            if (
                value is None
                or (option in NEEDED and kind != "optimizer")
                or (kind == "optimizer" and option == "learning_rate")
            ):
                continue
            try:
                changed = text_of(kind, one, {option: value})
            except (TypeError, ValueError, AssertionError):
                continue
            tried += 1
            if changed == plain:
                hidden.append(f"{name}.{option}={value!r}")
    # What Keras itself makes nothing of: some layers set `autocast` themselves, and one keeps no such regularizer.
    hidden = [one for one in hidden if not one.endswith(".autocast=False")]
    assert set(hidden) <= {"SimpleRNN.activity_regularizer='l2'"}
    assert (
        tried
        >= {"loss": 40, "metric": 50, "layer": 250, "regularizer": 5, "constraint": 5, "optimizer": 80, "schedule": 5}[
            kind
        ]
    )


def test_what_configurations_forget_today():
    """The program finds what was known, so it would find more."""
    forgotten = set()
    for one, name in classes("loss").items():
        for option, default in parameters(one).items():
            value = None if option in NO_MATTER else another(option, default)
            try:
                made = one(**{option: value}) if value is not None else None
                copy = made and type(made).from_config(made.get_config())
            except (TypeError, ValueError):
                continue
            if made and getattr(made, "_fn_kwargs", None) != getattr(copy, "_fn_kwargs", None):
                forgotten.add(f"{name}.{option}")
    assert {"Huber.delta", "CosineSimilarity.axis"} <= forgotten


# --- clones ------------------------------------------------------------------------------------------


def subject(change=lambda model: None, **compiled):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3, "tanh"), layers.Dropout(0.2), layers.Dense(1)])
    model.compile(**{"optimizer": "adam", "loss": "mse", "metrics": ["mae"], **compiled})
    batch = (np.zeros((4, 2), np.float32), np.zeros((4, 1), np.float32), None)
    keras_internals.build(model, batch)
    change(model)
    return Subject.of(model, batch)


def test_models_of_one_build_are_told_to_be_one():
    first, second = subject(), subject(optimizer=keras.optimizers.Adam(0.3))
    assert first.key == second.key
    assert first.shared
    copy = first.clone()
    assert copy.structure.text == first.structure.text
    assert len(copy.variables) == len(first.variables)
    assert not {*map(id, copy.variables)} & {*map(id, first.variables)}


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.layers[0], "activation", lambda x: x),
        lambda model: setattr(model.layers[0].kernel, "regularizer", keras.regularizers.L2(0.1)),
        lambda model: setattr(model.layers[0].kernel, "trainable", False),
        lambda model: setattr(model.layers[0], "note", np.arange(3)),
        lambda model: setattr(model.optimizer, "update_step", lambda *a: None),
        lambda model: (
            model.optimizer.exclude_from_weight_decay([model.layers[0].kernel])
            or setattr(model.optimizer, "weight_decay", 0.1)
        ),
    ],
    ids=["a function", "a regularizer", "a frozen weight", "an array", "a step", "excluded from decay"],
)
def test_what_no_configuration_tells_is_not_shared(change):
    changed = subject(change)
    assert changed.structure.text != subject().structure.text
    assert not changed.shared
    assert changed.clone() is changed
    assert changed.key != subject(change).key


def test_names_matter_where_data_are_given_by_name():
    def text(name, data):
        model = keras.Sequential([keras.Input((2,), name=name), layers.Dense(1)])
        model.compile("sgd", "mse")
        return structure(model, data).text

    assert text("a", np.zeros(2)) == text("b", np.zeros(2))
    assert text("a", {"a": np.zeros(2)}) != text("b", {"a": np.zeros(2)})
