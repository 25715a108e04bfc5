"""Random numbers within a compiled program are those that TensorFlow draws outside of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from batchlab.training import keras_internals as internals
from batchlab.training.programs import philox
from batchlab.training.programs.loop import CannotCompileError

SEEDS = st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 2)
SHAPES = st.lists(st.integers(0, 9), max_size=3).map(tuple)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(SEEDS, SHAPES)
def test_every_number_is_tensorflows(seed, shape):
    seed = tf.constant(seed, tf.int32)
    np.testing.assert_array_equal(philox.uniform(shape, seed), tf.random.stateless_uniform(shape, seed))
    np.testing.assert_allclose(philox.normal(shape, seed), tf.random.stateless_normal(shape, seed), atol=3e-6)


def test_numbers_far_along_are_tensorflows():
    seed = tf.constant([7, 11])
    np.testing.assert_array_equal(philox.uniform((123_457,), seed), tf.random.stateless_uniform((123_457,), seed))


LAYERS = keras.layers
RANDOM = [
    lambda: LAYERS.Dropout(0.3, seed=3),
    lambda: LAYERS.Dropout(0.3, noise_shape=(None, 1, None), seed=3),
    lambda: LAYERS.SpatialDropout1D(0.5, seed=4),
    lambda: LAYERS.GaussianNoise(0.2, seed=1),
    lambda: LAYERS.GaussianDropout(0.2, seed=1),
    lambda: LAYERS.AlphaDropout(0.2, seed=1),
]


def test_compiled_layers_draw_what_they_draw_uncompiled():
    x = tf.random.stateless_normal((6, 5, 4), [1, 2])
    layers = [make() for make in RANDOM]
    expected = [layer(x, training=True) for layer in layers]
    for layer in layers:
        layer.seed_generator.state.assign(layer.seed_generator.state - [0, 1])
    with philox.written_out():
        compiled = tf.function(lambda: [layer(x, training=True) for layer in layers], jit_compile=True, autograph=False)
        found = compiled()
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
        assert np.any(ours != x)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: tf.random.stateless_uniform((5,), [1, 2], minval=3, maxval=9, dtype=tf.int32),
        lambda: tf.random.stateless_uniform((5,), [1, 2], dtype=tf.float64),
        lambda: tf.random.stateless_uniform((5,), [1, 2], 2.0, 3.0),
        lambda: tf.random.stateless_uniform((5,), [1, 2], minval=2.0, maxval=3.0),
        lambda: tf.random.stateless_uniform((5,), [1, 2], alg="philox"),
        lambda: tf.random.stateless_normal((5,), [1, 2], mean=2.0, stddev=3.0),
        lambda: tf.random.stateless_normal((5,), tf.constant([1, 2], tf.int64), dtype="float32"),
        lambda: tf.nn.experimental.stateless_dropout(tf.ones((4, 3)), rate=0.5, seed=[1, 2], noise_shape=[4, 1]),
        lambda: tf.nn.experimental.stateless_dropout(tf.ones((4, 3)), 0.5, [1, 2], rng_alg="philox"),
        lambda: tf.nn.experimental.stateless_dropout(tf.ones((4, 3), tf.float64), 0.5, [1, 2]),
        lambda: tf.nn.experimental.stateless_dropout(tf.ones((4, 3)), tf.constant(0.5), [1, 2]),
        lambda: tf.nn.experimental.stateless_dropout(tf.ones((4, 3)), 0, [1, 2]),
    ],
)
def test_whatever_is_asked_for_in_whatever_way(draw):
    expected = draw()
    with philox.written_out():
        found = draw()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=5e-6)


def test_a_shape_that_is_known_only_when_the_program_runs():
    with philox.written_out():
        drawn = tf.function(lambda n: tf.random.stateless_uniform([n], [1, 2]), autograph=False)(tf.constant(7))
    np.testing.assert_array_equal(drawn, tf.random.stateless_uniform([7], [1, 2]))


def test_mapped_over_seeds_each_draws_its_own():
    seeds = tf.constant([[1, 2], [-3, 4], [5, -6]])

    def draw(seed):
        uniform = tf.random.stateless_uniform((5, 3), seed, minval=2.0, maxval=3.0)
        dropped = tf.nn.experimental.stateless_dropout(tf.ones((4, 3)), rate=0.5, seed=seed, noise_shape=[4, 1])
        return uniform, tf.random.stateless_normal((7,), seed), dropped

    expected = [tf.stack(values) for values in zip(*map(draw, seeds), strict=True)]
    with philox.mapped():
        found = tf.function(
            lambda: tf.vectorized_map(draw, seeds, fallback_to_while_loop=False), jit_compile=True, autograph=False
        )()
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-6)


def test_what_is_drawn_alike_in_all_runs_is_refused():
    def draw(number):
        return number + tf.random.stateless_uniform((), [1, 2])

    with pytest.raises(CannotCompileError, match="the same random numbers in all runs"), philox.mapped():
        tf.function(lambda: tf.vectorized_map(draw, tf.zeros(3)), autograph=False)()


@pytest.mark.parametrize("begin", [philox.written_out, philox.mapped])
def test_tensorflow_is_left_as_it_was(begin):
    names = [(tf.random, "stateless_uniform"), (tf.random, "stateless_normal")]
    names.append((tf.nn.experimental, "stateless_dropout"))

    def present():
        return [*(getattr(*name) for name in names), *internals.converters_of_mapping().values()]

    before = present()
    with pytest.raises(ZeroDivisionError), begin():
        assert present()[:3] != before[:3]
        raise ZeroDivisionError
    assert present() == before
