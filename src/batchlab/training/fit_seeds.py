"""`fit_seeds`: many independent runs of one model, side by side where a program allows. Never draws a figure."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields

import keras
import numpy as np
import pandas as pd

from batchlab.checks import positive_number, whole_number
from batchlab.cores import check_wanted, cores, process_cores
from batchlab.results import long_frame
from batchlab.training import keras_internals as internals
from batchlab.training.fit import NotCompiled, built, by_keras, compiled, require_compiled
from batchlab.training.programs.cache import lease
from batchlab.training.programs.device import operations
from batchlab.training.programs.seeds import SeedsProgram
from batchlab.training.programs.vectorised import VectorisedProgram
from batchlab.training.recognise import why_not_by_lanes, why_not_compiled, why_not_side_by_side
from batchlab.training.rows import Rows, are_arrays, row_orders
from batchlab.training.run import Run
from batchlab.training.self_check import check
from batchlab.training.subject import Subject
from batchlab.training.weights import checked_weights, drawer

_divergence_expected = ContextVar("divergence_expected", default=False)  # each thread has its own, unlike filters
# Floating-point operations, a second or so of a core. Each core has a program of its own compiled, which takes as long.
_WORTH_A_CORE = 5e9


def fit_seeds(
    build_model: Callable[[], keras.Model],
    x: np.ndarray,
    y: np.ndarray,
    *,
    seeds: int | Sequence[int],
    batch_size: int,
    epochs: int,
    learning_rates: Sequence[float] | None = None,
    initial_weights: Sequence[np.ndarray] | None = None,
    shuffle_seed: int | None = None,
    keep_weights: bool = False,
    memory_budget: int = 2**30,
    verbose: int = 0,
    **as_in_fit: object,
) -> pd.DataFrame | tuple[pd.DataFrame, list[np.ndarray]]:
    """Train the same model from many seeds, as independent runs.

    A seed decides a run's initial weights (`draw_weights`) and its shuffles, so that a run does not depend
    on which others ran with it, and `fit` with the same weights and seed repeats it, masks of Dropout included. With an
    elementwise optimizer the runs are trained side by side, where TensorFlow can vectorise the model; others one after
    the other, with a warning that says why. So is a model whose step side by side does not give what Keras's step
    gives, which is compared before anything is trained.

    The arguments say three things. What one run is: `batch_size`, `epochs` and whatever else `fit` takes for it. How
    the runs differ: `seeds`, `learning_rates`, and what they are told to share, `initial_weights` or `shuffle_seed`.
    What may be used and shown: `keep_weights`, `memory_budget`, `verbose`.

    Args:
        build_model: Returns a compiled model, a new one with new layers at every call; called without arguments.
        x: Features, shape (rows, features).
        y: Targets, shape (rows,) or (rows, outputs).
        seeds: Their number, for 0, 1, 2, …, or the seeds themselves: distinct whole numbers of at least 0.
        batch_size: Rows for one update. The last batch of an epoch holds the remainder.
        epochs: Passes over the training rows.
        learning_rates: Each seed is run with each of these. Without it the optimizer keeps its own.
        initial_weights: As `model.get_weights()` gives them, for all runs, which then differ by their
            shuffles alone.
        shuffle_seed: The seed of shuffles that all runs share; they then differ by their initial weights alone.
        keep_weights: Whether to return the final weights too.
        memory_budget: Bytes that the runs in progress may take; more runs follow one another.
        verbose: 1 shows a progress bar.
        **as_in_fit: `validation_split`, `validation_data`, `shuffle`, `sample_weight` and `class_weight`, as `fit`
            takes them.

    Returns:
        One row a run and epoch, in the order of learning rates, seeds, epochs. Columns: batch_size, learning_rate
        (where several were given), seed, epoch (from 1), updates (optimizer steps so far), loss, the metrics, and
        their `val_` twins. With `keep_weights`, also the final weights: as `model.get_weights()`, with the
        runs in a first axis.

    Raises:
        ValueError: As `fit` does; also for seeds that are below 0 or not distinct, for learning rates that are not
            positive or that meet a schedule, for a `build_model` that returns a model or a layer again, and for a
            metric of several numbers, which has no column.
        TypeError: `build_model` is no function, or returns no model; a size, a seed or a rate is not a number of its
            kind; `fit` knows no argument of this name.
        KeyboardInterrupt: Ctrl-C, which ends all runs within a second, once no program is being compiled.
    """
    seeds = _checked_seeds(seeds)
    known = [field.name for field in fields(Run)]
    if unknown := sorted(set(as_in_fit) - set(known)):
        raise TypeError(f"fit_seeds: there is no argument {unknown[0]!r}; of a run it takes {', '.join(known)}.")
    run = Run(batch_size, epochs, **as_in_fit).checked(least_epochs=1)
    if isinstance(build_model, keras.Model) or not callable(build_model):
        raise TypeError(
            f"`build_model` is a {type(build_model).__name__}; give a function without arguments that returns a "
            "compiled model, such as helpers.build_model itself."
        )
    model = _called(build_model)
    require_compiled(model, x, y)
    if not are_arrays(x, y, run.sample_weight):
        raise ValueError("fit_seeds takes NumPy arrays of numbers.")
    train, valid = _as_floats(run).rows(_columns(x), y)
    rates = _checked_rates(learning_rates, model.optimizer)
    shuffle_seed = None if shuffle_seed is None else whole_number(shuffle_seed, "shuffle_seed", 0)
    cells = [_Cell(rate, seed, seed if shuffle_seed is None else shuffle_seed) for rate in rates for seed in seeds]
    batch = train.part(0, min(run.batch_size, len(train)))
    try:
        subject, reason = built(model, batch.data)
        if reason is None:
            kind = SeedsProgram if why_not_by_lanes(subject) is None else VectorisedProgram
            reason = "" if len(cells) == 1 else why_not_side_by_side(subject)
    except NotCompiled as refusal:
        reason = str(refusal)
        model(batch.x)  # creates the weights at least
    draw = drawer(model, None if initial_weights is None else checked_weights(initial_weights, model))
    bar = keras.utils.Progbar(run.epochs * len(cells)) if verbose else None
    plan = _Plan(run.on(train, valid), train, valid, draw, bar.add if bar else lambda done: None)

    if reason is None:
        try:
            figures, final = _side_by_side(kind, plan, cells, subject, memory_budget)
        except NotCompiled as refusal:
            reason = str(refusal)
    if reason:
        warnings.warn(
            f"fit_seeds trains these {len(cells)} runs one after the other, not side by side: {reason}.", stacklevel=2
        )
    if reason is not None:
        figures, final = _one_by_one(plan, cells, build_model, model)

    failed = np.isnan(figures["loss"])
    if failed.any() and not _divergence_expected.get():
        warnings.warn(
            f"The loss became NaN in {failed.any(axis=0).sum()} of {len(cells)} runs, first in epoch "
            f"{np.flatnonzero(failed.any(axis=1))[0] + 1}. Lower the learning rate.",
            stacklevel=2,
        )
    frame = long_frame(
        figures,
        batch_size=run.batch_size,
        seeds=[cell.seed for cell in cells],
        updates_per_epoch=train.steps(run.batch_size),
        learning_rates=None if learning_rates is None else [cell.rate for cell in cells],
    )
    return (frame, final) if keep_weights else frame


def _called(build_model: Callable[[], keras.Model]) -> keras.Model:
    model = build_model()
    if not isinstance(model, keras.Model):
        raise TypeError(f"`build_model` returned a {type(model).__name__}; it must return a compiled keras.Model.")
    return model


@contextmanager
def divergence_expected() -> Iterator[None]:
    """Have `fit_seeds` say nothing of a loss that became NaN: a rate that is too large belongs to a grid of them."""
    token = _divergence_expected.set(True)
    try:
        yield
    finally:
        _divergence_expected.reset(token)


@dataclass(frozen=True)
class _Cell:
    """What is one run's own; a rate of None leaves the optimizer its schedule."""

    rate: float | None
    seed: int
    shuffle_seed: int


