"""Every claim that a notebook has tested has one verdict, in the committed outputs."""

import json
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
CLAIMS = json.loads((ROOT / "data" / "claims.json").read_text(encoding="utf-8"))
VERDICT = re.compile(r"Claim ([GBEM]\d+)\. .* (?:Holds only if|Holds\.|Does not hold here\.) ")

WHERE = {
    "01_gradient_descent": ["G1", "G2", "G3", "G4", "G5", "G6", "G7", "G9"],
    "07_backpropagation": ["B1", "B2", "B3"],
    "08_memoization": ["M1", "M2", "M3", "M4"],
}


def verdicts(name):
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    texts = [output.get("data", {}).get("text/plain", "") for output in outputs]
    return [match[1] for text in texts if (match := VERDICT.match(text))]


@pytest.mark.parametrize("name", WHERE)
def test_each_claim_has_one_verdict(name):
    assert sorted(verdicts(name)) == sorted(WHERE[name])


def test_every_claim_of_the_list_is_tested_somewhere():
    assert sorted(claim for claims in WHERE.values() for claim in claims) == sorted(CLAIMS)
