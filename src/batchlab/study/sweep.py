"""`sweep`: a grid of runs, each trained once and kept on disk, here or on a Dask cluster. Never draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pandas as pd

from batchlab.cores import one_core_each
from batchlab.results import long_frame
from batchlab.study.grid import Grid, Setting, named_runs, settings
from batchlab.study.store import Store
from batchlab.training import fit_seeds
from batchlab.training.fit_seeds import divergence_expected

if TYPE_CHECKING:  # an optional extra
    import dask.distributed


def sweep(
    build_model: Callable[..., keras.Model],
    x: np.ndarray,
    y: np.ndarray,
    grid: Grid | Sequence[Grid],
    *,
    store: Store | Path | str | None = None,
    kept_epochs: Sequence[int] | None = None,
    client: dask.distributed.Client | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Train every run of a grid that is not in the store yet, and return the figures of all of them.

    A sweep that was killed goes on where it was when it is called again. What one run is is as in `fit_seeds`; runs
    that differ by learning rate and seed alone lie side by side in one program, up to 128 of them on one core, and as
    many such blocks are trained at a time as there are cores. A run is known again by its rows, the
    model's configuration, the arguments of training, the versions of the packages and of the code that trains.

    Args:
        build_model: Returns a compiled model; it is given those names of the grid that `fit_seeds` does not take, such
            as `optimizer` or `hidden`. For a cluster it must be a function that its workers can import or unpickle.
        x: Features, shape (rows, features).
        y: Targets, shape (rows,) or (rows, outputs).
        grid: For each name one value or several: a list, a range, or a mapping from labels, which the frame shows, to
            values. All combinations are run. `batch_size` and `epochs` are needed; `seed` (a number of seeds, or a
            list) and `learning_rate` are known, and whatever else of a run `fit_seeds` takes. Several grids, say with
            more epochs for larger batches, may be given as a list.
        store: The file that keeps the runs, or a `Store` that is open already, which saves looking through it at each
            call; without it the runs are gone with the process.
        kept_epochs: The epochs, counted from 1, whose figures are kept; all of them without it. Sooner or later a run
            of hundreds of epochs needs fewer points than it has.
        client: Trains on the workers of a Dask cluster, which need an importable `batchlab`. The store stays with the
            caller.
        verbose: 1 shows a progress bar with the time left.

    Returns:
        One row a run and kept epoch. Columns: those names of the grid that take several values (or labels),
        batch_size, learning_rate (where given), seed, epoch, updates (optimizer steps so far), and the figures.

    Raises:
        StoreError: The store is damaged, is another kind of file, or cannot be written.
        TypeError: A value is not of its kind, or the grid lacks `batch_size` or `epochs`.
        ValueError: As `fit_seeds` does; also for axes that are empty or repeat a value, and for models with code of
            their own, of which it cannot be told whether they have changed.
    """
    frames = [frame for _, frame in sweep_settings(**locals())]
    return pd.concat(frames, ignore_index=True)


