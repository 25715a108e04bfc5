"""Advice as figures: what each batch size costs, which rate suits it, and its curves. Never computes a result.

Nothing from a table's own texts is drawn: a name may hold what matplotlib takes for mathematics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from batchlab.figures.estimates import plot_estimates
from batchlab.figures.style import INK, MUTED, colour, subplots
from batchlab.statistics import BAND, band

if TYPE_CHECKING:  # drawing needs neither Keras nor pandas
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from batchlab.study.advice import Advice
    from batchlab.study.own import Study

_UNITS = {"seconds": "seconds of helpers.fit", "updates": "updates", "rows": "rows looked at"}


def plot_costs(advice: Advice) -> tuple[Figure, str]:
    """Draw what each batch size needs until half of its runs have arrived: seconds, updates and rows.

    Args:
        advice: What `recommend` returns.

    Returns:
        The figure, with a ring around what is recommended for each aim, and its alt text.
    """
    figure, axes = subplots(3, width=10.5)
    said = []
    for ax, (aim, unit) in zip(axes, _UNITS.items(), strict=True):
        chosen = advice.for_aim(aim)
        for row in advice.table.itertuples():
            estimate = [getattr(row, name) for name in (aim, f"{aim}_low", f"{aim}_high")]
            if np.isfinite(estimate).all():
                plot_estimates(ax, [row.batch_size], [estimate], colour=_shade(row.batch_size, row.epoch_updates))
        ax.scatter([chosen.batch_size], [chosen.cost.value], s=190, facecolors="none", edgecolors=INK, linewidths=1.6)
        ax.set(xscale="log", yscale="log", xlabel="batch size", ylabel=unit, title=f"Fewest {aim}: {chosen.batch_size}")
        _plain_sizes(ax, advice.table["batch_size"].tolist())
        finite = advice.table[np.isfinite(advice.table[aim])]
        said.append(
            f"{aim} go from {finite[aim].iloc[0]:.3g} at batch size {finite['batch_size'].iloc[0]} to "
            f"{finite[aim].iloc[-1]:.3g} at {finite['batch_size'].iloc[-1]}, and {chosen.batch_size} is recommended"
        )
    alt = (
        "Three panels over the batch size, logarithmic axes, medians with 95 % intervals until half of the runs have "
        f"reached the target: {'; '.join(said)}."
    )
    return figure, alt


def plot_rates(advice: Advice) -> tuple[Figure, str]:
    """Draw the best learning rate of each batch size with its interval.

    Args:
        advice: What `recommend` returns.

    Returns:
        The figure and its alt text.
    """
    figure, (ax,) = subplots(width=6)
    tuned = advice.table[advice.table["learning_rate"].notna()]
    for row in tuned.itertuples():
        estimate = (row.learning_rate, row.rate_low, row.rate_high)
        plot_estimates(ax, [row.batch_size], [estimate], colour=_shade(row.batch_size, row.epoch_updates))
    ax.plot(tuned["batch_size"], tuned["learning_rate"], color=MUTED, linewidth=0.8, zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="batch size", ylabel="best learning rate")
    ax.set_title("The best rate of each batch size")
    _plain_sizes(ax, tuned["batch_size"].tolist())
    first, last = tuned.iloc[0], tuned.iloc[-1]
    alt = (
        "The learning rate that needs the fewest updates, over the batch size, logarithmic axes, with 95 % intervals: "
        f"{first['learning_rate']:.3g} at batch size {first['batch_size']:.0f}, {last['learning_rate']:.3g} at "
        f"{last['batch_size']:.0f}."
    )
    return figure, alt


def plot_fresh_runs(study: Study) -> tuple[Figure, str]:
    """Draw the validation loss of the fresh runs of each batch size, by updates and by rows.

    Args:
        study: What `study_table` returns.

    Returns:
        The figure, with the target as a line, and its alt text.
    """
    figure, axes = subplots(2, width=10.5)
    rows, all_runs = len(study.encoded.y), study.advice.runs
    least, target = np.inf, study.advice.target
    most = target  # of what the bands cover
    for size, runs in all_runs.groupby("batch_size"):
        quantiles = band(runs.fillna({"val_loss": np.inf}).groupby("updates")["val_loss"], method="nearest").unstack()
        low, middle, high = (quantiles[quantile].to_numpy() for quantile in BAND)
        least = min(least, np.nanmin(middle))
        most = np.max(high, where=np.isfinite(high), initial=most)
        updates, shade = quantiles.index.to_numpy(), _shade(size, -(-rows // size))
        for ax, x in zip(axes, (updates, updates * rows / -(-rows // size)), strict=True):
            ax.plot(x, middle, "-" if len(x) > 1 else "o", color=shade, linewidth=1.5, label=f"{size}")
            ax.fill_between(x, low, np.minimum(high, 1e6), color=shade, alpha=0.15, linewidth=0)
    top = min(most, study.advice.untrained)  # runs that diverge leave the figure
    for ax, unit in zip(axes, ("updates", "rows looked at"), strict=True):
        ax.axhline(target, color=INK, linestyle=(0, (4, 2)), linewidth=1.1)
        ax.annotate(
            "target", (1, target), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=9, color=INK
        )
        ax.set(
            xscale="log", xlabel=unit, ylabel=f"validation loss\n({loss_unit(study)})", ylim=(0.9 * least, 1.1 * top)
        )
        _plain(ax.xaxis)
    axes[0].set_title("By updates")
    axes[1].set_title("By rows")
    axes[1].legend(title="batch size", fontsize=9)
    sizes = all_runs["batch_size"].unique()
    alt = (
        f"Validation loss of {all_runs['seed'].nunique()} fresh runs of each of {len(sizes)} batch sizes, from "
        f"{sizes.min()} to {sizes.max()}, median and 95 % band, left over updates and right over rows, with the target "
        f"{target:.3g} as a dashed line. The least median is {least:.3g}."
    )
    return figure, alt


def loss_unit(study: Study) -> str:
    """Name the unit of the study's losses."""
    return "variances of the target" if study.encoded.classes is None else "nats"


def _shade(size: int, epoch_updates: int) -> str:
    """The colour of a batch size; that of all rows at once where it takes them all."""
    return colour("all" if epoch_updates == 1 else size)


def _plain_sizes(ax: Axes, sizes: list[int]) -> None:
    """Label the batch sizes themselves, of which the last two may lie close together; other figures plainly too."""
    _plain(ax.yaxis)
    shown = [size for size, after in zip(sizes, [*sizes[1:], None], strict=True) if after is None or after >= 2 * size]
    ax.set_xticks(shown)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
    ax.minorticks_off()


def _plain(axis: Axis) -> None:
    """Label a logarithmic axis without powers of ten, and so that labels do not touch."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda figure, _: f"{figure:,.6g}"))
    axis.set_minor_formatter(NullFormatter())
