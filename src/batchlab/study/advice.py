"""`recommend`: a batch size and a learning rate for a stated aim, with the evidence. Never draws, never keeps a model.

The way there: one batch size is tried at many learning rates, which sets the target; the others follow outwards from
it, each with rates about those that its neighbour suggests; what is clearly worse is cut short; what each costs at its
rate is told by fresh runs; time is measured apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import keras
import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from batchlab.checks import positive_number, whole_number
from batchlab.models import build_model as documented_model
from batchlab.statistics import Estimate
from batchlab.study.speed import Way
from batchlab.study.trials import (
    FRESH_SEEDS,
    PILOT_RATES,
    RESAMPLES,
    Task,
    Tuned,
    fresh_runs,
    median_losses,
    outwards,
    predicted_critical,
    update_seconds,
)
from batchlab.study.tuning import Target, best_rate
from batchlab.table.scaling import scale_features

Aim = Literal["seconds", "updates", "rows"]
"""What a batch size shall need the least of until the target is reached."""

AIMS: tuple[Aim, ...] = get_args(Aim)

_PILOT_SIZE = 32  # the batch size about which the others are arranged
_THEN: dict[Aim, Aim] = {"seconds": "seconds", "updates": "rows", "rows": "updates"}  # decides among equals
_ALIKE = 1.05  # dearer than this, a batch size is not taken in place of the best one, told from it or not
_TAILS = (0.025, 0.975)
_NONE = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Advice:
    """A recommendation, and how sure it is. All intervals hold 95 %.

    Attributes:
        aim: What shall be least.
        target: The validation loss to reach.
        batch_size: The one recommended.
        learning_rate: For it, with its interval (the seeds resampled).
        cost: What it needs until half of the fresh runs have arrived: seconds, updates or rows.
        as_good: The batch sizes that the runs cannot tell from the best one, itself included.
        table: The evidence, one row a batch size: learning_rate with rate_low, rate_high; rates (how many were tried);
            most_updates (where runs were cut short); epoch_updates (of one epoch); seemed (the updates until half of
            the runs that chose the rate had arrived, which their luck flatters); reached (share of the fresh runs that
            arrived); updates, rows and seconds until half of the fresh runs have arrived, each with _low and _high,
            infinite where fewer arrived; update_seconds (of one update).
        runs: The fresh runs of each batch size at its rate, as `fit_seeds` returns them.
        critical: The critical batch size B in rows, from the updates measured, which are fitted by
            least * (1 + B / batch size); None where fewer than three batch sizes arrived.
        predicted: The critical batch size that the gradient noise predicts; None where it could not be measured.
        seeds: Runs of each batch size and rate, from which the rate was chosen.
        costs: For each aim what the batch sizes cost, shape (resamples of the fresh seeds, batch sizes); the first one
            is that of all of them.
        untrained: The median validation loss before training, from which the target was chosen; NaN where it was given.
        least: The least median validation loss of the first batch size tried; likewise.
    """

    aim: Aim
    target: float
    batch_size: int
    learning_rate: Estimate
    cost: Estimate
    as_good: list[int]
    table: pd.DataFrame = field(repr=False)
    runs: pd.DataFrame = field(repr=False)
    critical: Estimate | None
    predicted: Estimate | None
    seeds: int
    costs: dict[Aim, np.ndarray] = field(repr=False)
    untrained: float = math.nan
    least: float = math.nan

    def for_aim(self, aim: Aim) -> Advice:
        """Return the recommendation for another aim, from the same runs.

        Raises:
            ValueError: There is no such aim.
        """
        return _chosen(self, _checked_aim(aim))

    def at_once(self) -> list[int]:
        """Return the batch sizes that arrive within their first epoch, at whose end the loss is first looked at.

        What they need is at most what is stated, and several rates do as well.
        """
        return self.table.loc[self.table["updates"] <= self.table["epoch_updates"], "batch_size"].tolist()

    def __str__(self) -> str:
        """Say it in a few lines."""
        rest, early = (", ".join(map(str, sizes)) for sizes in (self.as_good, self.at_once()))
        rate = _said(self.learning_rate)
        if self.batch_size in self.at_once():
            rate = f"{self.learning_rate.value:.3g}, one of several that do as well"
        arrived = f"{_said(self.cost)} {self.aim} until half of the runs have a validation loss of {self.target:.4g}"
        return "\n".join(
            [
                f"For the fewest {self.aim}: batch size {self.batch_size}, learning rate {rate}.",
                f"Needs {arrived}.",
                f"{'Not to be told apart' if len(self.as_good) > 1 else 'Clearly the best'} "
                f"by {self.runs['seed'].nunique()} fresh runs each among {list(self.table['batch_size'])}: {rest}.",
                *([f"Arrive within the first epoch, and may need less than was counted: {early}."] if early else []),
                f"Critical batch size in rows: {_said(self.critical)} by these runs, "
                f"{_said(self.predicted)} predicted by the gradient noise.",
            ]
        )

    __repr__ = __str__


def recommend(
    x: pd.DataFrame | np.ndarray,
    y: np.ndarray | None = None,
    build_model: Callable[[], keras.Model] = documented_model,
    *,
    aim: Aim = "seconds",
    target: float | None = None,
    validation_data: tuple[np.ndarray, np.ndarray] | None = None,
    batch_sizes: Sequence[int] | None = None,
    epochs: int = 30,
    seeds: int = 64,
    way: Way = "compiled",
    tell: Callable[[str], object] = lambda what: None,
) -> Advice:
    """Recommend a batch size and a learning rate to come down to a validation loss, from a small sweep.

    Each batch size has its learning rate tuned. The target, unless given, leaves 5 % of the way from the untrained
    model's validation loss to the least median that a batch size near 32 reaches within `epochs`; the rest of the
    way is the luck of the held-out rows. No batch size is trained beyond both 1.5 times the updates and 1.5 times the
    rows of its neighbour on the way from that first one: it would be the best for no aim (for seconds, as long as an
    update takes no less time with more rows, and a row no more).

    The rates are chosen by the runs of `seeds`; what a batch size costs at its rate is told by 128 fresh runs, because
    the least of many medians is flattered by luck. Several batch sizes may be as good as the best one for all that the
    fresh runs can tell (95 %; bootstrap, Efron 1979: their seeds resampled, and the timing rounds). Of those whose
    median is at most 5 % above the least one the one recommended is, for the fewest updates, that with the fewest rows;
    for the fewest rows, that with the fewest updates; for the fewest seconds, that with the least median.

    The default grid goes in steps of 4. If an update with b rows takes a + c b seconds, and (1 + B / b) times the least
    number of updates are needed (McCandlish et al. 2018), the best size between two of them saves at most an eighth.

    Args:
        x: The advertising table, as `load_ads` returns it, which is scaled and split as documented (`scale_features`,
            the last fifth held out); or features on one scale, shape (rows, features).
        y: Targets, shape (rows,) or (rows, outputs); None with a table.
        build_model: Returns a compiled model; called without arguments.
        aim: What shall be least: "seconds" of updates, compilation and validation not counted; "updates"; "rows" looked
            at, repeats included.
        target: The validation loss to reach, in units of the model's loss.
        validation_data: Features and targets held out. Without it a fifth of the rows of arrays, drawn at random.
        batch_sizes: To choose from; without it 1, 4, 16, 64, …, and all training rows.
        epochs: The budget in which the first batch size must reach the target.
        seeds: Runs of each batch size and rate that is tried.
        way: What trains when an update is timed, see `speed.contestant`; not "side by side", whose runs share the time.
        tell: Called with a line on what is begun, from several threads.

    Returns:
        The recommendation with its evidence. A target that is reached within the first epoch counts as reached at its
        end, so that small batches on many rows may seem alike there.

    Raises:
        TypeError: A number is not whole; a table comes with targets, or an array without.
        ValueError: The aim is unknown, a number is out of range, no learning rate learns, or the target is too low for
            half of the runs that choose, or of the fresh ones.
        DataError: The table lacks a column.
    """
    aim = _checked_aim(aim)
    seeds, epochs = whole_number(seeds, "seeds", 6), whole_number(epochs, "epochs", 2)
    if way == "side by side":
        raise ValueError("recommend: runs side by side share their seconds; time 'compiled' or 'plain Keras'.")
    if target is not None:
        target = positive_number(target, "target")
    task = Task(build_model, *_split(x, y, validation_data), seeds)
    sizes = _checked_sizes(batch_sizes, task.rows)
    pilot = min(sizes, key=lambda size: abs(math.log2(size / _PILOT_SIZE)))
    tell(f"batch size {pilot}: which loss can be reached in {epochs} epochs, at {len(PILOT_RATES)} learning rates")
    frame = task.runs(pilot, epochs)(PILOT_RATES)
    untrained = least = math.nan
    if target is None:
        untrained, least = task.untrained_loss(), float(median_losses(frame).min())
        target = task.default_target(untrained, least)
    found = best_rate(Target(target)(frame))
    if found is None:
        medians = median_losses(frame)
        raise ValueError(
            f"recommend: at batch size {pilot} no learning rate takes half of the runs to a validation loss of "
            f"{target:g} within {epochs} epochs; the least median is {medians.min():.4g}. Give a higher target, or "
            "more epochs."
        )
    tuned = outwards(task, Target(target), sizes, pilot, found, tell)
    tell(f"{len(FRESH_SEEDS)} fresh runs of each batch size at its rate")
    runs = fresh_runs(task, tuned)
    scores = {size: Target(target)(of_size).to_numpy() for size, of_size in runs.groupby("batch_size")}
    updates = _resampled(scores, sizes)
    if not np.isfinite(updates[0]).any():
        raise ValueError(
            f"recommend: the runs that chose the rates came to a validation loss of {target:g}, but of the fresh ones "
            "fewer than half, at every batch size. Give a higher target, more epochs, or more seeds."
        )
    tell("seconds of an update of each batch size")
    seconds = update_seconds(task, way, sizes)
    costs: dict[Aim, np.ndarray] = {
        "updates": updates,
        "rows": updates * [task.rows / task.steps(size) for size in sizes],
        "seconds": updates * seconds,
    }
    table = pd.DataFrame([_record(size, task.steps(size), tuned[size], scores.get(size)) for size in sizes])
    for name, resampled in costs.items():
        table[[name, f"{name}_low", f"{name}_high"]] = [_estimate(column) for column in resampled.T]
    table["update_seconds"] = seconds[0]
    largest = max(size for size in sizes if tuned[size].best)
    tell("gradient noise")
    return _chosen(
        Advice(
            aim=aim,
            target=target,
            batch_size=0,
            learning_rate=_NONE,
            cost=_NONE,
            as_good=[],
            table=table,
            runs=runs,
            critical=_critical(updates, sizes),
            predicted=predicted_critical(task, largest, tuned[largest].best),
            seeds=seeds,
            costs=costs,
            untrained=untrained,
            least=least,
        ),
        aim,
    )


# --- what is given -----------------------------------------------------------------------------------


def _split(
    x: pd.DataFrame | np.ndarray, y: np.ndarray | None, validation_data: tuple | None
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Training rows and held-out ones."""
    if isinstance(x, pd.DataFrame):
        if y is not None:
            raise TypeError(
                "recommend: a table brings its own targets; leave `y` out and pass `build_model` by its name, or give "
                "x and y as arrays."
            )
        x, y = scale_features(x)
        if validation_data is None:
            last = int(len(x) * 0.8)  # as Keras does for validation_split=0.2
            return x[:last], y[:last], (x[last:], y[last:])
    elif y is None:
        raise TypeError("recommend: there are features but no targets; give y, or the table that load_ads returns.")
    x, y = np.asarray(x, keras.config.floatx()), np.asarray(y)
    if len(x) != len(y) or len(x) < 10:
        raise ValueError(f"recommend: x has {len(x)} rows and y has {len(y)}; give as many, and at least 10.")
    if not np.isfinite(x).all():
        at = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"recommend: row {at[0]} has a feature that is not finite; drop the row, or fill it in.")
    if validation_data is not None:
        return x, y, (np.asarray(validation_data[0], x.dtype), np.asarray(validation_data[1]))
    x, x_held_out, y, y_held_out = train_test_split(x, y, test_size=0.2, random_state=0)
    return x, y, (x_held_out, y_held_out)


