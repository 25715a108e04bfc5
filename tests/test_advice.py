"""Advice: on a law that is known, on a small table against brute force, and what it refuses."""

import math
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from batchlab.models import build_model
from batchlab.statistics import median
from batchlab.study import advice
from batchlab.study.advice import AIMS, recommend
from batchlab.study.trials import FRESH_SEEDS, RESAMPLES, Task, median_losses
from batchlab.study.tuning import Target
from batchlab.table.ads import load_ads
from batchlab.table.scaling import scale_features
from batchlab.training import fit_seeds

CRITICAL, LEAST, TARGET = 50, 20, math.exp(-1)
X = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > np.random.default_rng(1).logistic(0, 0.3, 200)).astype(np.float32)


class Lawful(Task):
    """Runs whose updates to a loss of 1/e follow LEAST * (1 + CRITICAL / batch size), with a best rate that grows."""

    trained: ClassVar[list] = []
    lost: ClassVar[set] = set()  # batch sizes whose fresh runs never arrive
    flattery: ClassVar[float] = 1.0  # times the updates of the law, in the runs that choose

    def runs(self, batch_size, epochs):
        self.trained.append((batch_size, epochs))
        return lambda rates: self.curves(batch_size, epochs, rates, range(self.seeds), LEAST * self.flattery)

    def fresh_runs(self, batch_size, epochs, rate):
        curves = self.curves(batch_size, epochs, [rate], FRESH_SEEDS)
        return curves.assign(batch_size=batch_size, **({"val_loss": 1.0} if batch_size in self.lost else {}))

    def curves(self, batch_size, epochs, rates, seeds, least=LEAST):
        parts = []
        for rate in rates:
            luck = np.random.default_rng([batch_size, round(1e6 * rate), seeds[0]]).normal(0, 0.1, len(seeds))
            off = 0.5 * math.log(rate / (0.01 * batch_size**0.8)) ** 2
            needed = least * (1 + CRITICAL / batch_size) * np.exp(off + luck)
            epoch = np.arange(1, epochs + 1)
            grid = {"seed": np.repeat(seeds, epochs), "epoch": np.tile(epoch, len(seeds))}
            part = pd.DataFrame({"learning_rate": rate, **grid})
            part["updates"] = part["epoch"] * self.steps(batch_size)
            part["val_loss"] = np.exp(-part["updates"] / np.repeat(needed, epochs))
            parts.append(part)
        return pd.concat(parts, ignore_index=True)


def by_the_law():
    """Advice where an update with b rows takes 100 + b microseconds, measured to 2 %."""

    def seconds(task, way, sizes):
        return 1e-6 * (100 + np.array(sizes)) * np.random.default_rng(0).normal(1, 0.02, (RESAMPLES + 1, len(sizes)))

    Lawful.trained.clear()
    table = np.zeros((1280, 1), np.float32), np.zeros(1280, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advice, "Task", Lawful)
        patch.setattr(advice, "update_seconds", seconds)
        patch.setattr(advice, "predicted_critical", lambda *_: None)
        return recommend(*table, None, target=TARGET, epochs=60)


@pytest.fixture(scope="module")
def lawful():
    return by_the_law()


def test_the_critical_batch_size_of_the_law_is_found(lawful):
    assert lawful.critical.value == pytest.approx(CRITICAL, rel=0.15)
    assert 0.6 * CRITICAL < lawful.critical.low <= lawful.critical.value <= lawful.critical.high < 1.6 * CRITICAL


def test_each_aim_gets_the_batch_size_that_the_law_makes_best(lawful):
    assert list(lawful.table["batch_size"]) == [1, 4, 16, 64, 256, 1024]
    # 20 * (1 + 50/b) * (100 + b) microseconds: 0.0058 s for b = 64, 0.0085 for 256, 0.0096 for 16.
    assert lawful.aim == "seconds" and lawful.as_good == [64]
    assert lawful.cost.value == pytest.approx(20 * (1 + 50 / 64) * 164e-6, rel=0.05)
    assert lawful.cost.low < lawful.cost.value < lawful.cost.high
    # Updates: 21.0 for all rows, 23.9 for 256. Rows: 1020 for 1, 1080 for 4, 1320 for 16.
    assert lawful.for_aim("updates").batch_size == 1024
    assert lawful.for_aim("rows").batch_size in (1, 4) and 16 not in lawful.for_aim("rows").as_good


def test_rates_follow_the_law_between_those_of_the_grid(lawful):
    best = 0.01 * lawful.table["batch_size"] ** 0.8
    np.testing.assert_allclose(lawful.table["learning_rate"], best, rtol=0.1)
    assert (lawful.table["rate_low"] <= best * 1.1).all() and (lawful.table["rate_high"] >= best / 1.1).all()


