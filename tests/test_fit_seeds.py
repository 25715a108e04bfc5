"""`fit_seeds` against runs one by one: every seed's figures and weights, and the distribution over seeds.

The reference of equality is plain Keras where it is quick enough, and `fit` elsewhere, which `test_fit.py` compares
with Keras in its turn.
"""

import json
import re
import warnings
from pathlib import Path

import keras
import keras_reference
import numpy as np
import pandas as pd
import pytest
from keras import layers, optimizers
from scipy import stats

import helpers
from batchlab import training

ROOT = Path(__file__).resolve().parent.parent
X, Y = helpers.scale_features(helpers.load_ads(ROOT / "data" / "stand_in.csv"))
TRAIN_ROWS = 320  # of 400, with validation_split=0.2
THREE_CLASSES = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.8])
WEIGHTS = np.random.default_rng(5).uniform(0.2, 3, len(Y)).astype(np.float32)
FIGURES = ["loss", "accuracy", "val_loss", "val_accuracy"]
TOLERANCE = 1e-5


def documented(optimizer="rmsprop"):
    return helpers.build_model(optimizer=optimizer)


def stack(*inner, outputs=1, head="sigmoid", **compiled):
    model = keras.Sequential([keras.Input((2,)), *inner, layers.Dense(outputs, head)])
    model.compile(**{"optimizer": "rmsprop", "loss": "binary_crossentropy", "metrics": ["accuracy"], **compiled})
    return model


def runs(build=documented, x=X, y=Y, **arguments):
    return training.fit_seeds(
        build, x, y, **{"seeds": 3, "batch_size": 32, "epochs": 3, "validation_split": 0.2, **arguments}
    )


def drawn(build, seed):
    model = build()
    training.draw_weights(model, seed)
    return model


def single_runs(build, train=training.fit):
    """A function that trains one run from its seed, always on one model, put back to its beginning."""
    model = build()
    model.optimizer.build(model.trainable_variables)
    begin = [v.numpy() for v in model.optimizer.variables]

    def run(seed, x=X, y=Y, **arguments):
        training.draw_weights(model, seed)
        for variable, value in zip(model.optimizer.variables, begin, strict=True):
            variable.assign(value)
        arguments = {"batch_size": 32, "epochs": 3, "validation_split": 0.2, "seed": seed, **arguments}
        return train(model, x, y, **arguments).history, model.get_weights()

    return run


def differences(one, other):
    return max(np.abs(np.subtract(a, b)).max() for a, b in zip(one, other, strict=True))


def assert_run(frame, weights, position, seed, history, expected_weights, tolerance=TOLERANCE):
    """One run of a frame, and its weights, equal those of a run on its own."""
    rows = frame[frame["seed"] == seed]
    assert set(history) == set(frame.columns) - {"batch_size", "seed", "epoch", "updates", "learning_rate"}
    for name, values in history.items():
        np.testing.assert_allclose(rows[name], values, rtol=0, atol=tolerance, err_msg=f"seed {seed}, {name}")
    for kept, expected in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(kept[position], expected, rtol=0, atol=tolerance, err_msg=f"seed {seed}")


def assert_every_run(build, seeds=(0, 1, 2), **arguments):
    """All runs of `fit_seeds` equal runs of `fit`."""
    frame, weights = runs(build, seeds=list(seeds), keep_weights=True, **arguments)
    assert frame["seed"].unique().tolist() == list(seeds)
    run = single_runs(build)
    for position, seed in enumerate(seeds):
        history, expected = run(seed, **arguments)
        assert_run(frame, weights, position, seed, history, expected)
        assert differences(drawn(build, seed).get_weights(), expected) > 100 * TOLERANCE, "nothing was learned"
    assert differences([w[0] for w in weights], [w[1] for w in weights]) > 100 * TOLERANCE, "the runs are all alike"


