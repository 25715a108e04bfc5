"""Every interval and every fitted slope that the suite states, one kind of each. Never draws, never rounds.

All intervals hold 95 %. They are exact where that is possible: for a share and for a median whatever the distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import scipy.stats

from batchlab.checks import whole_number

if TYPE_CHECKING:  # arrays need no pandas
    import pandas as pd
    from pandas.api.typing import DataFrameGroupBy, SeriesGroupBy

BAND = (0.025, 0.5, 0.975)
"""The quantiles of a band: it holds 95 % of the runs, about their median."""

_TAIL = BAND[0]


class Estimate(NamedTuple):
    """A figure, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class Line(NamedTuple):
    """A fitted straight line: its slope, the ends of the slope's 95 % interval, and its height at 0."""

    slope: float
    low: float
    high: float
    intercept: float


def band(
    values: np.ndarray | pd.Series | pd.DataFrame | SeriesGroupBy | DataFrameGroupBy,
    *,
    method: Literal["linear", "nearest"] = "linear",
) -> np.ndarray | pd.Series | pd.DataFrame:
    """Return the median of many runs and the band that holds 95 % of them: their 2.5, 50 and 97.5 % quantiles.

    This says how far single runs lie apart, however many there are; an interval says how well a figure is known.

    Args:
        values: An array with the runs along its first axis, or a pandas column, frame or grouping of either.
        method: Between two runs "linear" goes from one to the other; "nearest" takes a figure that occurred.

    Returns:
        For an array low, median and high, of shape (3, ...). From pandas the same in its own form, indexed by `BAND`.

    Raises:
        ValueError: There is no value.
    """
    if hasattr(values, "quantile"):
        return values.quantile(list(BAND), interpolation=method)
    values = np.asarray(values, dtype=np.float64)
    if not len(np.atleast_1d(values)):
        raise ValueError("band: there are no values; give at least one.")
    return np.quantile(values, BAND, axis=0, method=method)


def share(hits: int, of: int) -> Estimate:
    """Return the share of cases in which something happened, with its exact interval (Clopper & Pearson 1934).

    The interval's ends are the shares under which so many hits, or so few, have a chance of 2.5 %.

    Args:
        hits: How often it happened.
        of: How many independent cases there were.

    Raises:
        TypeError: A count is no whole number.
        ValueError: There are no cases, or more hits than cases.
    """
    of = whole_number(of, "of", 1)
    hits = whole_number(hits, "hits", 0, of)
    low = scipy.stats.beta.ppf(_TAIL, hits, of - hits + 1) if hits else 0.0
    high = scipy.stats.beta.isf(_TAIL, hits + 1, of - hits) if hits < of else 1.0
    return Estimate(hits / of, float(low), float(high))


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean of independent figures, with its interval by Student's t (n - 1 degrees of freedom).

    Raises:
        ValueError: There are fewer than two figures, or one is not finite.
    """
    values = _figures(values, "mean", 2)
    if not np.isfinite(values).all():
        raise ValueError(f"mean: figure {np.flatnonzero(~np.isfinite(values))[0]} is not finite; drop it.")
    half_width = -scipy.stats.t.ppf(_TAIL, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    centre = values.mean()
    return Estimate(float(centre), float(centre - half_width), float(centre + half_width))


def median(values: Sequence[float]) -> Estimate:
    """Return the median of independent figures, with an interval between two of them, whatever their distribution.

    Of n figures the number below the true median is binomial, so the k-th from either end enclose it (Thompson 1936);
    k is the greatest for which that is at least 95 % sure. Of 15 figures they are the 4th and the 12th.

    Raises:
        ValueError: There are fewer than six figures, too few for 95 %, or one is NaN. One may be infinite, such as the
            time of a run that never arrived.
    """
    values = np.sort(_figures(values, "median", 6))
    inside = int(scipy.stats.binom.ppf(_TAIL, len(values), 0.5))  # the least count with a chance above 2.5 % up to it
    return Estimate(float(np.median(values)), float(values[inside - 1]), float(values[-inside]))


def line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Fit a straight line by least squares.

    Args:
        x: At least three finite numbers, not all equal.
        y: As many finite numbers.

    Returns:
        The line. Its slope's interval is that of Student's t (n - 2 degrees of freedom), for independent errors in y.

    Raises:
        ValueError: There are too few numbers, their counts differ, or one is not finite.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 3 or np.ptp(x) == 0:
        raise ValueError(
            f"A line needs two sequences of three or more numbers, x not all equal; got shapes {x.shape} and {y.shape}."
        )
    if not np.isfinite([x, y]).all():
        raise ValueError("A line needs finite numbers; drop the others.")
    u, v = x - x.mean(), y - y.mean()
    slope = u @ v / (u @ u)
    residual = v - slope * u
    error = math.sqrt(residual @ residual / (len(x) - 2) / (u @ u))
    half_width = -scipy.stats.t.ppf(_TAIL, len(x) - 2) * error
    return Line(*map(float, (slope, slope - half_width, slope + half_width, y.mean() - slope * x.mean())))


def power_law(x: Sequence[float], y: Sequence[float]) -> Estimate:
    """Fit y = a * x ** exponent: the straight line of least squares through the logarithms.

    Args:
        x: At least three numbers above 0, not all equal.
        y: As many numbers above 0.

    Returns:
        The exponent, with the interval of that line's slope.

    Raises:
        ValueError: There are too few numbers, their counts differ, or one is not above 0 and finite.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not all((np.isfinite(numbers) & (numbers > 0)).all() for numbers in (x, y)):
        raise ValueError("power_law: every number must be above 0 and finite, or it has no logarithm.")
    return Estimate(*line(np.log(x), np.log(y))[:3])


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> Estimate:
    """Return Spearman's rank correlation of independent pairs, with its interval (Bonett & Wright 2000).

    The interval is that of a normal distribution on Fisher's scale, artanh r, with variance (1 + r² / 2) / (n - 3).

    Args:
        x: At least ten figures, not all equal; they may be infinite.
        y: As many.

    Raises:
        ValueError: There are too few figures, their counts differ, one is NaN, or all of one kind are equal.
    """
    x, y = _figures(x, "rank_correlation", 10), _figures(y, "rank_correlation", 10)
    if len(x) != len(y) or min(len(np.unique(x)), len(np.unique(y))) < 2:
        raise ValueError(f"rank_correlation: give pairs that differ; got {len(x)} and {len(y)} figures.")
    r = float(scipy.stats.spearmanr(x, y).statistic)
    centre = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))
    half_width = -scipy.stats.norm.ppf(_TAIL) * math.sqrt((1 + r * r / 2) / (len(x) - 3))
    return Estimate(r, math.tanh(centre - half_width), math.tanh(centre + half_width))


def _figures(values: Sequence[float], asked: str, least: int) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < least:
        raise ValueError(f"{asked}: an interval needs {least} or more figures in a row; got shape {values.shape}.")
    if np.isnan(values).any():
        raise ValueError(f"{asked}: figure {np.flatnonzero(np.isnan(values))[0]} is NaN; drop it.")
    return values
