"""What training costs in seconds, by batch size, measured in turns. Never looks at how well a model learns.

Every contestant trains whole batches of one size, so that no smaller last batch blurs the comparison. All of them run
once a round, in an order drawn anew, and ratios are formed within a round: a busy moment of the machine, or a processor
that slows down as it warms up, meets both sides of a ratio alike in the long run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
import pandas as pd

from batchlab.checks import whole_number
from batchlab.statistics import Estimate, median
from batchlab.training import fit, fit_seeds

Way = Literal["plain Keras", "compiled", "side by side"]
"""`keras.Model.fit`; `fit`; `fit_seeds`."""


@dataclass(frozen=True)
class Contestant:
    """A fixed amount of training, to be timed again and again.

    Attributes:
        way: What trains.
        batch_size: Rows of every batch.
        steps: Batches of an epoch.
        epochs: Of one call.
        runs: Trained by one call.
        train: The call.
    """

    way: Way
    batch_size: int
    steps: int
    epochs: int
    runs: int
    train: Callable[[], object]

    @property
    def updates(self) -> int:
        """Optimizer steps of one call, those of all runs together."""
        return self.steps * self.epochs * self.runs


def contestant(
    way: Way,
    build_model: Callable[[], keras.Model],
    x: np.ndarray,
    y: np.ndarray,
    *,
    batch_size: int,
    steps: int,
    epochs: int = 1,
    runs: int = 1,
) -> Contestant:
    """Make one contestant, and run it once, so that nothing is traced or compiled while the clock runs.

    Args:
        way: "plain Keras", "compiled" (`fit`) or "side by side" (`fit_seeds`).
        build_model: Returns a compiled model.
        x: Features, shape (rows, features); repeated or cut to batch_size * steps rows.
        y: Targets, shape (rows,); likewise.
        batch_size: Rows of every batch.
        steps: Batches of an epoch.
        epochs: Of one call.
        runs: Side by side; 1 elsewhere.

    Raises:
        TypeError: A number is not whole.
        ValueError: A number is below 1, the way is unknown, or it cannot train several runs.
    """
    sizes = {"batch_size": batch_size, "steps": steps, "epochs": epochs, "runs": runs}
    sizes = {name: whole_number(value, name, 1) for name, value in sizes.items()}
    if runs > 1 and way != "side by side":
        raise ValueError(f"contestant: {way!r} trains one run at a time, not {runs}; leave `runs` out.")
    rows = np.arange(batch_size * steps) % len(x)
    x, y = x[rows], y[rows]
    arguments = {"batch_size": batch_size, "epochs": epochs, "verbose": 0}
    model = build_model()
    if way == "plain Keras":
        made = Contestant(way, **sizes, train=lambda: model.fit(x, y, **arguments))
    elif way == "compiled":
        made = Contestant(way, **sizes, train=lambda: fit(model, x, y, seed=0, **arguments))
    elif way == "side by side":
        made = Contestant(way, **sizes, train=lambda: fit_seeds(build_model, x, y, seeds=runs, **arguments))
    else:
        raise ValueError(
            f"contestant: {way!r} is no way of training; choose 'plain Keras', 'compiled', 'side by side'."
        )
    made.train()
    return made


def take_turns(contestants: Iterable[Contestant], *, rounds: int, seed: int = 0) -> pd.DataFrame:
    """Time every contestant once a round, in an order drawn anew for each round.

    Args:
        contestants: Each pair of way and batch size at most once.
        rounds: How often.
        seed: Decides the orders.

    Returns:
        One row a round and contestant. Columns: way, batch_size, round, step (seconds for one update of one run),
        rate (rows a second, those of all runs together).

    Raises:
        TypeError: A number is not whole.
        ValueError: There are no rounds, or two contestants share way and batch size.
    """
    contestants = list(contestants)
    if len({(c.way, c.batch_size) for c in contestants}) < len(contestants):
        raise ValueError("take_turns: two contestants share way and batch size; their samples would be mixed up.")
    generator = np.random.default_rng(seed)
    samples = []
    for turn in range(whole_number(rounds, "rounds", 1)):
        for i in generator.permutation(len(contestants)):
            c = contestants[i]
            start = time.perf_counter()
            c.train()
            seconds = time.perf_counter() - start
            samples.append((c.way, c.batch_size, turn, seconds / c.updates, c.updates * c.batch_size / seconds))
    frame = pd.DataFrame(samples, columns=["way", "batch_size", "round", "step", "rate"])
    return frame.sort_values(["way", "batch_size", "round"], ignore_index=True)


def by_round(frame: pd.DataFrame, way: Way, figure: Literal["step", "rate"] = "step") -> pd.DataFrame:
    """Lay the samples of one way out, one row a round and one column a batch size.

    Args:
        frame: What `take_turns` returned.
        way: One of its ways.
        figure: "step" in seconds, or "rate" in rows a second.

    Raises:
        ValueError: The frame has no such way.
    """
    samples = frame[frame["way"] == way]
    if samples.empty:
        raise ValueError(f"by_round: nothing was measured for {way!r}, only for {', '.join(frame['way'].unique())}.")
    return samples.pivot(index="round", columns="batch_size", values=figure)


def against_neighbours(rates: pd.DataFrame, size: int, distances: Sequence[int]) -> np.ndarray:
    """Compare the speed of a batch size with that of its neighbours on either side, round by round.

    Larger batches are faster a row, all other things equal. So the neighbours come in pairs, one as far below as the
    other is above, and the geometric mean of all of them stands for what a batch of this size should reach.

    Args:
        rates: Rows a second, one row a round and one column a batch size (`by_round`).
        size: The batch size.
        distances: How far its neighbours lie off.

    Returns:
        Rows a second at this size divided by that mean, one figure a round: above 1 where this size is faster.

    Raises:
        ValueError: There is no distance, or a batch size was not measured.
    """
    wanted = [size + sign * distance for distance in distances for sign in (-1, 1)]
    if not wanted:
        raise ValueError("against_neighbours: give at least one distance.")
    if missing := [b for b in (size, *wanted) if b not in rates.columns]:
        raise ValueError(f"against_neighbours: batch size {missing[0]} was not measured; there are {list(rates)}.")
    return np.exp(np.log(rates[size]) - np.log(rates[wanted]).mean(axis=1)).to_numpy()


def ratio(table: pd.DataFrame, over: int, under: int) -> Estimate:
    """Return how many times the figure at one batch size is that at another: the median over the rounds.

    Args:
        table: One row a round and one column a batch size (`by_round`).
        over: Batch size of the numerator.
        under: Batch size of the denominator.

    Raises:
        ValueError: There are fewer than six rounds, too few for an interval.
    """
    return median((table[over] / table[under]).to_numpy())
