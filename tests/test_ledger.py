"""The ledger: one verdict for each claim, in its notebook's outputs, none against its figures; and how it looks."""

import json
import math
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import helpers
from batchlab.claims import OUTCOMES, Evidence, texts
from batchlab.figures.ledger import LOOKS, told
from batchlab.ledger import ledger, margins

ROOT = Path(__file__).resolve().parent.parent

WHERE = {
    "01_gradient_descent": ["G1", "G2", "G3", "G4", "G5", "G6", "G7", "G9"],
    "02_batch_size_1": ["E1"],
    "03_batch_size_250": ["E2"],
    "04_batch_size_32": ["E3", "Q1"],
    "05_fair_comparison": ["E7", "E8", "E9", "E10"],
    "06_learning_rate": ["E4", "E5", "E11", "Q2"],
    "07_backpropagation": ["B1", "B2", "B3"],
    "08_memoization": ["M1", "M2", "M3", "M4", "Q6"],
    "09_generalisation": ["E6", "E12", "E15", "Q4", "Q5"],
    "10_speed_and_memory": ["E13", "E14", "E16", "G8", "Q3"],
}
NASTY = "<script>alert('x')</script> & \"quoted\""


def wrongly_placed(frame):
    """The claims whose verdict stands in another notebook than it should."""
    expected = {claim: notebook for notebook, claims in WHERE.items() for claim in claims}
    assert set(expected) == set(texts())
    return [claim for claim, row in frame.iterrows() if row["notebook"] != expected[claim]]


# --- the committed notebooks -------------------------------------------------------------------------


def test_each_claim_and_question_has_one_verdict_where_it_belongs():
    assert wrongly_placed(ledger()) == []


def test_all_evidence_is_finite_and_inside_its_interval_and_says_how_often_it_was_measured():
    for claim, row in ledger().iterrows():
        assert row["evidence"], f"{claim} has no evidence"
        for of in row["evidence"]:
            assert -math.inf < of.low <= of.value <= of.high < math.inf, f"{claim}: {of}"
            assert of.runs is None or of.runs > 1 or of.low == of.high, f"{claim}: an interval of one run? {of}"
            assert of.runs or of.low == of.high, f"{claim}: an interval of how many runs? {of}"


# --- notebooks that a test makes ---------------------------------------------------------------------


def figure(supports=True):
    return asdict(helpers.evidence("quotient", (2, 1.5, 2.5) if supports else (0.5, 0.2, 1.1), runs=64, above=1))


def output(claim, outcome="holds", evidence=None):
    evidence = [figure()] if evidence is None else evidence
    said = {"holds": "Holds.", "holds only if": "Holds only if", "answered": "Answer."}.get(
        outcome, "Does not hold here."
    )
    record = {"id": claim, "outcome": outcome, "sentence": f"2 of {claim}.", "evidence": evidence}
    plain = f"Claim {claim}. {texts()[claim]} {said} 2 of {claim}."
    return {"output_type": "display_data", "data": {"text/plain": plain}, "metadata": {"batchlab": record}}


def write(folder, notebook, outputs):
    cells = [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": ["# Title\n", "\n", "## Last heading\n"]}
    ]
    for i, shown in enumerate(outputs):
        cell = {"cell_type": "code", "id": f"cell-{i}", "metadata": {}, "source": [], "outputs": [shown]}
        cells.append(cell | {"execution_count": i})
    (folder / f"{notebook}.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")


@pytest.fixture
def notebooks():
    """The outputs of each notebook: "G1" holds only if, "E8" does not hold here, all others hold."""
    other = {"G1": ("holds only if", [figure(), figure(False)]), "E8": ("does not hold here", [figure(False)])}
    other |= {claim: ("answered", [asdict(helpers.evidence("rows", 320))]) for claim in texts() if claim[0] == "Q"}
    return {notebook: [output(claim, *other.get(claim, ())) for claim in claims] for notebook, claims in WHERE.items()}


@pytest.fixture
def read(notebooks, tmp_path):
    def written():
        for notebook, outputs in notebooks.items():
            write(tmp_path, notebook, outputs)
        return ledger(tmp_path)

    return written


def test_the_ledger_is_complete_and_in_the_order_of_the_claims(read):
    frame = read()
    assert list(frame.index) == list(texts()) and wrongly_placed(frame) == []
    columns = ["text", "outcome", "sentence", "evidence", "runs", "notebook", "section", "cell"]
    assert set(frame.columns) == set(columns)
    found = frame.loc["G1", columns].tolist()
    assert found[0].startswith("Gradient descent steps") and found[1:3] == ["holds only if", "2 of G1."]
    assert found[3] == [Evidence(**figure()), Evidence(**figure(False))]
    assert found[4:] == [64, "01_gradient_descent", "Last heading", "cell-0"]
    assert math.isnan(frame.loc["Q1", "runs"])


def test_the_ledger_goes_through_json(read):
    rows = json.loads(read().to_json(orient="index"))
    assert list(rows) == list(texts()) and rows["G1"]["evidence"][0]["low"] == 1.5


