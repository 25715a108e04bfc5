"""Timing in turns: that contestants train what they say, that turns are fair, and that comparisons see a difference."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from batchlab.models import build_model
from batchlab.study import speed
from batchlab.study.speed import Contestant, against_neighbours, by_round, contestant, ratio, take_turns

X = np.random.default_rng(0).standard_normal((50, 2)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.float32)


@pytest.mark.parametrize("way", ["plain Keras", "compiled"])
def test_a_call_makes_the_updates_that_it_counts(way):
    model = build_model(seed=0)
    made = contestant(way, lambda: model, X, Y, batch_size=32, steps=3, epochs=2)
    before = int(model.optimizer.iterations.numpy())
    assert before == made.updates == 6  # made once already, so that nothing is compiled later
    made.train()
    assert int(model.optimizer.iterations.numpy()) - before == 6


def test_runs_side_by_side_count_each():
    made = contestant("side by side", build_model, X, Y, batch_size=25, steps=2, epochs=3, runs=4)
    assert made.updates == 2 * 3 * 4
    frame = made.train()
    assert frame["seed"].nunique() == 4
    assert frame["updates"].max() == 6


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless somebody moves it."""
    now = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    return now


def pretender(clock, calls, batch_size, seconds, way="compiled"):
    def train():
        calls.append(batch_size)
        clock[0] += seconds

    return Contestant(way, batch_size, steps=10, epochs=2, runs=1, train=train)


def test_seconds_are_laid_out_a_step_and_a_row(clock):
    calls = []
    frame = take_turns([pretender(clock, calls, 8, 2.0), pretender(clock, calls, 16, 5.0)], rounds=3)
    steps, rates = by_round(frame, "compiled"), by_round(frame, "compiled", "rate")
    np.testing.assert_allclose(steps, [[0.1, 0.25]] * 3)
    np.testing.assert_allclose(rates, [[80, 64]] * 3)
    assert list(steps) == [8, 16]


def test_each_round_takes_everyone_once_in_an_order_of_its_own(clock):
    calls = []
    take_turns([pretender(clock, calls, size, 1.0) for size in range(1, 7)], rounds=20)
    rounds = np.reshape(calls, (20, 6))
    assert (np.sort(rounds, axis=1) == np.arange(1, 7)).all()
    assert len({tuple(order) for order in rounds}) > 15
    assert len(set(rounds[:, 0])) > 3  # nobody is always first


def rates(**at):
    """Rows a second that rise smoothly with the batch size, but for what is asked, over rounds that differ tenfold."""
    sizes = np.arange(30, 35)
    smooth = 1000 * sizes**0.7
    table = pd.DataFrame(np.outer(np.logspace(0, 1, 9), smooth), columns=sizes)
    for size, factor in at.items():
        table[int(size.removeprefix("b"))] *= factor
    return table


def test_a_smooth_rise_is_no_advantage():
    # A power law is a straight line on logarithms; what bends between 30 and 34 is far below a thousandth.
    np.testing.assert_allclose(against_neighbours(rates(), 32, [1, 2]), 1, atol=2e-3)


def test_an_advantage_is_seen_in_every_round():
    np.testing.assert_allclose(against_neighbours(rates(b32=1.1), 32, [1, 2]), 1.1, rtol=2e-3)
    np.testing.assert_allclose(against_neighbours(rates(b31=1.21), 32, [1]), 1 / 1.1, rtol=2e-3)


def test_a_ratio_is_formed_within_rounds():
    found = ratio(rates(), 34, 30)
    assert found.low == pytest.approx(found.value) == pytest.approx(found.high) == pytest.approx((34 / 30) ** 0.7)


@pytest.mark.parametrize(
    ("call", "error", "complaint"),
    [
        (lambda: contestant("plain Keras", build_model, X, Y, batch_size=0, steps=1), ValueError, "`batch_size` is 0"),
        (lambda: contestant("compiled", build_model, X, Y, batch_size=1, steps=1.0), TypeError, r"`steps` is 1\.0"),
        (partial(contestant, "compiled", build_model, X, Y, batch_size=1, steps=1, runs=2), ValueError, "one run at a"),
        (partial(contestant, "eager", build_model, X, Y, batch_size=1, steps=1), ValueError, "'eager' is no way"),
        (lambda: take_turns([], rounds=0), ValueError, "`rounds` is 0"),
        (lambda: take_turns([Contestant("compiled", 1, 1, 1, 1, list)] * 2, rounds=1), ValueError, "share way and"),
        (lambda: against_neighbours(rates(), 32, [3]), ValueError, "batch size 29 was not measured"),
        (lambda: against_neighbours(rates(), 32, []), ValueError, "at least one distance"),
        (lambda: by_round(pd.DataFrame({"way": ["compiled"]}), "plain Keras"), ValueError, "nothing was measured for"),
    ],
)
def test_bad_input_is_refused(call, error, complaint):
    with pytest.raises(error, match=complaint):
        call()
