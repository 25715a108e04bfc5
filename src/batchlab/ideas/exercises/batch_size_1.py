"""The exercises of `02_batch_size_1`."""

from __future__ import annotations

from batchlab.ideas.exercises import exercise


@exercise(inputs=[(10, 10), (5, 5), (1, 1), (0, 4), (4, 0), (0, 0)], tolerance=0)
def parameters_moved(first: int, second: int) -> int:
    """Return how many of the 151 parameters one row moves.

    `first` and `second` count the units of the two hidden layers of ten whose ReLU lets
    this row pass; the others give 0, and so do their derivatives. Neither input is 0.
    RMSprop leaves a parameter alone whose gradient is 0. A weight's gradient is what
    comes up to it times what comes back to it: for which weights is neither of them 0?
    """
    # solution
    output = second + 1  # a weight for each passing unit, and the bias, which nothing can silence
    between = first * second + second  # a bias needs no input, only something that comes back
    inputs = 3 * first * (second > 0)  # with a silent second layer nothing comes back this far
    return output + between + inputs


@exercise(inputs=[(0.0,), (0.5,), (0.9,), (-0.5,), (0.999,)], tolerance=1e-9)
def share_turning_back(correlation: float) -> float:
    """Return the share of steps that turn back, for noise with a memory.

    Each value is `correlation` times the one before it plus fresh Gaussian noise, all
    about a fixed level. A step turns back if its sign differs from that of the step
    before. Two steps are jointly Gaussian with mean 0; if r is their correlation, their
    signs differ with probability arccos(r) / pi. Find r. Which share is white noise's,
    and how far can slow drifting lower it?
    """
    # solution
    from math import acos, pi

    # With values of variance 1, values k apart have the covariance correlation**k. So a step has the variance
    # 2 - 2 c, and two steps have the covariance 2 c - 1 - c**2 = -(1 - c)**2, which makes r = -(1 - c) / 2.
    # White noise: arccos(-1/2) / pi = 2/3. The slowest drift still turns back at half of its steps.
    return acos(-(1 - correlation) / 2) / pi


@exercise(
    inputs=[([0.85, 0.9, 0.95], 1), ([0.9, 0.85, 0.95], 2), ([0.85, 0.9, 0.95], 3), ([0.9, 0.9, 0.91, 0.95, 0.84], 2)],
    tolerance=1e-9,
)
def expected_best(accuracies: list[float], tries: int) -> float:
    """Return the accuracy to expect from whoever reports the best of some runs.

    `tries` different runs are picked at random from those whose final accuracies are
    given, and the best of them is published. Return its mean over all picks, exactly,
    without listing the picks: which of the sorted runs can be the best one, and in how
    many picks is it?
    """
    # solution
    from math import comb

    # The k-th from below, counted from 0, is the best if the other tries - 1 all come from the k below it.
    picks = [comb(k, tries - 1) for k in range(len(accuracies))]
    return sum(n * accuracy for n, accuracy in zip(picks, sorted(accuracies), strict=True)) / sum(picks)
