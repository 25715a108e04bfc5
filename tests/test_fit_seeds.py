"""Runs of `fit_seeds` do not depend on each other; its frame, its weights, its distribution, and what it refuses."""

import importlib
import json
import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import keras
import keras_reference
import numpy as np
import pandas as pd
import pytest
from keras import initializers, layers, optimizers
from many_runs import (
    BUILDERS,
    FIGURES,
    ONE_BY_ONE,
    TOLERANCE,
    TRAIN_ROWS,
    WEIGHTS,
    X,
    Y,
    assert_run,
    differences,
    documented,
    drawn,
    on_every_core,
    runs,
    single_runs,
    stack,
)
from scipy import stats

import helpers
from batchlab import training
from batchlab.training import weights
from batchlab.training.fit_seeds import divergence_expected
from batchlab.training.programs.seeds import SeedsProgram
from batchlab.training.rows import Rows

# --- runs do not depend on each other ----------------------------------------------------------------


def test_a_seed_does_not_depend_on_its_company():
    with on_every_core():
        many, many_weights = runs(seeds=range(20), keep_weights=True)
    few, few_weights = runs(seeds=[13, 2], keep_weights=True)
    assert few["seed"].unique().tolist() == [13, 2]
    for position, seed in enumerate([13, 2]):
        alone, there = few[few["seed"] == seed], many[many["seed"] == seed]
        np.testing.assert_allclose(alone[FIGURES], there[FIGURES], rtol=0, atol=TOLERANCE)
        assert differences([w[position] for w in few_weights], [w[seed] for w in many_weights]) < TOLERANCE


def test_a_small_memory_budget_changes_nothing():
    whole, whole_weights = runs(seeds=7, keep_weights=True)
    with on_every_core():
        parts, part_weights = runs(seeds=7, keep_weights=True, memory_budget=1)
    pd.testing.assert_frame_equal(parts, whole, rtol=0, atol=TOLERANCE)
    assert differences(part_weights, whole_weights) < TOLERANCE


def test_the_memory_of_a_run_grows_with_what_each_row_gives():
    def growth(outputs):
        model = stack(layers.Dense(4), outputs=outputs)
        few, many = (Rows(np.zeros((rows, 2)), np.zeros(rows), None) for rows in (1000, 2000))
        return SeedsProgram.bytes_per_run(model, many, None, 1) - SeedsProgram.bytes_per_run(model, few, None, 1)

    assert growth(9) - growth(1) >= 1000 * 8 * 4  # eight more numbers a row, of four bytes each


def test_a_program_for_another_core_is_compiled_for_long_work_alone(monkeypatch):
    module, threads = importlib.import_module("batchlab.training.fit_seeds"), set()
    lease = module.lease
    monkeypatch.setattr(module, "lease", lambda *a, **n: threads.add(threading.get_ident()) or lease(*a, **n))
    monkeypatch.setattr(module, "cores", lambda: 2)
    runs(seeds=40)
    checking = threading.get_ident()  # the program is checked before a thread is begun
    assert len(threads - {checking}) == 1
    threads.clear()
    with on_every_core():
        runs(seeds=40)
    assert len(threads - {checking}) == 2


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


def test_who_expects_divergence_is_not_told_of_it_and_others_are():
    def diverge():
        # A network with bounded outputs may end in a large loss instead, as on Colab's versions.
        return runs(lambda: stack(head="linear", loss="mse"), seeds=2, learning_rates=[1e30], epochs=1)

    with divergence_expected(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert diverge()["loss"].isna().any()
    with divergence_expected(), ThreadPoolExecutor(1) as other, pytest.warns(UserWarning, match="became NaN"):
        other.submit(diverge).result()
    with pytest.warns(UserWarning, match="became NaN"):
        diverge()


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
    build = ONE_BY_ONE["constraint"][0]
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


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "float64"])
def test_many_seeds_are_drawn_together_as_each_alone(policy):
    kinds = [
        initializers.GlorotUniform(),
        initializers.HeNormal(),
        initializers.LecunUniform(seed=3),
        initializers.VarianceScaling(2, "fan_out", "untruncated_normal"),
        initializers.RandomUniform(-1, 2),
        initializers.RandomNormal(1, 0.3),
        initializers.TruncatedNormal(0, 0.2),
        initializers.Orthogonal(0.5),
        initializers.Identity(2),
        initializers.Constant(0.25),
        initializers.Ones(),
    ]
    model = stack(*(layers.Dense(3, kernel_initializer=kind, dtype=policy) for kind in kinds))
    seeds = [0, 7, 2**31 + 5, *range(100, 100 + weights._WORTH_A_PROGRAM)]
    together = weights.drawer(model)(seeds)
    for number in (0, 1, 2, -1):
        training.draw_weights(model, seeds[number])
        for variable, values in zip(model.variables, together, strict=True):
            assert values.dtype == variable.dtype
            np.testing.assert_array_equal(values[number], variable.numpy())


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


@pytest.mark.thorough
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
