"""The paths of batch, mini-batch and stochastic gradient descent, and where they lead. Never knows which loss it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np

from batchlab.checks import positive_number, whole_number
from batchlab.ideas.descent.losses import Loss, as_weights, stable_step_size

Order: TypeAlias = Literal["shuffled", "table", "with replacement"]
"""How an epoch goes through the rows: in a fresh order, as they stand in the table, or drawn anew for every batch."""

_ORDERS = ("shuffled", "table", "with replacement")
_FINE = 1.0001  # ratio of the two step sizes between which the observed limit lies in the end
_MEMORY, _EPSILON = 0.9, 1e-7  # of RMSprop, as Keras sets them


def updates_per_epoch(rows: int, batch_size: int) -> int:
    """Return how many mini-batches hold every row once; the last one holds what remains.

    Raises:
        TypeError: An argument is no whole number.
        ValueError: An argument is below 1, or the batch is larger than the table.
    """
    rows = whole_number(rows, "rows", 1)
    return math.ceil(rows / whole_number(batch_size, "batch_size", 1, rows))


def schedule(rows: int, batch_size: int, *, order: Order = "shuffled", seed: int = 0) -> list[np.ndarray]:
    """Return which rows feed which update of one epoch.

    Args:
        rows: Rows of the table.
        batch_size: Rows for one update. The last batch holds the remainder, as in Keras, unless rows are drawn with
            replacement.
        order: How the rows are taken.
        seed: Decides the random orders.

    Returns:
        The row indices of each mini-batch in turn.

    Raises:
        TypeError: A count is no whole number.
        ValueError: A count is out of range, or the order is unknown.
    """
    return epoch_of_batches(rows, batch_size, (), order, np.random.default_rng(seed))


def descend(
    loss: Loss,
    starts: np.ndarray,
    *,
    step_size: float,
    batch_size: int,
    updates: int,
    order: Order = "shuffled",
    seed: int = 0,
) -> np.ndarray:
    """Follow mini-batch gradients downhill: w <- w - step_size * (mean gradient over the rows of the next mini-batch).

    Args:
        loss: The loss.
        starts: The first weights of one run, (2,), or of many that go side by side, (runs, 2).
        step_size: The learning rate, in units of w^2 a unit of loss.
        batch_size: Rows for one update; all rows make batch gradient descent.
        updates: How many steps to take.
        order: How each epoch goes through the rows. Runs have orders of their own.
        seed: Decides the random orders.

    Returns:
        The paths, of shape (runs, updates + 1, 2), starts included. A run that diverges goes on to inf or NaN, which
        its path keeps, without a warning.

    Raises:
        TypeError: The step size is no number, or a count no whole number.
        ValueError: The step size is not above 0 and finite, a count is out of range, the starts have a wrong shape or
            are not finite, or the order is unknown.
    """
    w = np.atleast_2d(as_weights(starts)).copy()
    if w.ndim != 2 or not np.isfinite(w).all():
        raise ValueError(f"`starts` must be finite numbers of shape (2,) or (runs, 2); got {starts!r}.")
    step_size = positive_number(step_size, "step_size")
    updates = whole_number(updates, "updates", 0)
    batches = _batches(loss.rows, batch_size, (len(w),), order, seed)
    paths = np.empty((len(w), updates + 1, 2))
    paths[:, 0] = w
    with np.errstate(over="ignore", invalid="ignore"):
        for update in range(1, updates + 1):
            w = w - step_size * loss.gradient(w, next(batches))
            paths[:, update] = w
    return paths


def rmsprop_step(
    w: np.ndarray, gradient: np.ndarray, mean_square: np.ndarray, *, step_size: float = 0.001
) -> tuple[np.ndarray, np.ndarray]:
    """Make one update of RMSprop (Tieleman & Hinton 2012), Keras's default optimizer, with Keras's constants.

    v <- 0.9 v + 0.1 g^2, then w <- w - step_size * g / sqrt(v + 1e-7): each parameter's step is divided by the root of
    a running mean of its squared derivative.

    Args:
        w: The weights, of any shape.
        gradient: g, of the same shape.
        mean_square: v, of the same shape; zeros before the first update.
        step_size: The learning rate, about how far a parameter moves in one update, in units of w.

    Returns:
        The new weights and the new v.

    Raises:
        TypeError: The step size is no number.
        ValueError: The step size is not above 0 and finite, or the three shapes differ.
    """
    if not np.shape(w) == np.shape(gradient) == np.shape(mean_square):
        shapes = f"{np.shape(w)}, {np.shape(gradient)} and {np.shape(mean_square)}"
        raise ValueError(f"rmsprop_step: weights, gradient and mean square have the shapes {shapes}; give one shape.")
    mean_square = _MEMORY * mean_square + (1 - _MEMORY) * gradient**2
    step_size = positive_number(step_size, "step_size")
    return w - step_size * gradient / np.sqrt(mean_square + _EPSILON), mean_square


def _batches(rows: int, batch_size: int, runs: tuple[int, ...], order: Order, seed: int) -> Iterator[np.ndarray | None]:
    """The mini-batches of every run, epoch after epoch; None stands for all rows, whose order does not matter."""
    first = epoch_of_batches(rows, batch_size, runs, order, rng := np.random.default_rng(seed))
    if len(first) == 1 and order != "with replacement":
        while True:
            yield None
    yield from first
    while True:
        yield from epoch_of_batches(rows, batch_size, runs, order, rng)


def epoch_of_batches(
    rows: int, batch_size: int, runs: tuple[int, ...], order: Order, rng: np.random.Generator
) -> list[np.ndarray]:
    """Return the mini-batches of one epoch, each of shape (*runs, b); see `schedule`."""
    count = updates_per_epoch(rows, batch_size)
    if order not in _ORDERS:
        raise ValueError(f"`order` is {order!r}; choose among {', '.join(map(repr, _ORDERS))}.")
    if order == "with replacement":
        drawn = rng.integers(rows, size=(*runs, count * batch_size))  # every batch is a full one
    else:
        drawn = np.broadcast_to(np.arange(rows), (*runs, rows))
        if order == "shuffled":
            drawn = rng.permuted(drawn, axis=-1)
    return [drawn[..., i * batch_size : (i + 1) * batch_size] for i in range(count)]


def basin(loss: Loss, w: np.ndarray, minima: np.ndarray) -> np.ndarray:
    """Tell in which minimum's basin each place lies, by following the exact gradient downhill to the end.

    Args:
        loss: The loss.
        w: Places of shape (runs, 2).
        minima: The minima, of shape (m, 2).

    Returns:
        For each place the index of its minimum, of shape (runs,).

    Raises:
        ValueError: A place leads to none of these minima.
    """
    w, minima = np.atleast_2d(as_weights(w)), np.atleast_2d(as_weights(minima))
    # A quarter of the step at which the sharpest minimum is left: no overshooting into the next valley.
    step_size = min(stable_step_size(loss.hessian(minimum)) for minimum in minima) / 4
    for _ in range(100):
        distances = np.linalg.norm(w[:, None] - minima, axis=-1)
        found = np.where(distances.min(axis=1) < 0.01, distances.argmin(axis=1), -1)
        going = found < 0
        if not going.any():
            return found
        w = w.copy()
        w[going] = descend(loss, w[going], step_size=step_size, batch_size=loss.rows, updates=20)[:, -1]
    lost = int(np.flatnonzero(going)[0])
    raise ValueError(f"basin: descent from place {lost} ends at {w[lost]}, near none of the minima {minima.tolist()}.")


def observed_limit(
    loss: Loss,
    start: np.ndarray,
    between: tuple[float, float],
    *,
    updates: int,
) -> float:
    """Find the step size from which on batch gradient descent ends higher than it began, by halving an interval.

    Args:
        loss: The loss.
        start: The first weights, of shape (2,).
        between: A step size at which the loss falls, and one at which it rises.
        updates: How many steps a descent takes. Beyond the limit by a share e each multiplies a distance by some
            1 + 2e, so that fewer than 1 / e do not tell it from the limit.

    Returns:
        The largest step size that was tried and went down, at most 0.01 % below one that did not.

    Raises:
        TypeError: A step size is no number, or the count no whole number.
        ValueError: A number is out of range, the start has a wrong shape, or the limit does not lie between the two.
    """
    start = as_weights(start, (2,))

    def falls(step_size: float) -> bool:
        path = descend(loss, start, step_size=step_size, batch_size=loss.rows, updates=updates)[0]
        return bool(loss.value(path[-1]) < loss.value(start))  # not so where the path has gone to NaN

    low, high = between
    if not falls(low) or falls(high):
        raise ValueError(
            f"observed_limit: {updates} updates must end lower at step size {low} and not at {high}; "
            "give one step size on each side of the limit."
        )
    while high / low > _FINE:
        middle = (low + high) / 2
        low, high = (middle, high) if falls(middle) else (low, middle)
    return low
