"""Losses with two parameters, their minima and their curvatures. Never draws rows, never takes their steps.

A loss is the mean of one term for each row of a table, so its gradient over some of the rows is an estimate of its
gradient over all. All is float64 NumPy. Weights are called w; arrays of them have the shape (..., 2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import scipy.optimize
from scipy.spatial.distance import cdist

from batchlab.checks import positive_number

_CONVERGED = 1e-10  # norm of the gradient at a minimum, in units of loss a unit of w


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
            return self._terms(as_weights(w)).mean(axis=-1)

    def gradient(self, w: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the mean gradient, of shape (..., 2).

        Args:
            w: Weights of shape (..., 2).
            rows: The rows of each mini-batch, as whole numbers of shape (..., b); all rows without it.
        """
        w = as_weights(w)
        if rows is None:
            return self._gradient(w)
        # einsum sums, and the losses take, several times faster than mean(axis=-2) and x[rows] would.
        return np.einsum("...bi->...i", self._row_gradients(w, rows)) / np.shape(rows)[-1]

    def row_gradients(self, w: np.ndarray) -> np.ndarray:
        """Return the gradient of each row's term, of shape (rows, 2), at weights of shape (2,)."""
        return self._row_gradients(as_weights(w, (2,)), np.arange(self.rows))

    def hessian(self, w: np.ndarray) -> np.ndarray:
        """Return the second derivatives over all rows, of shape (2, 2), at weights of shape (2,)."""
        return self._hessian(as_weights(w, (2,)))


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


# --- minima and curvatures ---------------------------------------------------------------------------


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
        loss.value, as_weights(start, (2,)), jac=loss.gradient, hess=loss.hessian, method="trust-exact", options=options
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
        ValueError: As in `curvatures`.
    """
    return float(2 / curvatures(hessian)[-1])


def curvatures(hessian: np.ndarray) -> np.ndarray:
    """Return the curvatures at a minimum: the two eigenvalues of its second derivatives, the smaller first.

    Args:
        hessian: Of shape (2, 2).

    Raises:
        ValueError: The matrix is not that of a minimum: not symmetric, or not positive definite.
    """
    hessian = np.asarray(hessian, dtype=np.float64)
    if hessian.shape != (2, 2) or not np.isfinite(hessian).all() or not np.allclose(hessian, hessian.T):
        raise ValueError(f"A Hessian must be finite, symmetric and of shape (2, 2); got {hessian.tolist()}.")
    small, large = both = np.linalg.eigvalsh(hessian)
    if small <= 1e-12 * abs(large):
        raise ValueError(
            f"The Hessian's curvatures are {small:.2g} and {large:.2g}, so this is no isolated "
            "minimum. Take the Hessian where `minimise` ends, of a loss whose two columns differ."
        )
    return both


# --- arithmetic and checks ---------------------------------------------------------------------------


def _scores(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """X @ w for each run with its own rows, of shape (..., b)."""
    return x[..., 0] * w[..., :1] + x[..., 1] * w[..., 1:]


def _sigmoid(score: np.ndarray) -> np.ndarray:
    return np.tanh(score / 2) / 2 + 0.5  # never overflows


def as_weights(w: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return weights as float64, checked for their shape.

    Raises:
        ValueError: The shape is neither the one given nor, without one, (..., 2).
    """
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
