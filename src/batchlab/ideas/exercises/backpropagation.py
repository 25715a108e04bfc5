"""Exercises of 07_backpropagation."""

import numpy as np

from batchlab.ideas.exercises import exercise


@exercise(inputs=[(0.3, 1.0), (-2.0, 0.0), (1.5, 0.25), (40.0, 0.0), (-800.0, 1.0)], tolerance=1e-12)
def loss_by_logit(z: float, target: float) -> float:
    """Return dL/dz: L is the binary cross-entropy of p = 1 / (1 + e^-z) and the target.

    Multiply the two local derivatives dL/dp and dp/dz on paper and simplify before you
    write the line: as they stand, the two divide by 0 where z is large. The answer must
    hold at z = -800 as well.
    """
    # solution
    # dL/dp = (p - t) / (p (1 - p)) and dp/dz = p (1 - p), so p (1 - p) cancels and p - t remains.
    return (1 + np.tanh(z / 2)) / 2 - target  # the same p, and no exponential that can overflow


@exercise(inputs=[((3,),), ((2, 2),), ((4, 3, 2),), ((5, 1, 1, 1),), ((2, 10, 10, 10),)], tolerance=0)
def paths_with_shortcuts(widths: tuple[int, ...]) -> int:
    """Return the number of paths from one unit of the first layer to the output.

    The network is full of shortcuts: each unit feeds every unit of all later layers,
    not only of the next one, and the output besides. `widths` holds the number of units
    of each hidden layer, from the first to the last. Every path makes one choice at
    each later layer: what are its options?
    """
    # solution
    # A path passes by a later layer of n units, or takes one of them: n + 1 options, layer after layer.
    paths = 1
    for units in widths[1:]:
        paths *= units + 1
    return paths


@exercise(inputs=[(1.0, 1.0), (0.5, 8.0), (100.0, 1e-3), (1e-6, 30.0)], tolerance=1e-12)
def best_step(loss: float, third: float) -> float:
    """Return the step h at which a central difference is most accurate in float64.

    The difference is (L(w + h) - L(w - h)) / 2h. Two errors add up. Cutting the Taylor
    series short makes one of h^2 |third| / 6, where `third` is the third derivative of
    L. Rounding each of the two losses, by up to eps / 2 of its size, makes one of up to
    eps |loss| / 2h, with eps = 2^-52. Find the h that makes their sum smallest.
    """
    # solution
    # The sum's derivative, h third / 3 - eps loss / (2 h^2), is 0 where h^3 = 3 eps loss / (2 third).
    eps = np.finfo(np.float64).eps
    return float(np.cbrt(1.5 * eps * abs(loss) / abs(third)))
