"""Every claim that a notebook has tested has one verdict, in the committed outputs."""

import json
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
CLAIMS = json.loads((ROOT / "data" / "claims.json").read_text(encoding="utf-8"))
VERDICT = re.compile(
    r"Claim ([GBEM]\d+)\. .* (?:Holds only if|Holds\.|Does not hold here\.) |Question (Q\d+)\. .* Answer\. "
)

WHERE = {
    "01_gradient_descent": ["G1", "G2", "G3", "G4", "G5", "G6", "G7", "G9"],
    "02_batch_size_1": ["E1"],
    "03_batch_size_250": ["E2"],
    "04_batch_size_32": ["E3", "Q1"],
    "05_fair_comparison": ["E7", "E8", "E9", "E10"],
    "06_learning_rate": ["E4", "E5", "E11", "Q2"],
    "07_backpropagation": ["B1", "B2", "B3"],
    "08_memoization": ["M1", "M2", "M3", "M4"],
    "09_generalisation": ["E6", "E12", "E15", "Q4", "Q5"],
    "10_speed_and_memory": ["E13", "E14", "E16", "G8", "Q3"],
}
WRITTEN = [name for name in WHERE if (ROOT / "notebooks" / f"{name}.ipynb").exists()]


def verdicts(name):
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    texts = [output.get("data", {}).get("text/plain", "") for output in outputs]
    return [match[1] or match[2] for text in texts if (match := VERDICT.match(text))]


@pytest.mark.parametrize("name", WRITTEN)
def test_each_claim_has_one_verdict(name):
    assert sorted(verdicts(name)) == sorted(WHERE[name])


def test_every_claim_and_question_of_the_list_has_its_notebook():
    assert sorted(claim for claims in WHERE.values() for claim in claims) == sorted(CLAIMS)
