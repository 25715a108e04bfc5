"""The exercises of `03_batch_size_250`."""

from __future__ import annotations

import numpy as np

from batchlab.ideas.exercises import exercise


@exercise(inputs=[(1, 0.001, 0.9), (20, 0.001, 0.9), (1000, 0.001, 0.9), (20, 0.01, 0.99)], tolerance=1e-9)
def way_of_a_weight(updates: int, learning_rate: float, rho: float) -> float:
    """Return how far RMSprop carries a weight whose gradient stays the same.

    At each update v <- rho * v + (1 - rho) * g**2, from v = 0, and then the weight
    moves by learning_rate * g / sqrt(v); neglect the epsilon. The gradient g is not
    among the arguments: why not? Compare the way of the twenty documented updates with
    initial weights, which reach 0.55 in the layer between the hidden ones.
    """
    # solution
    # After t updates v = (1 - rho**t) * g**2, so g cancels: the way is the same for a gentle slope and for a cliff.
    t = np.arange(1, updates + 1)
    return float(np.sum(learning_rate / np.sqrt(1 - rho**t)))  # 0.030 in twenty updates: the weights hardly moved


@exercise(inputs=[(0.5, 0.2875, 0.6375), (0.2, 0.2875, 0.6375), (0.9, 0.2875, 0.2875), (0.5, 0.5, 0.9)], tolerance=1e-9)
def corrected_probability(p: float, share_trained: float, share_here: float) -> float:
    """Return what a probability of buying becomes where buyers are more common.

    A network learnt to say p among people of whom `share_trained` buy. Here the share
    is `share_here`, while buyers look like those buyers, and the others like those
    others. Write Bayes' rule for the odds p / (1 - p), once there and once here: which
    factor changes? From which p on should the answer be "yes" among the last 80 rows?
    """
    # solution
    # Odds are the odds of the shares, times a factor for what the person looks like. The second factor stays.
    # (Saerens, Latinne & Decaestecker 2002.) "Yes" among the last 80 rows from p = 0.187 on, instead of 0.5.
    odds = p / (1 - p)
    odds *= share_here / (1 - share_here) * (1 - share_trained) / share_trained
    return odds / (1 + odds)


@exercise(
    inputs=[
        ([-0.5, -0.25], [0.125, 0.03125]),
        ([-0.5, 0.75], [-0.125, -0.25]),
        ([-1.0, -2.0, -3.0], [0.0, -1.0, 0.25]),
        ([0.3, -0.1], [-0.07, 0.03]),
    ],
    tolerance=0,
)
def first_change(logits: list[float], changes: list[float]) -> int:
    """Return after which update the accuracy can move for the first time.

    Each person has a logit, and each update changes it by that person's number in
    `changes`, always the same. The answer is "yes" above 0, and "no" at 0 and below.
    Count the updates until the first answer turns; at least one will. The loss moves at
    every update: why does the accuracy not?
    """
    # solution
    z, d = np.array(logits), np.array(changes)
    up, down = (z <= 0) & (d > 0), (z > 0) & (d < 0)
    # "No" has to be left behind, so it takes one update more than what reaches 0; "yes" is over at 0.
    first_yes = np.floor(-z[up] / d[up]) + 1
    first_no = np.ceil(-z[down] / d[down])
    return int(np.concatenate([first_yes, first_no]).min())