# --- every seed equals Keras, or fit -----------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_run():
    """Plain Keras from the initial weights of a seed."""
    return single_runs(documented, lambda *data, seed, **arguments: data[0].fit(*data[1:], verbose=0, **arguments))


@pytest.mark.parametrize("batch_size", [1, 32, 250, TRAIN_ROWS])
def test_every_seed_equals_plain_keras_over_ten_epochs(plain_run, batch_size):
    seeds = [4, 0, 11]
    arguments = {"batch_size": batch_size, "epochs": 10, "shuffle": False}
    frame, weights = runs(seeds=seeds, keep_weights=True, **arguments)
    for position, seed in enumerate(seeds):
        assert_run(frame, weights, position, seed, *plain_run(seed, **arguments))


@pytest.mark.parametrize("batch_size", [1, 7, 32, 250, 1000])
def test_every_seed_equals_fit_with_its_shuffles(batch_size):
    assert_every_run(documented, batch_size=batch_size, epochs=5)


@pytest.mark.parametrize("number", [1, 2, 19])
def test_no_seed_is_lost_in_any_number_of_them(number):
    frame, weights = runs(seeds=number, keep_weights=True)
    assert frame["seed"].unique().tolist() == list(range(number))
    run = single_runs(documented)
    for seed in {0, 7, 8, number - 1} & set(range(number)):
        assert_run(frame, weights, seed, seed, *run(seed))


BUILDERS = {
    "sgd": lambda: documented(optimizers.SGD(0.05)),
    "momentum": lambda: documented(optimizers.SGD(0.02, momentum=0.9)),
    "nesterov": lambda: documented(optimizers.SGD(0.02, momentum=0.9, nesterov=True)),
    "adam": lambda: documented(optimizers.Adam(0.005)),
    "adamw": lambda: documented(optimizers.AdamW(0.005, weight_decay=0.05)),
    "schedule": lambda: documented(optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 10, 0.8))),
    "nadam": lambda: documented(optimizers.Nadam(0.005)),
    "adamax": lambda: documented(optimizers.Adamax(0.005)),
    "amsgrad": lambda: documented(optimizers.Adam(0.005, amsgrad=True)),
    "adagrad": lambda: documented(optimizers.Adagrad(0.05)),
    "centered rmsprop with momentum": lambda: documented(optimizers.RMSprop(centered=True, momentum=0.5)),
    "clipvalue": lambda: documented(optimizers.SGD(0.1, clipvalue=0.003)),
    "l2": lambda: stack(layers.Dense(6, "relu", kernel_regularizer="l2"), layers.Dense(4, "elu")),
    "no hidden layer": lambda: stack(optimizer=optimizers.SGD(0.1)),
    # Functions over the units, which must not run over the runs.
    "softmax inside": lambda: stack(layers.Dense(6, "softmax")),
    "log_softmax inside": lambda: stack(layers.Dense(6, "log_softmax")),
    "normalised exponentials in a layer": lambda: stack(layers.Dense(6), layers.Activation("softmax")),
    "weighted loss": lambda: stack(layers.Dense(6, "relu"), loss_weights=[0.3], optimizer=optimizers.SGD(0.1)),
    "no bias": lambda: stack(layers.Dense(6, "tanh", use_bias=False)),
    "from logits": lambda: stack(layers.Dense(6, "selu"), head=None, loss=keras.losses.BinaryCrossentropy(True)),
    "separate activation": lambda: stack(layers.Dense(6), layers.Activation("relu")),
}
# Trained one after the other.
ONE_BY_ONE = {
    # Its norm is that of one run's layer: over all runs at once it would tie them together.
    "clipnorm": lambda: documented(optimizers.SGD(0.1, clipnorm=0.05)),
    "global_clipnorm": lambda: documented(optimizers.SGD(0.1, global_clipnorm=0.05)),
    "constraint": lambda: stack(layers.Dense(6, "relu", kernel_constraint=keras.constraints.MaxNorm(0.5))),
    "activity regularizer": lambda: stack(layers.Dense(6, "relu", activity_regularizer="l2")),
    "sum over the batch": lambda: stack(loss=keras.losses.BinaryCrossentropy(reduction="sum"), optimizer="sgd"),
    "area under the curve": lambda: stack(layers.Dense(6, "relu"), metrics=[keras.metrics.AUC(name="auc")]),
    "normalised": lambda: stack(layers.Dense(6), layers.BatchNormalization(), layers.ReLU()),
    "with dropout": lambda: stack(layers.Dense(12, "relu"), layers.Dropout(0.4)),
    "residual": lambda: residual(),
}


