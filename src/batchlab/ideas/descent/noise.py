"""The noise of mini-batch gradients: how large it is, and how far it makes runs stray. Never descends."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from batchlab.checks import positive_number, whole_number
from batchlab.ideas.descent.losses import Loss, as_weights, curvatures
from batchlab.ideas.descent.paths import Order, epoch_of_batches


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
    batches = epoch_of_batches(loss.rows, batch_size, (draws,), order, rng)[0]
    error = loss.gradient(as_weights(w, (2,)), batches) - loss.gradient(w)
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
    curvatures(hessian)
    noise = np.asarray(noise, dtype=np.float64)
    if noise.shape != (2, 2) or not np.isfinite(noise).all():
        raise ValueError(f"`noise` must be finite numbers of shape (2, 2); got {noise!r}.")
    ratio = positive_number(step_size, "step_size") / whole_number(batch_size, "batch_size", 1)
    return scipy.linalg.solve_continuous_lyapunov(hessian, ratio * noise)
