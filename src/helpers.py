"""The vocabulary of the notebooks: load, scale, build, fit, compare, plot.

Data flows one way: table -> arrays -> runs -> a long data frame, one row per run and epoch -> figures.
"""

from __future__ import annotations

import json
import numbers
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from sklearn.preprocessing import StandardScaler

from batchlab import autodiff, checkpointing, descent, recursion
from batchlab.data import FEATURES, TARGET, DataError, load_ads
from batchlab.drawing import plot_contours, plot_graph, plot_surface
from batchlab.environment import report
from batchlab.exercises import check_exercise, show_solution
from batchlab.style import INK, colour, show, sliders, subplots
from batchlab.training import draw_weights, fit, fit_seeds

__all__ = [
    "FEATURES",
    "METRICS",
    "TARGET",
    "DataError",
    "autodiff",
    "build_model",
    "check_exercise",
    "checkpointing",
    "colour",
    "compare_with_documented",
    "descent",
    "documented_runs",
    "fit",
    "fit_seeds",
    "history_frame",
    "load_ads",
    "plot_bands",
    "plot_contours",
    "plot_documented",
    "plot_graph",
    "plot_history",
    "plot_surface",
    "recursion",
    "report",
    "scale_features",
    "show",
    "show_solution",
    "sliders",
    "subplots",
    "verdict",
]

METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")

_OUTCOMES = ("holds", "holds only if", "does not hold here")
_DATA = Path(__file__).resolve().parent.parent / "data"
_DOCUMENTED, _CLAIMS = _DATA / "documented_runs.json", _DATA / "claims.json"


# --- scaling -----------------------------------------------------------------------------------------


