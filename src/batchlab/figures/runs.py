"""Curves of training runs: one run, the bands of many, the documented figures. Never computes a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from batchlab.claims import documented_runs
from batchlab.figures.style import INK, colour, subplots
from batchlab.results import METRICS, history_frame
from batchlab.statistics import BAND, band

if TYPE_CHECKING:  # drawing needs neither Keras nor pandas
    import keras
    import pandas as pd

_UNITS = {
    "epoch": "epoch",
    "updates": "updates (optimizer steps)",
    "loss": "training loss (nats)",
    "val_loss": "validation loss (nats)",
    "accuracy": "training accuracy (share of rows)",
    "val_accuracy": "validation accuracy (share of rows)",
}


def plot_history(
    history: keras.callbacks.History, *, batch_size: int, axes: Sequence[Axes] | None = None
) -> list[Axes]:
    """Draw loss, validation loss, accuracy and validation accuracy of one run on one figure.

    Args:
        history: What `fit` returned, trained with validation rows.
        batch_size: Of the run; it gives the colour and the title.
        axes: Two axes to draw on, the loss first; a new figure without them.

    Returns:
        The two axes. The figure carries an alt text, which `show` uses.

    Raises:
        ValueError: The history lacks one of the four curves.
    """
    missing = [name for name in METRICS if name not in history.history]
    if missing:
        raise ValueError(
            f"plot_history: the history has no {', '.join(missing)}. Fit with validation_split or "
            "validation_data, on a model compiled with metrics=['accuracy']."
        )
    frame = history_frame(history, batch_size=batch_size)
    axes = subplots(2)[1] if axes is None else list(axes)
    shade = colour(batch_size)
    dark = tuple(0.45 * channel for channel in to_rgb(shade))
    described = []
    for ax, metric, unit in zip(axes, ("loss", "accuracy"), ("nats", "share of rows"), strict=True):
        for key, label, line_colour, style in (
            (metric, "training", shade, "-"),
            (f"val_{metric}", "validation", dark, (0, (4, 1.2))),
        ):
            ax.plot(frame["epoch"], frame[key], color=line_colour, linestyle=style, linewidth=1.3, label=label)
            described.append(f"{label} {metric} from {frame[key].iloc[0]:.2f} to {frame[key].iloc[-1]:.2f}")
        ax.set(xlabel="epoch", ylabel=f"{metric} ({unit})", title=f"Batch size {batch_size}: {metric}")
        ax.legend()
    epochs = len(frame)
    axes[0].figure.set_label(
        f"One run at batch size {batch_size}, two panels over {epochs} epochs. Left: {described[0]} and "
        f"{described[1]} nats. Right: {described[2]} and {described[3]}."
    )
    return axes


def plot_bands(
    frame: pd.DataFrame,
    *,
    y: str = "loss",
    x: str = "epoch",
    ax: Axes | None = None,
    label: str | None = None,
) -> Axes:
    """Draw one metric for each batch size: the median over seeds, with the band that holds 95 % of runs.

    Args:
        frame: Long results with columns batch_size, seed, epoch, updates and the metric. A batch size
            with one seed is drawn as the single run that it is, without a band.
        y: The metric: loss, accuracy, val_loss or val_accuracy.
        x: The budget on the horizontal axis: epoch or updates.
        ax: Where to draw; a new figure without it.
        label: Legend text, in which `{}` stands for the batch size.

    Returns:
        The axes.

    Raises:
        ValueError: The frame lacks a column.
    """
    missing = [name for name in ("batch_size", "seed", x, y) if name not in frame.columns]
    if missing:
        raise ValueError(f"plot_bands: the frame has no column {missing[0]}; it has {', '.join(frame.columns)}.")
    ax = subplots()[1][0] if ax is None else ax
    for batch_size, runs in frame.groupby("batch_size"):
        quantiles = band(runs.groupby(x)[y]).unstack()
        low, median, high = (quantiles[quantile] for quantile in BAND)
        shade = colour(batch_size)
        ax.plot(median, color=shade, linewidth=1.6, label=(label or "batch size {}").format(batch_size))
        if runs["seed"].nunique() > 1:
            ax.fill_between(quantiles.index, low, high, color=shade, alpha=0.18, linewidth=0)
    ax.set(xlabel=_UNITS.get(x, x), ylabel=_UNITS.get(y, y))
    ax.legend()
    return ax


def plot_documented(ax: Axes, batch_size: int, metric: str) -> Axes:
    """Mark the documented figures of a batch size on axes over epochs.

    Args:
        ax: Where to draw.
        batch_size: 1 or 250.
        metric: loss, accuracy, val_loss or val_accuracy.

    Returns:
        The axes.
    """
    epochs = documented_runs()["runs"][str(batch_size)]["epoch"]
    at = [int(epoch) for epoch in epochs]
    values = [figures[metric] for figures in epochs.values()]
    ax.scatter(at, values, marker="D", s=36, color=INK, zorder=5, label="documented run")
    ax.legend()
    return ax
