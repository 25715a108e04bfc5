"""The exercises of `06_learning_rate`."""

from __future__ import annotations

import numpy as np

from batchlab.ideas.exercises import exercise


@exercise(
    inputs=[(1, 32.0), (32, 32.0), (1024, 32.0), (64, 4.0), (8, 500.0)],
    tolerance=1e-9,
)
def local_exponent(batch_size: int, noise_scale: float) -> float:
    """Return the exponent with which the best rate grows, at one batch size.

    With batches of B rows the best rate is most / (1 + noise_scale / B), where `most`
    is the best rate for all rows at once (McCandlish et al. 2018). The exponent at B is
    the derivative of log(rate) by log(B). At which batch sizes is the rule linear, where
    does it look like a square root, and where does the rate stay as it is?
    """
    # solution
    # log(rate) = log(most) - log(1 + S / B), whose derivative by log(B) is (S / B) / (1 + S / B). It is nearly 1 far
    # below the noise scale, 1/2 at the noise scale, and nearly 0 far above: one curve, on which both rules lie. A
    # square root over the whole range would need an exponent that stays at 1/2.
    return noise_scale / (noise_scale + batch_size)


@exercise(inputs=[(0.5, 1.0, 0.0), (3.0, 2.0, 0.9), (10.0, 0.1, 0.99), (7.0, 0.3, 0.5)], tolerance=1e-9)
def edge_over_rate(curvature: float, learning_rate: float, momentum: float) -> float:
    """Return how far a descent with momentum is from the edge of stability.

    On a quadratic of this curvature it is v <- momentum * v - learning_rate * gradient,
    w <- w + v. For a direction of the Hessian that gives
    w' = (1 + momentum - learning_rate * curvature) * w - momentum * w_before, and it is
    stable as long as both roots of z**2 - (...) * z + momentum lie within the unit
    circle. Return curvature / the curvature at which the larger one reaches it.
    """
    # solution
    # A root leaves the circle at z = -1, where 1 + (1 + momentum - rate * curvature) + momentum = 0: the edge is at
    # 2 (1 + momentum) / rate (Cohen et al. 2021). With momentum 0.9 it lies 1.9 times as high as without.
    return curvature * learning_rate / (2 * (1 + momentum))


@exercise(
    inputs=[
        ([0.8, 0.2, 0.05], 8, 320),
        ([0.1, 0.05, 0.025, 0.0125], 64, 320),
        ([1.0, 0.1, 0.01], 1, 1000),
        ([0.3, 0.3], 32, 320),
    ],
    tolerance=1e-9,
)
def grown_instead(rates: list[float], batch_size: int, rows: int) -> list[list[float]]:
    """Return batch sizes and rates that keep the noise of a schedule of falling rates.

    The noise of small steps goes with rate / batch size (Smith et al. 2018). Keep the
    first rate and raise the batch size by the factor by which the schedule lowers its
    rate; all rows are the limit, and what is left over is taken from the rate. Return a
    pair [batch size, rate] for each rate; batch sizes need not be whole. How many
    updates does it save, and what does the rule assume about the size of the steps?
    """
    # solution
    rates = np.array(rates)
    wanted = batch_size * rates[0] / rates
    sizes = np.minimum(wanted, rows)
    # rate / size is that of the schedule. The rule assumes steps so small that their curvature does not matter: at a
    # rate near the edge of stability a larger batch is no replacement for a lower rate.
    return np.column_stack([sizes, rates * sizes / batch_size]).tolist()
