"""Models, data and arguments drawn by hypothesis, and what `fit` owes each of them.

A case is plain data, so that a failure can be read and repeated. With `shuffle=False` and equal weights `fit` has to
give what `model.fit` gives, or hand the run over in words.
"""

import warnings

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from keras import layers
from twins import spy_on_model_fit

from batchlab import training

ROWS = 44
TOLERANCE = 1e-5
#: For tests. The same cases every time, and no smaller ones looked for: a failure prints its case, and `make fuzz`
#: makes it small.
DRAWN = {
    "deadline": None,
    "derandomize": True,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}

some = st.sampled_from


def options(**choices):
    """A dict of options, each absent or one of its choices."""
    return st.fixed_dictionaries({}, optional={name: some(values) for name, values in choices.items()})


def named(*pairs):
    """One of these classes by name, with options."""
    return st.one_of(*(st.tuples(st.just(name), drawn) for name, drawn in pairs))


# --- what a model is made of -------------------------------------------------------------------------

REGULARIZERS = named(
    ("L1", options(l1=[0.003])),
    ("L2", options(l2=[0.02])),
    ("L1L2", options(l1=[0.002], l2=[0.01])),
    ("OrthogonalRegularizer", options(factor=[0.02], mode=["rows", "columns"])),
)
CONSTRAINTS = named(
    ("MaxNorm", options(max_value=[0.6], axis=[0, 1])),
    ("NonNeg", st.just({})),
    ("UnitNorm", options(axis=[0, 1])),
    ("MinMaxNorm", options(min_value=[0.2], max_value=[0.7], rate=[0.5], axis=[0, 1])),
)
SMOOTH = ["tanh", "sigmoid", "elu", "softplus", "gelu", "silu", "linear"]
DENSE = st.fixed_dictionaries(
    {"units": some([3, 5]), "activation": some([*SMOOTH, "relu", "softmax"])},
    optional={
        "use_bias": st.just(False),
        "kernel_regularizer": REGULARIZERS,
        "bias_regularizer": named(("L2", options(l2=[0.02]))),
        "activity_regularizer": named(("L2", options(l2=[0.02]))),
        "kernel_constraint": CONSTRAINTS,
    },
)
HIDDEN = st.one_of(
    st.tuples(st.just("Dense"), DENSE),
    st.tuples(st.just("LayerNormalization"), options(epsilon=[0.01], center=[False], scale=[False])),
    st.tuples(st.just("BatchNormalization"), options(momentum=[0.7], epsilon=[0.05], center=[False], scale=[False])),
    st.tuples(st.just("UnitNormalization"), st.just({})),
    st.tuples(some(["Dropout", "GaussianDropout", "AlphaDropout"]), some([{"rate": 0.2}, {"rate": 0.4, "seed": 3}])),
    st.tuples(st.just("GaussianNoise"), some([{"stddev": 0.3}])),
    st.tuples(st.just("LeakyReLU"), options(negative_slope=[0.3])),
    st.tuples(st.just("ELU"), options(alpha=[0.5])),
    st.tuples(st.just("Activation"), st.fixed_dictionaries({"activation": some(SMOOTH)})),
)
#: By the shape of a row: what turns it into a vector.
FIRST = {
    "table": st.just([]),
    "sequence": st.one_of(
        st.tuples(named(("Masking", options(mask_value=[0.0])), ("Activation", st.just({"activation": "linear"}))),
                  named(("LSTM", st.just({"units": 3})), ("GRU", st.just({"units": 3})),
                        ("SimpleRNN", st.just({"units": 3})), ("GlobalAveragePooling1D", st.just({})))).map(list),
        st.tuples(named(("Conv1D", st.just({"filters": 2, "kernel_size": 2}))), named(("Flatten", st.just({})))
                  ).map(list),
    ),
    "tokens": st.tuples(
        named(("Embedding", options(mask_zero=[True]).map(lambda o: {"input_dim": 6, "output_dim": 3, **o}))),
        named(("GlobalAveragePooling1D", st.just({})), ("GRU", st.just({"units": 3}))),
    ).map(list),
    "image": st.tuples(
        named(("Conv2D", st.just({"filters": 2, "kernel_size": 3}))),
        named(("MaxPooling2D", st.just({})), ("AveragePooling2D", st.just({"pool_size": 2}))),
        named(("Flatten", st.just({}))),
    ).map(list),
}  # fmt: skip
REDUCTION = {"reduction": ["sum", "mean", "mean_with_sample_weight", "sum_over_batch_size"]}
#: By the kind of target: heads, losses, metrics.
BINARY_LOSSES = named(
    ("BinaryCrossentropy", options(label_smoothing=[0.1], from_logits=[True, False], **REDUCTION)),
    ("BinaryFocalCrossentropy", options(gamma=[1.5], alpha=[0.3], apply_class_balancing=[True], label_smoothing=[0.1])),
    ("MeanSquaredError", options(**REDUCTION)),
    ("MeanAbsoluteError", options(**REDUCTION)),
    ("Huber", options(delta=[0.3], **REDUCTION)),
    ("LogCosh", options(**REDUCTION)),
    ("Hinge", options(**REDUCTION)),
    ("SquaredHinge", st.just({})),
    ("Poisson", st.just({})),
    ("Dice", options(axis=[(0,), None])),
    ("Tversky", options(alpha=[0.3], beta=[0.7])),
)
CLASS_LOSSES = named(
    ("CategoricalCrossentropy", options(label_smoothing=[0.1], from_logits=[True, False], **REDUCTION)),
    ("CategoricalFocalCrossentropy", options(alpha=[0.4], gamma=[1.5], label_smoothing=[0.1])),
    ("CategoricalHinge", st.just({})),
    ("KLDivergence", st.just({})),
    ("CosineSimilarity", options(axis=[-1, 0], **REDUCTION)),
)
INDEX_LOSSES = named(
    ("SparseCategoricalCrossentropy", options(from_logits=[True, False], ignore_class=[0], **REDUCTION)),
    ("Circle", options(gamma=[2.0], margin=[0.2])),
    ("CategoricalGeneralizedCrossEntropy", options(q=[0.3])),
)
NUMBER_LOSSES = named(
    ("MeanSquaredError", options(**REDUCTION)),
    ("MeanAbsoluteError", st.just({})),
    ("MeanAbsolutePercentageError", st.just({})),
    ("MeanSquaredLogarithmicError", st.just({})),
    ("Huber", options(delta=[0.3, 2.0], **REDUCTION)),
    ("LogCosh", st.just({})),
    ("CosineSimilarity", options(axis=[-1, 0])),
)
TARGETS = {
    "binary": (BINARY_LOSSES, 1, ["sigmoid", "linear", "tanh"]),
    "one-hot": (CLASS_LOSSES, 3, ["softmax", "linear", "sigmoid"]),
    "index": (INDEX_LOSSES, 3, ["softmax", "linear"]),
    "numbers": (NUMBER_LOSSES, 2, ["linear", "softplus"]),
}
METRICS = {
    "binary": named(
        ("BinaryAccuracy", options(threshold=[0.3])),
        ("BinaryCrossentropy", options(from_logits=[True], label_smoothing=[0.1])),
        ("AUC", options(num_thresholds=[20], curve=["PR"], summation_method=["minoring"])),
        ("Precision", options(thresholds=[0.4])),
        ("Recall", options(thresholds=[[0.3, 0.6]])),
        ("TruePositives", st.just({})),
        ("FalseNegatives", options(thresholds=[0.2])),
        ("MeanSquaredError", st.just({})),
        ("Hinge", st.just({})),
        ("R2Score", st.just({})),
        ("PrecisionAtRecall", st.just({"recall": 0.5, "num_thresholds": 20})),
    ),
    "one-hot": named(
        ("CategoricalAccuracy", st.just({})),
        ("TopKCategoricalAccuracy", options(k=[2])),
        ("CategoricalCrossentropy", options(label_smoothing=[0.1])),
        ("CosineSimilarity", options(axis=[-1, 0])),
        ("F1Score", options(average=[None, "macro", "micro"], threshold=[0.4])),
        ("FBetaScore", options(average=["weighted"], beta=[2.0])),
        ("OneHotMeanIoU", st.just({"num_classes": 3})),
        ("KLDivergence", st.just({})),
    ),
    "index": named(
        ("SparseCategoricalAccuracy", st.just({})),
        ("SparseTopKCategoricalAccuracy", options(k=[2])),
        ("SparseCategoricalCrossentropy", options(from_logits=[True])),
    ),
    "numbers": named(
        ("MeanAbsoluteError", st.just({})),
        ("RootMeanSquaredError", st.just({})),
        ("LogCoshError", st.just({})),
        ("MeanAbsolutePercentageError", st.just({})),
        ("R2Score", options(class_aggregation=["variance_weighted_average"])),
        ("CosineSimilarity", options(axis=[-1])),
    ),
}  # fmt: skip
EVERY = dict(  # noqa: C408
    clipvalue=[0.05], clipnorm=[0.3], global_clipnorm=[0.3], use_ema=[True], weight_decay=[0.02],
    gradient_accumulation_steps=[2], loss_scale_factor=[4.0],
)  # fmt: skip
OPTIMIZERS = named(
    ("SGD", options(momentum=[0.5], nesterov=[True], **EVERY)),
    ("RMSprop", options(rho=[0.7], momentum=[0.4], centered=[True], **EVERY).map(lambda o: {"epsilon": 0.01, **o})),
    ("Adam", options(beta_1=[0.7], beta_2=[0.9], amsgrad=[True], **EVERY).map(lambda o: {"epsilon": 0.01, **o})),
    ("AdamW", options(beta_1=[0.7], **EVERY).map(lambda o: {"epsilon": 0.01, **o})),
    ("Adamax", options(beta_2=[0.9], **EVERY).map(lambda o: {"epsilon": 0.01, **o})),
    ("Nadam", options(beta_1=[0.7], **EVERY).map(lambda o: {"epsilon": 0.01, **o})),
    ("Adagrad", options(initial_accumulator_value=[0.3], **EVERY)),
    ("Adadelta", options(rho=[0.8], **EVERY).map(lambda o: {"epsilon": 0.01, **o})),
    ("Ftrl", options(l1_regularization_strength=[0.001], l2_regularization_strength=[0.01], beta=[0.1])),
    ("Adafactor", st.just({})),
)
LATER = named(  # what is set after building, before compile
    ("frozen layer", st.just({})),
    ("frozen weight", st.just({})),
    ("regularizer of a weight", st.just({})),
    ("constraint of a weight", st.just({})),
)
X_FORMS = some(["float32", "float64", "int64", "bool", "big-endian", "strided", "fortran", "frame", "dict"])
Y_FORMS = some(["as is", "column", "series", "frame", "int32", "float64", "bool", "big-endian"])


