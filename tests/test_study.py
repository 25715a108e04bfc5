"""The study of a table of one's own: what it measures and reports, and that no text of the table acts anywhere."""

import ast
import json
import math
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from check_study import compared
from study import main

from batchlab.figures.advice import plot_fresh_runs
from batchlab.models import build_model
from batchlab.report import _figure, render, write_report
from batchlab.study.own import first_budget, study_table
from batchlab.study.trials import FRESH_SEEDS
from batchlab.table.own import read_table
from batchlab.training import fit, fit_seeds

SCRIPT, IMAGE, BOLD = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "<b onclick='alert(1)'>$x^2$"
ROWS = 90
DRAW = np.random.default_rng(0)


def hostile_table():
    """Texts that look like HTML everywhere: names of columns, categories, classes; and a copy of the target."""
    x = DRAW.normal(size=ROWS)
    target = np.where(x + DRAW.normal(0, 0.5, ROWS) > 0, IMAGE, "{{ 7 * 7 }}")
    return pd.DataFrame(
        {
            SCRIPT: x,
            "town": DRAW.choice([IMAGE, "<i>Graz</i>", "&lt;"], ROWS),
            "<u>copy</u>": np.where(target == IMAGE, "yes", "no"),
            BOLD: target,
        }
    )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "<em>table.csv"
    hostile_table().to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def numeric(tmp_path_factory):
    """A small study of a target that is a number."""
    x = DRAW.normal(size=(100, 3)).round(4)
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["price"] = 1000 + 200 * x[:, 0] - 100 * np.abs(x[:, 1]) + DRAW.normal(0, 60, 100)
    path = tmp_path_factory.mktemp("numeric") / "prices.csv"
    frame.to_csv(path, index=False)
    return study_table(read_table(path, "price"), epochs=15)


