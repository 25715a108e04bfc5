"""The exercises of `11_your_own_data`."""

from __future__ import annotations

import numpy as np

from batchlab.ideas.exercises import exercise


@exercise(
    inputs=[
        ([1.0, 2.0, 3.0, 4.0], [2.5, 100.0]),
        ([5.0, 5.0, 8.0, -2.0, 0.5], [5.0, 8.0, 1.0]),
        ([10.0, 20.0], [15.0, 0.0, 40.0]),
    ],
    tolerance=1e-9,
)
def scaled_honestly(training: list[float], held_out: list[float]) -> list[float]:
    """Return a held-out column in standard deviations from the mean.

    Use what is known before the held-out rows are seen, and nothing else. The standard
    deviation is the population's (divisor n). What would a held-out row of 100 do to the
    scale of all others if it were let in?
    """
    # solution
    # The mean and the deviation of the training rows serve both parts. With the held-out rows let in, one outlier among
    # them would squeeze all others together, and what is then measured on them is no longer honest.
    training = np.array(training)
    return ((np.array(held_out) - training.mean()) / training.std()).tolist()


@exercise(
    inputs=[
        (["red", "blue", "red"], ["blue", "green", "red"]),
        (["b", "a", "c", "a"], ["a", "b", "c", "d", "a"]),
        (["yes"], ["no", "yes"]),
    ],
    tolerance=1e-9,
)
def one_hot(training: list[str], held_out: list[str]) -> list[list[float]]:
    """Return the held-out cells of a column of categories as 0 and 1.

    One feature for each category of the training rows, in alphabetical order. How should
    a category that no training row has look to a network that has never seen it?
    """
    # solution
    # It is 0 in every feature: no weight was trained for it. A feature of its own would feed in a weight that is still
    # as it was drawn.
    categories = sorted(set(training))
    return [[float(cell == category) for category in categories] for cell in held_out]


@exercise(
    inputs=[
        (["a", "a", "b", "b"], ["no", "no", "yes", "yes"]),
        (["a", "a", "b", "b", "b", "c"], ["no", "yes", "yes", "yes", "no", "no"]),
        (["x", "x", "x", "x"], ["no", "yes", "yes", "yes"]),
    ],
    tolerance=1e-9,
)
def errors_left(feature: list[str], target: list[str]) -> float:
    """Return the share of errors that a feature leaves, of those made without it.

    Without it the commonest class of all is the best guess; with it, the commonest class
    of each category. A copy of the target leaves nothing. Why does a column of names, one
    for each row, leave nothing either, and why is it useless all the same?
    """

    # solution
    # Each name is a category with one row, whose class is of course the commonest one there: it was read off the
    # answer. For a new name it knows nothing. So a leak is looked for only among columns with few categories.
    def wrong(answers: list[str]) -> int:
        return len(answers) - max(answers.count(answer) for answer in answers)

    categories = [[t for f, t in zip(feature, target, strict=True) if f == name] for name in set(feature)]
    return sum(map(wrong, categories)) / wrong(target)
