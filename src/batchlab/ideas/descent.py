"""Gradient descent where everything about it is known: losses with two parameters, the paths over them, their noise.

A loss is the mean of one term for each row of a table, so its gradient over some of the rows is an estimate of its
gradient over all. All is float64 NumPy. Weights are called w; arrays of them have the shape (..., 2).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np
import scipy.linalg
import scipy.optimize
from scipy.spatial.distance import cdist

from batchlab.checks import positive_number, whole_number
from batchlab.statistics import power_law  # noqa: F401

Order: TypeAlias = Literal["shuffled", "table", "with replacement"]
"""How an epoch goes through the rows: in a fresh order, as they stand in the table, or drawn anew for every batch."""

_ORDERS = ("shuffled", "table", "with replacement")
_CONVERGED = 1e-10  # norm of the gradient at a minimum, in units of loss a unit of w


# --- losses ------------------------------------------------------------------------------------------


class Loss(ABC):
    """A mean over rows of losses with two parameters. Subclasses give the terms; this class takes the means."""

    rows: int

    @abstractmethod
    def _terms(self, w: np.ndarray) -> np.ndarray:
        """The loss of each row, of shape (..., rows)."""

    @abstractmethod
    def _gradient(self, w: np.ndarray) -> np.ndarray:
        """The mean of all rows' gradients, of shape (..., 2), by a matrix product."""

    @abstractmethod
    def _row_gradients(self, w: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The gradients of the given rows' terms, of shape (..., b, 2)."""

    @abstractmethod
    def _hessian(self, w: np.ndarray) -> np.ndarray:
        """The matrix of second derivatives of the mean, of shape (2, 2)."""

    def value(self, w: np.ndarray) -> np.ndarray:
        """Return the loss over all rows, of shape (...), at weights of shape (..., 2)."""
        with np.errstate(over="ignore", invalid="ignore"):  # on a path that has diverged
            return self._terms(_weights(w)).mean(axis=-1)

    def gradient(self, w: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the mean gradient, of shape (..., 2).

        Args:
            w: Weights of shape (..., 2).
            rows: The rows of each mini-batch, as whole numbers of shape (..., b); all rows without it.
        """
        w = _weights(w)
        if rows is None:
            return self._gradient(w)
        # einsum sums, and the losses take, several times faster than mean(axis=-2) and x[rows] would.
        return np.einsum("...bi->...i", self._row_gradients(w, rows)) / np.shape(rows)[-1]

    def row_gradients(self, w: np.ndarray) -> np.ndarray:
        """Return the gradient of each row's term, of shape (rows, 2), at weights of shape (2,)."""
        return self._row_gradients(_weights(w, (2,)), np.arange(self.rows))

    def hessian(self, w: np.ndarray) -> np.ndarray:
        """Return the second derivatives over all rows, of shape (2, 2), at weights of shape (2,)."""
        return self._hessian(_weights(w, (2,)))


class LogisticLoss(Loss):
    """Mean binary cross-entropy of sigmoid(x @ w), in nats: logistic regression.

    Args:
        x: Features of shape (rows, 2); a column of ones gives a bias.
        y: Targets of shape (rows,), each 0 or 1.

    Raises:
        ValueError: A shape is wrong, a number is not finite, or a target is neither 0 nor 1.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = _table(x, "x", 2), _table(y, "y", None, like=x)
        if not np.isin(self.y, (0, 1)).all():
            row = int(np.flatnonzero(~np.isin(self.y, (0, 1)))[0])
            raise ValueError(f"y[{row}] is {self.y[row]:g}; the targets of a logistic loss are 0 or 1.")
        self.rows = len(self.x)

    def _terms(self, w: np.ndarray) -> np.ndarray:
        score = w @ self.x.T
        return np.logaddexp(0, score) - self.y * score

    def _gradient(self, w: np.ndarray) -> np.ndarray:
        return (_sigmoid(w @ self.x.T) - self.y) @ self.x / self.rows

    def _row_gradients(self, w: np.ndarray, rows: np.ndarray) -> np.ndarray:
        x = self.x.take(rows, axis=0)
        return (_sigmoid(_scores(x, w)) - self.y.take(rows))[..., None] * x

    def _hessian(self, w: np.ndarray) -> np.ndarray:
        p = _sigmoid(self.x @ w)
        return (self.x.T * (p * (1 - p))) @ self.x / self.rows


class SquaredLoss(Loss):
    """Mean of half the squared error of x @ w: least squares, an exact quadratic in w.

    Args:
        x: Features of shape (rows, 2); a column of ones gives a bias.
        y: Targets of shape (rows,).

    Raises:
        ValueError: A shape is wrong, or a number is not finite.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = _table(x, "x", 2), _table(y, "y", None, like=x)
        self.rows = len(self.x)

    def _terms(self, w: np.ndarray) -> np.ndarray:
        return (w @ self.x.T - self.y) ** 2 / 2

    def _gradient(self, w: np.ndarray) -> np.ndarray:
        return (w @ self.x.T - self.y) @ self.x / self.rows

    def _row_gradients(self, w: np.ndarray, rows: np.ndarray) -> np.ndarray:
        x = self.x.take(rows, axis=0)
        return (_scores(x, w) - self.y.take(rows))[..., None] * x

    def _hessian(self, w: np.ndarray) -> np.ndarray:
        return self.x.T @ self.x / self.rows


class KernelLoss(Loss):
    """Mean over points of 1 - exp(-|w - point|^2 / (2 width^2)), which is low where points are dense.

    Here w is a place among the points, and a row's term is 0 on its point and nearly 1 from three widths on (Welsch's
    loss). The minima are the peaks of a kernel density estimate (Fukunaga & Hostetler 1975), so there can be several.

    Args:
        points: Of shape (rows, 2).
        width: Of the kernel, in the points' units.

    Raises:
        ValueError: The shape is wrong, a number is not finite, or the width is not above 0.
        TypeError: The width is no number.
    """

    def __init__(self, points: np.ndarray, width: float) -> None:
        self.points, self.width = _table(points, "points", 2), positive_number(width, "width")
        self.rows = len(self.points)

    def _nearness(self, w: np.ndarray) -> np.ndarray:
        """The kernel between places and all points, of shape (..., rows)."""
        squares = cdist(w.reshape(-1, 2), self.points, "sqeuclidean").reshape(*w.shape[:-1], self.rows)
        return np.exp(-squares / (2 * self.width**2))

    def _terms(self, w: np.ndarray) -> np.ndarray:
        return 1 - self._nearness(w)

    def _gradient(self, w: np.ndarray) -> np.ndarray:
        near = self._nearness(w)
        return (w * near.mean(axis=-1, keepdims=True) - near @ self.points / self.rows) / self.width**2

    def _row_gradients(self, w: np.ndarray, rows: np.ndarray) -> np.ndarray:
        offset = w[..., None, :] - self.points.take(rows, axis=0)
        near = np.exp(-(offset[..., 0] ** 2 + offset[..., 1] ** 2) / (2 * self.width**2))
        return (near / self.width**2)[..., None] * offset

    def _hessian(self, w: np.ndarray) -> np.ndarray:
        near, offset = self._nearness(w), (w - self.points) / self.width
        return (near.mean() * np.eye(2) - (offset.T * near) @ offset / self.rows) / self.width**2


# --- minima and step sizes ---------------------------------------------------------------------------


def minimise(loss: Loss, start: np.ndarray) -> np.ndarray:
    """Find the minimum to which second-order descent leads, to a gradient of norm 1e-10.

    A trust region (Conn, Gould & Toint 2000) finds the valley, Newton steps its floor.

    Args:
        loss: The loss.
        start: Weights of shape (2,).

    Returns:
        The minimum, of shape (2,).

    Raises:
        ValueError: There is no minimum where the search ends.
    """
    options = {"initial_trust_radius": 0.1, "gtol": 1e-6}
    found = scipy.optimize.minimize(
        loss.value, _weights(start, (2,)), jac=loss.gradient, hess=loss.hessian, method="trust-exact", options=options
    )
    w = found.x
    for _ in range(20):
        gradient, hessian = loss.gradient(w), loss.hessian(w)
        if np.linalg.eigvalsh(hessian)[0] <= 0:
            break
        step = np.linalg.solve(hessian, gradient)
        # Both: on a slope that levels out for ever the gradient vanishes too, but the next step does not.
        if np.linalg.norm(gradient) < _CONVERGED and np.linalg.norm(step) < 1e-6:
            return w
        w = w - step
    raise ValueError(
        f"minimise: no minimum found from {start}; the search ended at {w} with a gradient of norm "
        f"{np.linalg.norm(loss.gradient(w)):.1e}. Start nearer to a minimum, or use a loss that has one."
    )


def stable_step_size(hessian: np.ndarray) -> float:
    """Return 2 / (largest curvature): above this step size gradient descent leaves the minimum of a quadratic.

    Along a direction of curvature c, each update multiplies the distance from the minimum by 1 - step_size * c.

    Args:
        hessian: Second derivatives at the minimum, of shape (2, 2).

    Raises:
        ValueError: The matrix is not that of a minimum: not symmetric, or not positive definite.
    """
    return float(2 / _curvatures(hessian)[-1])


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
    w, minima = np.atleast_2d(_weights(w)), np.atleast_2d(_weights(minima))
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


# --- paths -------------------------------------------------------------------------------------------


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
    return _epoch(rows, batch_size, (), order, np.random.default_rng(seed))


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
    w = np.atleast_2d(_weights(starts)).copy()
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


def _batches(rows: int, batch_size: int, runs: tuple[int, ...], order: Order, seed: int) -> Iterator[np.ndarray | None]:
    """The mini-batches of every run, epoch after epoch; None stands for all rows, whose order does not matter."""
    first = _epoch(rows, batch_size, runs, order, rng := np.random.default_rng(seed))
    if len(first) == 1 and order != "with replacement":
        while True:
            yield None
    yield from first
    while True:
        yield from _epoch(rows, batch_size, runs, order, rng)


def _epoch(
    rows: int, batch_size: int, runs: tuple[int, ...], order: Order, rng: np.random.Generator
) -> list[np.ndarray]:
    """The mini-batches of one epoch, each of shape (*runs, b)."""
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


# --- noise -------------------------------------------------------------------------------------------


def gradient_variance(
    loss: Loss, w: np.ndarray, batch_size: int, *, draws: int, order: Order = "shuffled", seed: int = 0
) -> float:
    """Measure how far the gradient over a mini-batch lies from the gradient over all rows, at one place.

    Args:
        loss: The loss.
        w: The place, of shape (2,).
        batch_size: Rows of a mini-batch.
        draws: How many mini-batches to draw, independently of each other.
        order: "with replacement", or "shuffled" for the first mini-batch of a shuffled epoch.
        seed: Decides the draws.

    Returns:
        The mean squared distance between the two gradients: the total variance, the trace of the covariance.

    Raises:
        TypeError: A count is no whole number.
        ValueError: A count is out of range, the place has a wrong shape, or the order is not random.
    """
    if order == "table":
        raise ValueError("gradient_variance: in table order every first batch is the same; draw at random.")
    draws = whole_number(draws, "draws", 1)
    rng = np.random.default_rng(seed)
    batches = _epoch(loss.rows, batch_size, (draws,), order, rng)[0]
    error = loss.gradient(_weights(w, (2,)), batches) - loss.gradient(w)
    return float((error**2).sum(axis=-1).mean())


def stationary_covariance(hessian: np.ndarray, noise: np.ndarray, step_size: float, batch_size: int) -> np.ndarray:
    """Predict how far runs stray from a minimum in the long run, for small steps and rows drawn with replacement.

    The covariance S solves H S + S H = (step_size / batch_size) C (Mandt, Hoffman & Blei 2017, "Stochastic gradient
    descent as approximate Bayesian inference"), so it grows with the step size and falls with the batch size.

    Args:
        hessian: H, the second derivatives at the minimum, of shape (2, 2).
        noise: C, the covariance of the rows' gradients there, of shape (2, 2).
        step_size: The learning rate.
        batch_size: Rows for one update.

    Returns:
        S, of shape (2, 2), in squared units of w; its trace is the mean squared distance from the minimum.

    Raises:
        TypeError: The step size is no number, or the batch size no whole number.
        ValueError: The Hessian is not that of a minimum, the noise is not of shape (2, 2) and finite, or a number is
            out of range.
    """
    _curvatures(hessian)
    noise = np.asarray(noise, dtype=np.float64)
    if noise.shape != (2, 2) or not np.isfinite(noise).all():
        raise ValueError(f"`noise` must be finite numbers of shape (2, 2); got {noise!r}.")
    ratio = positive_number(step_size, "step_size") / whole_number(batch_size, "batch_size", 1)
    return scipy.linalg.solve_continuous_lyapunov(hessian, ratio * noise)


# --- arithmetic and checks ---------------------------------------------------------------------------


def _scores(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """X @ w for each run with its own rows, of shape (..., b)."""
    return x[..., 0] * w[..., :1] + x[..., 1] * w[..., 1:]


def _sigmoid(score: np.ndarray) -> np.ndarray:
    return np.tanh(score / 2) / 2 + 0.5  # never overflows


def _weights(w: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
    w = np.asarray(w, dtype=np.float64)
    if w.ndim == 0 or w.shape[-1] != 2 or (shape is not None and w.shape != shape):
        raise ValueError(f"Weights must have the shape {shape or '(..., 2)'}, two parameters each; got {w.shape}.")
    return w


def _table(values: np.ndarray, name: str, columns: int | None, like: np.ndarray | None = None) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    rows = len(values) if like is None and values.ndim else len(np.atleast_1d(like))
    shape = (rows,) if columns is None else (rows, columns)
    if values.shape != shape or not rows:
        wanted = f"({rows if like is not None else 'rows'},{'' if columns is None else f' {columns}'})"
        raise ValueError(f"`{name}` must have the shape {wanted} with at least one row; got {values.shape}.")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"`{name}` holds {values[tuple(bad[0])]} in row {bad[0][0]}; fill it in or drop the row.")
    return values


def _curvatures(hessian: np.ndarray) -> np.ndarray:
    """The two eigenvalues, the smaller first."""
    hessian = np.asarray(hessian, dtype=np.float64)
    if hessian.shape != (2, 2) or not np.isfinite(hessian).all() or not np.allclose(hessian, hessian.T):
        raise ValueError(f"A Hessian must be finite, symmetric and of shape (2, 2); got {hessian.tolist()}.")
    curvatures = np.linalg.eigvalsh(hessian)
    if curvatures[0] <= 1e-12 * abs(curvatures[1]):
        raise ValueError(
            f"The Hessian's curvatures are {curvatures[0]:.2g} and {curvatures[1]:.2g}, so this is no isolated "
            "minimum. Take the Hessian where `minimise` ends, of a loss whose two columns differ."
        )
    return curvatures
