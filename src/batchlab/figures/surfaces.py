"""Losses with two parameters, as contours and as surfaces. Never descends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes

from batchlab.figures.style import subplots

_GRID = 121  # points along each axis


class Surface(Protocol):
    """A loss with two parameters."""

    def value(self, w: np.ndarray) -> np.ndarray:
        """Map parameters of shape (..., 2) to losses of shape (...)."""
        ...


def plot_contours(
    loss: Surface,
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    *,
    levels: int | Sequence[float] = 12,
    ax: Axes | None = None,
) -> Axes:
    """Draw lines of equal loss over the plane of the two parameters, labelled with the loss.

    Args:
        loss: The loss; the first parameter runs to the right.
        xlim: Range of the first parameter.
        ylim: Range of the second.
        levels: The losses at which to draw, rising, or about how many.
        ax: Where to draw; a new figure without it.

    Returns:
        The axes. The caller names them.
    """
    ax = subplots(width=5, height=4)[1][0] if ax is None else ax
    x, y, z = _sampled(loss, xlim, ylim)
    ax.grid(visible=False)
    ax.contourf(x, y, z, levels=levels, cmap="Greys", alpha=0.35, extend="both")
    lines = ax.contour(x, y, z, levels=levels, colors="#8A8A84", linewidths=0.7)
    ax.clabel(lines, fontsize=8, fmt="%.3g")
    return ax


def plot_surface(loss: Surface, xlim: tuple[float, float], ylim: tuple[float, float], *, ax: Axes) -> Axes:
    """Draw the loss as a surface above the plane of the two parameters.

    Args:
        loss: The loss.
        xlim: Range of the first parameter.
        ylim: Range of the second.
        ax: Axes of projection "3d" (`subplots(projections=["3d"])`).

    Returns:
        The axes. The caller names them.
    """
    x, y, z = _sampled(loss, xlim, ylim)
    # Smoothed or translucent facets show their seams: a lattice that means nothing and weighs a quarter of the picture.
    ax.plot_surface(x, y, z, cmap="cividis", linewidth=0, antialiased=False, rcount=60, ccount=60)
    return ax


def _sampled(
    loss: Surface, xlim: tuple[float, float], ylim: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.linspace(*xlim, _GRID), np.linspace(*ylim, _GRID))
    return x, y, loss.value(np.stack([x, y], axis=-1))