def _checked_aim(aim: str) -> Aim:
    if aim not in AIMS:
        raise ValueError(f"recommend: there is no aim {aim!r}; choose {', '.join(map(repr, AIMS))}.")
    return aim


def _checked_sizes(sizes: Sequence[int] | None, rows: int) -> list[int]:
    if sizes is None:
        return [*(4**power for power in range(20) if 4**power < rows), rows]
    checked = sorted({whole_number(size, f"batch_sizes[{i}]", 1, rows) for i, size in enumerate(sizes)})
    if len(checked) < 2:
        raise ValueError(f"recommend: `batch_sizes` is {sizes}; give at least two different ones to choose from.")
    return checked


# --- what follows ------------------------------------------------------------------------------------


def _record(size: int, steps: int, tuned: Tuned, fresh: np.ndarray | None) -> dict[str, float]:
    """The first columns of the evidence; without fresh runs, the share that arrived is the largest of any rate."""
    best = tuned.best
    rate, low, high = (best.rate, best.low, best.high) if best else _NONE
    at_best = np.isfinite(tuned.scores).groupby("learning_rate").mean().max()
    return {
        "batch_size": size,
        "learning_rate": rate,
        "rate_low": low,
        "rate_high": high,
        "rates": tuned.scores.index.get_level_values("learning_rate").nunique(),
        "most_updates": tuned.most_updates,
        "epoch_updates": steps,
        "seemed": best.score.value if best else math.inf,
        "reached": at_best if fresh is None else np.isfinite(fresh).mean(),
    }


