"""`fit`: one run with the semantics of `keras.Model.fit`. Never guesses: what cannot be compiled goes to Keras."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import keras
import numpy as np

from batchlab.checks import whole_number
from batchlab.training import keras_internals as internals
from batchlab.training.ahead import Ahead, View, is_closed
from batchlab.training.programs.cache import lease
from batchlab.training.programs.loop import CannotCompileError, constants, in_blocks, joined
from batchlab.training.programs.single import AtWork, SingleProgram
from batchlab.training.recognise import overrides, terminates_on_nan, why_not_compiled
from batchlab.training.rows import Rows, Tree, row_orders
from batchlab.training.run import Run
from batchlab.training.self_check import DiffersError, check
from batchlab.training.subject import Subject

NotCompiled = (CannotCompileError, DiffersError, internals.MissingInternalError)
"""Why a run is left to Keras after all; raised before anything has been trained, and never later."""


def fit(
    model: keras.Model,
    x: Tree,
    y: Tree = None,
    *,
    batch_size: int,
    epochs: int,
    validation_split: float = 0.0,
    validation_data: tuple | None = None,
    shuffle: bool = True,
    sample_weight: Tree | None = None,
    class_weight: Mapping[int, float] | None = None,
    callbacks: keras.callbacks.Callback | Sequence[keras.callbacks.Callback] | None = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | Sequence[int] = 1,
    seed: int | None = None,
    verbose: int | str = 0,
) -> keras.callbacks.History:
    """Train a compiled model as `model.fit` does, with the loop over batches inside XLA.

    These things differ from Keras on purpose, and no others:

    - Every epoch has an order of its own, whereas `model.fit` after `keras.utils.set_random_seed` repeats one order in
      all epochs.
    - The losses of single outputs, of a model with several, are means over rows, in training and in validation, whereas
      Keras averages over batches where the last one is smaller.
    - Dropout and noise are drawn as Keras draws them without XLA, its default on a processor. With `jit_compile=True`,
      its default beside a graphics card, Keras draws others.
    - A missing or infinite number in the data is refused.
    - Where TensorFlow's own kernels guard against 0 / 0, as in the derivative of a root at 0, XLA's give NaN, in
      Keras's compiled steps as in these. A loss that became NaN is spoken of.

    The model and its optimizer hold the trained state afterwards, so `evaluate`, `predict`, `save` and a
    further `fit` go on from there. What cannot be compiled (a `tf.data` input, a callback that wants every
    batch, an operation without XLA kernel) is handed to `model.fit`, with one warning that says why. So is a model
    whose compiled step does not give what Keras's step gives on a first batch: loss, metrics, gradients and update
    are compared before a model is first trained.

    Args:
        model: A compiled Keras model.
        x: Features: an array (rows, …), or a list or dict of arrays for a model with several inputs.
        y: Targets: an array (rows, …), or a list or dict of arrays for a model with several outputs. What carries its
            own targets, such as a `tf.data.Dataset`, goes to `model.fit`.
        batch_size: Rows for one update. The last batch of an epoch holds the remainder.
        epochs: The epoch to stop after; with `initial_epoch` it counts from the very first run, as in Keras.
        validation_split: Share of the rows, at least 0 and below 1, taken unshuffled from the end.
        validation_data: (x, y) or (x, y, sample_weight), in place of `validation_split`.
        shuffle: Whether the training rows are put in a new order before each epoch.
        sample_weight: One weight a row, shape (rows,).
        class_weight: One weight a class, for targets of whole numbers or one-hot rows.
        callbacks: Keras callbacks that act at most once an epoch, called in this order.
        initial_epoch: The epoch to begin with, for a run that goes on.
        steps_per_epoch: As in Keras, which such a run is handed to.
        validation_steps: Likewise.
        validation_batch_size: Likewise.
        validation_freq: Likewise, unless it is 1.
        seed: Decides the shuffles, as it does in `fit_seeds`. Without it they follow from
            `keras.utils.set_random_seed`.
        verbose: 0 is quiet, 1 or "auto" a progress bar over the epochs, 2 a line an epoch.

    Returns:
        The history: one value an epoch of the loss and of each metric, and of their `val_` twins. As in
        Keras, the training figures are averages over the epoch, taken while the weights change.

    Raises:
        ValueError: The model is not compiled; a size is below 1; lengths differ; the data hold NaN or infinity;
            a part is empty; the arguments contradict each other.
        TypeError: A size is not a whole number.
    """
    run = Run(batch_size, epochs, validation_split, validation_data, shuffle, sample_weight, class_weight)
    require_compiled(model, x, y)
    of_keras = {
        "steps_per_epoch": steps_per_epoch,
        "validation_steps": validation_steps,
        "validation_batch_size": validation_batch_size,
        "validation_freq": None if validation_freq == 1 else validation_freq,
    }
    of_keras = {name: value for name, value in of_keras.items() if value is not None}
    verbose = 1 if verbose == "auto" else verbose
    if isinstance(callbacks, keras.callbacks.Callback):
        callbacks = [callbacks]
    with ExitStack() as held:
        try:
            reason = why_not_compiled(model, x, y, sample_weight, validation_data, callbacks=callbacks, others=of_keras)
            if reason is None:
                callbacks = list(callbacks or [])
                run = run.checked(least_epochs=0)
                initial_epoch = whole_number(initial_epoch, "initial_epoch", 0)
                seed = None if seed is None else whole_number(seed, "seed", 0)
                train, valid = run.rows(x, y)
                subject, reason = built(model, train.part(0, min(run.batch_size, len(train))).data)
                if reason is None and not subject.shared and any(map(terminates_on_nan, callbacks)):
                    reason = "TerminateOnNaN wants to be called at every batch, and the model has code of its own"
            if reason is None:
                go = compiled(held, subject, run, train, valid, callbacks=callbacks, verbose=verbose)
        except NotCompiled as refusal:
            reason = str(refusal)
        # From here on there are effects, so an error is the user's to see.
        if reason is None:
            history = go(seed=seed, initial_epoch=initial_epoch, callbacks=callbacks, verbose=verbose)
            failed = np.flatnonzero(np.isnan(history.history.get("loss", [])))
            if len(failed):
                warnings.warn(
                    f"The loss became NaN in epoch {history.epoch[failed[0]] + 1}. "
                    "Lower the learning rate, or look at the data.",
                    stacklevel=2,
                )
            return history
    warnings.warn(f"Training with keras.Model.fit, step by step: {reason}.", stacklevel=2)
    arguments = {"initial_epoch": initial_epoch, "callbacks": callbacks, "verbose": verbose, **of_keras}
    return by_keras(model, x, y, run, seed=seed, **arguments)


def require_compiled(model: keras.Model, x: Tree, y: Tree) -> None:
    """Insist on a compiled model.

    Raises:
        ValueError: It is not compiled.
    """
    if not model.compiled:
        model.fit(x, y)  # refuses, in the words of this Keras


def built(model: keras.Model, batch: tuple) -> tuple[Subject, str | None]:
    """Build a compiled model on a batch, and describe it.

    Returns:
        The model as a subject, and, if it cannot be trained as it is, why not.

    Raises:
        MissingInternalError: Keras lacks a private name.
    """
    internals.build(model, batch)
    if {*map(id, internals.trained_by(model.optimizer))} != {*map(id, model.trainable_variables)}:
        reason = "which weights are trained has changed since compile(): call compile() again"
    else:
        reason = None
    return Subject.of(model, batch), reason


def compiled(
    held: ExitStack,
    subject: Subject,
    run: Run,
    train: Rows,
    valid: Rows | None,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> Callable[..., keras.callbacks.History]:
    """Lease and compile the program that serves a built model; nothing is trained yet.

    Args:
        held: Takes the lease.
        subject: The model.
        run: How it is trained.
        train: The training rows.
        valid: The validation rows.
        callbacks: What looks at the model or at the figures after each epoch.
        verbose: As in `fit`.

    Returns:
        A function that trains the model.

    Raises:
        CannotCompileError: XLA cannot compile the model.
        DiffersError: The compiled step is not Keras's.
        MissingInternalError: Keras lacks a private name.
    """
    # Both are needed again while the run goes on: if they are missing, say so now.
    internals.resumed_epoch(subject.model)
    internals.show(callbacks, subject.model)
    watched = bool(callbacks or verbose)
    apart = any(overrides(callback, "on_test_begin") for callback in callbacks)
    program = held.enter_context(
        lease(SingleProgram, subject, run.batch_size, train, valid, watched=watched, apart=apart)
    )
    check(program, subject)
    program.compile()
    return partial(
        _epoch_by_epoch if watched else _all_epochs, program.at(subject, train, valid), subject, run, train, valid
    )


def by_keras(
    model: keras.Model, x: Tree, y: Tree, run: Run, *, seed: int | None, verbose: int | str = 0, **others: object
) -> keras.callbacks.History:
    """Train with `model.fit`, which takes the other arguments as they are."""
    if seed is not None:
        keras.utils.set_random_seed(seed if seed < 2**32 else int(np.random.SeedSequence(seed).generate_state(1)[0]))
    return model.fit(x, y, **run.arguments(), verbose=verbose, **others)


def _all_epochs(
    work: AtWork,
    subject: Subject,
    run: Run,
    train: Rows,
    valid: Rows | None,
    *,
    seed: int | None,
    initial_epoch: int = 0,
    advance: Callable[[int], object] = lambda done: None,
    **_: object,
) -> keras.callbacks.History:
    """Run all epochs in one program; nobody looks in between."""
    span = range(initial_epoch, max(initial_epoch, run.epochs))
    history = keras.callbacks.History()
    history.set_params({"verbose": 0, "epochs": run.epochs, "steps": train.steps(run.batch_size)})
    history.set_model(subject.model)
    subject.model.history = history
    history.on_train_begin()
    logs = []
    for orders in in_blocks(row_orders(seed, len(train), span, run.shuffle), len(train)):
        logs.append(work.train(orders))
        advance(len(orders))
    figures = joined(logs)
    if run.epochs > 0:
        subject.model.optimizer.finalize_variable_values(subject.model.trainable_weights)
    names = sorted(figures)  # as Keras orders them
    for epoch, values in zip(span, zip(*(figures[name] for name in names), strict=True), strict=True):
        logs = dict(zip(names, values, strict=True))
        history.on_epoch_end(epoch, {name: value if np.ndim(value) else float(value) for name, value in logs.items()})
    return history


def _epoch_by_epoch(
    work: AtWork,
    subject: Subject,
    run: Run,
    train: Rows,
    valid: Rows | None,
    *,
    seed: int | None,
    initial_epoch: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
    advance: Callable[[int], object] = lambda done: None,
) -> keras.callbacks.History:
    """Run epoch by epoch, so that callbacks find the model as Keras would leave it."""
    model = subject.model
    own = list(callbacks)
    if verbose == 1:
        own.append(_EpochBar(range(initial_epoch, run.epochs)))
    hooks = keras.callbacks.CallbackList(
        own,
        add_history=True,
        add_progbar=verbose == 2,
        verbose=verbose,
        epochs=run.epochs,
        steps=train.steps(run.batch_size),
        model=model,
    )
    apart = any(overrides(callback, "on_test_begin") for callback in callbacks)
    # Code of the user's own may keep state that nobody knows to bring back.
    closed = subject.shared and not apart and all(map(is_closed, hooks.callbacks))
    batches = [callback for callback in callbacks if terminates_on_nan(callback)]
    model.stop_training = False
    hooks.on_train_begin()
    span = range(internals.resumed_epoch(model) or initial_epoch, run.epochs)
    epochs = Ahead(work, row_orders(seed, len(train), span, run.shuffle), may=closed)
    view = View(model, epochs.settle)
    logs = None
    try:
        if closed:
            internals.show(hooks.callbacks, view)
        for epoch in span:
            if not closed:
                model.reset_metrics()
            hooks.on_epoch_begin(epoch)
            by_batches = model.stop_training  # already: Keras looks after each batch
            if by_batches:
                order = epochs.skip()
            else:
                logs = epochs.next()
                if batches and not np.isfinite(logs["loss"]):
                    by_batches, order = True, epochs.undo()
            if by_batches:
                logs = _by_batches(model, run, train, order, hooks)
            if valid is not None:
                hooks.on_test_begin()
                if by_batches:
                    logs |= _evaluated(model, run, valid)
                elif apart:
                    logs |= work.evaluate()
                hooks.on_test_end({name.removeprefix("val_"): logs[name] for name in logs if name.startswith("val_")})
            hooks.on_epoch_end(epoch, logs)
            advance(1)
            if model.stop_training:
                break
    finally:  # after Ctrl-C too, the model is where the callbacks are
        epochs.settle()
        internals.show(hooks.callbacks, model)
    if run.epochs > 0:
        model.optimizer.finalize_variable_values(model.trainable_weights)
    hooks.on_train_end(logs)
    return model.history


def _by_batches(
    model: keras.Model, run: Run, train: Rows, order: np.ndarray, hooks: keras.callbacks.CallbackList
) -> dict[str, object]:
    """Train an epoch by Keras's own steps, each followed by the callbacks, until one stops it; return its figures."""
    model.reset_metrics()
    logs: dict[str, object] = {}
    for number, start in enumerate(range(0, len(order), run.batch_size)):
        hooks.on_train_batch_begin(number)
        model.train_step(constants(train.take(order[start : start + run.batch_size]).data))
        logs = dict(model.get_metrics_result())
        hooks.on_train_batch_end(number, logs)
        if model.stop_training:
            break
    return logs


def _evaluated(model: keras.Model, run: Run, valid: Rows) -> dict[str, object]:
    """Evaluate by Keras; return the figures as those of validation."""
    x, y, weight = valid.data
    figures = model.evaluate(x, y, run.batch_size, 0, weight, return_dict=True)
    return {f"val_{name}": value for name, value in figures.items()}


class _EpochBar(keras.callbacks.Callback):
    """A progress bar that moves once an epoch."""

    def __init__(self, span: range) -> None:
        super().__init__()
        self._first, self._number = span.start, len(span)

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._bar = keras.utils.Progbar(self._number)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._bar.update(epoch + 1 - self._first, list((logs or {}).items()))
