"""The house style: one colour for each batch size, one look for all figures, none without a text alternative."""

from __future__ import annotations

import base64
import inspect
import io
from collections.abc import Callable, Sequence
from typing import Literal

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from batchlab.environment import is_live

INK = "#222222"
PAGE = "#FCFCFA"  # an opaque light page keeps dark ink legible in dark mode
MUTED = "#777777"

# Okabe & Ito (2008), "Color Universal Design": told apart with every common colour blindness.
_COLOURS = {1: "#D55E00", 8: "#E69F00", 32: "#009E73", 250: "#0072B2", "all": "#CC79A7"}
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

    Args:
        batch_size: Rows an update, or "all" for every row at once, however many there are.

    Raises:
        ValueError: No colour has been given to this batch size.
    """
    if batch_size not in _COLOURS:
        known = ", ".join(map(repr, _COLOURS))
        raise ValueError(f"No colour stands for batch size {batch_size!r}; there is one for {known}.")
    return _COLOURS[batch_size]


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


def show(drawn: Axes | Sequence[Axes] | Figure, alt: str | None = None) -> None:
    """Display a figure as a PNG that carries its text alternative, and close it.

    Args:
        drawn: The figure, or any of its axes.
        alt: What the figure shows, for readers who cannot see it. Figures from `plot_history` bring
            their own.

    Raises:
        ValueError: There is no alt text.
    """
    data, metadata = _bundle(drawn, alt)
    _display(data, metadata)


def sliders(draw: Callable[..., tuple[Figure, str]], **choices: Sequence) -> None:
    """Show a figure whose settings a reader can move, where a live front end is present; elsewhere the figure alone.

    The figure of the default settings is part of the output in either case, so that a saved notebook shows it
    wherever widgets do not work.

    Args:
        draw: Returns the figure and its alt text. Each of its arguments has a default: the setting to begin with.
        **choices: For each argument of `draw` the values among which the reader chooses, in order.

    Raises:
        ValueError: The choices are not those of the arguments, or a default is not among them.
    """
    settings = {name: argument.default for name, argument in inspect.signature(draw).parameters.items()}
    if settings.keys() != choices.keys():
        raise ValueError(f"sliders: draw takes {', '.join(settings)}, the choices are for {', '.join(choices)}.")
    for name, value in settings.items():
        if value not in choices[name]:
            raise ValueError(f"sliders: the default of {name} is not among its choices, {list(choices[name])}; add it.")
    data, metadata = _bundle(*draw())
    if is_live():
        import ipywidgets  # elsewhere nobody would see it

        controls = {
            name: ipywidgets.SelectionSlider(
                options=list(choices[name]),
                value=value,
                description=name.replace("_", " "),
                continuous_update=False,
                style={"description_width": "8em"},
                layout={"width": "28em"},
            )
            for name, value in settings.items()
        }
        picture = ipywidgets.interactive_output(lambda **chosen: show(*draw(**chosen)), controls)
        box = ipywidgets.VBox([*controls.values(), picture])
        view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
        data["application/vnd.jupyter.widget-view+json"] = view
    _display(data, metadata)


def _bundle(drawn: Axes | Sequence[Axes] | Figure, alt: str | None) -> tuple[dict, dict]:
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
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=160, facecolor=figure.get_facecolor(), metadata={"Software": None})
    plt.close(figure)
    width = round(figure.get_figwidth() * 96)
    data = {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": alt}
    return data, {"image/png": {"alt": alt, "width": width}}


def _display(data: dict, metadata: dict) -> None:
    from IPython.display import display  # only notebooks need it

    display(data, metadata=metadata, raw=True)