@dataclass(frozen=True)
class _Plan:
    """What all runs share."""

    run: Run
    train: Rows
    valid: Rows | None
    draw: Callable[[Sequence[int]], list[np.ndarray]]  # initial weights for seeds; see `drawer`
    advance: Callable[[int], object]  # called with the number of epochs done since the last call

    def orders(self, cell: _Cell) -> Iterator[np.ndarray]:
        """Yield the row orders of a run."""
        return row_orders(cell.shuffle_seed, len(self.train), range(self.run.epochs), self.run.shuffle)


# --- what is accepted --------------------------------------------------------------------------------


def _as_floats(run: Run) -> Run:
    """Return the run with weights and validation features as `_columns` makes the training ones."""
    changes = {}
    if run.sample_weight is not None:
        changes["sample_weight"] = np.asarray(run.sample_weight, keras.config.floatx())
    if run.validation_data is not None:
        changes["validation_data"] = (_columns(run.validation_data[0]), *run.validation_data[1:])
    return Run(**run.arguments() | changes)


def _columns(x: np.ndarray) -> np.ndarray:
    """Return features as floats, with an axis for the features even if there is one alone, as Keras does."""
    x = np.asarray(x, keras.config.floatx())
    return x[:, None] if x.ndim == 1 else x


def _checked_seeds(seeds: int | Sequence[int]) -> list[int]:
    if np.ndim(seeds) == 0:
        return list(range(whole_number(seeds, "seeds", 1)))
    checked = [whole_number(seed, f"seeds[{i}]", 0) for i, seed in enumerate(seeds)]
    if not checked:
        raise ValueError("`seeds` is empty; give their number, or the seeds themselves.")
    if len(set(checked)) < len(checked):
        raise ValueError("`seeds` repeats a seed; its runs would be the same.")
    return checked


