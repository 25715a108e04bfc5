"""How one run is trained: the arguments that `fit` and `fit_seeds` share. Never trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from batchlab.checks import whole_number
from batchlab.training.rows import Rows, Tree, prepare


@dataclass(frozen=True)
class Run:
    """One run, with the names, meanings and defaults of `keras.Model.fit`; see `batchlab.training.fit`."""

    batch_size: int
    epochs: int
    validation_split: float = 0.0
    validation_data: tuple | None = None
    shuffle: bool = True
    sample_weight: Tree | None = None
    class_weight: Mapping[int, float] | None = None

    def checked(self, least_epochs: int) -> Run:
        """Return the same run with its sizes as int.

        Raises:
            TypeError: A size is not a whole number.
            ValueError: A size is too small.
        """
        return replace(
            self,
            batch_size=whole_number(self.batch_size, "batch_size", 1),
            epochs=whole_number(self.epochs, "epochs", least_epochs),
        )

    def rows(self, x: Tree, y: Tree) -> tuple[Rows, Rows | None]:
        """Return the training rows and the validation rows, checked; see `prepare`."""
        return prepare(
            x,
            y,
            sample_weight=self.sample_weight,
            class_weight=self.class_weight,
            validation_split=self.validation_split,
            validation_data=self.validation_data,
        )

    def on(self, train: Rows, valid: Rows | None) -> Run:
        """Return a run of the same kind for rows that `rows` has split and weighted already."""
        data = valid and valid.data[: 2 + (valid.weight is not None)]
        return Run(self.batch_size, self.epochs, validation_data=data, shuffle=self.shuffle, sample_weight=train.weight)

    def arguments(self) -> dict[str, Any]:
        """Return what `keras.Model.fit` is to be given."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
