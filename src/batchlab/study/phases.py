"""Runs in phases, each with a batch size and a learning rate of its own. Never resets weights in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd

from batchlab.checks import positive_number, whole_number
from batchlab.results import history_frame
from batchlab.training import draw_weights, fit


@dataclass(frozen=True)
class Phase:
    """A part of a run.

    Attributes:
        epochs: Its length.
        batch_size: Rows for one update.
        learning_rate: Of all its updates.
    """

    epochs: int
    batch_size: int
    learning_rate: float

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            TypeError: A number is not of its kind.
            ValueError: One is not above 0.
        """
        whole_number(self.epochs, "epochs", 1)
        whole_number(self.batch_size, "batch_size", 1)
        positive_number(self.learning_rate, "learning_rate")


def fit_phases(
    build_model: Callable[[], keras.Model],
    x: np.ndarray,
    y: np.ndarray,
    phases: Sequence[Phase],
    *,
    seeds: int,
    **as_in_fit: object,
) -> pd.DataFrame:
    """Train the same model from many seeds through phases, one run after the other.

    A seed gives initial weights and row orders as in `fit_seeds`, and a run of one phase is the run of `fit_seeds`. The
    optimizer's state, such as momentum, goes on from phase to phase. To raise the batch size where one would lower the
    learning rate: Smith et al. 2018, "Don't decay the learning rate, increase the batch size".

    Args:
        build_model: Returns a compiled model whose learning rate is a number, not a schedule.
        x: Features, shape (rows, features).
        y: Targets, shape (rows,).
        phases: In their order.
        seeds: Their number, for 0, 1, 2, …
        **as_in_fit: `validation_split` or `validation_data`, and whatever else of a run `fit` takes.

    Returns:
        The long frame, one row a run and epoch: batch_size and learning_rate of its phase, seed, epoch (from 1 at the
        run's beginning), updates (optimizer steps so far), and the figures.

    Raises:
        TypeError: `seeds` is no whole number.
        ValueError: There is no phase, `seeds` is below 1, or the model has a schedule; also as `fit` does.
    """
    if not phases:
        raise ValueError("fit_phases: there is no phase; give at least one.")
    model = build_model()
    if not isinstance(model.optimizer.get_config()["learning_rate"], float):
        raise ValueError(
            "fit_phases: the model has a learning rate schedule, which the phases replace; build it without."
        )
    model.optimizer.build(model.trainable_variables)
    fresh = [variable.numpy() for variable in model.optimizer.variables]
    frames = []
    for seed in range(whole_number(seeds, "seeds", 1)):
        draw_weights(model, seed)
        for variable, value in zip(model.optimizer.variables, fresh, strict=True):
            variable.assign(value)
        epoch = updates = 0
        for phase in phases:
            model.optimizer.learning_rate = phase.learning_rate
            end, size = epoch + phase.epochs, phase.batch_size
            history = fit(model, x, y, batch_size=size, initial_epoch=epoch, epochs=end, seed=seed, **as_in_fit)
            frame = history_frame(history, batch_size=size, seed=seed)
            frame["updates"] += updates - epoch * history.params["steps"]
            frame.insert(1, "learning_rate", phase.learning_rate)
            frames.append(frame)
            epoch, updates = end, frame["updates"].iloc[-1]
    return pd.concat(frames, ignore_index=True)