def residual():
    inputs = keras.Input((2,))
    hidden = layers.Dense(4, "relu")(inputs)
    hidden = layers.Add()([hidden, layers.Dense(4, "tanh")(hidden)])
    model = keras.Model(inputs, layers.Dense(1, "sigmoid")(hidden))
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.parametrize("build", BUILDERS)
def test_optimizers_and_models(build):
    assert_every_run(BUILDERS[build])


@pytest.mark.parametrize("build", ONE_BY_ONE)
def test_what_is_trained_one_after_the_other(build):
    assert_every_run(ONE_BY_ONE[build], seeds=(0, 1), epochs=2)


def test_several_classes():
    def build():
        return stack(layers.Dense(8, "tanh"), outputs=3, head="softmax", loss="categorical_crossentropy")

    assert_every_run(build, y=keras.utils.to_categorical(THREE_CLASSES))


def test_several_classes_by_number():
    def build():
        return stack(layers.Dense(8, "tanh"), outputs=3, head="softmax", loss="sparse_categorical_crossentropy")

    assert_every_run(build, y=THREE_CLASSES)


def test_mean_squared_error():
    def build():
        return stack(layers.Dense(8, "tanh"), head="linear", loss="mse", metrics=["mae"])

    assert_every_run(build, y=(X @ [1.0, 2.0]).astype(np.float32))


@pytest.mark.parametrize(
    "weighted",
    [
        {"sample_weight": WEIGHTS},
        {"sample_weight": WEIGHTS[:, None]},
        {"sample_weight": WEIGHTS.astype(int)},
        {"build": lambda: stack(layers.Dense(6), weighted_metrics=["mae"]), "sample_weight": WEIGHTS},
        {"class_weight": {0: 0.5, 1: 3.0}},
        {"validation_data": (X[:90], Y[:90], WEIGHTS[:90])},
        {"validation_split": 0.0},
    ],
    ids=[
        "sample weights",
        "sample weights in a column",
        "whole sample weights",
        "weighted metrics",
        "class weights",
        "validation data",
        "no validation",
    ],
)
def test_weights_and_validation(weighted):
    assert_every_run(**{"build": documented, **weighted})


@pytest.mark.parametrize(
    ("x", "features"),
    [((10 * X).round().astype(np.int32), 2), (X.astype(np.float64), 2), (X[:, 0], 1)],
    ids=["whole numbers", "double precision", "one feature without a second axis"],
)
def test_kinds_of_features(x, features):
    def build():
        return helpers.build_model(features=features)

    frame, weights = runs(build, x=x, y=Y.astype(bool), seeds=2, keep_weights=True)
    run = single_runs(build)
    for seed in range(2):
        assert_run(frame, weights, seed, seed, *run(seed, x, Y.astype(bool)))


def test_more_epochs_than_one_call_of_a_program_holds():
    def build():
        return documented(optimizers.SGD(0.05))

    frame, weights = runs(build, seeds=2, batch_size=400, epochs=600, keep_weights=True)
    assert_run(frame, weights, 1, 1, *single_runs(build)(1, batch_size=400, epochs=600))


# --- runs do not depend on each other ----------------------------------------------------------------