def of(notebooks, claim):
    (found,) = [o for outputs in notebooks.values() for o in outputs if o["metadata"]["batchlab"]["id"] == claim]
    return found["metadata"]["batchlab"], found


def misses(notebooks):
    of(notebooks, "G2")[0]["evidence"][0].update(value=0.5, low=0.2, high=0.9)


def other_outcome(notebooks):
    of(notebooks, "E8")[0]["outcome"] = "holds"


def other_words(notebooks):
    shown = of(notebooks, "E8")[1]["data"]
    shown["text/plain"] = shown["text/plain"].replace("Does not hold here.", "Holds.")


def other_sentence(notebooks):
    of(notebooks, "Q2")[0]["sentence"] = "3 of Q2."


def value_astray(notebooks):
    of(notebooks, "M3")[0]["evidence"][0]["value"] = 2.6


def endless(notebooks):
    of(notebooks, "Q3")[0]["evidence"][0].update(high=math.inf)


def without_evidence(notebooks):
    of(notebooks, "B1")[0]["evidence"] = []


def missing(notebooks):
    notebooks["02_batch_size_1"].clear()


def second(notebooks):
    notebooks["03_batch_size_250"].append(output("E1"))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (misses, "G2 in 01_gradient_descent reads 'holds', but from its recorded figures follows 'does not hold here'"),
        (other_outcome, "E8 in 05_fair_comparison reads 'holds', but"),
        (other_words, "E8 in 05_fair_comparison does not show what its record holds"),
        (other_sentence, "Q2 in 06_learning_rate does not show what its record holds"),
        (
            value_astray,
            "M3 in 08_memoization has figures that are not finite or lie outside of their interval, quotient",
        ),
        (endless, "Q3 in 10_speed_and_memory has figures that are not finite"),
        (without_evidence, "no figure of the evidence has a bound"),
        (missing, "gives a verdict on E1: execute it"),
        (second, "More than one verdict stands for E1"),
    ],
)
def test_what_is_spoilt_is_found(spoil, complaint, notebooks, read):
    spoil(notebooks)
    with pytest.raises(ValueError, match=complaint):
        read()


def test_a_verdict_in_another_notebook_is_found(notebooks, read):
    notebooks["03_batch_size_250"].append(notebooks["02_batch_size_1"].pop())
    assert wrongly_placed(read()) == ["E1"]


# --- how clear it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "bounds", "margin", "reading"),
    [
        ((3, 2, 5), {"above": 1}, 2, "met"),  # the end that points to the bound counts: 2, one away from the value
        ((3, 1, 5), {"above": 1}, 1, "open"),
        ((3, 0, 5), {"above": 1}, 2 / 3, "open"),
        ((0, -2, 4), {"above": 1}, -1 / 4, "open"),
        ((0, -2, 0.5), {"above": 1}, -2, "missed"),
        ((0, -2, 0.5), {"below": 1}, 2, "met"),
        ((3, 2, 5), {"below": 1}, -2, "missed"),
        ((1, 0, 2), {"above": -1, "below": 5}, 2, "met"),
        ((1, 0, 2), {"above": -9, "below": 1.5}, 0.5, "open"),
        (1, {"above": 0}, np.inf, "met"),
        (0, {"above": 0}, -np.inf, "missed"),
        (2, {"below": 2}, -np.inf, "missed"),
    ],
)
def test_a_margin_is_a_distance_in_parts_of_the_interval(given, bounds, margin, reading, notebooks, read):
    found = helpers.evidence("figure", given, **bounds)
    record = of(notebooks, "G2")[0]
    record["evidence"], record["outcome"] = [asdict(found)], "holds" if found.supports else "does not hold here"
    shown = of(notebooks, "G2")[1]["data"]
    shown["text/plain"] = (
        shown["text/plain"] if found.supports else shown["text/plain"].replace("Holds.", "Does not hold here.")
    )
    row = margins(read()).set_index("claim").loc["G2"]
    assert row["margin"] == pytest.approx(margin) and row["reading"] == reading
    assert (reading == "met") == found.supports


def test_only_figures_with_a_bound_have_a_margin(read):
    frame = read()
    bounded = [(claim, of) for claim, row in frame.iterrows() for of in row["evidence"] if of.above or of.below]
    assert {claim for claim, _ in bounded} == set(frame.index[frame["outcome"] != "answered"])
    clear = margins(frame)
    assert clear["claim"].tolist() == [claim for claim, _ in bounded]
    assert clear["reading"].tolist() == ["met" if of.supports else "open" for _, of in bounded]


# --- how it looks ------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Elements in order, each with its attributes; words; what labels and links hold."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.words, self.inside = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag not in ("input",):
            self.inside.append(tag)
        self.elements.append((tag, dict(attrs), tuple(self.inside)))

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, *tags):
        return [(attrs, inside) for tag, attrs, inside in self.elements if tag in tags]


