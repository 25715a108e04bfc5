"""The exercises of `09_generalisation`."""

from __future__ import annotations

import numpy as np

from batchlab.ideas.exercises import exercise


@exercise(inputs=[(400, 143, 80, 51), (400, 143, 80, 29), (10, 5, 2, 2), (10, 5, 2, 0)], tolerance=1e-9)
def chance_of_such_a_tail(rows: int, buyers: int, held_out: int, seen: int) -> float:
    """Return the chance that a random held-out part has at least `seen` buyers.

    `held_out` of the `rows` are drawn at random, without replacement; `buyers` of all rows
    are buyers. `math.comb(n, k)` counts the ways to draw k of n. What does it say about the
    last 80 of 400 rows, 51 of whom buy?
    """
    # solution
    # Hypergeometric: as many ways to draw the buyers, times as many to draw the others. The tail is no chance draw.
    from math import comb

    most = min(buyers, held_out)
    ways = sum(comb(buyers, k) * comb(rows - buyers, held_out - k) for k in range(seen, most + 1))
    return ways / comb(rows, held_out)


@exercise(
    inputs=[
        ([3.0, 2.0, 1.0, 1.5, 1.6, 0.5], 2),
        ([3.0, 2.0, 1.0, 1.5, 1.6, 0.5], 3),
        ([1.0, 1.0, 1.0], 1),
        ([2.0, 1.0], 5),
    ],
    tolerance=0,
)
def kept_epoch(losses: list[float], patience: int) -> int:
    """Return the epoch, counted from 1, whose weights early stopping keeps.

    `losses` are those on the rows that decide, one an epoch. Training stops after
    `patience` epochs in a row without a new lowest loss, or at the end of the list; then
    the weights of the lowest loss so far come back. Which patience would have been right
    for the first example, and how could you have known?
    """
    # solution
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        elif epoch - best >= patience:
            break
    return best + 1  # 3 finds the second, lower valley; nothing in the losses so far says so


@exercise(
    inputs=[(2.0, 0.5, 1.0, 1.0), (2.0, 0.5, 4.0, 1.0), (1.0, 1.0, 1.0, 3.0), (0.5, 3.0, 0.1, 2.0)], tolerance=1e-9
)
def rescaled_curvature(u: float, v: float, a: float, x: float) -> float:
    """Return the largest eigenvalue of the Hessian after a rescaling.

    One linear unit computes v * u * x, and the loss is (v * u * x - y)**2 / 2. At the
    minimum, v * u * x = y. Now multiply u by `a` and divide v by `a`: the network computes
    the same. Take second derivatives by the two weights, at the rescaled place. How sharp
    can you make this minimum without changing a single prediction?
    """
    # solution
    # At a minimum the Hessian is the outer product of the gradient of v u x with itself, whose one eigenvalue is that
    # gradient's squared length. It grows without bound as `a` goes to 0 or to infinity (Dinh et al. 2017).
    gradient = np.array([v / a * x, a * u * x])
    return float(gradient @ gradient)