def _with_head(kind):
    loss, outputs, heads = TARGETS[kind]
    return st.fixed_dictionaries(
        {
            "target": st.just(kind),
            "outputs": st.just(outputs),
            "head": some(heads),
            "loss": loss,
            "metrics": st.lists(METRICS[kind], max_size=3),
            "weighted_metrics": st.lists(METRICS[kind], max_size=1),
        }
    ).map(_sensible)


def _sensible(end):
    """Give a loss of probabilities a head that has them: at the ends of [0, 1] they lose all digits but one."""
    (name, chosen), heads = end["loss"], {"binary": "sigmoid", "one-hot": "softmax", "index": "softmax"}
    of_probabilities = any(word in name for word in ("rossentropy", "CrossEntropy", "Poisson", "Divergence"))
    if of_probabilities and not chosen.get("from_logits") and end["target"] in heads:
        return end | {"head": heads[end["target"]]}
    return end


def _row(kind):
    return st.fixed_dictionaries({"row": st.just(kind), "first": FIRST[kind]})


CASES = st.fixed_dictionaries(
    {
        "rows": st.one_of(*map(_row, ["table", "table", "table", "sequence", "tokens", "image"])),
        "hidden": st.lists(HIDDEN, max_size=3),
        "end": st.one_of(*map(_with_head, TARGETS)),
        "optimizer": OPTIMIZERS,
        "rate": some([0.003, 0.02]),
        "schedule": some([False, False, False, True]),
        "functional": st.booleans(),
        "second": some([None, None, None, "list", "dict"]),  # a second input and output, and how the data name them
        "later": st.lists(LATER, max_size=1),
        "x": X_FORMS,
        "y": Y_FORMS,
        "weights": some([None, None, "array", "column", "classes"]),
        "validation": some([None, "split", "split", "data"]),
        "batch_size": some([7, 11, 16, 64]),
        "callback": some([None, None, "early stopping", "rate"]),
        "numbers": st.integers(0, 9),
    }
)


