"""What the documentation says, its figures, claims and questions, and how a verdict is shown. Never measures.

A verdict rests on evidence, and its outcome follows from it: where every bound that the claim sets is met with the
whole interval the claim holds, where some are it holds only under a condition, where none is it does not hold here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from batchlab.display import display_bundle
from batchlab.paths import in_clone
from batchlab.statistics import band

OUTCOMES = ("holds", "holds only if", "does not hold here")
RECORD = "batchlab"
"""The key under which the metadata of a displayed verdict hold its record; `ledger` reads them there."""


@dataclass(frozen=True)
class Evidence:
    """A measured figure, the ends of its 95 % interval, and the bound that the claim sets for it, if it sets one.

    An exact figure, such as a count, has both ends at its value, and no number of runs. NaN meets no bound.
    """

    name: str
    value: float
    low: float
    high: float
    runs: int | None = None
    unit: str = ""
    above: float | None = None
    below: float | None = None

    @property
    def supports(self) -> bool | None:
        """Whether the whole interval lies on the claim's side of the bound; None where there is no bound."""
        if self.above is None and self.below is None:
            return None
        return (self.above is None or self.low > self.above) and (self.below is None or self.high < self.below)


def evidence(
    name: str,
    figure: float | Sequence[float],
    *,
    runs: int | None = None,
    above: float | None = None,
    below: float | None = None,
    unit: str = "",
) -> Evidence:
    """Write a measured figure down for the ledger.

    Args:
        name: What was measured, for instance "share of runs whose loss falls".
        figure: The value with the ends of its interval, as `statistics` gives them; or a number that is exact.
        runs: How many independent runs, splits or rounds stand behind it.
        above: The claim asks for more than this.
        below: The claim asks for less than this.
        unit: The unit of all of them, for instance "nats".

    Raises:
        ValueError: The value lies outside of its interval.
    """
    value, low, high = map(float, (figure,) * 3 if np.ndim(figure) == 0 else tuple(figure)[:3])
    if not low <= value <= high and not math.isnan(value):
        raise ValueError(f"evidence: {name} is {value:g} and lies outside of its interval, {low:g} to {high:g}.")
    bounds = (None if bound is None else _rounded(bound) for bound in (above, below))
    return Evidence(name, *map(_rounded, (value, low, high)), runs, unit, *bounds)


def _rounded(number: float) -> float:
    """To six significant digits, figures and bounds alike, so that what is equal stays equal."""
    return float(f"{float(number):.6g}")


def outcome_of(found: Sequence[Evidence]) -> str:
    """Return the outcome that follows from the evidence; see the module.

    Raises:
        ValueError: No figure has a bound, so nothing follows.
    """
    met = [figure.supports for figure in found if figure.supports is not None]
    if not met:
        raise ValueError("no figure of the evidence has a bound: say which of them the claim needs, and where.")
    return OUTCOMES[0] if all(met) else OUTCOMES[1] if any(met) else OUTCOMES[2]


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


def verdict(
    claim: str,
    outcome: Literal["holds", "holds only if", "does not hold here"],
    sentence: str,
    evidence: Sequence[Evidence],
) -> None:
    """Display a claim of the documentation, and what an experiment says of it.

    Args:
        claim: Its number in `data/claims.json`, such as "G1".
        outcome: The verdict. After "holds only if" the sentence begins with the condition.
        sentence: What was measured, with its figures.
        evidence: The figures behind it, from `evidence`, with the bounds that the claim sets.

    Raises:
        ValueError: There is no claim of this number, the verdict is no such thing or not what the evidence says, or
            the sentence holds no figure.
    """
    if outcome not in OUTCOMES:
        raise ValueError(f"verdict: {outcome!r} is no verdict; choose among {', '.join(map(repr, OUTCOMES))}.")
    try:
        follows = outcome_of(evidence)
    except ValueError as error:
        raise ValueError(f"verdict: on {claim}, {error}") from None
    if outcome != follows:
        figures = "; ".join(f"{of.name} {of.low:g} to {of.high:g}: {of.supports}" for of in evidence)
        raise ValueError(
            f"verdict: {claim} is given {outcome!r}, but from its evidence follows {follows!r} ({figures}). "
            "Mend the outcome, or the bounds."
        )
    said = f"{outcome.capitalize()}{'' if outcome == 'holds only if' else '.'}"
    _display("Claim", claim, said, sentence, {"outcome": outcome}, evidence)


def answer(question: str, sentence: str, evidence: Sequence[Evidence]) -> None:
    """Display a question that the documentation puts to its readers, and what an experiment answers.

    Args:
        question: Its number in `data/claims.json`, such as "Q1".
        sentence: The answer, with measured figures.
        evidence: The figures behind it, from `evidence`.

    Raises:
        ValueError: There is no question of this number, the sentence holds no figure, or there is no evidence.
    """
    if not evidence:
        raise ValueError(f"answer: there is no evidence for {question}; give the figures that it rests on.")
    _display("Question", question, "Answer.", sentence, {"outcome": "answered"}, evidence)


def texts() -> dict[str, str]:
    """Return the text of each claim and question by its number, as `data/claims.json` holds them."""
    return json.loads(in_clone("data/claims.json").read_text(encoding="utf-8"))


def _display(
    kind: Literal["Claim", "Question"], number: str, said: str, sentence: str, extra: dict, found: Sequence[Evidence]
) -> None:
    known = {key: text for key, text in texts().items() if (kind == "Question") == key.startswith("Q")}
    caller = "verdict" if kind == "Claim" else "answer"
    if number not in known:
        raise ValueError(f"{caller}: there is no {kind.lower()} {number!r}; data/claims.json holds {', '.join(known)}.")
    if not re.search(r"\d", sentence):
        raise ValueError(f"{caller}: the sentence on {number} names no measured figure; add it.")
    markdown = f"> **{kind} {number}.** *{known[number]}*\n>\n> **{said}** {sentence}"
    plain = f"{kind} {number}. {known[number]} {said} {sentence}"
    record = {"id": number, **extra, "sentence": sentence, "evidence": [asdict(figure) for figure in found]}
    display_bundle({"text/markdown": markdown, "text/plain": plain}, {RECORD: record})
