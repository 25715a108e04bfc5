"""The long frame in which all results travel, one row a run and epoch. Never trains, never draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:  # a frame needs no Keras
    import keras

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


def long_frame(
    figures: Mapping[str, np.ndarray],
    *,
    batch_size: int,
    seeds: Sequence[int],
    updates_per_epoch: int,
    learning_rates: Sequence[float] | None = None,
    epochs: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Lay out the figures of runs in the long form: one row a run and epoch, run after run.

    Args:
        figures: For each figure an array (epochs, runs).
        batch_size: Of all runs.
        seeds: Of each run.
        updates_per_epoch: Optimizer steps.
        learning_rates: Of each run; without it there is no such column.
        epochs: Their numbers, counted from 1; without it they are the first ones.

    Returns:
        Columns: batch_size, learning_rate, seed, epoch, updates (optimizer steps so far), and the figures in the order
        of `ordered_figures`.
    """
    epochs = np.arange(1, 1 + len(next(iter(figures.values()), ()))) if epochs is None else np.asarray(epochs, int)
    columns = {"batch_size": np.full(len(epochs) * len(seeds), batch_size)}
    if learning_rates is not None:
        columns["learning_rate"] = np.repeat(learning_rates, len(epochs))
    columns["seed"] = np.repeat(seeds, len(epochs))
    columns["epoch"] = np.tile(epochs, len(seeds))
    columns["updates"] = columns["epoch"] * updates_per_epoch
    return pd.DataFrame(columns | {name: np.asarray(figures[name]).T.ravel() for name in ordered_figures(figures)})


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
    return long_frame(
        {name: np.reshape(values, (-1, 1)) for name, values in history.history.items()},
        batch_size=batch_size,
        seeds=[seed],
        updates_per_epoch=history.params["steps"],
        epochs=[epoch + 1 for epoch in history.epoch],
    )
