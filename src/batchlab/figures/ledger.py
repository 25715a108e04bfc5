"""The ledger of claims on one page, and as a table with filters. Never reads a notebook, never judges.

A verdict has a colour, a symbol and words, and the colours differ in lightness as well. All others come from the page,
light or dark. Every text is escaped: Jinja does it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from batchlab.display import display_bundle

if TYPE_CHECKING:
    import pandas as pd

    from batchlab.claims import Evidence

LOOKS = {
    "holds": ("✓", "#005A8C", "#FFFFFF"),
    "holds only if": ("◐", "#F0C75E", "#1A1A1A"),
    "does not hold here": ("✗", "#8A2C0D", "#FFFFFF"),
    "answered": ("●", "#4A4A4A", "#FFFFFF"),
}
"""Of each outcome its symbol, the colour behind its words, and theirs."""

_MARKS = {True: "✓ met", False: "✗ not met"}


def show_page(frame: pd.DataFrame) -> None:
    """Display claims by their verdicts, each in a line: under which condition it holds, or what was found instead.

    Args:
        frame: As `ledger` returns it, or rows of it. Questions come with their whole answer.
    """
    groups = {
        outcome: [
            {**row, "id": claim, "remark": _remark(outcome, row["sentence"])}
            | {"answer": row["sentence"] if outcome == "answered" else ""}
            for claim, row in rows.to_dict("index").items()
        ]
        for outcome, rows in ((name, frame[frame["outcome"] == name]) for name in LOOKS)
        if len(rows)
    }
    lines = []
    for outcome, entries in groups.items():
        lines.append(f"{LOOKS[outcome][0]} {outcome}: {len(entries)}")
        lines += [f"    {of['id']} {of['text']} {of['remark']}{of['answer']}".rstrip() for of in entries]
    page = _render("ledger_page.html", groups=groups, looks=LOOKS)
    display_bundle({"text/html": page, "text/plain": "\n".join(lines)})


def show_ledger(frame: pd.DataFrame, caption: str) -> None:
    """Display claims with their verdicts and figures as a table, which is complete where its filters do not work.

    Args:
        frame: As `ledger` returns it, or rows of it.
        caption: What the table holds, in one sentence.
    """
    rows = [
        {**row, "id": claim, "figures": [told(of) for of in row["evidence"]], "runs": _runs(row["runs"])}
        for claim, row in frame.to_dict("index").items()
    ]
    looks = {outcome: look for outcome, look in LOOKS.items() if outcome in set(frame["outcome"])}
    lines = [caption]
    for row in rows:
        lines.append(f"{row['id']} {LOOKS[row['outcome']][0]} {row['outcome']} ({row['notebook']})")
        lines += [f"    {figure}" for figure in row["figures"]]
    table = _render("ledger.html", rows=rows, caption=caption, looks=looks)
    display_bundle({"text/html": table, "text/plain": "\n".join(lines)})


def told(of: Evidence) -> str:
    """Return a figure in words: its value, its interval, and the bound that the claim sets for it, met or not.

    Args:
        of: The figure, from `evidence`.
    """
    value, low, high = map(_number, (of.value, of.low, of.high))
    interval = "" if of.low == of.high else f" ({low} to {high})"
    words = f"{of.name}: {value}{interval}{f' {of.unit}' if of.unit else ''}"
    bounds = (("above", of.above), ("below", of.below))
    asked = " and ".join(f"{side} {_number(bound)}" for side, bound in bounds if bound is not None)
    return f"{words}; asked: {asked}, {_MARKS[of.supports]}" if asked else words


def _remark(outcome: str, sentence: str) -> str:
    """The condition, or what was measured instead, from the first sentence."""
    if outcome == "holds only if":
        return f"Only if {re.split('[:.] ', sentence)[0].rstrip('.')}."
    return f"Measured: {sentence.split('. ')[0].rstrip('.')}." if outcome == "does not hold here" else ""


def _number(value: float) -> str:
    """Three digits, and none of them lost before the point."""
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}").replace("-", "−")


def _runs(runs: float) -> str:
    return "exact" if runs != runs else f"{runs:.0f}"


def _render(template: str, **given: object) -> str:
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    page = jinja2.Environment(
        loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # Between two tags a line break says nothing, and a notebook's file pays for every line.
    return re.sub(r">\n+<", "><", page.get_template(template).render(given))
