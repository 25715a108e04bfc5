"""Training with the semantics of `keras.Model.fit`, whole epochs in one XLA program.

`fit` trains one model, `fit_seeds` many runs of it at once. Both decide which program of `batchlab.training.programs`
serves the model, and hand to Keras what none can compile.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from batchlab.checks import whole_number
from batchlab.training.programs import (
    EpochProgram,
    FlatProgram,
    SeedsProgram,
    cached,
    has_additive_metrics,
    has_default_reduction,
    is_dense_chain,
    is_elementwise,
    is_plain,
    structure,
)
from batchlab.training.rows import Rows, Tree, are_arrays, prepare, row_orders

_BATCH_HOOKS = [f"on_{part}batch_{end}" for part in ("", "train_", "test_") for end in ("begin", "end")]
_MOST_RUNS_AT_ONCE = 128  # more no longer fill the vector registers better, and leave the fast caches


def fit(
    model: keras.Model,
    x: Tree,
    y: Tree,
    *,
    batch_size: int,
    epochs: int,
    validation_split: float = 0.0,
    validation_data: tuple | None = None,
    shuffle: bool = True,
    sample_weight: Tree | None = None,
    class_weight: Mapping[int, float] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    initial_epoch: int = 0,
    seed: int | None = None,
    verbose: int = 0,
) -> keras.callbacks.History:
    """Train a compiled model as `model.fit` does, with the loop over batches inside XLA.

    Three things differ from Keras on purpose. Every epoch has an order of its own, whereas `model.fit` after
    `keras.utils.set_random_seed` repeats one order in all epochs. Per-output validation losses of models with
    several outputs are means over rows, whereas Keras averages over batches where the last one is smaller. And
    Dropout draws other masks than uncompiled Keras does.

    The model and its optimizer hold the trained state afterwards, so `evaluate`, `predict`, `save` and a
    further `fit` go on from there. What cannot be compiled (a `tf.data` input, a callback that wants every
    batch, an operation without XLA kernel) is handed to `model.fit`, with one warning that says why.

    Args:
        model: A compiled Keras model.
        x: Features: an array (rows, …), or a list or dict of arrays for a model with several inputs.
        y: Targets: an array (rows, …), or a list or dict of arrays for a model with several outputs.
        batch_size: Rows for one update. The last batch of an epoch holds the remainder.
        epochs: The epoch to stop after; with `initial_epoch` it counts from the very first run, as in Keras.
        validation_split: Share of the rows, at least 0 and below 1, taken unshuffled from the end.
        validation_data: (x, y) or (x, y, sample_weight), in place of `validation_split`.
        shuffle: Whether the training rows are put in a new order before each epoch.
        sample_weight: One weight a row, shape (rows,).
        class_weight: One weight a class, for targets of whole numbers or one-hot rows.
        callbacks: Keras callbacks that act at most once an epoch, called in this order.
        initial_epoch: The epoch to begin with, for a run that goes on.
        seed: Decides the shuffles, as it does in `fit_seeds`. Without it they follow from
            `keras.utils.set_random_seed`.
        verbose: 0 is quiet, 1 a progress bar over the epochs, 2 a line an epoch.

    Returns:
        The history: one value an epoch of the loss and of each metric, and of their `val_` twins. As in
        Keras, the training figures are averages over the epoch, taken while the weights change.

    Raises:
        ValueError: The model is not compiled; a size is below 1; lengths differ; the data hold NaN or infinity;
            a part is empty; the arguments contradict each other.
        TypeError: A size is not a whole number.
    """
    model._assert_compile_called("fit")
    callbacks = list(callbacks or [])
    reason = _why_not(model, x, y, sample_weight, validation_data, callbacks)
    if reason is None:
        batch_size = whole_number(batch_size, "batch_size", 1)
        epochs, initial_epoch = whole_number(epochs, "epochs", 0), whole_number(initial_epoch, "initial_epoch", 0)
        train, valid = prepare(
            x,
            y,
            sample_weight=sample_weight,
            class_weight=class_weight,
            validation_split=validation_split,
            validation_data=validation_data,
        )
        seed = None if seed is None else whole_number(seed, "seed", 0)
        orders = row_orders(seed, len(train), max(0, epochs - initial_epoch), shuffle)
        span = range(initial_epoch, epochs)
        model._symbolic_build(data_batch=train.part(0, min(batch_size, len(train))).data)
        fast = not callbacks and not verbose and _is_flat(model) and isinstance(train.x, np.ndarray)
        run = _run_flat if fast else _run_epochs
        try:
            history = run(model, train, valid, orders, batch_size, span, callbacks, verbose)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            if "XLA" not in str(error) and "compil" not in str(error):
                raise
            reason = f"XLA cannot compile the model: {str(error).splitlines()[0][:200]}"
        else:
            _report_nan(history)
            return history
    warnings.warn(f"Training with keras.Model.fit, step by step: {reason}.", stacklevel=2)
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
        class_weight=class_weight,
        callbacks=callbacks,
        initial_epoch=initial_epoch,
        verbose=verbose,
    )


def fit_seeds(
    build_model: Callable[[], keras.Model],
    x: np.ndarray,
    y: np.ndarray,
    *,
    seeds: int | Sequence[int],
    batch_size: int,
    epochs: int,
    validation_split: float = 0.0,
    validation_data: tuple | None = None,
    shuffle: bool = True,
    shuffle_seed: int | None = None,
    sample_weight: np.ndarray | None = None,
    class_weight: Mapping[int, float] | None = None,
    learning_rates: Sequence[float] | None = None,
    initial_weights: Sequence[np.ndarray] | None = None,
    keep_weights: bool = False,
    memory_budget: int = 2**30,
    verbose: int = 0,
) -> pd.DataFrame | tuple[pd.DataFrame, list[np.ndarray]]:
    """Train the same model from many seeds, as independent runs.

    A seed decides a run's initial weights (`draw_weights`) and its shuffles, so that a run does not depend
    on which others ran with it, and `fit` with the same weights and seed repeats it. Chains of Dense layers
    with an elementwise optimizer are trained side by side; other models one after the other.

    Args:
        build_model: Returns a compiled model; called without arguments.
        x: Features, shape (rows, features).
        y: Targets, shape (rows,) or (rows, outputs).
        seeds: Their number, for 0, 1, 2, …, or the seeds themselves: distinct whole numbers of at least 0.
        batch_size: Rows for one update. The last batch of an epoch holds the remainder.
        epochs: Passes over the training rows.
        validation_split: Share of the rows, at least 0 and below 1, taken unshuffled from the end.
        validation_data: (x, y) or (x, y, sample_weight), in place of `validation_split`.
        shuffle: Whether each run puts the training rows in a new order before each epoch.
        shuffle_seed: The seed of shuffles that all runs share; they then differ by their initial weights alone.
        sample_weight: One weight a row, shape (rows,).
        class_weight: One weight a class.
        learning_rates: Each seed is run with each of these. Without it the optimizer keeps its own.
        initial_weights: As `model.get_weights()` gives them, for all runs, which then differ by their
            shuffles alone.
        keep_weights: Whether to return the final weights too.
        memory_budget: Bytes that the runs in progress may take; more runs follow one another.
        verbose: 1 shows a progress bar.

    Returns:
        One row a run and epoch, in the order of learning rates, seeds, epochs. Columns: batch_size, learning_rate
        (where several were given), seed, epoch (from 1), updates (optimizer steps so far), loss, the metrics, and
        their `val_` twins. With `keep_weights`, also the final weights: as `model.get_weights()`, with the
        runs in a first axis.

    Raises:
        ValueError: As `fit` does; also for seeds that are below 0 or not distinct, and for learning rates that
            are not positive or that meet a schedule.
        TypeError: `build_model` is no function; a size or a seed is not a whole number.
    """
    seeds = _checked_seeds(seeds)
    batch_size, epochs = whole_number(batch_size, "batch_size", 1), whole_number(epochs, "epochs", 1)
    if isinstance(build_model, keras.Model) or not callable(build_model):
        raise TypeError(
            f"`build_model` is a {type(build_model).__name__}; give a function without arguments that returns a "
            "compiled model, such as helpers.build_model itself."
        )
    model = build_model()
    model._assert_compile_called("fit_seeds")
    if not are_arrays(x, y, sample_weight):
        raise ValueError("fit_seeds takes NumPy arrays of numbers.")
    train, valid = prepare(
        _columns(x),
        y,
        sample_weight=_floats(sample_weight),
        class_weight=class_weight,
        validation_split=validation_split,
        validation_data=validation_data and (_columns(validation_data[0]), *validation_data[1:]),
    )
    model._symbolic_build(data_batch=train.part(0, min(batch_size, len(train))).data)
    rates = _checked_rates(learning_rates, model.optimizer)
    runs = [
        _Run(rate, seed, seed if shuffle_seed is None else whole_number(shuffle_seed, "shuffle_seed", 0))
        for rate in rates
        for seed in seeds
    ]
    if initial_weights is not None:
        _check_weights(initial_weights, model)
    bar = keras.utils.Progbar(epochs * len(runs)) if verbose else None
    plan = _Plan(train, valid, batch_size, epochs, shuffle, initial_weights, bar.add if bar else lambda done: None)
    if len(runs) > 1 and is_dense_chain(model):
        figures, weights = _side_by_side(plan, runs, model, memory_budget)
    else:
        figures, weights = _one_by_one(plan, runs, build_model)

    steps = -(-len(train) // batch_size)
    frame = {"batch_size": np.full(epochs * len(runs), batch_size)}
    if learning_rates is not None:
        frame["learning_rate"] = np.repeat([run.rate for run in runs], epochs)
    frame["seed"] = np.repeat([run.seed for run in runs], epochs)
    frame["epoch"] = np.tile(np.arange(1, epochs + 1), len(runs))
    frame["updates"] = frame["epoch"] * steps
    frame |= {name: values.T.ravel() for name, values in figures.items()}
    failed = np.isnan(figures["loss"])
    if failed.any():
        warnings.warn(
            f"The loss became NaN in {failed.any(axis=0).sum()} of {len(runs)} runs, first in epoch "
            f"{np.flatnonzero(failed.any(axis=1))[0] + 1}. Lower the learning rate.",
            stacklevel=2,
        )
    return (pd.DataFrame(frame), weights) if keep_weights else pd.DataFrame(frame)


def draw_weights(model: keras.Model, seed: int) -> None:
    """Draw a built model's initial weights anew, in place, from its own initializers.

    Args:
        model: A built Keras model.
        seed: Decides the weights, whatever was drawn before and whatever seeds the initializers hold.

    Raises:
        ValueError: A layer has a weight without an initializer to draw it from.
    """
    for variable, value in zip(model.variables, _drawn(model, seed), strict=True):
        variable.assign(value)


# --- one run -----------------------------------------------------------------------------------------


def _why_not(
    model: keras.Model, x: Tree, y: Tree, weight: Tree, validation_data: tuple | None, callbacks: list
) -> str | None:
    """Say why a run cannot be compiled, as far as that is known before trying, or return None."""
    if not are_arrays(x, y, weight, validation_data):
        return f"the data are not arrays of numbers ({type(x).__name__})"
    for callback in callbacks:
        if _wants_batches(callback):
            return f"{type(callback).__name__} wants to be called at every batch"
    for method in ("train_step", "test_step", "fit", "make_train_function"):
        if getattr(type(model), method) is not getattr(keras.Model, method):
            return f"{type(model).__name__} has a {method} of its own"
    if model.run_eagerly:
        return "the model was compiled with run_eagerly"
    if tf.distribute.has_strategy() or model._distribute_strategy is not None:
        return "a distribution strategy is in use"
    return None


def _wants_batches(callback: keras.callbacks.Callback) -> bool:
    if isinstance(callback, keras.callbacks.TensorBoard):
        return callback.update_freq != "epoch" or bool(callback._start_batch or callback._stop_batch)
    if isinstance(callback, keras.callbacks.ModelCheckpoint | keras.callbacks.BackupAndRestore):
        return callback.save_freq != "epoch"
    return any(not getattr(getattr(callback, hook), "_is_default", False) for hook in _BATCH_HOOKS)


def _is_flat(model: keras.Model) -> bool:
    return (
        is_plain(model)
        and is_elementwise(model.optimizer)
        and has_default_reduction(model)
        and has_additive_metrics(model)
    )


def _run_flat(
    model: keras.Model,
    train: Rows,
    valid: Rows | None,
    orders: Iterator[np.ndarray],
    batch_size: int,
    span: range,
    *_: object,
) -> keras.callbacks.History:
    """Run all epochs in one program; nobody looks in between."""
    key = (FlatProgram, structure(model), batch_size, train.signature(), valid and valid.signature())
    program = cached(key, lambda: FlatProgram(model, batch_size, train.part(0, min(batch_size, len(train))).data))
    history = keras.callbacks.History()
    history.set_params({"verbose": 0, "epochs": span.stop, "steps": -(-len(train) // batch_size)})
    history.set_model(model)
    model.history = history
    history.on_train_begin()
    for epoch, figures in zip(span, _rows_of(program(model, train, valid, orders)), strict=True):
        history.on_epoch_end(epoch, figures)
    return history


def _rows_of(columns: dict[str, np.ndarray]) -> list[dict[str, float]]:
    return [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]


def _run_epochs(
    model: keras.Model,
    train: Rows,
    valid: Rows | None,
    orders: Iterator[np.ndarray],
    batch_size: int,
    span: range,
    callbacks: list,
    verbose: int,
) -> keras.callbacks.History:
    """Run epoch by epoch on the live model, so that callbacks find it as Keras would leave it."""
    key = (EpochProgram, structure(model), batch_size, train.signature(), valid and valid.signature())
    program = cached(key, lambda: EpochProgram(model, batch_size, train.part(0, min(batch_size, len(train))).data))
    program.compile(train, valid)
    if verbose == 1:
        callbacks = [*callbacks, _EpochBar(span)]
    hooks = keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=verbose == 2,
        verbose=verbose,
        epochs=span.stop,
        steps=-(-len(train) // batch_size),
        model=model,
    )
    model.stop_training = False
    hooks.on_train_begin()
    logs = None
    for epoch, order in zip(range(model._initial_epoch or span.start, span.stop), orders, strict=False):
        hooks.on_epoch_begin(epoch)
        program.load(model)  # anew for each epoch: a callback may have changed the model
        logs = _numbers(program.train(train, order))
        program.store(model)
        if valid is not None:
            hooks.on_test_begin()
            figures = _numbers(program.test(valid))
            hooks.on_test_end(figures)
            logs |= {f"val_{name}": value for name, value in figures.items()}
        hooks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    if len(span):
        model.optimizer.finalize_variable_values(model.trainable_weights)
    hooks.on_train_end(logs)
    return model.history


def _numbers(figures: dict[str, tf.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in sorted(figures.items())}


def _report_nan(history: keras.callbacks.History) -> None:
    for epoch, loss in zip(history.epoch, history.history.get("loss", []), strict=True):
        if np.isnan(loss):
            warnings.warn(
                f"The loss became NaN in epoch {epoch + 1}. Lower the learning rate, or look at the data.",
                stacklevel=3,
            )
            return


class _EpochBar(keras.callbacks.Callback):
    """A progress bar that moves once an epoch."""

    def __init__(self, span: range) -> None:
        super().__init__()
        self._bar = keras.utils.Progbar(len(span))
        self._start = span.start

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._bar.update(epoch + 1 - self._start, list((logs or {}).items()))


# --- many runs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """What is one run's own; a rate of None leaves the optimizer its schedule."""

    rate: float | None
    seed: int
    shuffle_seed: int


