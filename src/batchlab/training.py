"""Training with the semantics of `keras.Model.fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np


def fit(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    *,
    batch_size: int,
    epochs: int,
    validation_split: float = 0.0,
    validation_data: tuple[np.ndarray, ...] | None = None,
    shuffle: bool = True,
    sample_weight: np.ndarray | None = None,
    class_weight: Mapping[int, float] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    initial_epoch: int = 0,
    seed: int | None = None,
    verbose: int = 0,
) -> keras.callbacks.History:
    """Train a compiled model as `model.fit` does, quietly and, with a seed, repeatably.

    Args:
        model: A compiled Keras model.
        x: Features, shape (rows, features).
        y: Targets, shape (rows,) or (rows, outputs).
        batch_size: Rows for one update. The last batch of an epoch holds the remainder.
        epochs: The epoch to stop after (counted from 0, as in Keras, when `initial_epoch` is given).
        validation_split: Share of the rows, between 0 and 1, taken unshuffled from the end.
        validation_data: (x, y) or (x, y, sample_weight), in place of `validation_split`.
        shuffle: Whether the training rows are put in a new order before each epoch.
        sample_weight: One weight a row, shape (rows,).
        class_weight: One weight a class.
        callbacks: Keras callbacks, called in this order.
        initial_epoch: The epoch to begin with, for a run that goes on.
        seed: Seeds Python, NumPy and Keras before training, so that the shuffles repeat on one machine.
        verbose: 0 is quiet, 1 a progress bar, 2 a line an epoch.

    Returns:
        The history: one value an epoch of the loss and of each metric, and of their `val_` twins.

    Raises:
        ValueError: What `keras.Model.fit` raises for arguments that do not fit together.
    """
    if seed is not None:
        keras.utils.set_random_seed(seed)
    return model.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        validation_split=validation_split,
        validation_data=validation_data,
        shuffle=shuffle,
        sample_weight=sample_weight,
        class_weight=None if class_weight is None else dict(class_weight),
        callbacks=None if callbacks is None else list[Any](callbacks),
        initial_epoch=initial_epoch,
        verbose=verbose,
    )
