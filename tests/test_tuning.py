"""Aims, best rates and grids that widen, on frames whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from batchlab.study.tuning import Budget, Target, best_rate, widened

EPOCHS = np.array([1, 2, 4, 8])


def frame(values, rate=0.1, per_epoch=10, figure="val_loss"):
    """A long frame: one row of values a run, one value a kept epoch."""
    values = np.asarray(values, float)
    seeds = np.repeat(np.arange(len(values)), len(EPOCHS))
    epochs = np.tile(EPOCHS, len(values))
    columns = {"learning_rate": rate, "seed": seeds, "epoch": epochs, "updates": per_epoch * epochs}
    return pd.DataFrame(columns | {figure: values.ravel()})


def test_updates_to_a_target_are_read_off_between_two_epochs():
    runs = frame([[1.0, 0.6, 0.2, 0.1], [0.3, 0.2, 0.1, 0.1], [1, 0.9, 0.8, 0.7], [0.9, np.nan, np.nan, np.nan]])
    needed = Target(0.4)(runs)
    # From 0.6 after 20 updates to 0.2 after 40, half way; there at the first epoch; never; never.
    assert needed.tolist() == [30, 10, np.inf, np.inf]
    assert needed.index.names == ["learning_rate", "seed"]


def test_the_first_crossing_counts_even_if_the_figure_rises_again():
    assert Target(0.5)(frame([[1.0, 0.5, 0.9, 0.2]])).tolist() == [20]


def test_a_budget_takes_the_figure_where_it_is_used_up():
    runs = frame([[1.0, 0.6, 0.2, 0.1], [0.9, 0.8, np.nan, np.nan]])
    assert Budget(4)(runs).tolist() == [0.2, np.inf]
    assert Budget(20, "updates")(runs).tolist() == [0.6, 0.8]
    assert Budget(45, "updates")(runs).tolist() == [0.2, np.inf]  # within one epoch's updates
    assert Budget(4, figure="loss")(frame([[4, 3, 2, 1]], figure="loss")).tolist() == [2]


@pytest.mark.parametrize(("most", "of"), [(3, "epoch"), (100, "updates")])
def test_a_budget_that_no_kept_epoch_meets_is_refused(most, of):
    with pytest.raises(ValueError, match=f"No kept epoch ends at {most} {of}"):
        Budget(most, of)(frame([[1.0, 0.6, 0.2, 0.1]]))


def scores(best, rates, seeds=40, noise=0.05, curve=1.0, draw=0):
    """Scores whose median has its least value at `best`, as a parabola of the logarithm."""
    rng = np.random.default_rng(draw)
    offsets = rng.normal(0, noise, seeds)
    index = pd.MultiIndex.from_product([rates, range(seeds)], names=["learning_rate", "seed"])
    values = [np.exp(curve * np.log(rate / best) ** 2 + offsets + rng.normal(0, noise, seeds)) for rate in rates]
    return pd.Series(np.concatenate(values), index)


RATES = [2.0**power for power in range(-8, 1)]


@pytest.mark.parametrize("best", [0.05, 0.031, 0.1])
def test_the_best_rate_lies_between_those_of_the_grid(best):
    found = best_rate(scores(best, RATES))
    assert found.rate == pytest.approx(best, rel=0.03)
    assert found.low < found.rate < found.high < 1.2 * found.low
    assert found.grid_rate in RATES and found.on_edge == 0 and found.reached == 1
    assert found.score.low <= found.score.value <= found.score.high


def test_the_interval_holds_the_best_rate_about_as_often_as_it_says():
    found = [best_rate(scores(0.05, RATES, draw=draw)) for draw in range(100)]
    # Of 100 intervals of 95 % fewer than 85 hold it with a chance below 1 in 10,000.
    assert sum(one.low <= 0.05 <= one.high for one in found) >= 85


def test_few_noisy_seeds_make_a_wide_interval():
    narrow, wide = (best_rate(scores(0.05, RATES, seeds=n, noise=s)) for n, s in ((400, 0.05), (8, 1.0)))
    assert wide.high / wide.low > 2 * narrow.high / narrow.low


@pytest.mark.parametrize(("best", "edge"), [(1e-6, -1), (100.0, 1)])
def test_a_best_rate_at_an_end_is_said(best, edge):
    assert best_rate(scores(best, RATES)).on_edge == edge


def test_runs_that_never_arrive_do_not_win():
    table = scores(0.05, RATES)
    table[table.index.get_level_values("learning_rate") > 0.1] = np.inf
    table[(0.0625, 3)] = np.inf
    found = best_rate(table)
    assert found.grid_rate <= 0.0625 and (found.grid_rate != 0.0625 or found.reached == 39 / 40)
    table[:] = np.inf
    assert best_rate(table) is None


def test_every_rate_needs_the_same_seeds():
    with pytest.raises(ValueError, match="the same six or more seeds"):
        best_rate(scores(0.05, RATES, seeds=5))
    with pytest.raises(ValueError, match="the same six or more seeds"):
        best_rate(scores(0.05, RATES).iloc[1:])


def test_a_grid_widens_until_the_best_rate_of_each_aim_is_inside():
    tried = []

    def frame_of(rates):
        tried.append(list(rates))
        table = scores(1.0, rates).rename("a").to_frame()
        table["b"] = scores(2.0**-10, rates)
        return table.reset_index()

    def aim(column):
        return lambda frame: frame.set_index(["learning_rate", "seed"])[column]

    widened(frame_of, [2.0**p for p in range(-6, -1)], [aim("a"), aim("b")])
    assert tried[0] == [2.0**p for p in range(-6, -1)]
    assert tried[-1][0] == 2.0**-11 and tried[-1][-1] == 2.0
    assert all(abs(b / a - 2) < 1e-9 for a, b in zip(tried[-1], tried[-1][1:], strict=False))


def test_an_aim_that_nobody_reaches_asks_for_no_further_rates():
    calls = []

    def frame_of(rates):
        calls.append(rates)
        return scores(1.0, rates).rename("a").reset_index()

    def hopeless(frame):
        return frame.set_index(["learning_rate", "seed"])["a"] * np.inf

    widened(frame_of, RATES, [hopeless])
    assert len(calls) == 1
