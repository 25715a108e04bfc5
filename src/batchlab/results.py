"""The long frame in which all results travel, one row a run and epoch. Never trains, never draws."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from batchlab.claims import documented_runs
from batchlab.statistics import band

if TYPE_CHECKING:  # a frame needs no Keras
    import keras

HEAD = ("batch_size", "learning_rate", "seed", "epoch", "updates")
"""The first columns of the frame; the learning rate is there where runs differ in it. The figures follow."""

METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")
"""The figures of the documented model: losses in nats, accuracies as shares of rows."""


def ordered_figures(names: Iterable[str]) -> list[str]:
    """Put the names of figures into the order of the frame's columns.

    The training figures come first and their `val_` twins after them; in each half the loss leads, then the losses of
    single outputs, then the metrics, both by name.
    """

    def place(name: str) -> tuple:
        figure = name.removeprefix("val_")
        return figure != name, figure != "loss", not figure.endswith("loss"), figure

    return sorted(names, key=place)


def history_frame(history: keras.callbacks.History, *, batch_size: int, seed: int = 0) -> pd.DataFrame:
    """Turn the history of one run into the long form in which all results travel.

    Args:
        history: What `fit` returned.
        batch_size: The batch size of the run.
        seed: A label that tells runs apart.

    Returns:
        One row an epoch: batch_size, seed, epoch (from 1), updates (optimizer steps so far), then what was measured,
        in the order of `ordered_figures`.
    """
    epochs = np.asarray(history.epoch) + 1
    columns = {"batch_size": batch_size, "seed": seed, "epoch": epochs, "updates": epochs * history.params["steps"]}
    order = [name for name in HEAD if name in columns] + ordered_figures(history.history)
    return pd.DataFrame({**columns, **history.history})[order]


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
            low, median, high = band(runs[metric])
            # Documented figures have four digits, so a tie is a tie at four digits.
            measured = runs[metric].round(4)
            percentile = 100 * ((measured < value).mean() + (measured == value).mean() / 2)
            rows.append((int(epoch), metric, value, runs[metric].iloc[0], median, low, high, round(percentile, 1)))
    columns = ["epoch", "figure", "documented", "one run", "median", "2.5 %", "97.5 %", "percentile"]
    return pd.DataFrame(rows, columns=columns).set_index(["epoch", "figure"]).round(4)
