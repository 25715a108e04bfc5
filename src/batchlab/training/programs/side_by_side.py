"""What programs of many runs share: their call."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import numpy as np

from batchlab.training.programs.loop import Compiled, block, epochs_at_once, in_blocks, joined
from batchlab.training.rows import Rows
from batchlab.training.state import write


class SideBySide:
    """Trains runs, of which those that a call has too few of are idle."""

    _run: Compiled
    _runs: int
    _fresh: list[tuple[keras.Variable, np.ndarray]]  # what is as it was at the beginning of every call

    def _begin(self, values: list[np.ndarray]) -> None:
        """Set the model's variables, (runs, …) each."""
        raise NotImplementedError

    def compile(self) -> None:
        """Let XLA compile before anything is trained.

        Raises:
            CannotCompileError: XLA cannot.
        """
        self._run.compile()

    def __call__(
        self,
        weights: list[np.ndarray],
        rates: np.ndarray | None,
        train: Rows,
        valid: Rows | None,
        orders: Iterator[np.ndarray],
        advance: Callable[[int], object],
    ) -> dict[str, np.ndarray]:
        """Train all runs.

        Args:
            weights: For each of the model's variables, an array (runs, …) of initial values.
            rates: Learning rates, shape (runs,), or None where the optimizer follows a schedule.
            train: The training rows.
            valid: The validation rows.
            orders: For each epoch the orders of the rows, int32 of shape (rows, runs).
            advance: Called with the number of epochs done since the last call.

        Returns:
            For each figure an array (epochs, runs).
        """
        runs = len(weights[0])

        def padded(array: np.ndarray, axis: int) -> np.ndarray:
            if runs == self._runs:
                return array
            return np.concatenate([array, np.repeat(array.take([-1], axis), self._runs - runs, axis)], axis)

        write([variable for variable, _ in self._fresh], [value for _, value in self._fresh])
        self._begin([padded(value, 0) for value in weights])
        rates = None if rates is None else padded(rates, 0)
        most, logs = epochs_at_once(len(train), self._runs), []
        for some in in_blocks((padded(order, 1) for order in orders), len(train), self._runs):
            count = len(some)
            result = self._run(train.data, valid.data if valid else None, rates, block(some, most), count)
            logs.append({name: values.numpy()[:count, :runs] for name, values in result.items()})
            advance(count)
        return joined(logs)