#: Of many runs: half of them chains of dense layers.
MANY = st.fixed_dictionaries(
    {
        "rows": st.one_of(*map(_row, ["table", "table", "table", "sequence", "image"])),
        "hidden": st.one_of(
            st.lists(st.tuples(st.just("Dense"), DENSE), max_size=2), st.lists(HIDDEN, min_size=1, max_size=2)
        ),
        "end": st.one_of(*map(_with_head, TARGETS)),
        "optimizer": OPTIMIZERS,
        "rate": some([0.003, 0.02]),
        "schedule": some([False, False, True]),
        "functional": st.just(False),
        "second": st.none(),
        "later": st.just([]),
        "x": some(["float32", "float64", "int64", "bool", "fortran"]),
        "y": Y_FORMS,
        "weights": some([None, None, "array", "classes"]),
        "validation": some([None, "split", "data"]),
        "batch_size": some([7, 16, 64]),
        "callback": st.none(),
        "numbers": st.integers(0, 9),
    }
)


# --- made of it --------------------------------------------------------------------------------------


def built(home, pair):
    """What a pair of a name and options stands for."""
    name, chosen = pair
    inner = {
        key: built(keras.constraints if key.endswith("constraint") else keras.regularizers, value)
        for key, value in chosen.items()
        if key.endswith(("regularizer", "constraint"))
    }
    return getattr(home, name)(**chosen | inner)


