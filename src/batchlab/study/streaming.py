"""Training on a table in a file, a part at a time, beside training on all of it in memory. Never shuffles a whole file.

The file is Parquet, written in groups of rows, so that it can be read group by group. `fresh_trainings` measures what
each way costs, in a process of its own whose memory may be limited.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from batchlab.checks import whole_number
from batchlab.models import build_model
from batchlab.processes import MEBIBYTE, Memory, limit_memory, results, start, watched_memory

TARGET = "class"


def write_table(path: str | Path, groups: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write a table, one group of rows after the other; no more than one is in memory.

    Args:
        path: The file; one that exists is replaced.
        groups: Of each group the features, float32 of shape (rows, features), and the targets, of shape (rows,).

    Raises:
        ValueError: There is no group, or groups differ in their number of features.
    """
    writer = None
    try:
        for number, (x, y) in enumerate(groups, start=1):
            if writer and x.shape[1] != len(writer.schema) - 1:
                raise ValueError(
                    f"write_table: group {number} has {x.shape[1]} features, the first one {len(writer.schema) - 1}; "
                    "give all groups the same columns."
                )
            columns = {f"feature {i}": column for i, column in enumerate(x.T)}
            table = pa.table({name: pa.array(column) for name, column in (columns | {TARGET: y}).items()})
            if writer is None:
                # Measured figures hardly repeat or shrink, so looking for either would only cost time.
                writer = pq.ParquetWriter(
                    path, table.schema, compression="none", use_dictionary=False, write_statistics=False
                )
            writer.write_table(table, row_group_size=len(table))
    finally:
        if writer:
            writer.close()
    if writer is None:
        raise ValueError(f"write_table: there is no group of rows for {Path(path).name}; give at least one.")