def test_a_seed_does_not_depend_on_its_company():
    many, many_weights = runs(seeds=range(20), keep_weights=True)
    few, few_weights = runs(seeds=[13, 2], keep_weights=True)
    assert few["seed"].unique().tolist() == [13, 2]
    for position, seed in enumerate([13, 2]):
        alone, there = few[few["seed"] == seed], many[many["seed"] == seed]
        np.testing.assert_allclose(alone[FIGURES], there[FIGURES], rtol=0, atol=TOLERANCE)
        assert differences([w[position] for w in few_weights], [w[seed] for w in many_weights]) < TOLERANCE


def test_a_small_memory_budget_changes_nothing():
    whole, whole_weights = runs(seeds=7, keep_weights=True)
    parts, part_weights = runs(seeds=7, keep_weights=True, memory_budget=1)
    pd.testing.assert_frame_equal(parts, whole, rtol=0, atol=TOLERANCE)
    assert differences(part_weights, whole_weights) < TOLERANCE


def test_a_failed_seed_leaves_the_others_alone():
    def build():
        return stack(layers.Dense(3, "linear"), head="linear", loss="mse", optimizer=optimizers.SGD(0.05))

    small = drawn(build, 0).get_weights()
    assert np.isfinite(runs(build, seeds=2, initial_weights=small)["loss"]).all()
    with pytest.warns(UserWarning, match="NaN"):
        frame = runs(build, seeds=3, learning_rates=[0.01, 1e9], batch_size=8)
    calm = frame[frame["learning_rate"] < 1]
    alone = runs(build, seeds=3, learning_rates=[0.01], batch_size=8)
    np.testing.assert_allclose(calm[["loss", "val_loss"]], alone[["loss", "val_loss"]], rtol=0, atol=TOLERANCE)


def test_losses_that_become_nan_are_reported_in_one_warning():
    def build():
        return stack(head="linear", loss="mse", optimizer=optimizers.SGD(1e9))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = runs(build, seeds=4, batch_size=1)
    assert frame["loss"].isna().all()
    (message,) = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    assert re.search(r"(?i)nan.*\b4 of 4\b.*epoch 1\b", message)


def test_several_learning_rates_equal_separate_runs():
    rates = [0.002, 0.03]
    together, weights = runs(lambda: documented("sgd"), learning_rates=rates, keep_weights=True)
    assert list(together.columns[:3]) == ["batch_size", "learning_rate", "seed"]
    assert together["learning_rate"].unique().tolist() == pytest.approx(rates)
    assert [len(w) for w in weights] == [6] * 6
    for i, rate in enumerate(rates):
        part = together[np.isclose(together["learning_rate"], rate)]
        assert part["seed"].unique().tolist() == [0, 1, 2]
        run = single_runs(lambda rate=rate: documented(optimizers.SGD(rate)))
        for seed in range(3):
            assert_run(part, weights, 3 * i + seed, seed, *run(seed))


def test_several_learning_rates_one_after_another():
    build = ONE_BY_ONE["normalised"]
    frame = runs(build, seeds=2, epochs=2, learning_rates=[0.001, 0.05])
    assert len(frame) == 8
    for rate in (0.001, 0.05):

        def own(rate=rate):
            model = build()
            model.optimizer.learning_rate = rate
            return model

        part = frame[np.isclose(frame["learning_rate"], rate) & (frame["seed"] == 1)]
        np.testing.assert_allclose(part["loss"], single_runs(own)(1, epochs=2)[0]["loss"], rtol=0, atol=TOLERANCE)


def test_given_initial_weights_serve_all_runs():
    given = drawn(documented, 99).get_weights()
    same, weights = runs(initial_weights=given, shuffle=False, keep_weights=True)
    assert same.groupby("epoch")["loss"].agg(np.ptp).max() < TOLERANCE
    model = documented()
    model.set_weights(given)
    history = training.fit(model, X, Y, batch_size=32, epochs=3, validation_split=0.2, shuffle=False)
    assert_run(same, weights, 2, 2, history.history, model.get_weights())
    shuffled = runs(initial_weights=given)
    assert shuffled.groupby("epoch")["loss"].agg(np.ptp).min() > 100 * TOLERANCE


