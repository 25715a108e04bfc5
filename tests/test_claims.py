"""Verdicts and answers: how they look, what they record, and that none contradicts the figures that it rests on."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import helpers
from batchlab.claims import OUTCOMES, Evidence, outcome_of
from batchlab.statistics import Estimate

ROOT = Path(__file__).resolve().parent.parent
CLAIMS = json.loads((ROOT / "data" / "claims.json").read_text(encoding="utf-8"))
SPECIFICATION = ROOT.parent / "shared" / "spec" / "claims.md"

MET = helpers.evidence("share of runs that leave it", Estimate(0.9, 0.8, 0.95), runs=64, above=0.5)
MISSED = helpers.evidence("share of runs that come back", (0.4, 0.3, 0.5), runs=16, below=0.2)
FREE = helpers.evidence("rows", 320)


# --- what is displayed -------------------------------------------------------------------------------


def test_a_verdict_displays_the_claim_the_outcome_and_the_sentence(shown):
    helpers.verdict("G5", "holds", "All 12 runs left it.", [MET])
    helpers.verdict("G5", "holds only if", "the step is long: 0.3 at least.", [MET, MISSED])
    claim = "The noise helps to escape shallow local minima."
    first, second = (output.data for output in shown)
    assert first["text/plain"] == f"Claim G5. {claim} Holds. All 12 runs left it."
    assert second["text/plain"] == f"Claim G5. {claim} Holds only if the step is long: 0.3 at least."
    assert first["text/markdown"] == f"> **Claim G5.** *{claim}*\n>\n> **Holds.** All 12 runs left it."


def test_an_answer_displays_the_question_and_the_sentence(shown):
    helpers.answer("Q2", "By a factor of 2.", [FREE])
    question = "How do learning rate and schedules interact with batch size?"
    assert shown[0].data["text/plain"] == f"Question Q2. {question} Answer. By a factor of 2."
    assert shown[0].data["text/markdown"] == f"> **Question Q2.** *{question}*\n>\n> **Answer.** By a factor of 2."


def test_the_record_is_plain_json_and_gives_the_evidence_back(shown):
    helpers.verdict("G5", "holds only if", "0.3.", [MET, MISSED, FREE])
    record = json.loads(json.dumps(shown[0].metadata["batchlab"], allow_nan=False))
    assert {key: record[key] for key in ("id", "outcome", "sentence")} == {
        "id": "G5",
        "outcome": "holds only if",
        "sentence": "0.3.",
    }
    assert [Evidence(**figure) for figure in record["evidence"]] == [MET, MISSED, FREE]


@pytest.mark.parametrize(
    ("claim", "outcome", "sentence", "found", "complaint"),
    [
        ("X1", "holds", "1 of 1.", [MET], "there is no claim 'X1'; data/claims.json holds G1"),
        ("Q1", "holds", "1 of 1.", [MET], "there is no claim 'Q1'"),
        ("G1", "true", "1 of 1.", [MET], "'true' is no verdict; choose among 'holds'"),
        ("G1", "holds", "Surely.", [MET], "no measured figure"),
        ("G1", "holds", "1 of 1.", [FREE], "on G1, no figure of the evidence has a bound"),
        ("G1", "holds", "1 of 1.", [MET, MISSED], "given 'holds', but from its evidence follows 'holds only if'"),
        ("G1", "does not hold here", "1 of 1.", [MET], "from its evidence follows 'holds'"),
        ("G1", "holds only if", "1 of 1.", [MISSED], "come back 0.3 to 0.5: False"),
    ],
)
def test_a_verdict_that_says_nothing_or_against_its_evidence_is_refused(claim, outcome, sentence, found, complaint):
    with pytest.raises(ValueError, match=complaint):
        helpers.verdict(claim, outcome, sentence, found)


@pytest.mark.parametrize(
    ("question", "sentence", "complaint"),
    [
        ("E1", "1 of 1.", r"there is no question 'E1'; data/claims\.json holds Q1"),
        ("Q1", "Surely.", "no measured figure"),
    ],
)
def test_a_claim_is_not_answered_and_an_answer_has_a_figure(question, sentence, complaint):
    with pytest.raises(ValueError, match=complaint):
        helpers.answer(question, sentence, [FREE])


# --- evidence and what follows from it ---------------------------------------------------------------


def test_evidence_takes_estimates_numbers_columns_and_lists():
    for figure in (Estimate(2, 1, 3), [2, 1, 3], np.array([2, 1, 3, 9]), pd.Series([2, 1, 3])):
        of = helpers.evidence("seconds", figure, runs=6, unit="s")
        assert (of.value, of.low, of.high, of.runs, of.unit) == (2, 1, 3, 6, "s")
    assert (FREE.value, FREE.low, FREE.high, FREE.runs) == (320, 320, 320, None)


def test_a_value_outside_of_its_interval_is_refused():
    with pytest.raises(ValueError, match="share is 4 and lies outside of its interval, 1 to 3"):
        helpers.evidence("share", (4, 1, 3))


@pytest.mark.parametrize(
    ("figure", "bounds", "supports"),
    [
        ((2, 1, 3), {}, None),
        ((2, 1.1, 3), {"above": 1}, True),
        ((2, 1, 3), {"above": 1}, False),  # an end on the bound is not beyond it
        ((2, 1, 3), {"below": 4}, True),
        ((2, 1, 3), {"below": 2.5}, False),
        ((2, 1, 3), {"above": 0, "below": 4}, True),
        ((2, 1, 3), {"above": 0, "below": 3}, False),
        (1, {"above": 0}, True),
        (0, {"above": 0}, False),
        (math.nan, {"above": 0}, False),
    ],
)
def test_a_bound_is_met_by_the_whole_interval_or_not_at_all(figure, bounds, supports):
    assert helpers.evidence("figure", figure, **bounds).supports is supports


@given(st.lists(st.sampled_from([MET, MISSED, FREE]), max_size=6))
def test_the_outcome_counts_the_bounds_that_are_met(found):
    met, missed = found.count(MET), found.count(MISSED)
    if not met + missed:
        with pytest.raises(ValueError, match="no figure of the evidence has a bound"):
            outcome_of(found)
    else:
        assert outcome_of(found) == OUTCOMES[0 if not missed else 1 if met else 2]


# --- the list of claims ------------------------------------------------------------------------------


@pytest.mark.skipif(not SPECIFICATION.exists(), reason="the specification of the claims is not beside this clone")
def test_every_claim_and_question_of_the_specification_is_in_the_list():
    rows = [
        line.split("|")[1].strip() for line in SPECIFICATION.read_text(encoding="utf-8").splitlines() if "|" in line
    ]
    asked = {cell for cell in rows if cell[:1] in "GBMEQ" and cell[1:].isdigit()}
    assert asked == set(CLAIMS)
