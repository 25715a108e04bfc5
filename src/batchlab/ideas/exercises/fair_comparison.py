"""The exercises of `05_fair_comparison`."""

from __future__ import annotations

import numpy as np

from batchlab.ideas.exercises import exercise


@exercise(
    inputs=[(1, 2400.0, 32, 77.0), (1, 2381.0, 320, 16.0), (8, 301.0, 256, 23.5), (10, 110.0, 100, 20.0)],
    tolerance=1e-6,
)
def knee_from_two(small: int, many: float, large: int, few: float) -> float:
    """Return the critical batch size B of the curve through two measured points.

    A target takes S(b) = S_min * (1 + B / b) updates. It took `many` at the batch size
    `small` and `few` at `large`. What would B be if twice the rows always halved the
    updates, and what does your formula do then?
    """
    # solution
    # S is a straight line in 1 / b: its height at 0 is S_min, its slope S_min * B.
    slope = (many - few) / (1 / small - 1 / large)
    return slope / (few - slope / large)  # with perfect scaling S_min is 0, and this divides by it


@exercise(
    inputs=[
        ([0.31, 0.24, 0.42, 0.28], [0.33, 0.27, 0.43, 0.31]),
        ([0.2, 0.3, 0.4], [0.4, 0.3, 0.2]),
        ([1.0, 2.0, 4.0, 8.0, 16.0], [2.0, 1.0, 9.0, 7.0, 20.0]),
    ],
    tolerance=1e-6,
)
def runs_saved(first: list[float], second: list[float]) -> float:
    """Return how many times as many runs it takes without pairs, for the same interval.

    Run i of `first` and run i of `second` began with the same weights. The interval of the
    difference of the means is as wide as its standard error: that of the paired
    differences, or, had the runs been independent, the one from both variances (both with
    n - 1). An interval narrows with the root of the number of runs.
    """
    # solution
    a, b = np.array(first), np.array(second)
    # Below 1 where partners pull apart: then pairing does harm.
    return float((a.var(ddof=1) + b.var(ddof=1)) / (a - b).var(ddof=1))


@exercise(
    inputs=[(320, 1, 1.0, 60.0), (320, 32, 1.0, 60.0), (320, 250, 1.2, 60.0), (400, 150, 2.0, 0.0)], tolerance=1e-6
)
def shown_per_step(rows: int, batch_size: int, step: float, once: float) -> float:
    """Return the ms a step that a progress bar shows at the end of an epoch.

    A step takes `step` ms. Once an epoch there are `once` ms more, above all for
    validation. The bar divides the whole epoch by the number of steps, the last and smaller
    batch included. Which batch size looks slow, although every step takes as long?
    """
    # solution
    steps = -(-rows // batch_size)
    return step + once / steps  # the fewer the steps, the more of `once` each has to carry
