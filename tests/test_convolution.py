"""Convolutions as matrix products equal TensorFlow's, forward and backward."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from batchlab.training.programs.convolution import as_products

SIZES = st.integers(1, 4)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(4, 7), SIZES, st.integers(1, 3)), min_size=1, max_size=2),
    st.tuples(SIZES, SIZES),
    st.sampled_from(["VALID", "SAME"]),
)
def test_values_and_gradients_are_tensorflows(axes, channels, padding):
    sizes, places, steps = zip(*axes, strict=True)
    numbers = np.random.default_rng(3)
    image = tf.constant(numbers.normal(size=(2, *sizes, channels[0])))
    filters = tf.constant(numbers.normal(size=(*places, *channels)))

    def both():
        with tf.GradientTape() as tape:
            tape.watch([image, filters])
            found = tf.nn.convolution(image, filters, steps, padding)
            total = tf.reduce_sum(found**2)
        return [found, *tape.gradient(total, [image, filters])]

    expected = both()
    with as_products():
        compiled = tf.function(both, autograph=False).get_concrete_function()
    assert not any("Conv" in operation.type for operation in compiled.graph.get_operations())
    for ours, theirs in zip(compiled(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("named", [{"dilations": 2}, {"groups": True}])
def test_others_are_left_to_tensorflow(named):
    channels = 2 if named.pop("groups", False) else 4
    image, filters = tf.ones((2, 9, 4)), tf.ones((2, channels, 6))
    expected = tf.nn.convolution(image, filters, **named)
    with as_products():
        np.testing.assert_array_equal(tf.nn.convolution(image, filters, **named), expected)
