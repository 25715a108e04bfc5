"""The gradient noise scale: up to which batch size more rows make a better step. Never trains, never draws batches."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from batchlab.study.curvature.surface import LossSurface, LossSurfaces, NotFiniteError, Weights

_LEFT_OUT = 1e-6  # share of the noise in directions that are not followed


class NoiseScale(NamedTuple):
    """The noise of mini-batch gradients beside the gradient; G is the gradient, Sigma the covariance of the rows'."""

    simple: float
    """tr(Sigma) / |G|², in rows."""
    weighted: float
    """tr(H Sigma) / G'HG, in rows; NaN where the loss does not curve upwards, so that no step is the best."""
    gradient_norm_squared: float
    """|G|²."""
    trace: float
    """tr(Sigma): times 1/B it is the mean squared distance of a gradient over B rows from G."""


def noise_scale(surface: LossSurface, w: Weights = None) -> NoiseScale:
    """Return the gradient noise scale, simple and Hessian-weighted, in rows.

    McCandlish et al. 2018, "An empirical model of large-batch training", equations 2.8 and 2.9. The rows of the surface
    are the population, from which mini-batches are drawn with replacement: G and Sigma are exact, not estimates. With
    the best step, a batch of as many rows as the weighted scale says makes half the progress of all rows.

    tr(H Sigma) follows the directions of the largest noise, by one Hessian-vector product each, until at most 1e-6 of
    tr(Sigma) is left; the error is at most 1e-6 tr(Sigma) times the largest eigenvalue of H, besides rounding.

    Args:
        surface: The loss; it must be a mean over rows.
        w: The weights, see `LossSurface`.

    Returns:
        The noise scales and what they are made of. Both are infinite, with a warning, where the gradient is zero to
        rounding.

    Raises:
        ValueError: The loss is not a mean over rows, or the weights do not fit.
        NotFiniteError: Weights or derivatives are not finite.
    """
    place = surface.place(w)
    moments = _moments(surface, place)
    hessian = surface.hessian(place)
    return _scales(moments, [v @ hessian.matvec(v) for v in _followed(moments)])


def noise_scale_of_each(surfaces: LossSurfaces, weights: Sequence[Weights]) -> list[NoiseScale]:
    """Return what `noise_scale` returns for each of several networks, in a small part of the time.

    Args:
        surfaces: The losses, each a mean over its rows.
        weights: For each network its weights, see `LossSurface`.

    Raises:
        ValueError: A loss is not a mean over rows, or the weights do not fit.
        NotFiniteError: Weights or derivatives are not finite.
    """
    places = surfaces.places(weights)
    moments = [_moments(surface, w) for surface, w in zip(surfaces.single, weights, strict=True)]
    followed = [_followed(one) for one in moments]
    curved = np.zeros((max(map(len, followed)), len(followed)))  # a network with fewer directions has zeros at the end
    for k, of_direction in enumerate(curved):
        v = np.stack([of_one[k] if k < len(of_one) else np.zeros(surfaces.size) for of_one in followed])
        of_direction[:] = (v * surfaces.hessian_products(places, v)).sum(axis=1)
    return [_scales(one, curves) for one, curves in zip(moments, curved.T, strict=True)]


def simple_noise_scale(surface: LossSurface, w: Weights = None) -> float:
    """Return tr(Sigma) / |G|² in rows, the simple one alone: it takes no Hessian, and so a small part of the time.

    Args:
        surface: The loss; it must be a mean over rows.
        w: The weights, see `LossSurface`.

    Raises:
        ValueError: The loss is not a mean over rows, or the weights do not fit.
        NotFiniteError: Weights or derivatives are not finite.
    """
    moments = _moments(surface, w)
    return moments.trace / moments.length if moments.length else np.inf


def critical_batch_size(noise_scales: Sequence[float]) -> float:
    """Return the critical batch size that noise scales along a run predict, in rows.

    It is the rows that the run needs at the least, over the updates that it needs at the least. As an update with
    batches of B rows does 1 / (1 + scale/B) of the progress of a full one, this is the mean of the scale over the
    updates of a run with large batches (McCandlish et al. 2018, section 2.3).

    Args:
        noise_scales: Measured at equal numbers of updates, such as a column of `CurvatureRecorder.frame()`.

    Returns:
        The critical batch size.

    Raises:
        ValueError: There are none, or one is not a finite number of at least 0.
    """
    scales = np.asarray(noise_scales, dtype=np.float64)
    if scales.ndim != 1 or not scales.size:
        raise ValueError(f"`noise_scales` has shape {scales.shape}; give a sequence of at least one number.")
    if wrong := int((~(np.isfinite(scales) & (scales >= 0))).sum()):
        raise ValueError(
            f"`noise_scales` holds {wrong} of {len(scales)} that are not finite numbers of at least 0; leave those "
            "updates out yourself, and say so."
        )
    return float(scales.mean())


class _Moments(NamedTuple):
    """The rows' gradients less their mean G, then G, |G|² and tr(Sigma); G is 0 where it is so to rounding."""

    centred: np.ndarray
    gradient: np.ndarray
    length: float
    trace: float


def _followed(moments: _Moments) -> np.ndarray:
    """The vectors v of which v'Hv is needed, shape (k, P): the gradient first, then the directions of the noise."""
    return np.vstack([moments.gradient, _directions(moments.centred)])


def _scales(moments: _Moments, curved: Sequence[float]) -> NoiseScale:
    """Put together what was measured; `curved` is v'Hv for each of `_followed`."""
    along_gradient, along_noise = float(curved[0]), float(sum(curved[1:]))
    if moments.length == 0:
        return NoiseScale(np.inf, np.inf, moments.length, moments.trace)
    upwards = along_gradient > 0 and along_noise >= 0
    weighted = along_noise / along_gradient if upwards else np.nan
    return NoiseScale(moments.trace / moments.length, weighted, moments.length, moments.trace)


def _moments(surface: LossSurface, w: Weights) -> _Moments:
    single = surface.row_gradients(w)
    precision = np.finfo(single.dtype).eps
    rows = single.astype(np.float64)
    if not np.isfinite(rows).all():
        raise NotFiniteError("A row's gradient is not finite at these weights: the loss has overflown.")
    gradient = rows.mean(axis=0)
    length = float(gradient @ gradient)
    if length <= precision**2 * (rows**2).sum(axis=1).mean():
        gradient[:], length = 0, 0.0
        warnings.warn(
            "The gradient is zero to rounding: these weights are a minimum, a saddle or a plateau, where the noise "
            "scale is infinite. Measure it on the way there.",
            stacklevel=3,
        )
    centred = rows - gradient
    return _Moments(centred, gradient, length, float((centred**2).sum() / len(rows)))


def _directions(centred: np.ndarray) -> np.ndarray:
    """Return a few directions, of shape (k, P), whose outer products sum up to the covariance, but for `_LEFT_OUT`."""
    rows, size = centred.shape
    narrow = size <= rows
    values, vectors = np.linalg.eigh((centred.T @ centred if narrow else centred @ centred.T) / rows)
    values = values.clip(0)
    kept = np.cumsum(values) > _LEFT_OUT * values.sum()  # in ascending order
    if narrow:
        return (vectors[:, kept] * np.sqrt(values[kept])).T
    return vectors[:, kept].T @ centred / np.sqrt(rows)
