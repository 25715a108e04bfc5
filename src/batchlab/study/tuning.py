"""What a batch size can do when its learning rate suits it: aims, best rates, grids that widen. Never trains by itself.

An aim turns the long frame of one setting into one score a run, of which less is better. For the rules of an honest
comparison, to retune for each batch size and to name the budget, see Godbole et al. 2023, "Deep Learning Tuning
Playbook".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from batchlab.statistics import Estimate, median

_RESAMPLES = 500
_WIDEST = 8  # further learning rates at most, at either end
_TAILS = (0.025, 0.975)


class Aim(Protocol):
    """A score for each run, of which less is better; infinite where a run failed or never arrived."""

    def __call__(self, frame: pd.DataFrame) -> pd.Series:
        """Score the runs of a long frame of one batch size; the index is learning_rate, seed."""


@dataclass(frozen=True)
class Target:
    """Updates until a figure has fallen to a target, read off the straight line between two kept epochs.

    A run that is there at the first kept epoch counts as having needed that epoch.

    Attributes:
        target: What is to be reached, in units of the figure.
        figure: A column in which less is better.
    """

    target: float
    figure: str = "val_loss"

    def __call__(self, frame: pd.DataFrame) -> pd.Series:
        """Score the runs: updates, infinite for a run that never arrives."""
        values, updates, index = _by_run(frame, self.figure)
        there = values <= self.target  # False where a run has gone to NaN
        first = there.argmax(axis=1)
        before = np.maximum(first - 1, 0)
        rows = np.arange(len(values))
        high, low = values[rows, before], values[rows, first]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(first > 0, (high - self.target) / (high - low), 1.0)
        share = np.where(np.isfinite(share), share, 1.0)
        needed = updates[before] + share * (updates[first] - updates[before])
        return pd.Series(np.where(there.any(axis=1), needed, np.inf), index)


@dataclass(frozen=True)
class Budget:
    """A figure when a budget is used up.

    Attributes:
        most: Epochs, or updates. The last kept epoch within the budget counts, but for a rounding: an epoch that ends
            within one epoch's updates of it does.
        of: "epoch" or "updates".
        figure: A column in which less is better.
    """

    most: int
    of: str = "epoch"
    figure: str = "val_loss"

    def __call__(self, frame: pd.DataFrame) -> pd.Series:
        """Score the runs: the figure, infinite for a run that has gone to NaN."""
        values, updates, index = _by_run(frame, self.figure)
        spent = updates if self.of == "updates" else np.unique(frame["epoch"])
        at = int(np.abs(spent - self.most).argmin())
        slack = updates[0] / np.unique(frame["epoch"])[0] if self.of == "updates" else 0
        if abs(spent[at] - self.most) > slack:
            raise ValueError(
                f"No kept epoch ends at {self.most} {self.of}: the nearest ends at {spent[at]:g}. Keep that epoch too, "
                "or train for longer."
            )
        return pd.Series(np.nan_to_num(values[:, at], nan=np.inf), index)


class Best(NamedTuple):
    """The learning rate with the least median score.

    Attributes:
        rate: The rate; between those of the grid, at the bottom of the parabola through the best one and its neighbours
            (logarithms of rates, and of scores).
        low: The interval's lower end: 95 % of the resamples of the seeds put the best rate into the interval.
        high: Its upper end.
        grid_rate: The best rate of the grid itself.
        score: The median score at that rate, with its interval.
        reached: The share of runs with a finite score there.
        on_edge: -1 or 1 where the best rate is the smallest or the largest one tried, else 0.
    """

    rate: float
    low: float
    high: float
    grid_rate: float
    score: Estimate
    reached: float
    on_edge: int


def best_rate(scores: pd.Series, *, seed: int = 0) -> Best | None:
    """Find the learning rate with the least median score, and how well the seeds determine it.

    Args:
        scores: What an `Aim` returns for runs of several rates, all with the same seeds.
        seed: Decides the resamples of the seeds (bootstrap: Efron 1979), which take all rates along.

    Returns:
        The best rate; None where at no rate half of the runs have a finite score.

    Raises:
        ValueError: There are fewer than six seeds, or rates differ in their seeds.
    """
    table = scores.unstack("seed").sort_index()
    if table.shape[1] < 6 or table.isna().any(axis=None):
        raise ValueError(f"best_rate: every rate needs the same six or more seeds; there are {table.shape[1]}.")
    rates, values = table.index.to_numpy(), table.to_numpy()
    medians = np.median(values, axis=1)
    if not np.isfinite(medians).any():
        return None
    chosen = int(medians.argmin())
    drawn = np.random.default_rng(seed).integers(values.shape[1], size=(_RESAMPLES, values.shape[1]))
    resampled = [_vertex(rates, column) for column in _medians(values, drawn).T if np.isfinite(column).any()]
    low, high = np.quantile(resampled, _TAILS)
    edge = 0 if len(rates) < 2 else (chosen == len(rates) - 1) - (chosen == 0)
    return Best(
        _vertex(rates, medians),
        float(low),
        float(high),
        float(rates[chosen]),
        median(values[chosen]),
        float(np.isfinite(values[chosen]).mean()),
        int(edge),
    )


def widened(
    frame_of: Callable[[list[float]], pd.DataFrame], rates: Sequence[float], aims: Iterable[Aim]
) -> pd.DataFrame:
    """Try further learning rates while the best one, for any aim, is the smallest or the largest tried.

    Args:
        frame_of: Trains these rates and returns their long frame; `sweep` with a store trains only what is new.
        rates: To begin with, in equal steps of their logarithm, at least three.
        aims: What the best rate is looked for.

    Returns:
        The frame of all rates. An aim that no rate reaches asks for none.
    """
    rates = sorted(rates)
    step = rates[1] / rates[0]
    aims = list(aims)
    for _ in range(_WIDEST):
        frame = frame_of(rates)
        edges = {best.on_edge for aim in aims if (best := best_rate(aim(frame)))} - {0}
        if not edges:
            break
        rates = [*([rates[0] / step] if -1 in edges else []), *rates, *([rates[-1] * step] if 1 in edges else [])]
    return frame


def _medians(values: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Medians of resampled seeds, (rates, resamples); one rate after the other, to save memory."""
    return np.stack([np.median(row[drawn], axis=1) for row in values])


def _vertex(rates: np.ndarray, scores: np.ndarray) -> float:
    """The bottom of the parabola through the least score and its neighbours, on logarithms; else the rate itself."""
    at = int(np.argmin(scores))
    near = slice(at - 1, at + 2)
    if not 0 < at < len(scores) - 1 or not (np.isfinite(scores[near]) & (scores[near] > 0)).all():
        return float(rates[at])
    x, y = np.log(rates[near]), np.log(scores[near])
    bend = (y[2] - y[1]) / (x[2] - x[1]) - (y[1] - y[0]) / (x[1] - x[0])
    if bend <= 0:
        return float(rates[at])
    slope = (y[2] - y[0]) / (x[2] - x[0])
    offset = -slope * (x[2] - x[0]) / (2 * bend)
    return math.exp(x[1] + min(max(offset, x[0] - x[1]), x[2] - x[1]))


def _by_run(frame: pd.DataFrame, figure: str) -> tuple[np.ndarray, np.ndarray, pd.MultiIndex]:
    """A figure as (runs, epochs kept), the updates at each epoch, and the runs."""
    runs = frame.pivot(index=["learning_rate", "seed"], columns="updates", values=figure)
    return runs.to_numpy(), runs.columns.to_numpy(), runs.index
