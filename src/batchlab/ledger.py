"""The ledger: what the notebooks' own runs found of each claim and question, read from their stored outputs.

Never measures, and keeps nothing: a verdict stands in the notebook that reached it and nowhere else.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from batchlab.claims import RECORD, Evidence, outcome_of, texts
from batchlab.paths import in_clone


def ledger(notebooks: Path | None = None) -> pd.DataFrame:
    """Read every verdict and every answer from the notebooks' outputs.

    Args:
        notebooks: The folder of the executed notebooks; by default those of the clone.

    Returns:
        One row for each claim and question, in the order of `data/claims.json`, which is the index. Columns: text;
        outcome ("holds", "holds only if", "does not hold here", for a question "answered"); sentence; evidence (a
        list of `claims.Evidence`); runs (the fewest behind a figure with an interval, NaN where all are exact);
        notebook (its name without the ending); section (the heading above); cell (the id of the cell).

    Raises:
        ValueError: A claim has no verdict or two, or a verdict contradicts its evidence or what is shown of it.
    """
    known = texts()
    found = [
        record
        for path in sorted((notebooks or in_clone("notebooks")).glob("*.ipynb"))
        for record in _records(path)
        if record["id"] in known
    ]
    counts = Counter(record["id"] for record in found)
    if missing := [claim for claim in known if not counts[claim]]:
        raise ValueError(
            f"No notebook's stored output gives a verdict on {', '.join(missing)}: execute it and save it."
        )
    if twice := [claim for claim, count in counts.items() if count > 1]:
        raise ValueError(f"More than one verdict stands for {', '.join(twice)}: keep one.")
    for record in found:
        if wrong := _contradiction(record):
            raise ValueError(f"{record['id']} in {record['notebook']} {wrong}: execute the notebook again.")
    frame = pd.DataFrame(found).set_index("id").loc[list(known)].drop(columns="shown")
    frame.insert(0, "text", pd.Series(known))
    return frame


def margins(frame: pd.DataFrame) -> pd.DataFrame:
    """Say of every figure with a bound how clearly it keeps to it.

    Args:
        frame: As `ledger` returns it, or rows of it.

    Returns:
        One row a figure, in the order of the claims. Columns: claim; outcome; figure (its name); runs; margin (the
        distance of the value from the bound in units of the half of the interval that points there, negative on the
        wrong side; infinite for an exact figure); reading ("met": the whole interval lies on the claim's side, margin
        above 1; "missed": the whole interval lies on the other, margin below -1; "open": the interval holds the bound).
    """
    rows = []
    for claim, row in frame.iterrows():
        for figure in row["evidence"]:
            if figure.supports is not None:
                margin = min(_margin(figure))
                reading = "met" if margin > 1 else "missed" if margin < -1 else "open"
                rows.append((claim, row["outcome"], figure.name, figure.runs, margin, reading))
    return pd.DataFrame(rows, columns=["claim", "outcome", "figure", "runs", "margin", "reading"])


def _margin(figure: Evidence) -> list[float]:
    """The margin at each of its bounds."""
    sides = []
    for bound, sign in ((figure.above, 1), (figure.below, -1)):
        if bound is not None:
            gap = sign * (figure.value - bound)
            near = figure.low if (gap > 0) == (sign > 0) else figure.high  # the end that points to the bound
            half = abs(figure.value - near)
            sides.append(gap / half if half else math.copysign(np.inf, gap or -1))
    return sides


def _contradiction(record: dict) -> str:
    """What a record says against itself, if it does."""
    outcome, figures = record["outcome"], record["evidence"]
    astray = [of.name for of in figures if not -math.inf < of.low <= of.value <= of.high < math.inf]
    if astray:
        return f"has figures that are not finite or lie outside of their interval, {', '.join(astray)}"
    if outcome != "answered" and outcome != (follows := outcome_of(figures)):
        return f"reads {outcome!r}, but from its recorded figures follows {follows!r}"
    words = {"holds only if": "Holds only if", "answered": "Answer."}.get(outcome, f"{outcome.capitalize()}.")
    if not record["shown"].endswith(f" {words} {record['sentence']}"):
        return "does not show what its record holds"
    return ""


def _records(path: Path) -> list[dict]:
    """What the displayed verdicts of one notebook hold."""
    section, records = "", []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            headings = [line for line in "".join(cell["source"]).splitlines() if line.startswith("#")]
            section = headings[-1].lstrip("# ") if headings else section
            continue
        for output in cell.get("outputs", []):
            if record := output.get("metadata", {}).get(RECORD):
                evidence = [Evidence(**figure) for figure in record["evidence"]]
                runs = min((of.runs for of in evidence if of.runs), default=None)
                place = {"notebook": path.stem, "section": section, "cell": cell.get("id", "")}
                shown = "".join(output["data"]["text/plain"])
                records.append(record | {"evidence": evidence, "runs": runs, "shown": shown} | place)
    return records