def _checked_rates(rates: Sequence[float] | None, optimizer: keras.optimizers.Optimizer) -> list[float | None]:
    scheduled = not isinstance(optimizer.learning_rate, keras.Variable)
    if rates is None:
        return [None if scheduled else float(optimizer.learning_rate.numpy())]
    if scheduled:
        raise ValueError("`learning_rates` cannot be used with a schedule: build the model with a plain learning rate.")
    if isinstance(rates, str) or np.ndim(rates) != 1:
        raise TypeError(f"`learning_rates` is {rates!r}; give a sequence of numbers, one for each rate.")
    checked = [positive_number(rate, f"learning_rates[{i}]") for i, rate in enumerate(rates)]
    if not checked:
        raise ValueError("`learning_rates` is empty; give at least one, or leave it out.")
    if len(set(checked)) < len(checked):
        raise ValueError(f"`learning_rates` is {rates!r}; it repeats a rate, whose runs would be the same.")
    return checked


# --- one after the other -----------------------------------------------------------------------------


def _one_by_one(
    plan: _Plan, cells: list[_Cell], build_model: Callable[[], keras.Model], first: keras.Model
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    histories, weights, told = [], [], set()
    met: weakref.WeakSet[keras.Layer] = weakref.WeakSet()
    for cell in cells:
        check_wanted()
        model = _called(build_model) if len(met) else first
        layers = internals.layers_of(model)
        if any(layer in met for layer in layers):
            raise ValueError(
                "`build_model` returns a model, or a layer, that it has returned before, so a run would depend on "
                "those before it. Build a new one inside the function, every time."
            )
        met.update(layers)
        batch = plan.train.part(0, min(plan.run.batch_size, len(plan.train)))
        with ExitStack() as held:
            try:
                reason = why_not_compiled(model, *plan.train.data, callbacks=[])
                if reason is None:
                    subject, reason = built(model, batch.data)
                if reason is None:
                    go = compiled(held, subject, plan.run, plan.train, plan.valid)
            except NotCompiled as refusal:
                reason = str(refusal)
            if not model.built:
                model(batch.x)  # creates the weights
            for variable, (value,) in zip(model.variables, plan.draw([cell.seed]), strict=True):
                variable.assign(value)
            if cell.rate is not None:
                model.optimizer.learning_rate = cell.rate
            if reason is None:
                history = go(seed=cell.shuffle_seed, advance=plan.advance)
            else:
                if reason not in told:
                    told.add(reason)
                    warnings.warn(f"Training with keras.Model.fit, step by step: {reason}.", stacklevel=3)
                history = by_keras(model, plan.train.x, plan.train.y, plan.run, seed=cell.shuffle_seed)
                plan.advance(plan.run.epochs)
        histories.append(_by_first_names(history.history, model, first))
        weights.append(model.get_weights())
    figures = {name: np.array([h[name] for h in histories], np.float32).T for name in histories[0]}
    return figures, [np.stack(values) for values in zip(*weights, strict=True)]


def _by_first_names(history: dict[str, list], model: keras.Model, first: keras.Model) -> dict[str, np.ndarray]:
    """Return figures under the names that they have in the first model, whose outputs Keras has numbered differently.

    Raises:
        ValueError: A figure is not one number an epoch.
    """
    names = {}
    for ours, theirs in zip(getattr(model, "output_names", ()), getattr(first, "output_names", ()), strict=True):
        for name in history:
            prefix = "val_" * name.startswith("val_") + f"{ours}_"
            if name.startswith(prefix):
                names[name] = name.replace(f"{ours}_", f"{theirs}_", 1)
    for name, values in history.items():
        if np.ndim(values) != 1:
            raise ValueError(
                f"The metric {name} is an array in each epoch, and a column of the frame holds one number. Give the "
                "metric an average, or use fit."
            )
    return {names.get(name, name): values for name, values in history.items()}


# --- side by side ------------------------------------------------------------------------------------


def _side_by_side(
    kind: type[SeedsProgram | VectorisedProgram], plan: _Plan, cells: list[_Cell], subject: Subject, memory_budget: int
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Train the runs in chunks, a thread for each core that they are worth: XLA's loop over batches keeps to one."""
    model = subject.model
    work = operations(model, len(plan.train) * plan.run.epochs * len(cells))
    workers = min(cores(), max(1, int(work / _WORTH_A_CORE)))
    a_run = kind.bytes_per_run(model, plan.train, plan.valid, plan.run.batch_size)
    affordable = max(1, memory_budget // (process_cores() * a_run))
    least, most = kind.fitting(plan.run.batch_size, len(cells), a_run)
    size = min(most, affordable, max(least, -(-len(cells) // workers)))
    chunks = [cells[start : start + size] for start in range(0, len(cells), size)]
    lock = threading.Lock()
    stopped = threading.Event()
    made_for = (kind, subject, plan.run.batch_size, plan.train, plan.valid)
    with lease(*made_for, runs=kind.whole(size)) as program:
        check(program, subject)

    def advance(done: int) -> None:
        with lock:
            plan.advance(done)

    def orders(chunk: list[_Cell]) -> Iterator[np.ndarray]:
        for order in zip(*map(plan.orders, chunk), strict=True):
            if stopped.is_set():
                raise CancelledError
            yield np.stack(order).T

    def train_chunk(chunk: list[_Cell]) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        rates = None if chunk[0].rate is None else np.array([cell.rate for cell in chunk], np.float32)
        with lease(*made_for, runs=kind.whole(size)) as program:
            program.compile()
            figures = program(
                plan.draw([cell.seed for cell in chunk]),
                rates,
                plan.train,
                plan.valid,
                orders(chunk),
                lambda epochs: advance(epochs * len(chunk)),
            )
            return figures, program.weights(len(chunk))

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(train_chunk, chunk) for chunk in chunks]
        try:
            # In short waits: Windows answers Ctrl-C between two of them only.
            while wait(futures, timeout=0.1, return_when=FIRST_EXCEPTION).not_done:
                check_wanted()
                if any(future.done() and future.exception() for future in futures):
                    break
            results = [future.result() for future in futures if future.done()]
        except BaseException:  # Ctrl-C, or the error of one chunk: the others end at their next block
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    figures = {name: np.concatenate([figures[name] for figures, _ in results], axis=1) for name in results[0][0]}
    return figures, [np.concatenate(values) for values in zip(*(w for _, w in results), strict=True)]
