"""Figures on the page, none without a text alternative. Never draws."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from batchlab.display import display_bundle
from batchlab.figures.style import INK


def show(drawn: Axes | Sequence[Axes] | Figure, alt: str | None = None) -> None:
    """Display a figure as a PNG that carries its text alternative, and close it; a plain script prints the text.

    Args:
        drawn: The figure, or any of its axes.
        alt: What the figure shows, for readers who cannot see it. Figures from `plot_history` bring
            their own.

    Raises:
        ValueError: There is no alt text.
    """
    data, metadata = bundle(drawn, alt)
    display_bundle(data, metadata)


def bundle(drawn: Axes | Sequence[Axes] | Figure, alt: str | None) -> tuple[dict, dict]:
    """Turn a figure into the data and the metadata that Jupyter displays, and close it; see `show`."""
    first = drawn if isinstance(drawn, Axes | Figure) else drawn[0]
    figure = first if isinstance(first, Figure) else first.figure
    alt = alt or str(figure.get_label())
    if not alt:
        raise ValueError("show: give `alt`, a sentence that says what the figure shows.")
    for ax in figure.axes:  # titles and legends are made by the caller, outside the style's reach
        title = ax.get_title()
        ax.set_title("")
        ax.set_title(title, loc="left", fontweight="bold", fontsize=12, color=INK)
        if ax.get_legend():
            ax.get_legend().set_frame_on(False)
    png = _light_png(figure)
    plt.close(figure)
    width = round(figure.get_figwidth() * 96)
    data = {"image/png": base64.b64encode(png).decode(), "text/plain": alt}
    return data, {"image/png": {"alt": alt, "width": width}}


def _light_png(figure: Figure) -> bytes:
    """The figure at 160 dots an inch in the 256 colours that suit it best, which take a third of the bytes of all.

    Maximum coverage spends colours on what differs, not on what is frequent, so that a thin line keeps its own; the
    one step of k-means then makes the frequent ones exact. Dithering would turn even areas into noise.
    """
    all_colours, light = io.BytesIO(), io.BytesIO()
    figure.savefig(all_colours, format="png", dpi=160, facecolor=figure.get_facecolor())
    picture = Image.open(all_colours).convert("RGB")  # the page is opaque
    reduced = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    reduced.save(light, format="png", optimize=True)
    return light.getvalue()
