"""The house style: one colour for each batch size, one look for all figures. Never knows what is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from batchlab.checks import whole_number

INK = "#222222"
PAGE = "#FCFCFA"  # an opaque light page keeps dark ink legible in dark mode
MUTED = "#777777"

# Okabe & Ito (2008), "Color Universal Design": told apart with every common colour blindness.
_COLOURS = {1: "#D55E00", 8: "#E69F00", 32: "#009E73", 250: "#0072B2", 4096: "#2B1B6B", "all": "#CC79A7"}
_STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "figure.facecolor": PAGE,
    "axes.facecolor": PAGE,
    "figure.constrained_layout.use": True,
}


def colour(batch_size: int | Literal["all"]) -> str:
    """Return the one colour that stands for a batch size in every figure, as `#rrggbb`.

    A size between two of the palette lies between their colours, by the logarithm of the size.

    Args:
        batch_size: Rows an update, or "all" for every row at once, however many there are.

    Raises:
        TypeError: The batch size is neither "all" nor a whole number.
        ValueError: It is below 1.
    """
    if batch_size in _COLOURS:
        return _COLOURS[batch_size]
    wanted = math.log(whole_number(batch_size, "batch_size", 1))
    sizes = [size for size in _COLOURS if size != "all"]
    channels = zip(*(to_rgb(_COLOURS[size]) for size in sizes), strict=True)
    return to_hex([np.interp(wanted, np.log(sizes), channel) for channel in channels]).upper()


def subplots(
    columns: int = 1,
    *,
    width: float = 9.0,
    height: float = 3.6,
    projections: Sequence[Literal["3d"] | None] | None = None,
) -> tuple[Figure, list[Axes]]:
    """Open a figure in the house style without touching matplotlib's global settings.

    Args:
        columns: Number of panels side by side.
        width: Of the whole figure, in inches; 9 fills a notebook.
        height: In inches.
        projections: For each panel "3d", or None for a plane; all plane without it.

    Returns:
        The figure and the list of its axes.

    Raises:
        ValueError: There are not as many projections as columns.
    """
    projections = [None] * columns if projections is None else list(projections)
    if len(projections) != columns:
        raise ValueError(f"subplots: {columns} columns, but {len(projections)} projections; give one for each column.")
    with plt.rc_context(_STYLE):
        figure = plt.figure(figsize=(width, height))
        axes = [figure.add_subplot(1, columns, i, projection=kind) for i, kind in enumerate(projections, start=1)]
    return figure, axes