@dataclass(frozen=True)
class _Plan:
    """What all runs share."""

    train: Rows
    valid: Rows | None
    batch_size: int
    epochs: int
    shuffle: bool
    initial_weights: Sequence[np.ndarray] | None
    advance: Callable[[int], object]  # called with the number of epochs done since the last call

    def weights(self, model: keras.Model, run: _Run) -> list[np.ndarray]:
        """Return the initial weights of a run, in the order of `model.variables`."""
        if self.initial_weights is None:
            return _drawn(model, run.seed)
        return [np.asarray(w, np.float32) for w in self.initial_weights]

    def orders(self, run: _Run) -> Iterator[np.ndarray]:
        """Yield the row orders of a run."""
        return row_orders(run.shuffle_seed, len(self.train), self.epochs, self.shuffle)


def _floats(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else np.asarray(array, keras.config.floatx())


def _columns(x: np.ndarray) -> np.ndarray:
    """Return features as floats, with an axis for the features even if there is one alone, as Keras does."""
    x = _floats(x)
    return x[:, None] if x.ndim == 1 else x


def _checked_seeds(seeds: int | Sequence[int]) -> list[int]:
    if np.ndim(seeds) == 0:
        return list(range(whole_number(seeds, "seeds", 1)))
    checked = [whole_number(seed.item() if isinstance(seed, np.generic) else seed, "seeds", 0) for seed in seeds]
    if not checked:
        raise ValueError("`seeds` is empty; give their number, or the seeds themselves.")
    if len(set(checked)) < len(checked):
        raise ValueError("`seeds` repeats a seed; its runs would be the same.")
    return checked


def _check_weights(weights: Sequence[np.ndarray], model: keras.Model) -> None:
    shapes = [tuple(w.shape) for w in model.get_weights()]
    if [tuple(np.shape(w)) for w in weights] != shapes:
        raise ValueError(f"`initial_weights` must have the shapes that model.get_weights() has: {shapes}.")
    if not all(np.isfinite(w).all() for w in weights):
        raise ValueError("`initial_weights` holds NaN or infinity; give finite weights.")


def _checked_rates(rates: Sequence[float] | None, optimizer: keras.optimizers.Optimizer) -> list[float | None]:
    scheduled = isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule)
    if rates is None:
        return [None if scheduled else float(optimizer.learning_rate.numpy())]
    if scheduled:
        raise ValueError("`learning_rates` cannot be used with a schedule: build the model with a plain learning rate.")
    checked = [float(rate) for rate in rates]
    if not checked or not all(np.isfinite(rate) and rate > 0 for rate in checked):
        raise ValueError(f"`learning_rates` is {rates!r}; give at least one, each positive and finite.")
    if len(set(checked)) < len(checked):
        raise ValueError(f"`learning_rates` is {rates!r}; it repeats a rate, whose runs would be the same.")
    return checked


