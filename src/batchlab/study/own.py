"""`study_table`: which batch size and learning rate suit a table of one's own. Never draws.

It splits and encodes the table, sets the budget, and keeps together what a report needs; `recommend` gives the advice.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from batchlab.models import build_model
from batchlab.study.advice import Advice, Aim, recommend
from batchlab.study.trials import PILOT_RATES
from batchlab.table.encoding import Encoded, split_and_encode
from batchlab.table.own import OwnTable

HIDDEN = (16,)
_EPOCHS, _UPDATES, _LEAST_EPOCHS = 30, 1000, 5  # the first budget; so the time of a study hardly grows with the table


@dataclass(frozen=True)
class Study:
    """Advice for a table, and what it rests on.

    Attributes:
        table: As it was read.
        encoded: As it was trained on.
        advice: Batch sizes, learning rates and their costs, see `recommend`.
        hidden: Units of the network's hidden layers.
        optimizer: Its name.
        dropout: Share of each hidden layer's outputs that a training step drops.
        batch_normalization: Whether each hidden layer is normalised by its batch.
        epochs: The budget of the first batch size tried.
        without_features: The validation loss of a model that knows the training targets alone: the shares of the
            classes, or the mean.
        trained: Runs of this study, those that were cut short included.
        took: Seconds of the whole study.
        notes: What was said on the way.
    """

    table: OwnTable
    encoded: Encoded
    advice: Advice
    hidden: Sequence[int]
    optimizer: str
    dropout: float
    batch_normalization: bool
    epochs: int
    without_features: float
    trained: int
    took: float
    notes: list[str]


def study_table(
    table: OwnTable,
    *,
    aim: Aim = "seconds",
    seeds: int = 64,
    epochs: int | None = None,
    optimizer: str = "adam",
    dropout: float = 0.0,
    batch_normalization: bool = False,
    tell: Callable[[str], object] = lambda what: None,
) -> Study:
    """Recommend a batch size and a learning rate for a table.

    The network has one hidden layer of 16 units; a fifth of the rows is held out (`split_and_encode`). The target is
    the default one of `recommend`: a twentieth of the way down from the untrained validation loss is left.

    Args:
        table: What `read_table` returns.
        aim: What shall be least: "seconds", "updates" or "rows".
        seeds: Runs of each batch size and learning rate tried.
        epochs: The budget in which the first batch size shows what loss can be reached. Without it 30; fewer, but at
            least 5, where they would be more than 1,000 updates of 16 rows.
        optimizer: As `build_model` takes it.
        dropout: Likewise.
        batch_normalization: Likewise.
        tell: Called with a line on what is begun, and after how many seconds; `print` shows that it goes on.

    Raises:
        DataError: The table cannot be encoded.
        ValueError: Nothing can be learned from it, or as `recommend` does.
    """
    start = time.perf_counter()
    encoded = split_and_encode(table)
    if epochs is None:
        epochs = first_budget(len(encoded.y))
    lock = threading.Lock()

    def told(what: str) -> None:
        with lock:  # two threads would mix their lines
            tell(f"{time.perf_counter() - start:4.0f} s  {what}")

    build = partial(
        build_model,
        HIDDEN,
        features=encoded.x.shape[1],
        classes=encoded.classes,
        optimizer=optimizer,
        dropout=dropout,
        batch_normalization=batch_normalization,
    )

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        advice = recommend(
            encoded.x,
            encoded.y,
            build,
            aim=aim,
            validation_data=encoded.held_out,
            epochs=epochs,
            seeds=seeds,
            tell=told,
        )
    tried = len(PILOT_RATES) + int(advice.table["rates"].sum())
    return Study(
        table=table,
        encoded=encoded,
        advice=advice,
        hidden=HIDDEN,
        optimizer=optimizer,
        dropout=dropout,
        batch_normalization=batch_normalization,
        epochs=epochs,
        without_features=_without_features(encoded),
        trained=tried * seeds + len(advice.runs.groupby(["batch_size", "seed"])),
        took=time.perf_counter() - start,
        notes=[str(one.message) for one in said if issubclass(one.category, UserWarning)],
    )


def first_budget(rows: int) -> int:
    """Return the epochs of the first batch size, which show what loss can be reached; `rows` are those trained on."""
    return max(_LEAST_EPOCHS, min(_EPOCHS, _UPDATES * 16 // rows))


def _without_features(encoded: Encoded) -> float:
    """The validation loss of the best constant answer."""
    y, y_held_out = encoded.y, encoded.held_out[1]
    if encoded.classes is None:
        return float(np.mean((y_held_out - y.mean()) ** 2))
    shares = np.bincount(y.astype(int), minlength=encoded.classes) / len(y)
    return float(-np.log(np.maximum(shares[y_held_out.astype(int)], 1e-7)).mean())  # as Keras clips probabilities
