"""The exercises of `13_normalisation_and_dropout`."""

from __future__ import annotations

from batchlab.ideas.exercises import exercise


@exercise(inputs=[(0.5, 0.25), (0.5, 0.3), (0.875, 0.5), (0.99, 0.01), (0.75, 1.0)], tolerance=0)
def updates_until(momentum: float, share: float) -> int:
    """Return the fewest updates after which a moving average has forgotten its first value.

    Each update computes average = momentum * average + (1 - momentum) * seen. Forgotten
    means: the first value counts for at most `share` in the average. An example:
    updates_until(0.5, 0.25) is 2. How many epochs of 40 updates does momentum 0.99 need
    until 1 % is left?
    """
    # solution
    updates, left = 0, 1.0
    while left > share:
        left *= momentum
        updates += 1
    return updates  # for 0.99 and 1 % it is 459, so eleven and a half epochs of 40


@exercise(
    inputs=[([1.0, 3.0], 2), ([1.0, 3.0, 10.0, 10.0], 2), ([2.0, 0.0, 4.0, 2.0], 4), ([5.0, 6.0, 7.0], 1)],
    tolerance=1e-9,
)
def normalised_parts(values: list[float], size: int) -> list[float]:
    """Return the values of one unit, normalised in ghost batches of `size` rows.

    From each value its part's mean is taken, and the difference is divided by the root of
    the part's variance (the mean squared difference) plus 0.001. `size` divides the number
    of values. An example: normalised_parts([1.0, 3.0], 2) is about [-0.9995, 0.9995]. What
    comes out for parts of one row, or of equal rows?
    """
    # solution
    result = []
    for start in range(0, len(values), size):
        part = values[start : start + size]
        mean = sum(part) / size
        variance = sum((value - mean) ** 2 for value in part) / size
        result += [(value - mean) / (variance + 0.001) ** 0.5 for value in part]
    return result  # zeros, whatever the rows were: where there is no difference, there is nothing to learn from


@exercise(inputs=[(1.0, 4, 240), (1.0, 16, 240), (2.0, 240, 240), (1.0, 1, 240), (3.0, 9, 10)], tolerance=1e-9)
def spread_of_batch_mean(deviation: float, batch_size: int, rows: int) -> float:
    """Return the standard deviation of a batch's mean, over random batches.

    `batch_size` of the `rows` are drawn without replacement; over all rows the standard
    deviation is `deviation` (the root of the mean squared difference). With replacement it
    would be deviation / sqrt(batch_size). An example: spread_of_batch_mean(1.0, 1, 240) is
    1. At which batch size is there no noise?
    """
    # solution
    # Without replacement it is narrower, by the root of (rows - batch_size) / (rows - 1): nothing is left at all rows.
    return deviation / batch_size**0.5 * ((rows - batch_size) / (rows - 1)) ** 0.5