def _drawn(model: keras.Model, seed: int) -> list[np.ndarray]:
    """Draw a value for each of `model.variables`."""
    numbers = iter(np.random.SeedSequence([seed, 0]).generate_state(len(model.variables)))
    owner = {
        id(v): layer
        for layer in model._flatten_layers()
        for v in (*layer._trainable_variables, *layer._non_trainable_variables)
    }
    values = []
    for variable, number in zip(model.variables, map(int, numbers), strict=True):
        if "seed_generator" in variable.path:
            values.append(np.array([number, 0], variable.dtype))  # as keras.random.SeedGenerator begins
            continue
        initializer = getattr(owner.get(id(variable)), f"{variable.name}_initializer", None)
        if initializer is None:
            raise ValueError(
                f"The weight {variable.path} has no initializer to draw it from; give `initial_weights` instead."
            )
        config = initializer.get_config()
        if "seed" in config:
            initializer = type(initializer).from_config({**config, "seed": number})
        values.append(np.asarray(initializer(variable.shape, dtype=variable.dtype)))
    return values


def _one_by_one(
    plan: _Plan, runs: list[_Run], build_model: Callable[[], keras.Model]
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    histories, weights = [], []
    for run in runs:
        model = build_model()
        model._symbolic_build(data_batch=plan.train.part(0, 1).data)
        if plan.initial_weights is None:
            draw_weights(model, run.seed)
        else:
            model.set_weights(plan.weights(model, run))
        if run.rate is not None:
            model.optimizer.learning_rate = run.rate
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The loss became NaN")  # reported once, for all runs
            history = fit(
                model,
                plan.train.x,
                plan.train.y,
                sample_weight=plan.train.weight,
                validation_data=plan.valid and plan.valid.data[: 2 + (plan.valid.weight is not None)],
                batch_size=plan.batch_size,
                epochs=plan.epochs,
                shuffle=plan.shuffle,
                seed=run.shuffle_seed,
            )
        histories.append(history.history)
        weights.append(model.get_weights())
        plan.advance(plan.epochs)
    figures = {name: np.array([h[name] for h in histories], np.float32).T for name in _ordered(histories[0])}
    return figures, [np.stack(values) for values in zip(*weights, strict=True)]


def _side_by_side(
    plan: _Plan, runs: list[_Run], model: keras.Model, memory_budget: int
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Train the runs in chunks, one thread a core: XLA's loop over batches keeps to one core."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    a_run = SeedsProgram.bytes_per_run(model, plan.train, plan.valid, plan.batch_size)
    affordable = max(1, memory_budget // (workers * a_run))
    size = min(_MOST_RUNS_AT_ONCE, affordable, max(16, -(-len(runs) // workers)), len(runs))
    chunks = [runs[start : start + size] for start in range(0, len(runs), size)]
    shapes = (plan.train.signature(), plan.valid and plan.valid.signature())
    key = (SeedsProgram, structure(model), plan.batch_size, size, *shapes)
    lock = threading.Lock()
    idle = list(range(workers))  # a program keeps its state in variables, so it serves one thread at a time

    def advance(done: int) -> None:
        with lock:
            plan.advance(done)

    def train_chunk(chunk: list[_Run]) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        with lock:
            worker = idle.pop(idle.index(min(idle)))  # always the same one for a single chunk: it compiles once
            batch = plan.train.part(0, min(plan.batch_size, len(plan.train))).data
            program = cached((*key, worker), lambda: SeedsProgram(model, plan.batch_size, size, batch))
        try:
            initial = [plan.weights(model, run) for run in chunk]
            orders = zip(*(plan.orders(run) for run in chunk), strict=True)
            figures = program(
                [np.stack(values, axis=-1) for values in zip(*initial, strict=True)],
                None if chunk[0].rate is None else np.array([run.rate for run in chunk], np.float32),
                plan.train,
                plan.valid,
                (np.stack(order, axis=-1) for order in orders),
                lambda epochs: advance(epochs * len(chunk)),
            )
            return figures, program.weights(len(chunk))
        finally:
            with lock:
                idle.append(worker)

    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(train_chunk, chunks))
    names = _ordered(results[0][0])
    figures = {name: np.concatenate([figures[name] for figures, _ in results], axis=1) for name in names}
    return figures, [np.concatenate(values) for values in zip(*(w for _, w in results), strict=True)]


def _ordered(names: Mapping[str, object]) -> list[str]:
    """The loss first, then the metrics, then their validation twins."""
    return sorted(names, key=lambda name: (name.startswith("val_"), not name.endswith("loss"), name))