def sweep_settings(
    build_model: Callable[..., keras.Model],
    x: np.ndarray,
    y: np.ndarray,
    grid: Grid | Sequence[Grid],
    *,
    store: Store | Path | str | None = None,
    kept_epochs: Sequence[int] | None = None,
    client: dask.distributed.Client | None = None,
    verbose: int = 0,
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Do what `sweep` does, and yield labels and frame of one setting after the other: all at once may be too large.

    The arguments and errors are those of `sweep`.
    """
    x, y = np.asarray(x, keras.config.floatx()), np.asarray(y)
    grids = [grid] if hasattr(grid, "items") else list(grid)
    planned = [setting for one in grids for setting in settings(build_model, x, y, one, kept_epochs)]
    with nullcontext(store) if isinstance(store, Store) else Store(store) as kept:
        blocks = [list(_unfinished(setting, kept)) for setting in planned]
        # The first blocks of all settings, then the second ones: one program cannot train two of them at the same time.
        waiting = [task for nth in zip_longest(*blocks) for task in nth if task]
        waiting = list({task.key: task for task in waiting}.values())  # two grids may share runs
        bar = keras.utils.Progbar(sum(task.epochs for task in waiting), unit_name="epoch") if verbose else None
        for task, figures in (_here if client is None else _on(client))(waiting, x, y):
            kept.add(task.setting.determined, task.runs, figures)
            if bar:
                bar.add(task.epochs)
        for setting in planned:
            yield setting.labels, _frame(setting, kept)


@dataclass(frozen=True)
class _Task:
    """A block of runs of one setting."""

    setting: Setting
    rates: list[float | None]
    seeds: list[int]

    @property
    def runs(self) -> list[tuple[float, int]]:
        return named_runs(self.rates, self.seeds)

    @property
    def epochs(self) -> int:
        return self.setting.run["epochs"] * len(self.rates) * len(self.seeds)

    @property
    def key(self) -> tuple:
        return self.setting.key, tuple(self.rates), tuple(self.seeds)


def _unfinished(setting: Setting, store: Store) -> Iterator[_Task]:
    """The blocks of which runs are missing; usually all of a block is, or nothing."""
    absent = set(store.missing(setting.determined, setting.runs()))
    for rates, seeds in setting.blocks() if absent else ():
        by_seeds: dict[tuple[int, ...], list[float | None]] = {}
        for rate in rates:
            wanted = tuple(seed for run, seed in zip(named_runs([rate], seeds), seeds, strict=True) if run in absent)
            by_seeds.setdefault(wanted, []).append(rate)
        yield from (_Task(setting, some, list(wanted)) for wanted, some in by_seeds.items() if wanted)


def _train(task: _Task, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Train a block; return for each figure float32 of shape (epochs kept, runs)."""
    rates = None if task.rates == [None] else task.rates
    with divergence_expected():
        frame = fit_seeds(task.setting.build, x, y, seeds=task.seeds, learning_rates=rates, **task.setting.run)
    kept = np.array(task.setting.kept) - 1
    shape = (len(task.runs), task.setting.run["epochs"])
    return {name: frame[name].to_numpy(np.float32).reshape(shape)[:, kept].T for name in task.setting.figures}


def _here(tasks: Iterable[_Task], x: np.ndarray, y: np.ndarray) -> Iterator[tuple[_Task, dict[str, np.ndarray]]]:
    return one_core_each(partial(_train, x=x, y=y), tasks)


def _by_one_core(task: _Task, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Train a block as it is trained here, to the last bit; a worker of a cluster has a thread for each core."""
    ((_, figures),) = _here([task], x, y)
    return figures


def _on(client: dask.distributed.Client) -> Callable:
    def train(tasks: Sequence[_Task], x: np.ndarray, y: np.ndarray) -> Iterator[tuple[_Task, dict[str, np.ndarray]]]:
        from dask.distributed import as_completed

        data = client.scatter([x, y], broadcast=True, hash=False)
        # `pure` would let two sweeps share a future that the first of them may cancel.
        futures = {client.submit(_by_one_core, task, *data, pure=False, retries=3): task for task in tasks}
        try:
            for future in as_completed(list(futures)):
                yield futures[future], future.result()
                future.release()
        finally:
            client.cancel([future for future in futures if not future.done()])

    return train


def _frame(setting: Setting, store: Store) -> pd.DataFrame:
    frame = long_frame(
        store.figures(setting.determined, setting.figures, setting.runs()),
        batch_size=setting.run["batch_size"],
        seeds=[seed for _, seed in setting.runs()],
        updates_per_epoch=setting.updates_per_epoch,
        learning_rates=None if setting.rates == [None] else [rate for rate, _ in setting.runs()],
        epochs=setting.kept,
    )
    for at, (name, label) in enumerate((name, label) for name, label in setting.labels.items() if name != "batch_size"):
        frame.insert(at, name, label)
    return frame[[*(name for name in frame if name not in setting.figures), *setting.figures]]