def test_no_size_trains_far_beyond_the_updates_and_the_rows_of_its_neighbour(lawful):
    (first, epochs), *others = Lawful.trained
    assert (first, epochs) == (16, 60)
    sizes = [size for size, _ in others]
    assert sizes[0] == 16 and len(sizes) == 6  # and from there two ways at the same time
    assert [size for size in sizes if size > 16] == [64, 256, 1024]
    assert [size for size in sizes if size < 16] == [4, 1]
    neighbours = {16: 16, 64: 16, 256: 64, 1024: 256, 4: 16, 1: 4}
    for size, epochs in others:
        neighbour = neighbours[size]
        needed = LEAST * (1 + CRITICAL / neighbour) * (1.3 if size == 16 else 1.1)  # 16 knows rates in steps of 4 only
        assert (epochs - 1) * -(-1024 // size) <= 1.5 * needed * max(1, neighbour / size)


def test_what_chose_a_rate_does_not_tell_its_cost(monkeypatch):
    monkeypatch.setattr(Lawful, "flattery", 0.8)
    found = by_the_law()
    sizes = found.table[found.table["batch_size"] >= 64]  # smaller ones seem to arrive within the first epoch
    law = LEAST * (1 + CRITICAL / sizes["batch_size"])
    np.testing.assert_allclose(sizes["seemed"], 0.8 * law, rtol=0.05)
    np.testing.assert_allclose(sizes["updates"], law, rtol=0.05)
    assert found.cost.value == pytest.approx(20 * (1 + 50 / 64) * 164e-6, rel=0.05)


def test_a_size_whose_fresh_runs_do_not_arrive_is_not_taken(monkeypatch):
    monkeypatch.setattr(Lawful, "lost", {64})
    found = by_the_law()
    row = found.table.set_index("batch_size").loc[64]
    assert math.isinf(row["updates"]) and math.isinf(row["seconds_high"]) and row["reached"] == 0
    assert row["seemed"] == pytest.approx(LEAST * (1 + CRITICAL / 64), rel=0.1)
    assert all(64 not in found.for_aim(aim).as_good for aim in AIMS) and found.critical is not None
    monkeypatch.setattr(Lawful, "lost", {1, 4, 16, 64, 256, 1024})
    with pytest.raises(ValueError, match=r"0\.367879, but of the fresh ones fewer than half, at every batch size"):
        by_the_law()


def test_it_says_what_it_recommends_and_how_sure_it_is(lawful):
    text = repr(lawful)
    for part in ("fewest seconds: batch size 64, learning rate", "Clearly the best by 128 fresh", "0.3679", " to "):
        assert part in text
    assert "Not to be told apart" in repr(two_alike().for_aim("rows")) and "4, 16" in repr(two_alike().for_aim("rows"))


def two_alike():
    """Advice from costs that are given: rows alike for 4 and 16, and 64 never arrives."""
    noise = np.random.default_rng(0).normal(1, 0.05, (RESAMPLES + 1, 4))
    noise[0] = 1
    updates = noise * [200, 50, 12.6, np.inf]
    sizes = np.array([1, 4, 16, 64])
    table = pd.DataFrame({"batch_size": sizes, "learning_rate": 0.1, "rate_low": 0.09, "rate_high": 0.12})
    table[["updates", "epoch_updates"]] = [[200, 64], [50, 16], [12.6, 4], [np.inf, 1]]
    costs = {"updates": updates, "rows": updates * sizes * [1.5, 1, 1, 1], "seconds": updates * 1e-4}
    nothing = median([math.inf] * 6)
    runs = pd.DataFrame({"batch_size": 1, "seed": FRESH_SEEDS})
    return advice.Advice("rows", 0.3, 0, nothing, nothing, [], table, runs, None, None, 64, costs)


def test_of_sizes_that_are_alike_the_one_with_fewest_updates_is_taken_for_rows():
    found = two_alike().for_aim("rows")
    assert found.as_good == [4, 16] and found.batch_size == 16
    assert found.learning_rate == (0.1, 0.09, 0.12)


def test_a_size_that_never_arrives_is_never_taken():
    for aim in AIMS:
        assert 64 not in two_alike().for_aim(aim).as_good
    assert two_alike().for_aim("updates").batch_size == 16


# --- on a table ------------------------------------------------------------------------------------------

SMALL = partial(build_model, (4,), optimizer="SGD")
SHORT = {"epochs": 2, "seeds": 6, "batch_sizes": [32, 160]}
HOLED = X.copy()
HOLED[7, 1] = np.nan


@pytest.fixture(scope="module")
def small():
    return recommend(X, Y, SMALL, batch_sizes=[4, 32, 160], epochs=15, seeds=32)


def test_the_default_target_leaves_a_twentieth_of_the_way():
    held_out = X[:50], Y[:50]
    chances = [SMALL(seed=seed)(held_out[0]).numpy()[:, 0] for seed in range(16)]
    start = np.median([-np.log(np.where(held_out[1] == 1, p, 1 - p)).mean() for p in chances])
    losses = [[0.5, 0.4], [0.3, 0.2], [0.1, np.nan], [0.7, np.nan], [0.9, np.nan]]  # of five runs, two epochs
    frame = pd.DataFrame({"learning_rate": 0.1, "epoch": [1, 2] * 5, "val_loss": np.ravel(losses)})
    # After the first epoch the median is 0.5; after the second most runs are lost, so that 0.3 is not reached.
    task = Task(SMALL, X[50:], Y[50:], held_out, 32)
    assert task.untrained_loss() == pytest.approx(start, rel=1e-4)
    assert median_losses(frame).min() == 0.5
    assert task.default_target(start, 0.5) == pytest.approx(0.5 + 0.05 * (start - 0.5))


@pytest.mark.thorough
def test_advice_holds_against_brute_force_with_other_seeds(small):
    x, y, held_out = advice._split(X, Y, None)
    updates = {}
    for size in small.table["batch_size"]:
        epochs = -(-small.table.set_index("batch_size").loc[size, "most_updates"] * size // 160)
        rates = [2.0**power for power in range(-3, 4)]
        runs = {"seeds": range(1000, 1064), "batch_size": int(size), "epochs": int(epochs), "learning_rates": rates}
        scores = Target(small.target)(fit_seeds(SMALL, x, y, validation_data=held_out, **runs))
        updates[size] = min((median(of_rate) for _, of_rate in scores.groupby("learning_rate")), key=lambda m: m.value)
    for aim in ("updates", "rows"):
        found = small.for_aim(aim)
        cost = {size: [figure * (size if aim == "rows" else 1) for figure in updates[size]] for size in updates}
        best = min(cost.values())
        _, low, high = cost[found.batch_size]
        assert low <= best[2], (aim, cost)  # its interval reaches into that of the best
        assert found.cost.low <= high and low <= found.cost.high, (aim, found.cost, cost)


def test_the_evidence_is_complete_and_in_order(small):
    table = small.table
    assert list(table["batch_size"]) == [4, 32, 160]
    for name in (*AIMS, "rate"):
        middle = table["learning_rate" if name == "rate" else name]
        assert ((table[f"{name}_low"] <= middle) & (middle <= table[f"{name}_high"])).all()
    assert (table["update_seconds"] > 0).all()
    np.testing.assert_allclose(table["rows"], table["updates"] * table["batch_size"])  # 160 rows, no remainders
    np.testing.assert_allclose(table["seconds"], table["updates"] * table["update_seconds"])
    assert 0 < small.predicted.low <= small.predicted.value <= small.predicted.high
    assert small.batch_size in small.as_good


def test_costs_are_those_of_fresh_runs_at_the_rates_that_were_chosen(small):
    assert not set(FRESH_SEEDS) & set(range(small.seeds)) and len(FRESH_SEEDS) >= 64
    for row in small.table.itertuples():
        runs = small.runs[small.runs["batch_size"] == row.batch_size]
        assert set(runs["seed"]) == set(FRESH_SEEDS) and runs["learning_rate"].unique() == [row.learning_rate]
        scores = Target(small.target)(runs)
        assert row.updates == np.median(scores) and row.reached == np.isfinite(scores).mean()
        assert runs["updates"].max() == row.most_updates


def test_a_table_is_scaled_and_split_as_documented():
    table = load_ads()
    x, y, held_out = advice._split(table, None, None)
    all_x, all_y = scale_features(table)
    np.testing.assert_array_equal(np.concatenate([x, held_out[0]]), all_x)
    np.testing.assert_array_equal(np.concatenate([y, held_out[1]]), all_y)
    assert len(x) == 320


def test_arrays_are_split_at_random_each_row_once():
    x, y, held_out = advice._split(np.arange(50.0), np.arange(50), None)
    assert len(x) == 40 and sorted([*y, *held_out[1]]) == list(range(50)) and sorted(y) != list(range(40))


@pytest.mark.parametrize(
    ("call", "error", "complaint"),
    [
        (partial(recommend, X, Y, aim="epochs"), ValueError, "no aim 'epochs'; choose 'seconds', 'updates', 'rows'"),
        (partial(recommend, X), TypeError, "no targets"),
        (partial(recommend, pd.DataFrame(X), SMALL), TypeError, "pass `build_model` by its name"),
        (partial(recommend, X, Y[:-1]), ValueError, "x has 200 rows and y has 199"),
        (partial(recommend, HOLED, Y), ValueError, "row 7 has a feature that is not finite"),
        (partial(recommend, X, Y, target=-1), ValueError, "`target` is -1"),
        (partial(recommend, X, Y, seeds=5), ValueError, "`seeds` is 5"),
        (partial(recommend, X, Y, epochs=2.5), TypeError, "`epochs` is 2.5"),
        (partial(recommend, X, Y, batch_sizes=[8]), ValueError, "at least two different"),
        (partial(recommend, X, Y, batch_sizes=[8, 161]), ValueError, r"`batch_sizes\[1\]` is 161; .* from 1 to 160"),
        (partial(recommend, X, Y, way="side by side"), ValueError, "share their seconds"),
        (
            partial(recommend, X, Y, SMALL, target=1e-3, **SHORT),
            ValueError,
            "half of the runs to a validation loss of 0.001 within 2 epochs; the least median is",
        ),
        (
            partial(recommend, X, Y, SMALL, validation_data=(X[:40], 1 - Y[:40]), **SHORT),
            ValueError,
            "no learning rate from .* learns",
        ),
    ],
)
def test_bad_input_is_refused(call, error, complaint):
    with pytest.raises(error, match=complaint):
        call()
