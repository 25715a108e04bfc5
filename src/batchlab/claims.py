"""What the documentation says: its figures, its claims, and how a verdict on one is shown. Never measures."""

from __future__ import annotations

import json
import re
from typing import Literal

from batchlab.paths import DATA

_OUTCOMES = ("holds", "holds only if", "does not hold here")
_DOCUMENTED, _CLAIMS = DATA / "documented_runs.json", DATA / "claims.json"


def documented_runs() -> dict:
    """Return the documented figures, as `data/documented_runs.json` holds them."""
    return json.loads(_DOCUMENTED.read_text(encoding="utf-8"))


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
