"""What the documentation says, its figures, claims and questions, and how a verdict is shown. Never measures."""

from __future__ import annotations

import json
import re
from typing import Literal

import pandas as pd

from batchlab.paths import in_clone
from batchlab.statistics import band

_OUTCOMES = ("holds", "holds only if", "does not hold here")


def documented_runs() -> dict:
    """Return the documented figures, as `data/documented_runs.json` holds them."""
    return json.loads(in_clone("data/documented_runs.json").read_text(encoding="utf-8"))


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
            low, median, high = band(runs[metric])
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
    if outcome not in _OUTCOMES:
        raise ValueError(f"verdict: {outcome!r} is no verdict; choose among {', '.join(map(repr, _OUTCOMES))}.")
    said = f"{outcome.capitalize()}{'' if outcome == 'holds only if' else '.'}"
    _display("Claim", claim, said, sentence)


def answer(question: str, sentence: str) -> None:
    """Display a question that the documentation puts to its readers, and what an experiment answers.

    Args:
        question: Its number in `data/claims.json`, such as "Q1".
        sentence: The answer, with measured figures.

    Raises:
        ValueError: There is no question of this number, or the sentence holds no figure.
    """
    _display("Question", question, "Answer.", sentence)


def _display(kind: Literal["Claim", "Question"], number: str, said: str, sentence: str) -> None:
    from IPython.display import display  # only notebooks need it

    texts = json.loads(in_clone("data/claims.json").read_text(encoding="utf-8"))
    texts = {key: text for key, text in texts.items() if (kind == "Question") == key.startswith("Q")}
    caller = "verdict" if kind == "Claim" else "answer"
    if number not in texts:
        raise ValueError(f"{caller}: there is no {kind.lower()} {number!r}; data/claims.json holds {', '.join(texts)}.")
    if not re.search(r"\d", sentence):
        raise ValueError(f"{caller}: the sentence on {number} names no measured figure; add it.")
    markdown = f"> **{kind} {number}.** *{texts[number]}*\n>\n> **{said}** {sentence}"
    display({"text/markdown": markdown, "text/plain": f"{kind} {number}. {texts[number]} {said} {sentence}"}, raw=True)