def model_of(case):
    """A compiled model; the same weights on every call."""
    keras.utils.clear_session(free_memory=False)  # metrics, whose names are part of the history, are counted anew
    keras.utils.set_random_seed(case["numbers"])
    end, rows = case["end"], case["rows"]
    shape = {"table": (3,), "sequence": (4, 2), "tokens": (4,), "image": (6, 6, 1)}[rows["row"]]
    inner = [built(layers, pair) for pair in [*rows["first"], *case["hidden"]]]
    head = layers.Dense(end["outputs"], end["head"])
    inputs = keras.Input(shape, name="features")
    if case["functional"] or case["second"]:
        hidden = inputs
        for layer in inner:
            hidden = layer(hidden)
        if case["second"]:
            others = keras.Input((2,), name="others")
            hidden = layers.Concatenate()([hidden, others])
            head.name = "first"
            outputs = {"first": head(hidden), "second": layers.Dense(1, name="second")(hidden)}
            inputs = {"features": inputs, "others": others}
            model = keras.Model(together(case, inputs), together(case, outputs))
        else:
            model = keras.Model(inputs, head(hidden))
    else:
        model = keras.Sequential([inputs, *inner, head])
    for what, _ in case["later"]:
        layer = next((one for one in [*inner, head] if one.trainable_weights), head)
        if what == "frozen layer":
            layer.trainable = len(inner) == 0 or layer is head
        elif what == "frozen weight":
            layer.trainable_weights[-1].trainable = False
        elif what == "regularizer of a weight":
            layer.trainable_weights[0].regularizer = keras.regularizers.L2(0.05)
        else:
            layer.trainable_weights[0].constraint = keras.constraints.MaxNorm(0.5)
    name, chosen = case["optimizer"]
    clips = [option for option in ("clipnorm", "clipvalue", "global_clipnorm") if option in chosen]
    chosen = {option: value for option, value in chosen.items() if option not in clips[1:]}
    if chosen.get("nesterov") and not chosen.get("momentum"):
        chosen["momentum"] = 0.5
    rate = case["rate"]
    if case["schedule"]:
        rate = keras.optimizers.schedules.ExponentialDecay(rate, 3, 0.8)
    loss = built(keras.losses, end["loss"])
    measured = [built(keras.metrics, pair) for pair in end["metrics"]]
    weighted = [built(keras.metrics, pair) for pair in end["weighted_metrics"]]
    if case["second"]:
        loss = together(case, {"first": loss, "second": "mse"})
        measured = together(case, {"first": measured, "second": ["mae"]})
        weighted = together(case, {"first": weighted, "second": []})
    model.compile(getattr(keras.optimizers, name)(rate, **chosen), loss, metrics=measured, weighted_metrics=weighted)
    return model


def together(case, parts):
    """The parts of a model with two of them, by name or in a list."""
    return parts if case["second"] == "dict" else list(parts.values())