def stream(path: str | Path, *, batch_size: int, seed: int | None = None) -> tf.data.Dataset:
    """Read a table as batches for `keras.Model.fit`, with one group of rows or two in memory.

    Args:
        path: A file from `write_table`.
        batch_size: Rows of a batch, across the borders of groups; the last one of an epoch holds the remainder.
        seed: Decides the order: groups are shuffled, and rows within a group, anew for each epoch. That is weaker than
            a shuffle of all rows: rows of a group stay near each other. Without it the order is that of the file.

    Returns:
        A dataset of pairs, float32 of shapes (batch, features) and (batch,).

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: A number is not whole.
        ValueError: The batch size is below 1, or the seed below 0.
    """
    batch_size = whole_number(batch_size, "batch_size", 1)
    seed = None if seed is None else whole_number(seed, "seed", 0)
    with pq.ParquetFile(path) as file:
        steps, features = -(-file.metadata.num_rows // batch_size), len(file.schema_arrow) - 1
    epochs = count()

    def groups() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        generator = None if seed is None else np.random.default_rng([seed, next(epochs)])
        for x, y in _groups(path, generator):
            order = slice(None) if generator is None else generator.permutation(len(y))
            yield x[order], y[order]

    signature = (tf.TensorSpec((None, features), tf.float32), tf.TensorSpec((None,), tf.float32))
    batches = tf.data.Dataset.from_generator(groups, output_signature=signature).rebatch(batch_size)
    return batches.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(1)  # Keras asks how many there are


def read(path: str | Path, *, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read a table, or its first rows, into memory, with no second copy of it.

    Args:
        path: A file from `write_table`.
        rows: How many; all of them without it.

    Returns:
        Features, float32 of shape (rows, features), and targets, float32 of shape (rows,).

    Raises:
        FileNotFoundError: There is no such file.
        MemoryError: They do not fit.
        TypeError: `rows` is not a whole number.
        ValueError: The file has fewer rows.
    """
    with pq.ParquetFile(path) as file:
        there, features = file.metadata.num_rows, len(file.schema_arrow) - 1
    rows = there if rows is None else whole_number(rows, "rows", 1, there)
    x, y = np.empty((rows, features), np.float32), np.empty(rows, np.float32)
    filled = 0
    for part, targets in _groups(path, None):
        taken = min(len(targets), rows - filled)
        x[filled : filled + taken], y[filled : filled + taken] = part[:taken], targets[:taken]
        filled += taken
        if filled == rows:
            break
    return x, y


def fresh_trainings(
    path: str | Path, trainings: Sequence[Mapping[str, object]], *, hidden: Sequence[int], allowed: int | None = None
) -> pd.DataFrame:
    """Train on a file with plain `keras.Model.fit`, in one fresh process, and measure seconds and memory.

    The process first trains on one batch of each kind, so that what TensorFlow sets up once is there; then its
    memory is limited, where the system can do that, and the trainings follow each other.

    Args:
        path: A file from `write_table`.
        trainings: Each with batch_size; streamed, whether the rows come from the file as they are needed; and rows, how
            many of them are trained on, once. A process keeps some of the memory that it once took, so begin with the
            one that needs least.
        hidden: Units of the hidden layers of the model.
        allowed: Mebibytes that the process may take beyond what it holds when it is ready to begin (Linux counts memory
            that is private to the process and can be written, `RLIMIT_DATA`).

    Returns:
        One row a training. Columns: batch_size, streamed, rows, seconds (NaN if it failed), peak (mebibytes above the
        level when the process was ready, so that memory kept from one training counts in the next), failed (the error's
        name, or empty), limit (mebibytes that the process may hold in all; NaN where none was set).

    Raises:
        RuntimeError: The process ended before it could say how it fared.
    """
    task = {"path": str(path), "trainings": [*map(dict, trainings)], "hidden": list(hidden), "allowed": allowed}
    # Arrow's own allocator, and the C library's for each thread, take memory in large pieces, which would be counted
    # though they are not used.
    worker = start(__spec__.name, task, ARROW_DEFAULT_MEMORY_POOL="system", MALLOC_ARENA_MAX="2")
    name = "fresh_trainings: the training process"
    return pd.DataFrame(results({name: worker})[name]).astype({"seconds": float, "limit": float})


def _groups(path: str | Path, generator: np.random.Generator | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield features and targets of each group of rows, in the file's order or shuffled."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        numbers = np.arange(file.num_row_groups) if generator is None else generator.permutation(file.num_row_groups)
        for number in numbers.tolist():
            rows = file.metadata.row_group(number).num_rows
            for batch in file.iter_batches(batch_size=rows, row_groups=[number], use_threads=False):
                y = batch.column(TARGET).to_numpy()
                yield batch.drop_columns(TARGET).to_tensor().to_numpy(), y


# --- in the fresh process ----------------------------------------------------------------------------


def _outcomes(task: dict) -> list[dict]:
    tf.config.threading.set_intra_op_parallelism_threads(2)  # each thread's stack is counted, and would be on 64 cores
    tf.config.threading.set_inter_op_parallelism_threads(2)
    path, trainings = task["path"], task["trainings"]
    with pq.ParquetFile(path) as file:
        model = build_model(task["hidden"], features=len(file.schema_arrow) - 1)
    kinds = {(training["batch_size"], training["streamed"]): training for training in trainings}
    for training in kinds.values():
        _train(model, path, training | {"rows": min(training["rows"], training["batch_size"])})
    limit = None if task["allowed"] is None else limit_memory(task["allowed"])
    measured = [_measured(model, path, training) for training in trainings]
    ready = measured[0][1].before
    return [
        training | {"limit": limit} | figures | {"peak": (memory.most - ready) / MEBIBYTE}
        for training, (figures, memory) in zip(trainings, measured, strict=True)
    ]


def _measured(model: object, path: str, training: dict) -> tuple[dict, Memory]:
    failed, begin = "", time.perf_counter()
    with watched_memory() as memory:
        try:
            _train(model, path, training)
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            failed = type(error).__name__
    seconds = None if failed else time.perf_counter() - begin
    return {"seconds": seconds, "failed": failed}, memory


def _train(model: object, path: str, training: dict) -> None:
    batch_size, rows = training["batch_size"], training["rows"]
    if training["streamed"]:
        model.fit(stream(path, batch_size=batch_size, seed=0).take(-(-rows // batch_size)), shuffle=False, verbose=0)
    else:
        model.fit(*read(path, rows=rows), batch_size=batch_size, verbose=0)


if __name__ == "__main__":
    print(json.dumps(_outcomes(json.loads(sys.argv[1]))))
