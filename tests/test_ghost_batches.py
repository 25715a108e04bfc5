"""Ghost batches: each part of a batch is normalised by itself, and many runs of such a network lie side by side."""

import warnings

import keras
import numpy as np
import pytest
from many_runs import assert_every_run, stack

import helpers

LAYERS = keras.layers
X = np.random.default_rng(0).normal(2, 3, (12, 5)).astype(np.float32)
OPTIONS = {"momentum": 0.8, "epsilon": 0.01}


def built(layer):
    layer.build(X.shape)
    for name, value in (("gamma", 1.5), ("beta", -0.5)):
        if (weight := getattr(layer, name)) is not None:
            weight.assign(np.full(5, value))
    return layer


@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}])
def test_each_part_is_normalised_as_a_batch_of_its_own(options):
    ghosts = built(helpers.GhostBatchNormalization(4, **OPTIONS, **options))
    expected, averages = [], []
    for part in np.split(X, 3):
        alone = built(LAYERS.BatchNormalization(**OPTIONS, **options))
        expected.append(alone(part, training=True))
        averages.append([alone.moving_mean.numpy(), alone.moving_variance.numpy()])
    np.testing.assert_allclose(ghosts(X, training=True), np.concatenate(expected), rtol=1e-5, atol=1e-5)
    found = [ghosts.moving_mean.numpy(), ghosts.moving_variance.numpy()]
    np.testing.assert_allclose(found, np.mean(averages, axis=0), rtol=1e-5)


def test_one_part_is_the_ordinary_layer_and_an_evaluation_knows_no_parts():
    ghosts, ordinary = (
        built(helpers.GhostBatchNormalization(12, **OPTIONS)),
        built(LAYERS.BatchNormalization(**OPTIONS)),
    )
    for training in (True, False):
        np.testing.assert_allclose(ghosts(X, training=training), ordinary(X, training=training), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ghosts(X[:7]), ordinary(X[:7]), rtol=1e-5, atol=1e-5)


def test_parts_that_do_not_divide_a_batch_are_refused():
    with pytest.raises(ValueError, match="`ghost_size` is 5, which does not divide a batch of 12 rows"):
        built(helpers.GhostBatchNormalization(5))(X, training=True)


@pytest.mark.thorough
def test_runs_lie_side_by_side_and_each_equals_fit():
    def build():
        return stack(LAYERS.Dense(6), helpers.GhostBatchNormalization(16), LAYERS.Activation("relu"))

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert_every_run(build, seeds=(0, 1), epochs=2)
