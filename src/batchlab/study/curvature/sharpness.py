"""How sharp a minimum is: the Hessian's largest eigenvalues, and how far the loss can rise nearby. Never trains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.optimize
from scipy.sparse.linalg import LinearOperator, eigsh

from batchlab.checks import positive_number, whole_number
from batchlab.study.curvature.surface import LossSurface, NotFiniteError, Place, Weights

TOLERANCE = 1e-5  # of an eigenpair's residual; products in float32 allow no less
STARTS = 8  # of the search for the highest corner; they found it for 95 % of 300 random quadratics of 12 weights


def largest_eigenvalues(surface: LossSurface, w: Weights = None, count: int = 1) -> np.ndarray:
    """Return the largest eigenvalues of the Hessian, by the Lanczos method on Hessian-vector products (ARPACK).

    Gradient descent is stable only below a learning rate of 2 over the largest one. Rescaling the weights of ReLU units
    changes them without changing what the network computes (Dinh et al. 2017, "Sharp minima can generalize for deep
    nets").

    Args:
        surface: The loss.
        w: The weights, see `LossSurface`.
        count: How many, at least 1 and below the number of parameters.

    Returns:
        Shape (count,), the largest first, by value and not by size: negative ones come last. The error is about 1e-5 of
        the largest.

    Raises:
        TypeError: `count` is no whole number.
        ValueError: `count` is out of range, or the weights do not fit.
        NotFiniteError: Weights or second derivatives are not finite.
    """
    count = whole_number(count, "count", 1, max(1, surface.size - 1))
    return _top(surface.hessian(w), count)[0]


def perturbation_sharpness(surface: LossSurface, w: Weights = None, *, radius: float = 1e-3) -> float:
    """Return how far the loss can rise in a small box around the weights, in percent.

    It is 100 (max f(w + d) - f(w)) / (1 + f(w)) over |d_i| <= radius (|w_i| + 1): metric 2.1 of Keskar et al. 2016, "On
    large-batch training for deep learning: generalization gap and sharp minima", over the full space. Rescaling the
    weights of ReLU units changes it without changing what the network computes (Dinh et al. 2017).

    The maximum is searched from corner to corner of the box, from nine starts, and by L-BFGS-B from the best of them;
    what is found is a lower bound. On 24 trained documented networks the paper's ten iterations of L-BFGS-B from the
    middle reached 82 to 100 % of it, and a search from 100 random corners at most 6 % more.

    Args:
        surface: The loss.
        w: The weights, see `LossSurface`.
        radius: Half the width of the box, relative to |w_i| + 1; the paper has 1e-3 and 5e-4. Rounding in
            float32 costs about 1e-4 of the figure at 1e-3, and 1e-3 of it at 1e-4.

    Returns:
        The sharpness, in percent.

    Raises:
        TypeError: `radius` is no number.
        ValueError: `radius` is not above 0, the weights do not fit, or the loss is not above -1.
        NotFiniteError: Weights, loss or derivatives are not finite.
    """
    radius, place = positive_number(radius, "radius"), surface.place(w)
    if (value := surface.value(place)) <= -1:
        raise ValueError(f"The loss is {value:.6g}; this measure divides by 1 + loss and needs a loss above -1.")
    return 100 * _greatest_rise(surface, place, radius * (np.abs(place.parameters) + 1)) / (1 + value)


def adaptive_sharpness(surface: LossSurface, w: Weights = None, *, radius: float = 1e-2) -> float:
    """Return how far the loss can rise if every weight changes by a small share of itself.

    It is max f(w + d) - f(w) over |d_i| <= radius |w_i|: the adaptive sharpness of Kwon et al. 2021, "ASAM: Adaptive
    sharpness-aware minimization for scale-invariant learning of deep neural networks", elementwise and with p = ∞. The
    weights into a ReLU unit times a and those out of it times 1/a give the same figure, since the box is rescaled as
    they are; what Dinh et al. 2017 hold against the other measures does not touch it. A weight of exactly 0 does not
    move. The maximum is searched as in `perturbation_sharpness`, so the figure is a lower bound.

    Args:
        surface: The loss.
        w: The weights, see `LossSurface`.
        radius: The share by which each weight may change. Rounding in float32 costs about 1e-4 of the figure at 1e-2.

    Returns:
        The rise, in the loss's own unit.

    Raises:
        TypeError: `radius` is no number.
        ValueError: `radius` is not above 0, or the weights do not fit.
        NotFiniteError: Weights, loss or derivatives are not finite.
    """
    radius, place = positive_number(radius, "radius"), surface.place(w)
    return _greatest_rise(surface, place, radius * np.abs(place.parameters))


def _greatest_rise(surface: LossSurface, place: Place, box: np.ndarray) -> float:
    """Return the greatest rise found for a change of at most `box`, of shape (P,), in each weight."""
    box = box.astype(np.float64)
    value, gradient = surface.value_and_gradient(place)
    if not (np.isfinite(value) and np.isfinite(gradient).all()):
        raise NotFiniteError(f"The loss is {value} at these weights, or its gradient is not finite.")

    def fall(z: np.ndarray) -> tuple[float, np.ndarray]:
        there, slope = surface.value_and_gradient(Place(place.parameters + box * z, place.state))
        return value - there, -box * slope

    # Where the loss curves upwards its maximum is a corner. The gradient points to one; where that is zero, products of
    # the Hessian, in units of the box, point more often to those of large curvature.
    hessian = surface.hessian(place)
    random = np.random.default_rng(0).normal(size=(STARTS, surface.size))  # always the same: a figure repeats
    starts = [gradient, *(hessian.matvec(box * r) for r in random)]
    corner = min((_lowest_corner(fall, np.sign(start)) for start in starts), key=lambda z: fall(z)[0])
    return highest_from(fall, corner)


def highest_from(fall: Callable[[np.ndarray], tuple[float, np.ndarray]], corner: np.ndarray) -> float:
    """Return how far the loss rises where L-BFGS-B ends that begins in a corner of the box [-1, 1]^P; at least 0.

    Args:
        fall: How far the loss falls at a place of the box, below 0 where it rises, and the slope there.
        corner: Where to begin, shape (P,).
    """
    size = abs(fall(corner)[0])
    if size == 0:
        return 0.0

    def scaled(z: np.ndarray) -> tuple[float, np.ndarray]:
        height, slope = fall(z)
        return height / size, slope / size  # L-BFGS-B's tolerances suit functions of about 1

    limits = scipy.optimize.Bounds(-np.ones(len(corner)), np.ones(len(corner)))
    end = scipy.optimize.minimize(scaled, corner, jac=True, method="L-BFGS-B", bounds=limits)
    return max(0.0, -float(end.fun * size))


def _lowest_corner(fall: Callable[[np.ndarray], tuple[float, np.ndarray]], corner: np.ndarray) -> np.ndarray:
    """Go from corner to corner of the box [-1, 1]^P, always to where the slope points, while that leads down.

    It is the conditional gradient method (Frank & Wolfe 1956) with whole steps, which goes down at every step where the
    function is concave.
    """
    height, slope = fall(corner)
    while True:
        following = np.where(slope == 0, corner, -np.sign(slope))
        there, slope = fall(following)
        if not there < height:
            return corner
        corner, height = following, there


def _top(operator: LinearOperator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues, largest first, and their vectors as columns."""
    size = operator.shape[0]
    start = np.random.default_rng(0).normal(size=size)  # always the same, so that a figure repeats
    product = operator.matvec(start)
    if size == 1:
        return product / start, np.ones((1, 1))
    if not product.any():  # ARPACK takes no zero matrix
        return np.zeros(count), np.eye(size, count)
    values, vectors = eigsh(operator, k=count, which="LA", v0=start, tol=TOLERANCE)
    return values[::-1], vectors[:, ::-1]
