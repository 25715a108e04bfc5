"""Every run of `fit_seeds` equals plain Keras where that is quick enough, and `fit` elsewhere; see `many_runs`."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers
from many_runs import (
    THREE_CLASSES,
    TRAIN_ROWS,
    WEIGHTS,
    X,
    Y,
    assert_every_run,
    assert_run,
    documented,
    on_every_core,
    runs,
    single_runs,
    stack,
)

import helpers
from batchlab.training.programs.seeds import _dense as dense

# --- every seed equals Keras, or fit -----------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_run():
    """Plain Keras from the initial weights of a seed."""
    return single_runs(documented, lambda *data, seed, **arguments: data[0].fit(*data[1:], verbose=0, **arguments))


@pytest.mark.parametrize(
    "batch_size",
    [pytest.param(size, marks=[] if size == 32 else pytest.mark.thorough) for size in (1, 32, 250, TRAIN_ROWS)],
)
def test_every_seed_equals_plain_keras_over_ten_epochs(plain_run, batch_size):
    seeds = [4, 0, 11]
    arguments = {"batch_size": batch_size, "epochs": 10, "shuffle": False}
    frame, weights = runs(seeds=seeds, keep_weights=True, **arguments)
    for position, seed in enumerate(seeds):
        assert_run(frame, weights, position, seed, *plain_run(seed, **arguments))


@pytest.mark.parametrize(
    "batch_size", [1, 32, *(pytest.param(size, marks=pytest.mark.thorough) for size in (7, 250, 1000))]
)
def test_every_seed_equals_fit_with_its_shuffles(batch_size):
    assert_every_run(documented, batch_size=batch_size, epochs=5)


@pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.thorough), 19])
def test_no_seed_is_lost_in_any_number_of_them(number):
    with on_every_core():
        frame, weights = runs(seeds=number, keep_weights=True)
    assert frame["seed"].unique().tolist() == list(range(number))
    run = single_runs(documented)
    for seed in {0, 7, 8, number - 1} & set(range(number)):
        assert_run(frame, weights, seed, seed, *run(seed))


def test_several_classes():
    def build():
        return stack(layers.Dense(8, "tanh"), outputs=3, head="softmax", loss="categorical_crossentropy")

    assert_every_run(build, y=keras.utils.to_categorical(THREE_CLASSES))


@pytest.mark.thorough
def test_several_classes_by_number():
    def build():
        return stack(layers.Dense(8, "tanh"), outputs=3, head="softmax", loss="sparse_categorical_crossentropy")

    assert_every_run(build, y=THREE_CLASSES)


def test_wide_layers():
    x, y, classes = helpers.load_bundled("digits")

    def build():
        model = keras.Sequential([keras.Input((64,)), layers.Dense(40, "relu"), layers.Dense(36, "tanh")])
        model.add(layers.Dense(classes, "softmax"))
        model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    assert_every_run(build, x=x[:500] / 16, y=y[:500], batch_size=96)  # four batches, and one of 16 rows


@pytest.mark.parametrize(
    ("rows", "inputs", "units", "products"),
    [
        pytest.param(1, 64, 16, [], marks=pytest.mark.thorough),
        pytest.param(32, 10, 10, [], marks=pytest.mark.thorough),
        pytest.param(250, 2, 10, [], marks=pytest.mark.thorough),
        (250, 10, 10, ["kernel"]),
        (64, 33, 16, ["outputs", "kernel"]),
        pytest.param(64, 16, 33, ["inputs", "kernel"], marks=pytest.mark.thorough),
        pytest.param(1437, 64, 64, ["outputs", "inputs", "kernel"], marks=pytest.mark.thorough),
        pytest.param(9000, 1, 64, [], marks=pytest.mark.thorough),
    ],
)
def test_xla_is_given_matrix_products_where_it_sums_slowly(rows, inputs, units, products):
    def in_all_directions(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch((x, kernel))
            loss = tf.reduce_sum(dense(x, kernel) ** 2)
        return loss, *tape.gradient(loss, (x, kernel))

    program = tf.function(in_all_directions, jit_compile=True, autograph=False)
    shapes = tf.TensorSpec((rows, inputs, 16)), tf.TensorSpec((inputs, units, 16))
    found = program.experimental_get_compiler_ir(*shapes)(stage="hlo")
    assert len(re.findall(r" dot\(", found)) == len(products)


@pytest.mark.thorough
def test_mean_squared_error():
    def build():
        return stack(layers.Dense(8, "tanh"), head="linear", loss="mse", metrics=["mae"])

    assert_every_run(build, y=(X @ [1.0, 2.0]).astype(np.float32))


@pytest.mark.parametrize(
    "weighted",
    [
        {"sample_weight": WEIGHTS},
        pytest.param({"sample_weight": WEIGHTS[:, None]}, marks=pytest.mark.thorough),
        pytest.param({"sample_weight": WEIGHTS.astype(int)}, marks=pytest.mark.thorough),
        pytest.param(
            {"build": lambda: stack(layers.Dense(6), weighted_metrics=["mae"]), "sample_weight": WEIGHTS},
            marks=pytest.mark.thorough,
        ),
        pytest.param({"class_weight": {0: 0.5, 1: 3.0}}, marks=pytest.mark.thorough),
        {"validation_data": (X[:90], Y[:90], WEIGHTS[:90])},
        pytest.param({"validation_split": 0.0}, marks=pytest.mark.thorough),
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
    [
        ((10 * X).round().astype(np.int32), 2),
        pytest.param(X.astype(np.float64), 2, marks=pytest.mark.thorough),
        pytest.param(X[:, 0], 1, marks=pytest.mark.thorough),
    ],
    ids=["whole numbers", "double precision", "one feature without a second axis"],
)
def test_kinds_of_features(x, features):
    def build():
        return helpers.build_model(features=features)

    frame, weights = runs(build, x=x, y=Y.astype(bool), seeds=2, keep_weights=True)
    run = single_runs(build)
    for seed in range(2):
        assert_run(frame, weights, seed, seed, *run(seed, x, Y.astype(bool)))


@pytest.mark.thorough
def test_more_epochs_than_one_call_of_a_program_holds():
    def build():
        return documented(optimizers.SGD(0.05))

    frame, weights = runs(build, seeds=2, batch_size=400, epochs=600, keep_weights=True)
    assert_run(frame, weights, 1, 1, *single_runs(build)(1, batch_size=400, epochs=600))
