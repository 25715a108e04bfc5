"""What one pass over a table of known Bayes loss leaves to be learned, by rows and batch size. Never draws.

One pass over n independent rows is what any training on more rows has done after its first n. So the results of passes
over tables of several sizes are also points of one curve, the loss against rows seen, and with the rows a second of
each batch size they become seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

import keras
import numpy as np
import pandas as pd
from scipy.special import entr

from batchlab.checks import positive_number, whole_number
from batchlab.cores import one_core_each
from batchlab.processes import MEBIBYTE, watched_memory
from batchlab.statistics import Estimate
from batchlab.study.synthetic import Waves
from batchlab.study.tuning import Best, Budget, best_rate
from batchlab.training import fit_seeds

_HELD_OUT, _HELD_OUT_SEED = 4096, 2**31
_AT_ONCE = 2  # a million rows take most of a gibibyte while they are trained on
_RESAMPLES = 1000
_TAILS = (2.5, 97.5)  # per cent


class Setting(TypedDict):
    """The arguments of `after_one_pass` beside the model."""

    table: Waves
    rows: int
    batch_size: int
    learning_rates: Sequence[float]
    seeds: int


def after_passes(build_model: Callable[[], keras.Model], settings: Sequence[Setting]) -> list[pd.DataFrame]:
    """Call `after_one_pass` for several settings, two at a time, each of them on one core (`one_core_each`).

    Args:
        build_model: As in `after_one_pass`.
        settings: Begin with the longest, so that none of them is left to run alone.

    Returns:
        What `after_one_pass` returns, in the order of the settings.

    Raises:
        TypeError: As in `after_one_pass`.
        ValueError: As in `after_one_pass`.
    """

    def trained(at: int) -> pd.DataFrame:
        return after_one_pass(build_model, **settings[at])

    frames = dict(one_core_each(trained, range(len(settings)), at_most=_AT_ONCE))
    return [frames[at] for at in range(len(settings))]


def after_one_pass(
    build_model: Callable[[], keras.Model],
    table: Waves,
    *,
    rows: int,
    batch_size: int,
    learning_rates: Sequence[float],
    seeds: int,
) -> pd.DataFrame:
    """Train once over a table, from many seeds, and measure the excess loss on rows held out.

    The excess loss is the mean, over the held-out rows, of the Kullback-Leibler divergence of the predicted chances
    from the true ones: the expected cross-entropy above that of the best classifier. It is computed from the chances,
    not from classes drawn with them, so that no luck of the draw is in it.

    Args:
        build_model: Returns a compiled model with one sigmoid output and binary cross-entropy as its loss.
        table: The table, drawn with seed 0.
        rows: Of the table.
        batch_size: Rows for one update.
        learning_rates: To be tried.
        seeds: Runs of each.

    Returns:
        The long frame of `fit_seeds`, one row a run, with the further columns rows, waves, excess (nats) and peak (the
        most memory that this process held while it trained all of these runs, in mebibytes).

    Raises:
        TypeError: A number is not whole.
        ValueError: A number is out of range.
    """
    x, y = table.draw(whole_number(rows, "rows", 1), seed=0)
    held_out, _ = table.draw(_HELD_OUT, _HELD_OUT_SEED)
    chances = table.chances(held_out)
    with watched_memory() as memory:
        frame = fit_seeds(
            build_model,
            x,
            y,
            seeds=seeds,
            batch_size=batch_size,
            epochs=1,
            learning_rates=learning_rates,
            validation_data=(held_out, chances),
        )
    chances = chances.astype(np.float64)
    least = (entr(chances) + entr(1 - chances)).mean()
    return frame.assign(rows=rows, waves=table.waves, excess=frame["val_loss"] - least, peak=memory.most / MEBIBYTE)


def tuned(frame: pd.DataFrame) -> tuple[Best, np.ndarray]:
    """Choose the learning rate with the least median excess loss.

    Args:
        frame: What `after_one_pass` returned: one table, one batch size, six seeds or more.

    Returns:
        The best rate (`tuning.best_rate`), and the excess losses of its runs, shape (seeds,).

    Raises:
        ValueError: There are fewer than six seeds.
    """
    scores = Budget(1, figure="excess")(frame)
    best = best_rate(scores)
    return best, scores[best.grid_rate].to_numpy()


def spread(excess: Mapping[int, np.ndarray]) -> Estimate:
    """Return how far the worst batch size lies above the best one: the difference of their median excess losses.

    Args:
        excess: By batch size, the excess losses of its runs, shape (seeds,).

    Returns:
        The difference in nats. Its interval holds 95 % of the resamples of the seeds (bootstrap: Efron 1979), each of
        which looks for the worst and the best anew.
    """
    medians = _resampled_medians({size: values[None] for size, values in excess.items()})
    found = np.stack([part[:, 0] for part in medians.values()])
    return _estimate(np.ptp(found, axis=0))


def rows_needed(rows: Sequence[int], excess: np.ndarray, target: float) -> np.ndarray:
    """Read off a falling curve how many rows it takes to come down to a target.

    Args:
        rows: Rows seen at the points of the curve, rising.
        excess: The excess loss there, shape (..., points), above 0.
        target: The excess loss to reach.

    Returns:
        Rows, shape (...), between two points on a straight line through logarithms; infinite where the curve does not
        come down to the target, NaN where it begins below it.

    Raises:
        ValueError: The target is not above 0, or the points do not match.
    """
    target = positive_number(target, "target")
    excess = np.asarray(excess, np.float64)
    if excess.shape[-1:] != (len(rows),) or np.any(np.diff(rows) <= 0):
        raise ValueError(f"rows_needed: {len(rows)} rising numbers of rows do not match excess losses {excess.shape}.")
    high, points = np.log(np.moveaxis(excess, -1, 0)) - math.log(target), np.log(rows)
    needed = np.full(high.shape[1:], np.inf)
    for i in range(len(rows) - 1, 0, -1):  # the first crossing is written last
        crosses = (high[i - 1] > 0) & (high[i] <= 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            at = points[i - 1] + (points[i] - points[i - 1]) * high[i - 1] / (high[i - 1] - high[i])
        needed = np.where(crosses, np.exp(np.where(crosses, at, 0)), needed)
    return np.where(high[0] <= 0, np.nan, needed)


def seconds_needed(
    rows: Sequence[int], excess: Mapping[int, Sequence[np.ndarray]], rates: pd.DataFrame, target: float
) -> tuple[dict[int, Estimate], Estimate]:
    """Return the seconds that each batch size needs to come down to a target, and the ratio of the most to the least.

    Args:
        rows: Rows seen at the points of the curves, rising.
        excess: By batch size, for each point the excess losses of its runs.
        rates: Rows a second, one row a round and one column a batch size (`speed.by_round`).
        target: The excess loss to reach, in nats.

    Returns:
        The seconds by batch size, and the ratio. The intervals hold 95 % of the resamples of both seeds and rounds.

    Raises:
        ValueError: A curve does not cross the target between its ends.
    """
    seconds = {}
    generator = np.random.default_rng(1)
    rounds = generator.integers(len(rates), size=(_RESAMPLES, len(rates)))
    rounds[0] = np.arange(len(rates))
    for size, curve in _resampled_medians(excess).items():
        needed = rows_needed(rows, curve, target)
        if not np.isfinite(needed[0]):
            raise ValueError(f"seconds_needed: the curve of batch size {size} does not cross {target} within its ends.")
        seconds[size] = needed / np.median(rates[size].to_numpy()[rounds], axis=1)
    together = np.stack(list(seconds.values()))
    return {size: _estimate(found) for size, found in seconds.items()}, _estimate(together.max(0) / together.min(0))


def _resampled_medians(excess: Mapping[int, Sequence[np.ndarray]]) -> dict[int, np.ndarray]:
    """By batch size the medians over seeds, (resamples, points); the first one is that of the seeds as they are."""
    generator = np.random.default_rng(0)
    medians = {}
    for size, points in excess.items():
        parts = []
        for values in points:
            drawn = generator.integers(len(values), size=(_RESAMPLES, len(values)))
            drawn[0] = np.arange(len(values))
            parts.append(np.median(np.asarray(values)[drawn], axis=1))
        medians[size] = np.stack(parts, axis=1)
    return medians


def _estimate(resampled: np.ndarray) -> Estimate:
    """A figure, which comes first, and the interval that holds 95 % of its resamples."""
    return Estimate(float(resampled[0]), *map(float, np.nanpercentile(resampled, _TAILS)))
