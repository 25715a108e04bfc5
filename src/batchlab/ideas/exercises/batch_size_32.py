"""The exercises of `04_batch_size_32`."""

from __future__ import annotations

import numpy as np

from batchlab.ideas.exercises import exercise


@exercise(
    inputs=[
        ([0.5, 0.25, 0.75], [0.375, 0.625]),
        ([0.9375, 0.9, 0.9375], [0.9375, 0.95]),
        ([0.1, 0.2], [0.3, 0.4, 0.5]),
        ([0.3], [0.3]),
    ],
    tolerance=1e-9,
)
def chance_to_be_lower(first: list[float], second: list[float]) -> float:
    """Return the chance that a run of the first kind ends lower than one of the second.

    One run of each kind is picked at random, and their final figures are compared, as
    the documentation did with one run for each batch size. A tie counts half: a coin
    is thrown. The two lists need not have the same length. What does a chance of 1/2
    say about the two medians, and what does it leave open?
    """
    # solution
    # Mann & Whitney's U over the number of pairs. 1/2 says that neither kind tends to be lower; their spreads, and
    # even their medians, may still differ.
    a, b = np.array(first)[:, None], np.array(second)
    return float(((a < b) + (a == b) / 2).mean())


@exercise(inputs=[(700.0, 0.5, 20.0), (0.5, 0.5, 20.0), (700.0, 0.5, 1.0), (1e-3, 2.0, 500.0)], tolerance=1e-9)
def fastest_batch_size(overhead: float, per_row: float, critical: float) -> float:
    """Return the batch size, not rounded, that reaches a target in the least time.

    An update with b rows takes overhead + per_row * b microseconds. To the target it
    takes a number of updates in proportion to 1 + critical / b (McCandlish et al. 2018):
    beyond the critical batch size more rows hardly save updates. Minimise the product.
    Then compare a program with 700 microseconds of overhead with one that has 0.5.
    """
    # solution
    # (overhead + per_row b)(1 + critical / b) has the derivative per_row - overhead critical / b**2, which is 0 at
    # the geometric mean of the critical batch size and the one at which the rows cost as much as the overhead.
    # Less overhead, smaller batches: the answer is as much about the program as about the data.
    return float(np.sqrt(critical * overhead / per_row))


@exercise(inputs=[(320, 1000.0), (10, 1000.0), (2, 1000.0), (320, 100.0), (1, 5.0)], tolerance=1e-9)
def reported_over_true(updates: int, decay: float) -> float:
    """Return how far the reported training loss of an epoch lies above the true one.

    Say that the loss after u updates is exp(-u / decay). Keras reports the mean over
    the epoch's batches, all of one size here, each measured just before its update. The
    true loss is that at the epoch's end. Return reported / true. At which batch size is
    the reported curve farthest from the true one, and on which side of it?
    """
    # solution
    # Batch k is measured after k updates, k = 0 ... updates - 1; it lies updates - k updates before the end.
    # Validation loss is measured at the end, so a training loss above it need not mean anything. With 320 updates
    # an epoch and a decay of 1000 the reported loss is 18 % too high, with two it is 0.2 %.
    before_the_end = np.arange(1, updates + 1)
    return float(np.exp(before_the_end / decay).mean())
