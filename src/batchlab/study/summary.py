"""What `make sweep` found, as it is kept in data/sweep. Never trains."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pandas as pd

from batchlab.paths import in_clone


class SweepSummary(NamedTuple):
    """The sweep in two tables.

    Attributes:
        settings: One row a table, optimizer, batch_size, aim and learning_rate: runs; failed (runs whose loss became
            NaN); reached (the share of runs with a finite score); the median score with its 95 % interval (low, high).
            A score that half of the runs never reach is infinite.
        best: One row a table, optimizer, batch_size and aim: the best rate with its 95 % interval (rate_low,
            rate_high), from the seeds resampled; grid_rate, the best one of the grid; on_edge, whether that is its
            smallest (-1) or largest (1); reached; score, score_low, score_high at grid_rate. All missing where no rate
            lets half of the runs arrive.
        provenance: Date, command, number of runs, versions, the fingerprint of the advertising table, the epochs of
            each batch size, and how long it took.
    """

    settings: pd.DataFrame
    best: pd.DataFrame
    provenance: dict[str, Any]


def sweep_summary() -> SweepSummary:
    """Read the summary of the sweep that is committed with the notebooks.

    Raises:
        FileNotFoundError: It comes with a clone, and this is none.
    """
    folder = in_clone("data/sweep")
    settings, best = (pd.read_csv(folder / f"{name}.csv") for name in ("settings", "best"))
    return SweepSummary(settings, best, json.loads((folder / "provenance.json").read_text(encoding="utf-8")))