class Page(HTMLParser):
    """Which elements and attributes a page has, and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def assert_nothing_acts(html):
    page = Page(html)
    assert {tag for tag, _ in page.elements} & {"script", "iframe", "b", "u", "i", "em"} == set()
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert attributes.get("src", "data:").startswith("data:image/png;base64,") or tag != "img"
    return page


# --- a network for numbers -------------------------------------------------------------------------------


def test_a_model_without_classes_has_one_number_and_the_squared_error():
    model = build_model((4,), features=3, classes=None, optimizer="adam", seed=0)
    x, y = DRAW.normal(size=(50, 3)).astype(np.float32), DRAW.normal(size=50).astype(np.float32)
    loss = model.evaluate(x, y, verbose=0, return_dict=True)
    assert loss == {"loss": pytest.approx(np.mean((model(x).numpy()[:, 0] - y) ** 2), rel=1e-5)}
    one = fit(build_model((4,), features=3, classes=None, seed=0), x, y, batch_size=8, epochs=5, seed=0)
    many = fit_seeds(lambda: build_model((4,), features=3, classes=None), x, y, seeds=3, batch_size=8, epochs=5)
    np.testing.assert_allclose(many[many["seed"] == 0]["loss"], one.history["loss"], rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, ["Dense", "Dense"]),
        ({"dropout": 0.3}, ["Dense", "Dropout", "Dense"]),
        ({"batch_normalization": True}, ["Dense", "BatchNormalization", "Activation", "Dense"]),
        (
            {"dropout": 0.3, "batch_normalization": True},
            ["Dense", "BatchNormalization", "Activation", "Dropout", "Dense"],
        ),
    ],
)
def test_a_hidden_layer_may_be_normalised_and_dropped(options, kinds):
    model = build_model((4,), **options)
    assert [type(layer).__name__ for layer in model.layers] == kinds
    assert model.layers[0].use_bias == ("batch_normalization" not in options)
    assert "dropout" not in options or model.layers[-2].rate == 0.3


@pytest.mark.parametrize("share", [-0.1, 1, 2])
def test_a_share_that_is_none(share):
    with pytest.raises(ValueError, match=r"`dropout` is .* at least 0 and below 1"):
        build_model(dropout=share)


# --- the study -------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_network_with_dropout_and_batch_normalization_is_studied_side_by_side(numeric):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*one after the other")
        study = study_table(numeric.table, epochs=10, seeds=16, dropout=0.1, batch_normalization=True)
    text = " ".join(Page(render(study)).text.split())
    assert "with adam, BatchNormalization and Dropout of 0.1. Another network" in text
    assert "with adam, no regularisation. Another network" in " ".join(Page(render(numeric)).text.split())


@pytest.mark.thorough
def test_a_numeric_target_is_studied(numeric):
    advice, encoded = numeric.advice, numeric.encoded
    assert list(advice.table["batch_size"]) == [1, 4, 16, 64, 80] and advice.batch_size in advice.as_good
    assert advice.least < advice.target < advice.untrained
    assert advice.target == pytest.approx(advice.least + 0.05 * (advice.untrained - advice.least))
    assert advice.target < 0.6 * numeric.without_features  # the features do say something
    y, y_held_out = encoded.y, encoded.held_out[1]
    assert numeric.without_features == pytest.approx(np.mean((y_held_out - y.mean()) ** 2))


def test_a_larger_table_gets_fewer_epochs():
    assert [first_budget(rows) for rows in (16, 533, 1437, 4000)] == [30, 30, 11, 5]


@pytest.mark.thorough
def test_all_runs_are_counted(numeric):
    assert len(numeric.advice.table) == 5
    tried = (7 + numeric.advice.table["rates"].sum()) * 64
    assert numeric.trained == tried + 5 * len(FRESH_SEEDS)


@pytest.mark.thorough
def test_advice_lies_within_the_interval_of_brute_force(numeric):
    records = compared("prices", numeric, 64)
    assert [record["aim"] for record in records] == ["seconds", "updates", "rows"]
    for record in records:
        # Brute force has twice as many batch sizes to choose from; see `recommend` for what one between two can save.
        assert record["within"] or record["excess"] < 1.25, record
        assert record["excess"] > 0.8 and record["best_low"] <= record["best_costs"] <= record["best_high"]


# --- the report ------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_the_report_stands_alone_and_can_be_read_by_everybody(numeric, tmp_path):
    path = write_report(numeric, tmp_path / "a" / "report.html")
    html = path.read_text(encoding="utf-8")
    page = assert_nothing_acts(html)
    assert page.all("html") == [{"lang": "en"}] and len(page.all("h1")) == 1
    assert all(len(image["alt"]) >= 40 for image in page.all("img")) and len(page.all("img")) == 3
    assert len(page.all("table")) == len(page.all("caption")) >= 4
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    assert not [a for _, a in page.elements if {"href", "srcset", "action"} & set(a)] and "url(" not in html
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "prefers-color-scheme: dark" in html


@pytest.mark.thorough
def test_the_report_says_what_was_found(numeric):
    text = " ".join(Page(render(numeric)).text.split())
    advice = numeric.advice
    assert f"batch size {advice.batch_size} with learning rate" in text
    for size in advice.table["batch_size"]:
        assert f"{size}" in text
    assert "variances of the target" in text and "in the target's own unit" in text
    assert "80 rows are for training and 20 held out" in text and "128 behind each curve" in text
    assert f"{numeric.trained:,} runs" in text
    assert f"other runs than the {len(FRESH_SEEDS)} that tell what it costs" in text
    rows = text[text.rindex("as it seemed") :]
    for row in advice.table.itertuples():  # what the choice had promised stands beside what fresh runs need
        promised, needed = (re.escape(_figure(figure)) for figure in (row.seemed, row.updates))
        assert re.search(rf"\b{row.batch_size} ?{promised} ?{needed} \(", rows)


@pytest.mark.thorough
def test_warnings_stand_above_the_figures(numeric):
    warned = replace(numeric, table=replace(numeric.table, warnings=["<b>Column</b> 'x' gives it away."]))
    html = render(warned)
    assert html.index("&lt;b&gt;Column&lt;/b&gt;") < html.index("<table") < html.index("<img")


@pytest.mark.thorough
def test_learning_nothing_quickly_is_said(numeric):
    assert "learning nothing quickly" in Page(render(replace(numeric, without_features=1e-3))).text.replace("\n", " ")
    assert "learning nothing quickly" not in Page(render(numeric)).text.replace("\n", " ")


@pytest.mark.thorough
def test_a_size_that_never_arrives_is_drawn_and_said(numeric):
    advice = numeric.advice
    table = advice.table.copy()
    table.loc[0, ["updates", "updates_low", "updates_high", "rows", "rows_high", "seconds", "seconds_high"]] = math.inf
    table.loc[0, ["learning_rate", "rate_low", "rate_high"]] = math.nan
    table.loc[0, "seemed"] = math.inf
    runs = advice.runs[advice.runs["batch_size"] != 1]
    html = render(replace(numeric, advice=replace(advice, table=table, runs=runs)))
    assert "none arrived" in html and "never" in html


@pytest.mark.thorough
def test_the_figure_of_fresh_runs_ends_with_their_bands_or_with_the_untrained_loss(numeric):
    def top(runs):
        figure, _ = plot_fresh_runs(replace(numeric, advice=replace(numeric.advice, runs=runs)))
        ax = figure.axes[0]
        bands = [vertex for part in ax.collections for path in part.get_paths() for vertex in path.vertices[:, 1]]
        plt.close(figure)
        return ax.get_ylim()[1], max(bands)

    runs = numeric.advice.runs
    end, highest = top(runs)
    assert highest < end < 1.2 * highest
    assert highest < numeric.advice.untrained  # else nothing is shown
    assert top(runs.assign(val_loss=1e3 * numeric.advice.untrained))[0] == pytest.approx(1.1 * numeric.advice.untrained)
    lost = runs["batch_size"].eq(1) & (runs["seed"] % 4 == 0)  # their band has no upper end
    end, _ = top(runs.assign(val_loss=runs["val_loss"].mask(lost)))
    assert numeric.advice.target < end <= 1.1 * numeric.advice.untrained


# --- the notebook and the command ------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_table_that_looks_like_html_reaches_report_and_notebook_escaped(hostile, tmp_path, capsys):
    status = main([str(hostile), BOLD, "--output", str(tmp_path), "--aim", "updates"])
    said = capsys.readouterr()
    assert status == 0, said.err
    assert re.search(r"^ +\d+ s  batch size 16: which loss", said.out, re.MULTILINE)
    assert "Fresh runs against" not in said.out  # nothing of what other cells print
    html = (tmp_path / "<em>table.html").read_text(encoding="utf-8")
    page = assert_nothing_acts(html)
    for text in (SCRIPT, IMAGE, BOLD, "{{ 7 * 7 }}", "Column '<u>copy</u>' alone gives the target away"):
        assert text in page.text  # shown, as text
    assert "in the fewest updates" in page.text

    notebook = nbformat.read(tmp_path / "<em>table.ipynb", 4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    rich = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert any("&lt;script&gt;" in html for html in rich)
    for html in rich:
        shown = Page(html)
        assert {tag for tag, _ in shown.elements} <= {"div", "style", "table", "thead", "tbody", "tr", "th", "td"}
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert kinds <= {"text/plain", "text/html", "text/markdown", "image/png"}
    markdown = [output.data["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]
    assert not [text for text in markdown if "alert" in text]  # the folded solutions, in which no text of the table is
    assert not [output for output in outputs if output.output_type == "error"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{path}", "price"], "no column 'price'"),
        (["{path}.csv", "price"], "there is no such file"),
        (["", ""], "Name a file and a column: make study DATA=path TARGET=column"),
    ],
)
def test_the_command_says_what_is_wrong_without_a_traceback(hostile, tmp_path, capsys, arguments, words):
    given = [argument.format(path=hostile) for argument in arguments]
    assert main([*given, "--output", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_of_what_cells_print_the_lines_of_the_study_are_shown_whole(capsys):
    progress = main.__globals__["_Progress"]()
    for text in ("Mind: 3 s\n  12 s  batch", " size 4\n", " 120 s  gradient noise\n13 wines\n  5 s  begun"):
        progress.write(text)
    assert capsys.readouterr().out == "  12 s  batch size 4\n 120 s  gradient noise\n"


def test_the_notebook_has_the_parameters_that_the_command_sets(hostile, tmp_path, monkeypatch):
    given = {}
    monkeypatch.setitem(
        main.__globals__, "execute", lambda parameters, copy: given.update(parameters) or "enough for this test"
    )
    assert main([str(hostile), BOLD, "--output", str(tmp_path)]) == 2
    notebook = json.loads((Path(main.__globals__["NOTEBOOK"])).read_text(encoding="utf-8"))
    (cell,) = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    names = [target.id for line in ast.parse("".join(cell["source"])).body for target in line.targets]
    assert names == list(given)
