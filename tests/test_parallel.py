"""Several processes train one model: equal to one process, whatever the shares, and timed in turns."""

import keras
import numpy as np
import pytest

from batchlab.models import build_model
from batchlab.study import parallel

GENERATOR = np.random.default_rng(0)
X = GENERATOR.standard_normal((101, 3)).astype(np.float32)  # with batches of 25 the last one has a single row
Y = (X.sum(axis=1) > 0).astype(np.float32)


def model():
    return build_model((8,), features=3, optimizer=keras.optimizers.Adam(0.01), seed=1)


@pytest.mark.thorough
def test_two_processes_equal_one():
    start, alone = model(), model()
    trained = parallel.train(start, X, Y, batch_size=25, epochs=4, timed=(2, 64), rounds=3, steps=2)
    alone.fit(X, Y, batch_size=25, epochs=4, shuffle=False, verbose=0)
    assert len(trained.weights) == 2
    for process in trained.weights:
        for ours, theirs in zip(process, alone.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    # It did train, and the model that was given stayed as it was.
    initial = model().get_weights()
    assert max(np.abs(a - b).max() for a, b in zip(initial, alone.get_weights(), strict=True)) > 0.01
    for ours, theirs in zip(start.get_weights(), initial, strict=True):
        np.testing.assert_array_equal(ours, theirs)

    assert trained.seconds.groupby("batch_size").size().to_dict() == {2: 3, 64: 3}
    assert (trained.seconds[["together", "alone"]] > 0).all(axis=None)


@pytest.mark.thorough
def test_a_process_that_fails_ends_the_call():
    broken = model()
    with pytest.raises(RuntimeError, match=r"parallel\.train: process \d failed: .*"):
        parallel.train(broken, X[:, :2], Y, batch_size=25, epochs=1)  # a column is missing


def own_loss(y, p):
    return keras.ops.mean((y - p) ** 2)


@pytest.mark.parametrize(
    ("changes", "loss", "error", "complaint"),
    [
        ({"batch_size": 0}, "mse", ValueError, "`batch_size` is 0"),
        ({"processes": 1.5}, "mse", TypeError, r"`processes` is 1\.5"),
        ({"timed": (1,)}, "mse", ValueError, r"`timed\[0\]` is 1; give a whole number of at least 2"),
        ({}, own_loss, ValueError, "a loss given by its name"),
        ({}, None, ValueError, "a loss given by its name"),
    ],
)
def test_bad_input_is_refused(changes, loss, error, complaint):
    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    if loss:
        net.compile("sgd", loss)
    with pytest.raises(error, match=complaint):
        parallel.train(net, X, Y, **{"batch_size": 5, "epochs": 1} | changes)
