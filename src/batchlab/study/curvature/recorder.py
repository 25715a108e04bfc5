"""Curvature and gradient noise during training, for `fit` and `model.fit`. Never changes a run."""

from __future__ import annotations

import keras
import numpy as np
import pandas as pd

from batchlab.checks import whole_number
from batchlab.study.curvature.noise import noise_scale
from batchlab.study.curvature.sharpness import largest_eigenvalues
from batchlab.study.curvature.surface import LossSurface, NotFiniteError
from batchlab.training.rows import Tree

_MEASURED = ["loss", "largest_eigenvalue", "simple", "weighted", "gradient_norm_squared", "trace"]


class CurvatureRecorder(keras.callbacks.Callback):
    """Records the largest Hessian eigenvalue and the gradient noise scales at the end of epochs.

    The figures are taken at one place, the weights at the end of the epoch, over the rows given here, by the forward
    pass of `training=False`; Keras's own training figures are averages over the epoch.

    Args:
        x: Features, as `LossSurface` takes them.
        y: Targets.
        every: Epochs from one record to the next: with 10, the epochs 10, 20, 30, … are recorded.

    Raises:
        TypeError: `every` is no whole number.
        ValueError: It is below 1.
    """

    def __init__(self, x: Tree, y: Tree, every: int = 1) -> None:
        super().__init__()
        self._data = x, y
        self._every = whole_number(every, "every", 1)
        self._records: list[tuple] = []
        self._surface: LossSurface | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Compile anew: the model may be another one, or have another loss, than last time."""
        self._surface = LossSurface(self.model, *self._data)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Record, if it is this epoch's turn."""
        if (epoch + 1) % self._every == 0:
            self._records.append((epoch + 1, int(self.model.optimizer.iterations.numpy()), *self._measure()))

    def frame(self) -> pd.DataFrame:
        """Return the records so far, those of an earlier `fit` with this recorder included.

        Returns:
            A row a record: epoch (from 1), updates (of the optimizer so far), loss, largest_eigenvalue, and the fields
            of `NoiseScale`. All of a run that diverged is NaN, from where its loss is no longer finite.
        """
        return pd.DataFrame(self._records, columns=["epoch", "updates", *_MEASURED])

    def _measure(self) -> tuple[float, ...]:
        try:
            place = self._surface.place()
            (eigenvalue,) = largest_eigenvalues(self._surface, place)
            return self._surface.value(place), float(eigenvalue), *noise_scale(self._surface, place)
        except NotFiniteError:
            return (np.nan,) * len(_MEASURED)