def data_of(case):
    """Features, targets and the further arguments of `fit`."""
    generator = np.random.default_rng(case["numbers"])
    row, kind = case["rows"]["row"], case["end"]["target"]
    shape = {"table": (3,), "sequence": (4, 2), "tokens": (4,), "image": (6, 6, 1)}[row]
    x = generator.normal(size=(ROWS, *shape)).astype(np.float32)
    if row == "sequence":
        x[: ROWS // 2, 2:] = 0
    if row == "tokens":
        x = generator.integers(0, 6, size=(ROWS, *shape)).astype(np.float32)
    score = x.reshape(ROWS, -1)[:, :3].sum(axis=1)
    classes = np.digitize(score, np.quantile(score, [0.3, 0.7]))
    y = {
        "binary": (score > np.median(score)).astype(np.float32),
        "one-hot": np.eye(3, dtype=np.float32)[classes],
        "index": classes.astype(np.float32),
        "numbers": np.abs(np.stack([score, score**2], 1)).astype(np.float32) + 0.5,
    }[kind]
    arguments = {"batch_size": case["batch_size"], "epochs": 3, "shuffle": False}
    weights = generator.uniform(0.2, 2, ROWS).astype(np.float32)
    if case["weights"] == "classes" and kind != "numbers" and not case["second"]:
        arguments["class_weight"] = {0: 0.5, 1: 2.0}
    elif case["weights"] is not None:
        arguments["sample_weight"] = weights[:, None] if case["weights"] == "column" else weights
    if case["validation"] == "split":
        arguments["validation_split"] = 0.3
    if not case["second"]:
        if case["validation"] == "data":
            arguments["validation_data"] = (in_form(x[:17] + 0.1, case["x"]), in_form(y[:17], case["y"]))
        return in_form(x, case["x"]), in_form(y, case["y"]), arguments
    form = "float64" if case["x"] in ("dict", "frame") else case["x"]
    others = generator.normal(size=(ROWS, 2)).astype(np.float32)
    x = together(case, {"features": in_form(x, form), "others": others})
    y = together(case, {"first": in_form(y, case["y"]), "second": pd.Series(score)})
    if case["validation"] == "data":
        arguments["validation_data"] = (x, y)
    return x, y, arguments


def in_form(array, form):
    """The same numbers in another form, where it can hold them."""
    whole = np.array_equal(array, np.rint(array))
    if form == "frame" and array.ndim == 2:
        return pd.DataFrame(array, index=np.arange(len(array))[::-1])
    if form == "series" and array.ndim == 1:
        return pd.Series(array, index=np.arange(len(array))[::-1])
    if form == "column" and array.ndim == 1:
        return array[:, None]
    if form == "dict":
        return {"features": array}
    if form == "strided":
        return np.repeat(array, 2, axis=0)[::2]
    if form == "fortran":
        return np.asfortranarray(array)
    if form == "big-endian":
        return array.astype(">f4")
    if form in ("int32", "int64"):
        return np.rint(array).astype(form)
    if form == "bool":
        return array > 0.5 if whole or array.ndim > 1 else array
    return array.astype("float64") if form == "float64" else array


def callbacks_of(case):
    """Callbacks of one run."""
    if case["callback"] == "early stopping":
        return [keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True, start_from_epoch=0)]
    if case["callback"] == "rate" and not case["schedule"]:
        return [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.7)]
    return None


# --- what is owed ------------------------------------------------------------------------------------