def test_repeating_gives_the_same_bits():
    pd.testing.assert_frame_equal(runs(seeds=4), runs(seeds=4), check_exact=True)


# --- the frame ---------------------------------------------------------------------------------------


def test_columns_kinds_and_order():
    frame = runs(seeds=[7, 3], epochs=2, batch_size=250)
    assert list(frame.columns) == ["batch_size", "seed", "epoch", "updates", *FIGURES]
    assert frame[["seed", "epoch", "updates"]].to_numpy().tolist() == [[7, 1, 2], [7, 2, 4], [3, 1, 2], [3, 2, 4]]
    kinds = {name: frame[name].dtype.kind for name in frame}
    assert kinds == dict.fromkeys(["batch_size", "seed", "epoch", "updates"], "i") | dict.fromkeys(FIGURES, "f")
    assert frame.index.equals(pd.RangeIndex(4))


def test_without_validation_there_are_no_validation_columns():
    assert list(runs(validation_split=0.0).columns) == ["batch_size", "seed", "epoch", "updates", "loss", "accuracy"]


def test_seeds_may_be_an_array():
    assert runs(seeds=np.array([5, 1]))["seed"].unique().tolist() == [5, 1]


def test_kept_weights_have_the_runs_in_front():
    frame, weights = runs(seeds=5, keep_weights=True)
    assert isinstance(frame, pd.DataFrame)
    assert [w.shape for w in weights] == [(5, *w.shape) for w in documented().get_weights()]
    model = documented()
    model.set_weights([w[4] for w in weights])
    loss, _ = model.evaluate(X[TRAIN_ROWS:], Y[TRAIN_ROWS:], verbose=0)
    assert loss == pytest.approx(frame[frame["seed"] == 4]["val_loss"].iloc[-1], abs=TOLERANCE)


def test_quiet_unless_asked(capfd):
    runs()
    assert capfd.readouterr() == ("", "")
    runs(verbose=1)
    assert capfd.readouterr().out.strip()


def test_the_documented_model_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        runs()


# --- initial weights ---------------------------------------------------------------------------------


def test_drawn_weights_depend_on_the_seed_alone():
    model = helpers.build_model(seed=5)  # its initializers hold seeds of their own
    training.draw_weights(model, 3)
    first = model.get_weights()
    training.draw_weights(model, 4)
    assert differences(first, model.get_weights()) > 0.1
    keras.utils.set_random_seed(1)
    model.fit(X, Y, epochs=1, verbose=0)
    training.draw_weights(model, 3)
    assert differences(first, model.get_weights()) == 0
    assert differences(first, drawn(documented, 3).get_weights()) == 0


def test_drawn_weights_follow_the_initializers():
    def build():
        wide = layers.Dense(300, kernel_initializer=keras.initializers.RandomNormal(2, 0.5), bias_initializer="ones")
        return stack(wide, layers.Dense(300), layers.BatchNormalization())

    model = drawn(build, 0)
    normal, ones, glorot, zeros = model.get_weights()[:4]
    assert stats.kstest(normal.ravel(), stats.norm(2, 0.5).cdf).pvalue > 0.001
    limit = np.sqrt(6 / 600)
    assert stats.kstest(glorot.ravel(), stats.uniform(-limit, 2 * limit).cdf).pvalue > 0.001
    assert (ones == 1).all()
    assert (zeros == 0).all()
    assert [w.mean() for w in model.get_weights()[4:8]] == [1, 0, 0, 1]  # gamma, beta, moving mean and variance


def test_layers_of_one_shape_are_drawn_apart():
    first, _, second, *_ = drawn(lambda: stack(layers.Dense(2), layers.Dense(2)), 0).get_weights()
    assert np.abs(first - second).min() > 0


