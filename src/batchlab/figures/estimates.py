"""Estimates with their intervals, as a curve in a band or as points with bars. Never computes an estimate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the order of value, low and high is all that counts
    from matplotlib.axes import Axes

    from batchlab.statistics import Estimate


def plot_estimates(
    ax: Axes,
    at: Sequence[float],
    estimates: Sequence[Estimate],
    *,
    colour: str,
    label: str | None = None,
    marks: str = "o-",
    band: bool = False,
) -> Axes:
    """Draw estimates, each with its interval.

    Args:
        ax: Where to draw.
        at: Their places on the horizontal axis.
        estimates: Value, low and high of each (`statistics.Estimate`).
        colour: Of marks, bars and band.
        label: Legend text.
        marks: As matplotlib writes them: "o-" joins the points, "o" does not, "none" leaves the bars alone.
        band: Whether a band shows the intervals, as along a curve; else bars do.

    Returns:
        The axes.

    Raises:
        ValueError: There are not as many places as estimates.
    """
    if len(at) != len(estimates):
        raise ValueError(f"plot_estimates: {len(at)} places for {len(estimates)} estimates; give one for each.")
    value, low, high = np.array(estimates, float).T
    if band:
        ax.plot(at, value, marks, color=colour, linewidth=1.4, markersize=4, label=label)
        ax.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    else:
        ax.errorbar(at, value, [value - low, high - value], fmt=marks, color=colour, capsize=3, label=label)
    return ax
