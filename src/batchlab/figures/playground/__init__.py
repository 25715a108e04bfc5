"""The playground: the documented network, trained in the reader's browser without a kernel. Never trains in Python.

All that computes and draws is `playground.js`, one self-contained module with `playground.css` beside it. In a notebook
it is an anywidget, `playground`. Any page can use it without one:

    import { mount } from "./playground.js";
    mount(element, data);

with what `playground_data` returns, written as JSON.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from batchlab.display import display_bundle
from batchlab.environment import is_live
from batchlab.figures.show import bundle
from batchlab.figures.style import INK, PAGE, colour, subplots
from batchlab.paths import in_clone
from batchlab.table.ads import FEATURES, TARGET
from batchlab.table.scaling import scale_features

TRAINING_ROWS = 320
"""The first rows train, the others validate: Keras's `validation_split=0.2` of 400 rows."""

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 250, 256, 320)
"""Among which the reader chooses."""

_LABELS = ("age (years)", "estimated salary (thousand a year)")
_UNITS = (1, 1000)  # what one on the axis stands for
_SOURCE = (
    "400 invented people, the synthetic stand-in of the advertising table: figures differ from the documented ones. "
    "All computed in your browser."
)


def playground() -> None:
    """Show the playground where a live front end is present; elsewhere a picture of its rows that says where to go.

    The picture is part of the output in either case, so that a saved notebook shows it wherever widgets do not work.
    """
    data, metadata = bundle(*_picture())
    if is_live():
        from batchlab.figures.playground.widget import Playground  # elsewhere nobody would see it

        view, further = Playground(data=playground_data())._repr_mimebundle_()
        view.pop("text/plain", None)  # the picture's text says more
        data, metadata = data | view, metadata | further
    display_bundle(data, metadata)


def playground_data() -> dict:
    """Return what `mount` of playground.js takes, ready for JSON: always the synthetic stand-in, whatever ADS_CSV says.

    Returns:
        `x` (400 pairs of floats: age and salary, standardised over all rows as documented), `y` (400 of 0 or 1),
        `rows` (how many train, from the first on), `colours` (for each batch size to choose from `#rrggbb`), `axes`
        (for each feature its label, and the mean, deviation and unit that undo the scaling), `source` (a sentence).

    Raises:
        FileNotFoundError: There is no clone, as after `pip install`.
    """
    table = _stand_in()
    x, y = scale_features(table)
    columns = table[list(FEATURES)].astype(float)
    axes = [
        {"label": label, "mean": mean, "deviation": deviation, "unit": unit}
        for label, unit, mean, deviation in zip(_LABELS, _UNITS, columns.mean(), columns.std(ddof=0), strict=True)
    ]
    return {
        "x": x.astype(float).tolist(),
        "y": y.astype(int).tolist(),
        "rows": TRAINING_ROWS,
        "colours": {str(size): colour(size) for size in BATCH_SIZES},
        "axes": axes,
        "source": _SOURCE,
    }


def _stand_in() -> pd.DataFrame:
    # Not `load_ads`, which prefers the real table, whose rows may not be published.
    return pd.read_csv(in_clone("data/stand_in.csv"))


def _picture() -> tuple[Figure, str]:
    """The rows that the playground trains on, what it does, and where; with its alt text."""
    table = _stand_in()
    salary, bought = table["EstimatedSalary"] / _UNITS[1], table[TARGET] == 1
    figure, (ax, words) = subplots(2, height=3.8)
    for rows, face, label in ((bought, INK, "bought"), (~bought, PAGE, "did not")):
        ax.scatter(table["Age"][rows], salary[rows], s=16, facecolor=face, edgecolor=INK, linewidth=0.8, label=label)
    ax.set(xlabel=_LABELS[0], ylabel=_LABELS[1], title="Who will buy? 400 invented people")
    ax.set_axisbelow(True)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    words.set_axis_off()
    lines = (
        "Open this notebook in JupyterLab, VS Code or Colab",
        "and run this cell: here the playground appears.",
        "",
        "Up to 64 networks learn in your browser, side by side:",
        "choose batch size, learning rate and optimizer; play,",
        "pause, take single updates; see the boundary move and",
        "the batch lit up; race by epochs, updates or rows.",
    )
    for i, line in enumerate(lines):
        words.text(0, 0.85 - 0.1 * i, line, fontweight="bold" if i < 2 else "normal", transform=words.transAxes)
    alt = (
        f"The playground is not running here. Left, the {len(table)} people of the synthetic stand-in by age "
        f"({table['Age'].min()} to {table['Age'].max()} years) and estimated salary ({salary.min():.0f} to "
        f"{salary.max():.0f} thousand a year): the {bought.sum()} who bought are filled dots, on average "
        f"{table['Age'][bought].mean():.0f} years old and earning {salary[bought].mean():.0f} thousand, the other "
        f"{(~bought).sum()} open ones, {table['Age'][~bought].mean():.0f} years and {salary[~bought].mean():.0f} "
        "thousand. Right, words: open this notebook in JupyterLab, VS Code or Colab and run the cell, and up to 64 "
        "networks learn to tell them apart in the browser."
    )
    return figure, alt