def scale_features(df: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Standardise age and salary over all rows: subtract the mean, divide by the standard deviation.

    As documented, the scaler sees every row, those of the later validation part included. The standard
    deviation is the population's (divisor n), as in `sklearn.preprocessing.StandardScaler`.

    Args:
        df: A table from `load_ads`; Age in years, EstimatedSalary in currency units a year.

    Returns:
        x, float32 of shape (rows, 2), in standard deviations; y, float32 of shape (rows,), 0 or 1.

    Raises:
        DataError: A needed column is missing, or a feature is constant, so that it has no scale.
    """
    source = df.attrs.get("source", "the table")
    missing = [name for name in (*FEATURES, TARGET) if name not in df.columns]
    if missing:
        raise DataError(
            f"{source}: column {missing[0]} is missing; found {', '.join(map(str, df.columns))}. "
            "Pass the frame that load_ads returns."
        )
    for name in FEATURES:
        if df[name].nunique() < 2:
            raise DataError(
                f"{source}: column {name} is constant, so its standard deviation is 0 and it cannot be "
                "scaled. Use a table in which it varies, or leave the column out."
            )
    x = StandardScaler().fit_transform(df[list(FEATURES)].to_numpy(dtype=np.float64))
    return x.astype(np.float32), df[TARGET].to_numpy(dtype=np.float32)


# --- model building ----------------------------------------------------------------------------------


def build_model(
    hidden: Sequence[int] = (10, 10),
    *,
    features: int = 2,
    optimizer: str | keras.optimizers.Optimizer = "rmsprop",
    seed: int | None = None,
    name: str | None = None,
) -> keras.Sequential:
    """Build and compile a binary classifier: ReLU layers, one sigmoid output, binary cross-entropy.

    The defaults are the documented network: 2 inputs, two layers of 10, 1 output, which makes
    30 + 110 + 11 = 151 parameters. `compile()` was documented without an optimizer, and Keras then
    takes RMSprop with learning rate 0.001.

    Args:
        hidden: Units of each hidden layer; may be empty, which leaves logistic regression.
        features: Number of input columns.
        optimizer: A Keras optimizer or its name.
        seed: Decides the initial weights (Glorot uniform; Glorot & Bengio 2010), the same ones that
            `fit_seeds` gives the run of this seed. Without it every call draws fresh weights.
        name: The model's name, shown in its summary.

    Returns:
        The compiled model; it maps float32 of shape (rows, features) to probabilities (rows, 1).

    Raises:
        ValueError: A size is not a whole number of at least 1.
    """
    for what, size in (("features", features), *((f"hidden[{i}]", units) for i, units in enumerate(hidden))):
        if isinstance(size, bool) or not isinstance(size, numbers.Integral) or size < 1:
            raise ValueError(f"build_model: {what} is {size!r}; give a whole number of at least 1.")
    layers = [keras.layers.Dense(int(units), "relu") for units in hidden]
    model = keras.Sequential(
        [keras.Input((int(features),)), *layers, keras.layers.Dense(1, "sigmoid")],
        name=name,
    )
    if seed is not None:
        draw_weights(model, seed)
    model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    return model


# --- results -----------------------------------------------------------------------------------------


def documented_runs() -> dict:
    """Return the documented figures, as `data/documented_runs.json` holds them."""
    return json.loads(_DOCUMENTED.read_text(encoding="utf-8"))


def history_frame(history: keras.callbacks.History, *, batch_size: int, seed: int = 0) -> pd.DataFrame:
    """Turn the history of one run into the long form in which all results travel.

    Args:
        history: What `fit` returned.
        batch_size: The batch size of the run.
        seed: A label that tells runs apart.

    Returns:
        One row an epoch: batch_size, seed, epoch (from 1), updates (optimizer steps so far), then the
        loss in nats and the accuracy as a share of rows, and their `val_` twins where measured.
    """
    epochs = np.asarray(history.epoch) + 1
    head = {
        "batch_size": batch_size,
        "seed": seed,
        "epoch": epochs,
        "updates": epochs * history.params["steps"],
    }
    order = [*METRICS, *history.history]  # a model's further metrics follow these four
    figures = {name: history.history[name] for name in dict.fromkeys(order) if name in history.history}
    return pd.DataFrame({**head, **figures})


def compare_with_documented(frame: pd.DataFrame, batch_size: int) -> pd.DataFrame:
    """Lay many runs beside the documented figures of their batch size.

    Args:
        frame: Long results of the runs (`fit_seeds`).
        batch_size: 1 or 250, the two whose figures are documented.

    Returns:
        One row per documented epoch and figure. Columns: documented; one run (that of the lowest seed);
        median, 2.5 % and 97.5 % (quantiles over the runs); percentile (share of runs, in %, that lie below the
        documented figure, ties counted half). Losses in nats, accuracies as shares of rows.

    Raises:
        ValueError: No figures are documented for this batch size, or the runs ended too early.
    """
    epochs = documented_runs()["runs"].get(str(batch_size), {}).get("epoch")
    if not epochs:
        raise ValueError(f"No figures are documented for batch size {batch_size}; there are some for 1 and 250.")
    last = max(map(int, epochs))
    if frame["epoch"].max() < last:
        raise ValueError(
            f"The runs have {frame['epoch'].max()} epochs, but epoch {last} is documented. Train for at least as many."
        )
    rows = []
    for epoch, figures in epochs.items():
        runs = frame[frame["epoch"] == int(epoch)].sort_values("seed")
        for metric, value in figures.items():
            low, median, high = runs[metric].quantile([0.025, 0.5, 0.975])
            # Documented figures have four digits, so a tie is a tie at four digits.
            measured = runs[metric].round(4)
            percentile = 100 * ((measured < value).mean() + (measured == value).mean() / 2)
            rows.append((int(epoch), metric, value, runs[metric].iloc[0], median, low, high, round(percentile, 1)))
    columns = ["epoch", "figure", "documented", "one run", "median", "2.5 %", "97.5 %", "percentile"]
    return pd.DataFrame(rows, columns=columns).set_index(["epoch", "figure"]).round(4)


def verdict(claim: str, outcome: Literal["holds", "holds only if", "does not hold here"], sentence: str) -> None:
    """Display a claim of the documentation, and what an experiment says of it.

    Args:
        claim: Its number in `data/claims.json`, such as "G1".
        outcome: The verdict. After "holds only if" the sentence begins with the condition.
        sentence: What was measured, with its figures.

    Raises:
        ValueError: There is no claim of this number, the verdict is no such thing, or the sentence holds no figure.
    """
    from IPython.display import display  # only notebooks need it

    claims = json.loads(_CLAIMS.read_text(encoding="utf-8"))
    if claim not in claims:
        raise ValueError(f"verdict: there is no claim {claim!r}; data/claims.json holds {', '.join(claims)}.")
    if outcome not in _OUTCOMES:
        raise ValueError(f"verdict: {outcome!r} is no verdict; choose among {', '.join(map(repr, _OUTCOMES))}.")
    if not re.search(r"\d", sentence):
        raise ValueError(f"verdict: the sentence on {claim} names no measured figure; add it.")
    said = f"{outcome.capitalize()}{'' if outcome == 'holds only if' else '.'}"
    markdown = f"> **Claim {claim}.** *{claims[claim]}*\n>\n> **{said}** {sentence}"
    display({"text/markdown": markdown, "text/plain": f"Claim {claim}. {claims[claim]} {said} {sentence}"}, raw=True)


# --- plotting ----------------------------------------------------------------------------------------

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
        quantiles = runs.groupby(x)[y].quantile([0.025, 0.5, 0.975]).unstack()
        shade = colour(batch_size)
        ax.plot(quantiles[0.5], color=shade, linewidth=1.6, label=(label or "batch size {}").format(batch_size))
        if runs["seed"].nunique() > 1:
            ax.fill_between(quantiles.index, quantiles[0.025], quantiles[0.975], color=shade, alpha=0.18, linewidth=0)
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
