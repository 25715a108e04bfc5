"""Sharpness of many networks of one structure at once, each on rows of its own. Never trains.

Each function gives for every network what its twin in `sharpness` gives for one, by the same steps, which all networks
take side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from batchlab.checks import positive_number
from batchlab.study.curvature.sharpness import STARTS, TOLERANCE, highest_from
from batchlab.study.curvature.surface import LossSurfaces, NotFiniteError, Place, Weights

_LEAST_STEPS = 20  # of the Lanczos method, as many as ARPACK takes: fewer may settle on another eigenvalue

_Falls = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From places z, shape (networks, P), to falls of the loss, shape (networks,), and their slopes, (networks, P)."""


def largest_eigenvalue_of_each(surfaces: LossSurfaces, weights: Sequence[Weights]) -> np.ndarray:
    """Return the largest eigenvalue of every network's Hessian, by the Lanczos method with full reorthogonalisation.

    See `largest_eigenvalues`. Lanczos 1950; the error of an eigenvalue is at most the residual of its vector, which is
    the last entry of the small matrix's vector times the next off-diagonal entry (Parlett 1980, "The symmetric
    eigenvalue problem", theorem 13.2.1).

    Args:
        surfaces: The losses.
        weights: For each network its weights, see `LossSurface`.

    Returns:
        Shape (networks,); the error is about 1e-5 of each.

    Raises:
        ValueError: The weights do not fit.
        NotFiniteError: Weights or second derivatives are not finite.
    """
    places = surfaces.places(weights)
    networks, size = places.parameters.shape
    start = np.random.default_rng(0).normal(size=size)  # always the same, so that a figure repeats
    q = np.tile(start / np.linalg.norm(start), (networks, 1))
    basis = np.zeros((networks, 0, size))
    small = np.zeros((networks, size, size))
    found = np.full(networks, np.nan)
    for k in range(size):
        basis = np.concatenate([basis, q[:, None]], axis=1)
        ahead = surfaces.hessian_products(places, q)
        small[:, k, k] = (ahead * q).sum(axis=1)
        for _ in range(2):  # once leaves what rounding in the first subtraction brought in
            ahead -= ((basis @ ahead[..., None]).transpose(0, 2, 1) @ basis)[:, 0]
        norm = np.linalg.norm(ahead, axis=1)
        if k + 1 >= min(_LEAST_STEPS, size):
            values, vectors = np.linalg.eigh(small[:, : k + 1, : k + 1])
            settled = norm * abs(vectors[:, -1, -1]) <= TOLERANCE * abs(values[:, -1])
            new = np.isnan(found) & (settled | (k + 1 == size))
            found[new] = values[new, -1]
            if not np.isnan(found).any():
                break
        if k + 1 < size:
            small[:, k, k + 1] = small[:, k + 1, k] = norm
            q = ahead / np.where(norm > 0, norm, 1)[:, None]
    return found


def perturbation_sharpness_of_each(
    surfaces: LossSurfaces, weights: Sequence[Weights], *, radius: float = 1e-3
) -> np.ndarray:
    """Return how far each network's loss can rise in a small box around its weights, in percent.

    Args:
        surfaces: The losses.
        weights: For each network its weights, see `LossSurface`.
        radius: See `perturbation_sharpness`, which says what is measured.

    Returns:
        Shape (networks,), in percent.

    Raises:
        TypeError: `radius` is no number.
        ValueError: `radius` is not above 0, the weights do not fit, or a loss is not above -1.
        NotFiniteError: Weights, losses or derivatives are not finite.
    """
    radius, places = positive_number(radius, "radius"), surfaces.places(weights)
    values, _ = surfaces.values_and_gradients(places)
    if (values <= -1).any():
        raise ValueError(f"A loss is {values.min():.6g}; this measure divides by 1 + loss and needs a loss above -1.")
    return 100 * _greatest_rises(surfaces, places, radius * (np.abs(places.parameters) + 1)) / (1 + values)


def adaptive_sharpness_of_each(
    surfaces: LossSurfaces, weights: Sequence[Weights], *, radius: float = 1e-2
) -> np.ndarray:
    """Return how far each network's loss can rise if every weight changes by a small share of itself.

    Args:
        surfaces: The losses.
        weights: For each network its weights, see `LossSurface`.
        radius: See `adaptive_sharpness`, which says what is measured.

    Returns:
        Shape (networks,), in the loss's own unit.

    Raises:
        TypeError: `radius` is no number.
        ValueError: `radius` is not above 0, or the weights do not fit.
        NotFiniteError: Weights, losses or derivatives are not finite.
    """
    radius, places = positive_number(radius, "radius"), surfaces.places(weights)
    return _greatest_rises(surfaces, places, radius * np.abs(places.parameters))


def _greatest_rises(surfaces: LossSurfaces, places: Place, boxes: np.ndarray) -> np.ndarray:
    """Return each network's greatest rise found for a change of at most its box, boxes of shape (networks, P)."""
    boxes = boxes.astype(np.float64)
    values, gradients = surfaces.values_and_gradients(places)
    if len(broken := np.flatnonzero(~(np.isfinite(values) & np.isfinite(gradients).all(axis=1)))):
        raise NotFiniteError(f"The loss of network {broken[0]}, or its gradient, is not finite at these weights.")

    def falls(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there, slopes = surfaces.values_and_gradients(Place(places.parameters + boxes * z, places.state))
        return values - there, -boxes * slopes

    random = np.random.default_rng(0).normal(size=(STARTS, surfaces.size))  # as for one network
    starts = [gradients, *(surfaces.hessian_products(places, boxes * r) for r in random)]
    corners, heights, slopes = _lowest_corners(falls, np.sign(starts[0]))
    for start in starts[1:]:
        others, lower, their_slopes = _lowest_corners(falls, np.sign(start))
        better = lower < heights
        corners[better], heights[better], slopes[better] = others[better], lower[better], their_slopes[better]
    rises = np.maximum(0, -heights)
    # Where the slope points into the corner, no step is left; the others go on, one by one.
    for k in np.flatnonzero((_pointed_to(corners, slopes) != corners).any(axis=1)):
        rises[k] = highest_from(_of_one(surfaces, places, boxes, values, k), corners[k])
    return rises


def _of_one(surfaces: LossSurfaces, places: Place, boxes: np.ndarray, values: np.ndarray, k: int) -> Callable:
    def fall(z: np.ndarray) -> tuple[float, np.ndarray]:
        place = Place(places.parameters[k] + boxes[k] * z, [of_all[k] for of_all in places.state])
        there, slope = surfaces.single[k].value_and_gradient(place)
        return values[k] - there, -boxes[k] * slope

    return fall


def _lowest_corners(falls: _Falls, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Go from corner to corner, in each network as long as it leads down; return corners, heights and slopes there."""
    heights, slopes = falls(corners)
    going = np.ones(len(corners), bool)
    while going.any():
        following = _pointed_to(corners, slopes)
        there, their_slopes = falls(following)
        going &= there < heights
        corners[going], heights[going], slopes[going] = following[going], there[going], their_slopes[going]
    return corners, heights, slopes


def _pointed_to(corners: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    return np.where(slopes == 0, corners, -np.sign(slopes))
