"""How much larger batches save, how rough curves are, how far runs lie apart: figures of a comparison. Never trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.stats

from batchlab.statistics import Estimate

_BEYOND = math.log(1e6)  # so far outside the batch sizes tried a critical one is as good as 0 or infinite
_STEPS = 4001
_RESAMPLES = 2000


class Scaling(NamedTuple):
    """The curve S(b) = S_min (1 + B / b) through updates needed at several batch sizes.

    Attributes:
        least_updates: S_min, the updates that are left however large the batch.
        critical: B, the critical batch size in rows, with its 95 % interval. There S is twice S_min, and twice the
            updates of perfect scaling, S_min B / b; the slope on logarithmic axes is -1/2: the knee.
        misfit: Root mean square of the logarithms of figures over curve: 0.1 is some 10 %.
    """

    least_updates: float
    critical: Estimate
    misfit: float

    def updates(self, batch_size: np.ndarray | float) -> np.ndarray | float:
        """Return the updates on the curve at a batch size, or at several."""
        return self.least_updates * (1 + self.critical.value / batch_size)

    def perfect(self, batch_size: np.ndarray | float) -> np.ndarray | float:
        """Return the updates of perfect scaling: twice the rows an update, half the updates."""
        return self.least_updates * self.critical.value / batch_size


def fit_scaling(batch_sizes: Sequence[float], updates: Sequence[float]) -> Scaling:
    """Fit the updates that a target takes, by batch size: S(b) = S_min (1 + B / b).

    McCandlish et al. 2018, "An empirical model of large-batch training", equation 2.11. Least squares of logarithms,
    since the figures span decades. B's interval is the one of profile likelihood: all B with which the sum of squares,
    at the S_min that suits them, exceeds the least by at most the factor 1 + F / (n - 2), F the 95 % quantile of the
    F distribution of 1 and n - 2 degrees of freedom (Bates & Watts 1988, section 6.1). It holds what the curve misses
    as well as the noise of the figures. An end may be 0 or infinite.

    Args:
        batch_sizes: At least four, all different, in rows.
        updates: Needed at each of them, above 0.

    Returns:
        The curve.

    Raises:
        ValueError: There are too few, their counts differ, a number is not finite and above 0, or the figures show no
            bend: they follow perfect scaling everywhere, or do not depend on the batch size.
    """
    sizes, needed = np.asarray(batch_sizes, np.float64), np.asarray(updates, np.float64)
    if sizes.ndim != 1 or sizes.shape != needed.shape or len(np.unique(sizes)) < max(4, sizes.size):
        raise ValueError(
            "fit_scaling: give four or more different batch sizes, and the updates at each; got shapes "
            f"{sizes.shape} and {needed.shape}."
        )
    if not (np.isfinite([sizes, needed]) & (np.array([sizes, needed]) > 0)).all():
        raise ValueError("fit_scaling: every number must be finite and above 0; leave out what never arrived.")

    def squares(log_critical: np.ndarray | float) -> np.ndarray | float:
        residual = np.log(needed) - np.log1p(np.exp(np.expand_dims(log_critical, -1)) / sizes)
        return residual.var(axis=-1) * len(sizes)  # the best S_min takes the mean away

    tried = np.linspace(np.log(sizes.min()) - _BEYOND, np.log(sizes.max()) + _BEYOND, _STEPS)
    found = squares(tried)
    at = int(found.argmin())
    # On a plateau rounding would choose.
    if found[at] > min(found[0], found[-1]) * (1 - 1e-6) - 1e-20:
        shape = "follow perfect scaling" if found[-1] < found[0] else "do not fall with the batch size"
        raise ValueError(
            f"fit_scaling: the updates {shape} at all of {sizes.min():g} to {sizes.max():g} rows, so that no critical "
            "batch size can be told. Try others."
        )
    best = scipy.optimize.minimize_scalar(squares, bounds=tried[[at - 1, at + 1]], method="bounded").x
    limit = squares(best) * (1 + scipy.stats.f.ppf(0.95, 1, len(sizes) - 2) / (len(sizes) - 2)) + 1e-18

    def end(side: np.ndarray, beyond: float) -> float:
        """The first crossing of the limit on the way outwards."""
        outside = np.flatnonzero(squares(side) > limit)
        if not len(outside):
            return beyond
        inner = side[outside[0] - 1] if outside[0] else best
        return math.exp(scipy.optimize.brentq(lambda log: squares(log) - limit, inner, side[outside[0]]))

    low, high = end(tried[tried < best][::-1], 0.0), end(tried[tried > best], math.inf)
    critical, misfit = Estimate(math.exp(best), low, high), math.sqrt(squares(best) / len(sizes))
    above_least = needed / Scaling(1.0, critical, misfit).updates(sizes)
    return Scaling(float(np.exp(np.log(above_least).mean())), critical, misfit)


def roughness(curves: np.ndarray) -> np.ndarray:
    """Return how rough curves are: the standard deviation of differences from point to point, less their trend.

    The trend is that of a straight line through each three neighbours. So second differences are left; their root mean
    square is divided by the square root of 3, since of independent noise they have 3 times the variance of first ones
    (Gasser, Sroka & Jennen-Steinmetz 1986). Of noise of standard deviation s the figure is sqrt(2) s, of a straight
    line 0. A curve that bends by c a step squared adds c / sqrt(3): leave out where it falls steeply.

    Args:
        curves: The points along the last axis, at least three, equally spaced.

    Returns:
        One figure a curve, in the units of the points; NaN where a point is.

    Raises:
        ValueError: There are fewer than three points.
    """
    curves = np.asarray(curves, np.float64)
    if not curves.ndim or curves.shape[-1] < 3:
        raise ValueError(f"roughness: a curve needs three or more points; got shape {curves.shape}.")
    return np.sqrt((np.diff(curves, 2, axis=-1) ** 2).mean(axis=-1) / 3)


def deviation(*groups: Sequence[float]) -> Estimate:
    """Return the standard deviation of figures about the mean of their group, pooled over groups.

    Its interval is a bootstrap's, bias-corrected and accelerated, of the runs within each group (Efron 1987): figures
    of training are far from normal.

    Args:
        *groups: The figures of each group, six or more; groups of equal size.

    Raises:
        ValueError: There is no group, one has too few figures, or one that is not finite.
    """
    _require_runs("deviation", *groups)

    def pooled(*groups: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.sqrt(np.mean([group.var(axis=axis, ddof=1) for group in groups], axis=0))

    return _bootstrapped(pooled, groups, paired=False)


def narrowing(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Return how many times narrower the interval of a difference becomes by pairing the runs.

    The interval of a difference of means is as wide as its standard error. Of independent runs that is the square root
    of var(first) + var(second), of paired runs the square root of var(first - second), over the same root of n. So of
    independent figures this is 1, and below 1 where pairing does harm.

    Args:
        first: A figure of each run, six or more, such as the loss at one batch size.
        second: That of its partner, such as the same initial weights at another batch size.

    Returns:
        The ratio, with a bootstrap interval of the pairs.

    Raises:
        ValueError: The counts differ, there are too few pairs, a figure is not finite, or all pairs differ by the same.
    """
    _require_runs("narrowing", first, second)
    if np.ptp(np.subtract(first, second)) == 0:
        raise ValueError("narrowing: all pairs differ by the same, so there is no interval to compare with.")

    def ratio(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
        apart = first.var(axis=axis, ddof=1) + second.var(axis=axis, ddof=1)
        return np.sqrt(apart / (first - second).var(axis=axis, ddof=1))

    return _bootstrapped(ratio, (first, second), paired=True)


def _require_runs(asked: str, *groups: Sequence[float]) -> None:
    shapes = [np.shape(group) for group in groups]
    if not shapes or len(set(shapes)) > 1 or len(shapes[0]) != 1 or shapes[0][0] < 6:
        raise ValueError(f"{asked}: give rows of six or more figures, all of one length; got shapes {shapes}.")
    if not np.isfinite(groups).all():
        raise ValueError(f"{asked}: a figure is not finite; drop the run.")


def _bootstrapped(statistic: object, groups: Sequence[Sequence[float]], *, paired: bool) -> Estimate:
    groups = [np.asarray(group, np.float64) for group in groups]
    if all(np.ptp(group) == 0 for group in groups):  # such as the order of rows, where all are in one batch
        return Estimate(0.0, 0.0, 0.0)
    drawn = scipy.stats.bootstrap(groups, statistic, n_resamples=_RESAMPLES, paired=paired, rng=0)
    return Estimate(float(statistic(*groups)), *map(float, drawn.confidence_interval))
