"""Programs are lent to one user at a time: calls from any number of threads give what each gives alone."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pandas as pd
import pytest
from many_runs import on_every_core

from batchlab import training
from batchlab.training import keras_internals
from batchlab.training.programs import cache
from batchlab.training.rows import Rows
from batchlab.training.subject import Subject

GENERATOR = np.random.default_rng(8)
X = GENERATOR.normal(size=(80, 2)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.float32)


def model(rate=0.01, normalised=False):
    extra = [keras.layers.BatchNormalization()] if normalised else []
    built = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(6, "relu"), *extra, keras.layers.Dense(1, "sigmoid")]
    )
    built.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"])
    return built


def seeds_from(first):
    return training.fit_seeds(
        model, X, Y, seeds=range(first, first + 20), batch_size=8, epochs=40, validation_split=0.2
    )


THREADS = pytest.mark.parametrize("threads", [2, pytest.param(4, marks=pytest.mark.thorough)])


@THREADS
def test_fit_seeds_in_threads_gives_what_each_call_gives_alone(threads):
    starts = range(0, 100 * threads, 100)
    alone = [seeds_from(start) for start in starts]
    with on_every_core(), ThreadPoolExecutor(threads) as pool:
        together = list(pool.map(seeds_from, starts))
    for expected, frame in zip(alone, together, strict=True):
        pd.testing.assert_frame_equal(frame, expected, rtol=1e-5, atol=1e-5)


@THREADS
@pytest.mark.parametrize(
    "normalised", [False, pytest.param(True, marks=pytest.mark.thorough)], ids=["flat", "epoch by epoch"]
)
def test_fit_in_threads_gives_what_each_call_gives_alone(normalised, threads):
    def train(seed):
        one = models[seed]
        history = training.fit(one, X, Y, batch_size=8, epochs=30, seed=seed, validation_split=0.2)
        return history.history["val_loss"]

    results = []
    for workers in (1, threads):
        models = [model(normalised=normalised) for _ in range(threads)]
        for seed, one in enumerate(models):
            training.draw_weights(one, seed)
        with ThreadPoolExecutor(workers) as pool:
            results.append(np.array(list(pool.map(train, range(threads)))))
    np.testing.assert_allclose(results[1], results[0], atol=1e-5)


class Program:
    """Stands for a compiled program."""

    def __init__(self, subject, batch_size, train, valid, **extra):
        self.made_for = (batch_size, len(train), extra)


@pytest.fixture
def empty(monkeypatch):
    monkeypatch.setattr(cache, "_idle", type(cache._idle)())
    built = model()
    keras_internals.build(built, (X, Y, None))
    return Subject.of(built, (X, Y, None))


def lease(built, batch_size=8, **extra):
    return cache.lease(Program, built, batch_size, Rows(X, Y, None), None, **extra)


def test_a_program_is_lent_once_and_lent_again_when_it_is_back(empty):
    with lease(empty, runs=3) as first, lease(empty, runs=3) as second:
        assert first is not second
        assert first.made_for == (8, 80, {"runs": 3})
    with lease(empty, runs=3) as again:
        assert again in (first, second)
    with lease(empty, runs=4) as other, lease(empty, batch_size=9, runs=3) as another:
        assert not {other, another} & {first, second}


def test_a_program_comes_back_from_a_run_that_failed(empty):
    with pytest.raises(ArithmeticError), lease(empty) as first:
        raise ArithmeticError
    with lease(empty) as again:
        assert again is first


def test_the_programs_used_longest_ago_are_given_up(empty, monkeypatch):
    monkeypatch.setattr(cache, "_KEPT", 2)
    made = {}
    for size in (1, 2, 1, 3):
        with lease(empty, batch_size=size) as program:
            made.setdefault(size, program)
    assert [program for programs in cache._idle.values() for program in programs] == [made[1], made[3]]