def test_the_table_is_complete_without_its_script(read, shown):
    frame = read()
    helpers.show_ledger(frame, "All of them.")
    page, words = Page(shown[0].data["text/html"]), "".join(Page(shown[0].data["text/html"]).words)
    rows = [attrs for attrs, _ in page.all("tr") if "data-outcome" in attrs]
    assert [row["data-outcome"] for row in rows] == frame["outcome"].tolist()
    assert not any("hidden" in row for row in rows)
    for claim, row in frame.iterrows():
        for said in (claim, row["text"], row["sentence"], row["section"], *map(told, row["evidence"])):
            assert said in words
        for said in (f"{claim} {LOOKS[row['outcome']][0]} {row['outcome']}", *map(told, row["evidence"])):
            assert said in shown[0].data["text/plain"]
    links = [attrs["href"] for attrs, _ in page.all("a")]
    assert links[0] == "01_gradient_descent.ipynb#cell-id=cell-0" and len(links) == len(frame)


def test_the_table_can_be_read_and_its_filters_used_without_eyes(read, shown):
    helpers.show_ledger(read(), "All of them.")
    page = Page(shown[0].data["text/html"])
    assert not page.inside  # every element is closed
    fields = page.all("input", "select")
    assert len(fields) == 2 and all("label" in inside for _, inside in fields)
    assert {attrs.get("scope") for attrs, _ in page.all("th")} == {"col", "row"}
    assert len(page.all("caption")) == 1
    assert [attrs["aria-label"] for attrs, _ in page.all("div") if attrs.get("role") == "region"] == ["All of them."]
    assert [attrs for attrs, _ in page.all("span") if attrs.get("role") == "status"]
    filters = [attrs for attrs, _ in page.all("div") if attrs.get("class") == "ledger-filters"]
    assert "hidden" in filters[0], "without scripts the filters would be there and do nothing"
    assert "https:" not in shown[0].data["text/html"] and "http:" not in shown[0].data["text/html"]


@pytest.mark.parametrize("show", [lambda frame: helpers.show_ledger(frame, NASTY), helpers.show_page])
def test_every_text_is_escaped(show, read, shown):
    frame = read()
    for column in ("text", "sentence", "section", "cell", "notebook"):
        frame[column] = NASTY
    frame["evidence"] = [[helpers.evidence(NASTY, 1, above=0, unit=NASTY)] for _ in frame.index]
    frame.index = [f"{NASTY}{i}" for i in range(len(frame))]
    show(frame)
    page = Page(shown[0].data["text/html"])
    assert len(page.all("script")) <= 1 and "<script>alert" not in shown[0].data["text/html"]
    assert NASTY in "".join(page.words)


def test_the_page_groups_claims_and_says_what_they_need(notebooks, read, shown):
    record, found = of(notebooks, "G1")
    record["sentence"] = "the rate is low, 0.1 say: then 3 of 4 do. So it is."
    found["data"]["text/plain"] = found["data"]["text/plain"].replace("2 of G1.", record["sentence"])
    outcomes = read()["outcome"].value_counts()
    helpers.show_page(read())
    lines = shown[0].data["text/plain"].splitlines()
    heads = [line for line in lines if not line.startswith(" ")]
    assert heads == [f"{symbol} {outcome}: {outcomes[outcome]}" for outcome, (symbol, _, _) in LOOKS.items()]
    assert lines[lines.index(heads[1]) + 1].endswith(" Only if the rate is low, 0.1 say.")
    assert lines[lines.index(heads[2]) + 1].endswith(" Measured: 2 of E8.")
    assert lines[-1].endswith("? 2 of Q6.")
    assert "Only if the rate is low, 0.1 say." in "".join(Page(shown[0].data["text/html"]).words)


def luminance(colour):
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("outcome", LOOKS)
def test_words_stand_out_from_what_is_behind_them(outcome):
    dark, light = sorted(luminance(colour) for colour in LOOKS[outcome][1:])
    assert (light + 0.05) / (dark + 0.05) >= 7  # WCAG 2.2, level AAA


def test_every_outcome_has_a_symbol_of_its_own():
    assert set(LOOKS) == {*OUTCOMES, "answered"}
    assert len({symbol for symbol, _, _ in LOOKS.values()}) == len(LOOKS)


@pytest.mark.parametrize(
    ("given", "bounds", "said"),
    [
        (
            (0.2571, 0.104, 0.592),
            {"above": 1, "unit": "times"},
            "0.257 (0.104 to 0.592) times; asked: above 1, ✗ not met",
        ),
        ((2076.4, 1538.2, 4205), {}, "2,076 (1,538 to 4,205)"),
        (2, {"below": 2}, "2; asked: below 2, ✗ not met"),
        (
            (0.0, -0.005, 0.005),
            {"above": -0.01, "below": 0.01},
            "0 (−0.005 to 0.005); asked: above −0.01 and below 0.01, ✓ met",
        ),
    ],
)
def test_a_figure_in_words(given, bounds, said):
    assert told(helpers.evidence("figure", given, **bounds)) == f"figure: {said}"
