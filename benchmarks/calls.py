"""What a call of `fit` costs before its first update, and what it costs to check a model that is new to it."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

import helpers
from batchlab.training import fit, keras_internals, self_check
from batchlab.training.programs.cache import lease
from batchlab.training.programs.single import SingleProgram
from batchlab.training.rows import Rows
from batchlab.training.subject import Subject

BATCH_SIZE = 32


@dataclass(frozen=True)
class Calls:
    """Models that have been trained before, to be called again, and new ones, to be called for the first time."""

    x: np.ndarray
    y: np.ndarray
    plain: keras.Model
    ours: keras.Model

    @classmethod
    def prepare(cls, x: np.ndarray, y: np.ndarray) -> Calls:
        """Train both models once."""
        calls = cls(x, y, *(helpers.build_model(seed=0) for _ in range(2)))
        calls.sample(1)
        return calls

    def sample(self, times: int = 3) -> dict[str, float]:
        """Return seconds: of one update by each, of Keras's first epoch of a new model, and of the check of one.

        The update is taken with and without an evaluation behind it.

        Args:
            times: Calls of each kind, taken in turns; medians are returned.
        """
        whole = {"batch_size": len(self.x), "epochs": 1}
        validated = whole | {"validation_split": 0.2}
        watched: dict[str, Callable[[], object]] = {
            "model.fit": lambda: self.plain.fit(self.x, self.y, verbose=0, **whole),
            "fit": lambda: fit(self.ours, self.x, self.y, **whole),
            "model.fit, validated": lambda: self.plain.fit(self.x, self.y, verbose=0, **validated),
            "fit, validated": lambda: fit(self.ours, self.x, self.y, **validated),
        }
        seconds: dict[str, list[float]] = {}
        for _ in range(times):
            gc.collect()
            for name, call in watched.items():
                seconds.setdefault(name, []).append(timed(call))
        new = helpers.build_model(seed=1)
        first = timed(lambda: new.fit(self.x, self.y, batch_size=BATCH_SIZE, epochs=1, verbose=0))
        checks = [self._check() for _ in range(times)]
        medians = {name: statistics.median(samples) for name, samples in seconds.items()}
        return medians | {"model.fit, first epoch": first, "check": statistics.median(checks)}

    def _check(self) -> float:
        """Seconds that it takes to check a new model, whose program is there already."""
        model = helpers.build_model(seed=1)
        train = Rows(self.x, self.y, None)
        batch = train.part(0, BATCH_SIZE).data
        keras_internals.build(model, batch)
        subject = Subject.of(model, batch)
        with lease(SingleProgram, subject, BATCH_SIZE, train, None, watched=False, apart=False) as program:
            return timed(lambda: self_check.check(program, subject))


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
