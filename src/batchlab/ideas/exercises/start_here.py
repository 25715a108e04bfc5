"""The exercises of `00_start_here`."""

from __future__ import annotations

from batchlab.ideas.exercises import exercise


@exercise(
    inputs=[
        ([0.5, 0.1, 0.4, 0.2, 0.3],),
        ([0.3, 0.3, 0.3, 0.9],),
        ([0.25, 0.75],),
        ([0.2 + 0.01 * (37 * run % 64) for run in range(64)],),
    ],
    tolerance=1e-9,
)
def band_of(finals: list[float]) -> list[float]:
    """Return low, median and high of the band that holds 95 % of the runs.

    `finals` has the final loss of each run, in any order. Sort the n of them and number
    them from 0: the quantile q stands at place q * (n - 1), and between two places it
    lies on the straight line from one to the other. Which three quantiles are asked for?
    Does the band get narrower if four times as many runs are made?
    """
    # solution
    import numpy as np

    # Hardly: it says how far single runs lie apart, and they go on lying so far apart. What gets narrower is the
    # interval of the median, which says how well the middle is known.
    return np.quantile(finals, [0.025, 0.5, 0.975]).tolist()


@exercise(
    inputs=[(320, 1, 60, 250), (320, 250, 60, 32), (320, 32, 60, 250), (320, 250, 7, 32), (400, 150, 5, 7)], tolerance=0
)
def epochs_for_equal_updates(rows: int, batch_size: int, epochs: int, other: int) -> int:
    """Return how many epochs the batch size `other` needs for no fewer updates.

    A run with `batch_size` rows an update has been given some epochs. The last batch of
    an epoch may be a small one, and counts as an update too. An epoch that has begun is
    finished. What does the answer for (320, 1, 60, 250) say about a fair race by updates?
    """
    # solution
    # -(-a // b) is a / b, rounded up. For 19,200 updates batch size 250 would need 9600 epochs: a race by updates lets
    # it look at each row 9600 times, and batch size 1 only 60 times. No budget is fair in every respect.
    updates = epochs * -(-rows // batch_size)
    return -(-updates // -(-rows // other))


@exercise(
    inputs=[
        ([0.9, 0.6, 0.4, 0.3], [0.5, 0.45, 0.42, 0.41]),
        ([0.9, 0.3, 0.5, 0.3], [0.4, 0.4, 0.4, 0.4]),
        ([0.9, 0.8], [0.3, 0.2]),
        ([0.1, 0.2, 0.1], [0.2, 0.3, 0.2]),
        ([0.5, 0.4, 0.3], [0.4, 0.4, 0.2]),
    ],
    tolerance=0,
)
def overtakes_at(behind: list[float], ahead: list[float]) -> int:
    """Return the epoch from which on the first curve stays below the second.

    Two median losses, one figure an epoch, both equally long. Epochs are counted from 1.
    Curves that jitter cross more than once: only the crossing that lasts to the end
    counts. Return 0 if there is none. Then try it on the medians of batch sizes 32 and
    1 above: why does the epoch differ if you compare two single runs instead?
    """
    # solution
    # Single runs jitter and start elsewhere, so that their last crossing comes earlier or later, or not at all.
    epoch = len(behind)
    while epoch and behind[epoch - 1] < ahead[epoch - 1]:
        epoch -= 1
    return epoch + 1 if epoch < len(behind) else 0