def test_neighbouring_seeds_are_independent():
    weights = np.array([np.concatenate([w.ravel() for w in drawn(documented, s).get_weights()]) for s in range(60)])
    weights = weights[:, weights.std(axis=0) > 0]  # without biases: 130 kernels
    correlations = np.corrcoef(weights)[np.triu_indices(60, 1)] * np.sqrt(weights.shape[1])
    assert 0.9 < correlations.std() < 1.1
    assert np.abs(correlations).max() < 5


# --- distribution ------------------------------------------------------------------------------------

OUR_RUNS, EPOCHS, LEVEL = 192, keras_reference.EPOCHS, 0.001
SORTED_X, SORTED_Y = keras_reference.data()


@pytest.fixture(scope="module")
def plain_figures():
    """Final figures of plain Keras: its own initial weights, its own shuffles."""
    figures = json.loads(keras_reference.REFERENCE.read_text(encoding="utf-8"))["figures"]
    assert sorted(figures) == sorted(FIGURES)
    assert {len(values) for values in figures.values()} == {keras_reference.RUNS}
    return figures


def test_the_reference_is_what_keras_gives_now(plain_figures):
    part = range(17, 20)
    now = keras_reference.plain_runs(part)
    for name in FIGURES:
        # A row of 320 or of 80 may cross the threshold where versions round differently.
        tolerance = 1 / 80 + 1e-6 if "accuracy" in name else 1e-4
        assert now[name] == pytest.approx(plain_figures[name][part.start : part.stop], abs=tolerance), name


def our_figures(build=documented, **arguments):
    frame = training.fit_seeds(
        build,
        SORTED_X,
        SORTED_Y,
        **{"seeds": OUR_RUNS, "batch_size": 32, "epochs": EPOCHS, "validation_split": 0.2, **arguments},
    )
    return frame[frame["epoch"] == EPOCHS]


def p_value(ours, plain, figure):
    """Two-sample Kolmogorov-Smirnov: how likely so large a gap is if both come from one distribution."""
    return stats.ks_2samp(ours[figure], plain[figure]).pvalue


@pytest.mark.parametrize("figure", FIGURES)
def test_final_figures_are_distributed_as_in_keras(plain_figures, figure):
    assert p_value(our_figures(), plain_figures, figure) > LEVEL


@pytest.mark.parametrize(
    "wrong",
    [
        {"shuffle": False},
        {"build": lambda: documented(optimizers.RMSprop(0.002))},
        {"seeds": 1 + np.arange(OUR_RUNS), "initial_weights": drawn(documented, 0).get_weights()},
    ],
    ids=["unshuffled", "twice the learning rate", "one initialisation for all"],
)
def test_the_comparison_notices_what_is_wrong(plain_figures, wrong):
    ours = our_figures(**wrong)
    assert min(p_value(ours, plain_figures, figure) for figure in ("loss", "val_loss")) < LEVEL


# --- bad arguments -----------------------------------------------------------------------------------

