"""The exercises of 01_gradient_descent."""

from __future__ import annotations

import numpy as np

from batchlab.ideas.exercises import exercise


@exercise(
    inputs=[
        (np.array([[1.0, 1.0], [-1.0, 1.0]]),),
        (np.array([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0], [0.5, 1.0]]),),
        (np.array([[0.2, -0.1], [0.4, 0.3], [-0.6, 0.5]]),),
    ],
    tolerance=1e-9,
)
def safe_step_size(x: np.ndarray) -> float:
    """Return the largest step size that a bound shows to be downhill from everywhere.

    Batch descent, on the logistic loss. x has the shape (rows, 2). The Hessian is the mean over rows
    of p * (1 - p) * outer(row, row), where p is the row's probability and depends on
    the weights. Find a bound for its largest eigenvalue that holds for all weights.
    """
    # solution
    # p * (1 - p) is at most 1/4, at p = 1/2, so no curvature exceeds a quarter of the largest one of x.T @ x / rows.
    return 8 / np.linalg.eigvalsh(x.T @ x / len(x))[-1]


@exercise(inputs=[(320, 250), (400, 150), (320, 32), (5, 5), (7, 2)], tolerance=1e-9)
def row_weights(rows: int, batch_size: int) -> np.ndarray:
    """Return how strongly each row pushes the weights in an epoch, as shares of 1.

    The rows are taken in table order. Count what an epoch adds up to when the steps are
    so small that the weights hardly move within it. Every update follows the mean
    gradient over its own batch, and the last batch holds what remains.
    """
    # solution
    starts = np.arange(0, rows, batch_size)
    sizes = np.minimum(batch_size, rows - starts)
    return np.repeat(1 / (sizes * len(sizes)), sizes)  # all alike where batch_size divides rows


@exercise(
    inputs=[(0.1, 2.0, 3.0, 1), (0.9, 2.0, 3.0, 4), (1.5, 1.0, 0.5, 32), (0.001, 1.0, 1.0, 1)],
    tolerance=1e-9,
)
def stationary_variance(step_size: float, curvature: float, noise: float, batch_size: int) -> float:
    """Return the variance about a parabola's minimum at which mini-batch descent stays.

    One parameter u, measured from the minimum: u <- u - step_size * (curvature * u +
    error), where the error is new at each update, has the mean 0 and the variance noise
    / batch_size. Do not assume that the step is small.
    """
    # solution
    # In the long run Var(u) = (1 - step_size * curvature)**2 * Var(u) + step_size**2 * noise / batch_size.
    # It grows beyond all bounds where step_size * curvature reaches 2: the threshold of section 2, met once more.
    return step_size * noise / (batch_size * curvature * (2 - step_size * curvature))