def plainly(case, moved=0.0, by_xla=False):
    """What `model.fit` gives, from weights that are moved by this share."""
    x, y, arguments = data_of(case)
    model = model_of(case)
    model.jit_compile = by_xla
    for weight in model.weights if moved else ():
        if "float" in weight.dtype:
            weight.assign(weight * (1 + moved * np.sign(np.cos(np.arange(weight.numpy().size)).reshape(weight.shape))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = model.fit(x, y, verbose=0, callbacks=callbacks_of(case), **arguments).history
    return results(model, history)


def results(model, history):
    """All figures by name, and all state.

    But for the losses of single outputs, which Keras averages otherwise where the last batch is smaller.
    """
    variables = [*model.variables, *model.optimizer.variables]
    single = {f"{part}{name}_loss" for part in ("", "val_") for name in ("first", "second")}
    history = {name: values for name, values in history.items() if name not in single}
    return history | {f"variable {i}": v.numpy().astype(float) for i, v in enumerate(variables)}


def hold(case):
    """Train both ways and compare all figures and all state.

    Returns:
        What was said of a hand-over, or why nothing could be compared; None if both are equal.
    """
    x, y, arguments = data_of(case)
    try:
        expected = plainly(case)
    except tf.errors.OpError as error:  # found in the data, in the middle of a step: XLA has no such checks
        return f"Keras fails in its graph: {type(error).__name__}"
    except Exception as error:  # what Keras refuses we need not serve, but neither may we train it
        with pytest.raises(Exception), warnings.catch_warnings():  # noqa: B017
            warnings.simplefilter("ignore")
            training.fit(model_of(case), x, y, callbacks=callbacks_of(case), **arguments)
        return f"Keras refuses: {type(error).__name__}"
    model = model_of(case)
    with spy_on_model_fit() as seen:
        history = training.fit(model, x, y, callbacks=callbacks_of(case), **arguments).history
    said = [text for text in seen.warnings if "Training with keras.Model.fit" in text]
    assert len(said) == seen.calls <= 1, seen.warnings
    found = results(model, history)
    assert list(found) == list(expected), (list(found), list(expected))
    if np.isnan(expected["loss"]).any():
        np.testing.assert_array_equal(np.isnan(found["loss"]), np.isnan(expected["loss"]))
        return "the loss became NaN"
    if np.isnan(found["loss"]).any():
        np.testing.assert_array_equal(np.isnan(found["loss"]), np.isnan(plainly(case, by_xla=True)["loss"]))
        return "XLA gives NaN, in Keras's compiled steps too"
    off = [distance(a, b) for a, b in zip(found.values(), expected.values(), strict=True)]
    if max(off) > TOLERANCE:
        # Is it the engine, or do these numbers blow up rounding, so that Keras differs from itself as much?
        itself = [distance(a, b) for a, b in zip(plainly(case, 1e-6).values(), expected.values(), strict=True)]
        worst = int(np.argmax(off))
        assert max(itself) > off[worst] / 4, f"{list(expected)[worst]}: {off[worst]:.2g}, and Keras {max(itself):.2g}"
        return "rounding is blown up"
    return said[0] if said else None


def hold_runs(case):
    """Train two seeds with `fit_seeds`, and the second of them with `model.fit`; compare all figures and weights.

    Returns:
        Why the runs went one after the other, or why nothing could be compared; None if they lay side by side.
    """
    x, y, arguments = data_of(case)
    model = model_of(case)
    model.jit_compile = False  # XLA draws other numbers
    try:
        training.draw_weights(model, 1)
    except ValueError as error:
        assert "has no initializer to draw it from" in str(error)
        return "a weight cannot be drawn"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            expected = model.fit(x, y, verbose=0, **arguments).history
        except Exception as error:
            return f"Keras refuses: {type(error).__name__}"
        if any(np.ndim(values) > 1 for values in expected.values()):
            return "a metric of several numbers"
        frame, weights = training.fit_seeds(lambda: model_of(case), x, y, seeds=2, keep_weights=True, **arguments)
    rows = frame[frame["seed"] == 1]
    if np.isnan(expected["loss"]).any() or rows["loss"].isna().any():
        return "a loss became NaN"
    off = [distance(rows[name], values) for name, values in expected.items()]
    off += [distance(one[1], value) for one, value in zip(weights, model.get_weights(), strict=True)]
    if max(off) >= 3 * TOLERANCE:
        moved = model_of(case)
        moved.jit_compile = False
        training.draw_weights(moved, 1)
        for variable in moved.trainable_variables:
            variable.assign(variable * (1 + 1e-6))
        again = moved.fit(x, y, verbose=0, **arguments).history
        itself = [distance(again[name], values) for name, values in expected.items()]
        itself += [distance(*pair) for pair in zip(moved.get_weights(), model.get_weights(), strict=True)]
        assert max(itself) > max(off) / 4, (off, itself, list(expected))
        return "rounding is blown up"
    said = [str(w.message) for w in caught if "one after the other" in str(w.message)]
    return said[0].partition(": ")[2] if said else None


def distance(ours, theirs):
    """How far two arrays are apart at most, relative to the largest entry if that is above 1."""
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if np.array_equal(ours, theirs, equal_nan=True):
        return 0.0
    far = np.abs(ours - theirs).max()
    return np.inf if np.isnan(far) else far / max(1.0, np.abs(theirs).max())
