"""The exercises of `12_claims`."""

from __future__ import annotations

from batchlab.ideas.exercises import exercise


@exercise(
    inputs=[
        ([[1.2, 1.6], [2.0, 2.1]], [1.0, 1.0]),
        ([[0.9, 1.3], [2.0, 2.1]], [1.0, 1.0]),
        ([[0.2, 0.4], [0.9, 1.3]], [1.0, 1.0]),
        ([[-0.1, 0.1]], [0.0]),
        ([[3.0, 5.0], [3.0, 4.0], [4.5, 9.0]], [4.0, 2.0, 4.0]),
    ],
    tolerance=0,
)
def verdict_of(intervals: list[list[float]], bounds: list[float]) -> int:
    """Return the verdict that follows from some figures.

    Each figure has an interval, [low, high], and the claim says that it lies above the
    bound at the same place of `bounds`. A bound is met if the whole interval lies above
    it. Return 2 if all are met (holds), 1 if some are (holds only if), and 0 if none is
    (does not hold here). In the third example, which of the two figures speaks against
    the claim, and which says only that there were too few runs?
    """
    # solution
    met = [low > bound for (low, _), bound in zip(intervals, bounds, strict=True)]
    # Only the first speaks against it: its interval lies below. The second holds the bound and leaves it open.
    return 2 if all(met) else 1 if any(met) else 0


@exercise(
    inputs=[
        ([1.4, 0.5], [1.2, 0.1], [1.6, 0.9], [1.0, 0.0]),
        ([5.0, 0.3, 9.0], [4.0, 0.28, 2.0], [6.0, 0.32, 16.0], [1.0, 0.25, 4.0]),
        ([0.2, 1.0, 2.0, 3.0], [0.1, 0.9, 1.8, 1.1], [0.4, 1.1, 2.2, 3.3], [0.5, 0.5, 0.5, 0.5]),
        ([-1.0, -1.0], [-1.5, -3.0], [-0.2, -0.9], [0.0, 0.0]),
    ],
    tolerance=0,
)
def thinnest(values: list[float], lows: list[float], highs: list[float], bounds: list[float]) -> int:
    """Return which figure lies closest to its bound, counted from 0.

    Closeness is counted in parts of the interval: the distance from the value to the bound
    over the distance from the value to that end of the interval that lies on the bound's
    side. Below 1 the interval reaches over the bound. Why not simply take the smallest
    distance, or the widest interval?
    """
    # solution
    ends = [low if value > bound else high for value, low, high, bound in zip(values, lows, highs, bounds, strict=True)]
    apart = [abs(value - bound) for value, bound in zip(values, bounds, strict=True)]
    reach = [abs(value - end) for value, end in zip(values, ends, strict=True)]
    # A distance of 0.05 is a lot for a figure that is known to 0.02, and a wide interval does no harm far away.
    return min(range(len(values)), key=lambda i: apart[i] / reach[i])


@exercise(
    inputs=[(1.14, 0.22, 1.0, 6), (0.011, 0.005, 0.0, 64), (0.0025, 0.0044, 0.0, 64), (3.4, 0.6, 4.0, 6)],
    tolerance=0,
)
def runs_to_decide(value: float, half: float, bound: float, runs: int) -> int:
    """Return how many runs it takes until an interval no longer reaches its bound.

    After `runs` runs it is `value` plus or minus `half`, and it narrows with the root of
    the number of runs. Suppose that the value stays as it is. Return the least number at
    which `half` is at most the distance from the bound, even if it is less than `runs`.
    Why would it be wrong to go on just until the interval says what one hoped for?
    """
    # solution
    from math import ceil

    # To stop as soon as it looks right is to look many times: one of the looks will be lucky (Armitage et al. 1969).
    return ceil(round(runs * (half / abs(value - bound)) ** 2, 6))
