"""The trials that advice rests on: rates tuned by batch size, updates timed, gradient noise. Never chooses."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd

from batchlab.cores import one_core_each
from batchlab.statistics import Estimate, median
from batchlab.study.curvature import LossSurface, critical_batch_size, simple_noise_scale
from batchlab.study.speed import Contestant, Way, by_round, contestant, take_turns
from batchlab.study.tuning import Best, Target, best_rate, widened
from batchlab.training import draw_weights, fit_seeds
from batchlab.training.fit_seeds import divergence_expected

PILOT_RATES = tuple(4.0**power for power in range(-5, 2))
FRESH_SEEDS = range(10_000, 10_128)
"""Of the runs that say what a choice costs. They number 128 since `fit_seeds` then uses the programs of the tuning."""

RESAMPLES = 1000
_STEPS = [step / 2 for step in range(-4, 5)]  # powers of 2 about the rate that is expected
_GROWTH = 0.75  # of the best rate with the batch size: between the root (Adam) and the line (SGD)
_SLACK = 1.5  # a batch size stops where it has cost so many times as much as its neighbour, for every aim
_LEFT = 0.05  # of the way down to the least validation loss; its last part is the luck of the held-out rows
_ROUNDS, _TIMED_UPDATES = 15, 300
_NOISE_SEEDS, _NOISE_PLACES, _NOISE_ROWS = 8, 6, 2048


@dataclass(frozen=True)
class Task:
    """What is to be learned, from which rows.

    Attributes:
        build_model: Returns a compiled model.
        x: Features of the training rows.
        y: Their targets.
        held_out: Features and targets of the others.
        seeds: Runs of each batch size and rate.
    """

    build_model: Callable[[], keras.Model]
    x: np.ndarray
    y: np.ndarray
    held_out: tuple[np.ndarray, np.ndarray]
    seeds: int

    @property
    def rows(self) -> int:
        """Training rows."""
        return len(self.x)

    def steps(self, batch_size: int) -> int:
        """Updates of an epoch."""
        return -(-self.rows // batch_size)

    def runs(self, batch_size: int, epochs: int) -> Callable[[Sequence[float]], pd.DataFrame]:
        """Return what trains all seeds at given rates, each rate once however often it is asked for."""
        known: dict[float, pd.DataFrame] = {}

        def frame_of(rates: Sequence[float]) -> pd.DataFrame:
            new = [rate for rate in rates if rate not in known]
            if new:
                with divergence_expected():
                    frame = self._train(batch_size, epochs, new, self.seeds)
                known.update(iter(frame.groupby("learning_rate")))
            return pd.concat([known[rate] for rate in rates], ignore_index=True)

        return frame_of

    def fresh_runs(self, batch_size: int, epochs: int, rate: float) -> pd.DataFrame:
        """Train at one rate, with `FRESH_SEEDS`."""
        return self._train(batch_size, epochs, [rate], FRESH_SEEDS)

    def _train(self, batch_size: int, epochs: int, rates: Sequence[float], seeds: int | Sequence[int]) -> pd.DataFrame:
        return fit_seeds(
            self.build_model,
            self.x,
            self.y,
            seeds=seeds,
            batch_size=batch_size,
            epochs=epochs,
            learning_rates=rates,
            validation_data=self.held_out,
        )

    def weights(self, batch_size: int, rate: float, epochs: int) -> list[list[np.ndarray]]:
        """Train a few seeds and return the weights of each run, as `model.get_weights()` gives them."""
        _, weights = fit_seeds(
            self.build_model,
            self.x,
            self.y,
            seeds=_NOISE_SEEDS,
            batch_size=batch_size,
            epochs=epochs,
            learning_rates=[rate],
            keep_weights=True,
        )
        return [[values[run] for values in weights] for run in range(_NOISE_SEEDS)]

    def untrained_loss(self) -> float:
        """Return the median validation loss before training, over up to 16 seeds."""
        model = self.build_model()
        untrained = []
        for seed in range(min(self.seeds, 16)):
            draw_weights(model, seed)
            untrained.append(model.evaluate(*self.held_out, batch_size=1024, verbose=0, return_dict=True)["loss"])
        return float(np.median(untrained))

    def default_target(self, start: float, least: float) -> float:
        """Return the validation loss that leaves `_LEFT` of the way from the untrained model's to the least one.

        Raises:
            ValueError: There is no way down.
        """
        if not least < start:
            raise ValueError(
                f"recommend: no learning rate from {PILOT_RATES[0]:g} to {PILOT_RATES[-1]:g} learns: the median "
                f"validation loss begins at {start:.4g}, and the least one reached is {least:.4g}. Are the features on "
                "one scale, and do the held-out rows resemble the others?"
            )
        return float(least + _LEFT * (start - least))


def median_losses(frame: pd.DataFrame) -> pd.Series:
    """Return the median validation loss of each learning rate and epoch; a run that has gone to NaN counts as worst."""
    return frame.fillna({"val_loss": np.inf}).groupby(["learning_rate", "epoch"])["val_loss"].median()


class Tuned(NamedTuple):
    """What one batch size can do.

    Attributes:
        scores: The updates that each run needs, index learning_rate, seed.
        best: The best rate among them; None where at none of them half of the runs arrive.
        most_updates: Where runs were cut short.
    """

    scores: pd.Series
    best: Best | None
    most_updates: int


def outwards(
    task: Task, target: Target, sizes: list[int], pilot: int, found: Best, tell: Callable[[str], object]
) -> dict[int, Tuned]:
    """Tune the learning rate of the pilot's size finely, and from there those of smaller sizes and of larger ones.

    Args:
        task: What is to be learned.
        target: What is to be reached.
        sizes: Batch sizes, rising.
        pilot: One of them.
        found: Its best rate among `PILOT_RATES`, which gives its budget; that of others comes from their neighbour.
        tell: Called with each batch size that is begun, from several threads.
    """

    def tuned(size: int, rate: float, known: int, needed: float) -> Tuned:
        epochs = math.ceil(_SLACK * needed * max(1, known / size) / task.steps(size))
        tell(f"batch size {size}: {len(_STEPS)} or more learning rates, {epochs} epoch{'s' * (epochs > 1)} each")
        middle = round(math.log2(rate))
        frame = widened(task.runs(size, epochs), [2.0 ** (middle + step) for step in _STEPS], [target])
        scores = target(frame)
        return Tuned(scores, best_rate(scores), epochs * task.steps(size))

    # These rates include the pilot's best one, so that half of its runs arrive again.
    done = {pilot: tuned(pilot, found.rate, pilot, found.score.value)}
    first = done[pilot].best

    def follow(path: list[int]) -> None:
        # A larger size that needs more updates than a smaller one, or a smaller one that needs more rows than a larger
        # one, costs more of everything.
        previous, rate, known, needed = pilot, first.rate, pilot, first.score.value
        for size in path:
            rate *= (size / previous) ** _GROWTH
            done[size] = tuned(size, rate, known, needed)
            previous = size
            if best := done[size].best:
                rate, known, needed = best.rate, size, best.score.value

    at = sizes.index(pilot)
    for _ in one_core_each(follow, [sizes[:at][::-1], sizes[at + 1 :]]):
        pass
    return done


def fresh_runs(task: Task, tuned: dict[int, Tuned]) -> pd.DataFrame:
    """Train each batch size anew at its best rate, with seeds that took no part in choosing it.

    The least of many medians is flattered by the luck of its runs; these are not.

    Args:
        task: What is learned.
        tuned: What `outwards` found. A size at which no rate let half of the runs arrive is left out.
    """

    def train(size: int) -> pd.DataFrame:
        return task.fresh_runs(size, tuned[size].most_updates // task.steps(size), tuned[size].best.rate)

    sizes = sorted(size for size in tuned if tuned[size].best)  # small ones take longest
    by_size = dict(one_core_each(train, sizes))
    return pd.concat([by_size[size] for size in sizes], ignore_index=True)


def update_seconds(task: Task, way: Way, sizes: list[int]) -> np.ndarray:
    """Return the seconds of one update, shape (resamples, batch sizes); the first resample is all rounds.

    A call's own seconds are spread over some hundred updates; validation is not among them.
    """

    def compiled_for(size: int) -> Contestant:
        steps = max(1, task.rows // size)
        epochs = -(-_TIMED_UPDATES // steps)
        return contestant(way, task.build_model, task.x, task.y, batch_size=size, steps=steps, epochs=epochs)

    contestants = dict(one_core_each(compiled_for, sizes))
    measured = by_round(take_turns(contestants.values(), rounds=_ROUNDS), way)[sizes].to_numpy()
    rounds = np.random.default_rng(1).integers(_ROUNDS, size=(RESAMPLES + 1, _ROUNDS))
    rounds[0] = np.arange(_ROUNDS)
    return np.median(measured[rounds], axis=1)


def predicted_critical(task: Task, batch_size: int, best: Best) -> Estimate | None:
    """Return the critical batch size that the gradient noise predicts, in rows: the median of a few runs.

    It is the mean of the simple noise scale on the way to the target with large batches (`critical_batch_size`); runs
    are trained anew up to several places on that way, equal numbers of updates apart.

    Args:
        task: What is to be learned.
        batch_size: A large one.
        best: Its rate, and the updates that it needs.

    Returns:
        The prediction; None, with a warning, where the model or its gradients do not allow one.
    """
    model = task.build_model()
    rows = np.random.default_rng(0).permutation(task.rows)[:_NOISE_ROWS]
    whole = max(1, round(best.score.value / task.steps(batch_size)))
    places = sorted({max(1, round((place + 0.5) * whole / _NOISE_PLACES)) for place in range(_NOISE_PLACES)})
    try:
        surface = LossSurface(model, task.x[rows], task.y[rows])
        scales = [
            [simple_noise_scale(surface, w) for w in task.weights(batch_size, best.grid_rate, epochs)]
            for epochs in places
        ]
        return median([critical_batch_size(of_run) for of_run in np.array(scales).T])
    except ValueError as refusal:
        warnings.warn(f"recommend: no noise scale to compare with. {refusal}", stacklevel=3)
        return None
