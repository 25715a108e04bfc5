"""The long frame in which all results travel, one row a run and epoch. Never trains, never draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from batchlab.claims import documented_runs

if TYPE_CHECKING:  # a frame needs no Keras
    import keras

METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")


def ordered_figures(names: Iterable[str]) -> list[str]:
    """Return the names of a run's figures in the order of the frame: the loss, the metrics, their validation twins."""
    return sorted(names, key=lambda name: (name.startswith("val_"), not name.endswith("loss"), name))


def long_frame(
    figures: Mapping[str, np.ndarray],
    *,
    batch_size: int,
    seeds: Sequence[int],
    updates_per_epoch: int,
    learning_rates: Sequence[float] | None = None,
    first_epoch: int = 1,
) -> pd.DataFrame:
    """Lay out the figures of runs in the long form: one row a run and epoch, run after run.

    Args:
        figures: For each figure an array (epochs, runs).
        batch_size: Of all runs.
        seeds: Of each run.
        updates_per_epoch: Optimizer steps.
        learning_rates: Of each run; without it there is no such column.
        first_epoch: The number of the first epoch.

    Returns:
        Columns: batch_size, learning_rate, seed, epoch, updates (optimizer steps so far), and the figures in the order
        of `ordered_figures`.
    """
    epochs = len(next(iter(figures.values()), ()))
    columns = {"batch_size": np.full(epochs * len(seeds), batch_size)}
    if learning_rates is not None:
        columns["learning_rate"] = np.repeat(learning_rates, epochs)
    columns["seed"] = np.repeat(seeds, epochs)
    columns["epoch"] = np.tile(np.arange(first_epoch, first_epoch + epochs), len(seeds))
    columns["updates"] = columns["epoch"] * updates_per_epoch
    return pd.DataFrame(columns | {name: np.asarray(figures[name]).T.ravel() for name in ordered_figures(figures)})


def history_frame(history: keras.callbacks.History, *, batch_size: int, seed: int = 0) -> pd.DataFrame:
    """Turn the history of one run into the long form in which all results travel.

    Args:
        history: What `fit` returned.
        batch_size: The batch size of the run.
        seed: A label that tells runs apart.

    Returns:
        One row an epoch: batch_size, seed, epoch (from 1), updates (optimizer steps so far), then the
        loss in nats and the accuracy as a share of rows, and their `val_` twins where measured.
    """
    return long_frame(
        {name: np.reshape(values, (-1, 1)) for name, values in history.history.items()},
        batch_size=batch_size,
        seeds=[seed],
        updates_per_epoch=history.params["steps"],
        first_epoch=history.epoch[0] + 1 if history.epoch else 1,
    )


def compare_with_documented(frame: pd.DataFrame, batch_size: int) -> pd.DataFrame:
    """Lay many runs beside the documented figures of their batch size.

    Args:
        frame: Long results of the runs (`fit_seeds`).
        batch_size: 1 or 250, the two whose figures are documented.

    Returns:
        One row per documented epoch and figure. Columns: documented; one run (that of the lowest seed);
        median, 2.5 % and 97.5 % (quantiles over the runs); percentile (share of runs, in %, that lie below the
        documented figure, ties counted half). Losses in nats, accuracies as shares of rows.

    Raises:
        ValueError: No figures are documented for this batch size, or the runs ended too early.
    """
    epochs = documented_runs()["runs"].get(str(batch_size), {}).get("epoch")
    if not epochs:
        raise ValueError(f"No figures are documented for batch size {batch_size}; there are some for 1 and 250.")
    last = max(map(int, epochs))
    if frame["epoch"].max() < last:
        raise ValueError(
            f"The runs have {frame['epoch'].max()} epochs, but epoch {last} is documented. Train for at least as many."
        )
    rows = []
    for epoch, figures in epochs.items():
        runs = frame[frame["epoch"] == int(epoch)].sort_values("seed")
        for metric, value in figures.items():
            low, median, high = runs[metric].quantile([0.025, 0.5, 0.975])
            # Documented figures have four digits, so a tie is a tie at four digits.
            measured = runs[metric].round(4)
            percentile = 100 * ((measured < value).mean() + (measured == value).mean() / 2)
            rows.append((int(epoch), metric, value, runs[metric].iloc[0], median, low, high, round(percentile, 1)))
    columns = ["epoch", "figure", "documented", "one run", "median", "2.5 %", "97.5 %", "percentile"]
    return pd.DataFrame(rows, columns=columns).set_index(["epoch", "figure"]).round(4)