ILL_TYPED = (TypeError, ValueError)
BAD_ARGUMENTS = {
    "no seeds": ({"seeds": []}, ValueError, "seeds"),
    "0 seeds": ({"seeds": 0}, ValueError, "seeds"),
    "-1 seeds": ({"seeds": -1}, ValueError, "seeds"),
    "2.5 seeds": ({"seeds": 2.5}, ILL_TYPED, r"seeds.*2\.5"),
    "True seeds": ({"seeds": True}, ILL_TYPED, "seeds.*True"),
    "a seed twice": ({"seeds": [3, 5, 3]}, ValueError, "seeds"),
    "a negative seed": ({"seeds": [3, -5]}, ValueError, "seeds.*-5"),
    "half a seed": ({"seeds": [1, 0.5]}, ILL_TYPED, r"seeds.*0\.5"),
    "seeds as text": ({"seeds": "12"}, ILL_TYPED, "seeds"),
    "batch size 0": ({"batch_size": 0}, ValueError, "batch_size.*0"),
    "batch size 2.5": ({"batch_size": 2.5}, ILL_TYPED, r"batch_size.*2\.5"),
    "epochs 0": ({"epochs": 0}, ValueError, "epochs.*0"),
    "no learning rates": ({"learning_rates": []}, ValueError, "learning_rates"),
    "negative learning rate": ({"learning_rates": [0.1, -0.1]}, ValueError, r"learning_rates.*-0\.1"),
    "learning rate NaN": ({"learning_rates": [np.nan]}, ValueError, "(?i)learning_rates.*nan"),
    "learning rate True": ({"learning_rates": [0.1, True]}, TypeError, "learning_rates.*True"),
    "learning rate as digits": ({"learning_rates": ["0.1"]}, TypeError, r"learning_rates.*'0\.1'"),
    "a bare learning rate": ({"learning_rates": 0.1}, ILL_TYPED, "learning_rates"),
    "a bare text": ({"learning_rates": "12"}, ILL_TYPED, "learning_rates"),
    "a misspelt argument": ({"epoch": 3}, TypeError, "epoch"),
    "learning rate as text": ({"learning_rates": ["fast"]}, ILL_TYPED, "fast"),
    "a learning rate twice": ({"learning_rates": [0.1, 0.1]}, ValueError, "learning_rates"),
    "rates and a schedule": (
        {"build_model": BUILDERS["schedule"], "learning_rates": [0.1]},
        ValueError,
        "learning_rates.*schedule",
    ),
    "initial weights of another model": ({"initial_weights": [np.zeros((3, 3))]}, ValueError, "initial_weights"),
    "NaN in initial weights": (
        {"initial_weights": [np.nan * w for w in documented().get_weights()]},
        ValueError,
        "(?i)initial_weights.*nan",
    ),
    "short targets": ({"y": Y[:-1]}, ValueError, "400.*399|399.*400"),
    "NaN in x": ({"x": np.where(np.arange(800).reshape(400, 2) == 35, np.nan, X)}, ValueError, "(?i)x.*nan.*17"),
    "empty validation part": ({"validation_split": 1e-20}, ValueError, "validation_split"),
    "two kinds of weights": ({"sample_weight": WEIGHTS, "class_weight": {0: 2.0}}, ValueError, "class_weight"),
    "uncompiled": (
        {"build_model": lambda: keras.Sequential([keras.Input((2,)), layers.Dense(1)])},
        ValueError,
        r"compile\(\)",
    ),
    "a model for a function": (
        {"build_model": documented()},
        TypeError,
        "`build_model` is a Sequential; give a function",
    ),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments_are_refused_before_anything_is_traced(monkeypatch, case):
    bad, error, message = BAD_ARGUMENTS[case]
    traced = []
    own = keras.optimizers.RMSprop.update_step
    monkeypatch.setattr(keras.optimizers.RMSprop, "update_step", lambda *a: traced.append(1) or own(*a))
    arguments = {"build_model": documented, "x": X, "y": Y, "seeds": 2, "batch_size": 9, "epochs": 2, **bad}
    with pytest.raises(error, match=message):
        training.fit_seeds(arguments.pop("build_model"), arguments.pop("x"), arguments.pop("y"), **arguments)
    assert not traced


def test_runs_can_share_the_shuffles_of_one_seed():
    frame, weights = runs(seeds=[3, 5], shuffle_seed=9, keep_weights=True)
    model = drawn(documented, 5)
    history = training.fit(model, X, Y, batch_size=32, epochs=3, validation_split=0.2, seed=9)
    assert_run(frame, weights, 1, 5, history.history, model.get_weights())
    own = runs(seeds=[3, 5])
    assert not np.allclose(own["loss"], frame["loss"], atol=TOLERANCE)