def _resampled(scores: dict[int, np.ndarray], sizes: Sequence[int]) -> np.ndarray:
    """Median scores, shape (resamples, batch sizes), infinite for a size without any; the first is that of all seeds.

    Each resample draws the same seeds for all batch sizes, whose runs share initial weights.
    """
    number = len(FRESH_SEEDS)
    drawn = np.random.default_rng(0).integers(number, size=(RESAMPLES + 1, number))
    drawn[0] = np.arange(number)
    none = np.full(number, np.inf)
    return np.stack([np.median(scores.get(size, none)[drawn], axis=1) for size in sizes], axis=1)


def _chosen(advice: Advice, aim: Aim) -> Advice:
    """Choose from the evidence."""
    costs, sizes = advice.costs[aim], advice.table["batch_size"].to_numpy()
    best = int(costs[0].argmin())
    no_worse = (costs <= costs[:, [best]]).mean(axis=0)
    good = np.flatnonzero((no_worse >= _TAILS[0]) & np.isfinite(costs[0]))
    alike = good[costs[0, good] <= _ALIKE * costs[0, best]]
    at = int(alike[advice.costs[_THEN[aim]][0, alike].argmin()])
    return replace(
        advice,
        aim=aim,
        batch_size=int(sizes[at]),
        learning_rate=Estimate(*advice.table.loc[at, ["learning_rate", "rate_low", "rate_high"]]),
        cost=_estimate(costs[:, at]),
        as_good=sizes[good].tolist(),
    )


def _critical(updates: np.ndarray, sizes: Sequence[int]) -> Estimate | None:
    """B of updates = least * (1 + B / batch size), by least squares of logarithms, from each resample."""
    arrived = np.isfinite(updates[0])
    if arrived.sum() < 3:
        return None
    kept = np.isfinite(updates[:, arrived]).all(axis=1)
    needed, size = np.log(updates[kept][:, arrived]), np.array(sizes)[arrived]
    tried = np.geomspace(size[0] / 100, size[-1] * 100, 500)
    shape = np.log1p(tried[:, None] / size)
    misfit = np.stack([(needed - one).var(axis=1) for one in shape])
    return _estimate(tried[misfit.argmin(axis=0)])


def _estimate(resampled: np.ndarray) -> Estimate:
    """A figure and its interval; infinite where half of the runs never arrive."""
    low, high = np.quantile(resampled, _TAILS, method="nearest")  # between two of them is no number if one is infinite
    return Estimate(float(resampled[0]), float(low), float(high))


def _said(estimate: Estimate | None) -> str:
    return "not measured" if estimate is None else "{:.3g} ({:.3g} to {:.3g})".format(*estimate)
