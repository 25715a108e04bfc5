"""Curves of training runs: one run, the bands of many, the documented figures. Never computes a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

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


def plot_beside(
    runs: pd.DataFrame, reference: pd.DataFrame, *, name: str, ylim: tuple[float, float]
) -> tuple[Figure, str]:
    """Draw training and validation loss of some runs, with their bands, beside the median of reference runs.

    Args:
        runs: Long results of one batch size and learning rate, with columns batch_size, learning_rate, seed, epoch,
            loss and val_loss; one run is drawn without a band.
        reference: Results of the same form and of at least as many epochs, of which the median is drawn, dotted.
        name: Of the reference, for the legend.
        ylim: Lowest and highest loss shown, in nats; given, so that figures of several settings can be compared.

    Returns:
        The figure and its alt text, as `sliders` takes them.
    """
    figure, axes = subplots(2)
    count, until = runs["seed"].nunique(), runs["epoch"].max()
    batch_size, rate = runs[["batch_size", "learning_rate"]].iloc[0]
    setting = f"batch size {batch_size:.0f}, learning rate {rate:g}"
    told = []
    for ax, metric, part in zip(axes, ("loss", "val_loss"), ("training", "validation"), strict=True):
        plot_bands(runs, y=metric, ax=ax, label=setting)
        dotted = reference[reference["epoch"] <= until].groupby("epoch")[metric].median()
        ax.plot(dotted, color=INK, linestyle=":", linewidth=1.3, label=name)
        ax.set(title=f"{part.capitalize()} loss", ylim=ylim)
        low, median, high = band(runs.loc[runs["epoch"] == until, metric])
        spread = f", the band from {low:.3f} to {high:.3f}" if count > 1 else ""
        told.append(f"{part} loss ends at {median:.3f} nats{spread}, the dotted line at {dotted[until]:.3f}")
    axes[0].legend()
    axes[1].get_legend().remove()
    who = f"Median and 95 % band of {count} runs" if count > 1 else "One run"
    alt = f"{who} at {setting}, {until} epochs; a dotted line is the median of {name}. "
    return figure, f"{alt}Left, {told[0]}. Right, {told[1]}."


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
