"""The documented figures: held against what the notebooks' stored runs say of them, wherever the real table is not.

And `make run`'s program executes notebooks on the committed stand-in and prints the documented figures beside ours.
"""

import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell
from test_notebooks import NOTEBOOKS

from batchlab.claims import documented_runs, texts
from batchlab.ideas.descent import schedule
from batchlab.ideas.recursion import call_tree
from batchlab.ledger import ledger
from batchlab.table import ads

ROOT = Path(__file__).resolve().parent.parent
STAND_IN = ROOT / "data" / "stand_in.csv"
DOCUMENTED = {"02_batch_size_1": "1", "03_batch_size_250": "250"}
RUNS = documented_runs()["runs"]
PART = {"loss": 320, "accuracy": 320, "val_loss": 80, "val_accuracy": 80}  # rows that a figure is of
DIGIT = 0.00005 + 1e-9  # half of the last one that is documented and stored


class Row(NamedTuple):
    """A row of the table that `compare_with_documented` makes."""

    documented: float
    one_run: float
    median: float
    low: float
    high: float
    percentile: float


def notebook(stem):
    return nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)


def tagged_outputs(stem):
    cells = [c for c in notebook(stem).cells if "documented-against-measured" in c.metadata.get("tags", [])]
    return [output for cell in cells for output in cell.outputs]


def stored_comparison(stem) -> dict[tuple[str, str], Row]:
    """What a notebook's runs on the real table say of each documented figure, as its output is stored."""
    (html,) = [output.data["text/html"] for output in tagged_outputs(stem) if "text/html" in output.get("data", {})]
    rows, epoch = {}, ""
    for line in BeautifulSoup(html, "html.parser").tbody.find_all("tr"):
        *epochs, figure = (head.get_text() for head in line.find_all("th"))
        epoch = epochs[0] if epochs else epoch  # one cell over all rows of an epoch
        rows[epoch, figure] = Row(*(float(cell.get_text()) for cell in line.find_all("td")))
    return rows


def documented_figures(size) -> dict[tuple[str, str], float]:
    return {(epoch, name): value for epoch, of in RUNS[size]["epoch"].items() for name, value in of.items()}


# --- against stored runs -----------------------------------------------------------------------------


@pytest.mark.parametrize("stem", DOCUMENTED)
def test_stored_runs_stand_beside_the_figures_that_are_documented(stem):
    found = {place: row.documented for place, row in stored_comparison(stem).items()}
    assert found == documented_figures(DOCUMENTED[stem])


@pytest.mark.parametrize("stem", DOCUMENTED)
def test_a_documented_figure_lies_among_the_stored_runs_where_its_percentile_says(stem):
    for place, row in stored_comparison(stem).items():
        assert row.low <= row.median <= row.high, place
        for quantile, percent in ((row.low, 2.5), (row.median, 50), (row.high, 97.5)):
            # A quantile lies between two of 256 runs.
            if row.documented > quantile + DIGIT:
                assert row.percentile > percent - 0.5, place
            if row.documented < quantile - DIGIT:
                assert row.percentile < percent + 0.5, place


def test_the_verdicts_on_the_documented_figures_say_what_their_tables_say():
    found = ledger()
    rows = stored_comparison("02_batch_size_1")
    end = rows["500", "val_accuracy"]
    (record,) = [
        of for of in found.loc["E1", "evidence"] if of.above and of.below and of.above < end.documented < of.below
    ]
    assert record.below - record.above == pytest.approx(1 / 80)  # half a row to either side
    assert record.value == pytest.approx(end.median, abs=DIGIT)
    said = found.loc["E1", "sentence"]
    for number in (f"{end.documented:.4f}", f"{end.percentile:.0f}", f"{end.median:.4f}"):
        assert re.search(rf"\b{number}\b", said), number
    end = stored_comparison("03_batch_size_250")["10", "loss"]
    assert f"{end.documented:.4f}" in found.loc["E2", "sentence"]


def test_the_stored_outputs_are_of_the_real_table(capsys):
    # Any content can stand for the real one: what counts as real is a parameter.
    expected = ads.fingerprint(ads.load_ads(STAND_IN))
    capsys.readouterr()
    ads._load(STAND_IN, ads._Places(expected=expected))
    notice = capsys.readouterr().out.strip()
    for path in NOTEBOOKS:
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        lines = [line for c in cells for o in c.outputs for line in o.get("text", "").splitlines()]
        told = [line for line in lines if line.startswith("Data: ")]
        assert set(told) <= {notice}, path.name
        assert bool(told) == any("helpers.load_ads()" in cell.source for cell in cells), path.name


# --- against arithmetic ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", DOCUMENTED.values())
def test_documented_accuracies_are_shares_of_the_rows(size):
    shares = {place: value for place, value in documented_figures(size).items() if "accuracy" in place[1]}
    assert shares
    for (epoch, name), value in shares.items():
        assert abs(value - round(value * PART[name]) / PART[name]) <= DIGIT, (epoch, name)


def test_the_large_batch_is_documented_to_answer_no_throughout():
    table = pd.read_csv(STAND_IN)  # with the real one's numbers of buyers
    of_no = 1 - table["Purchased"].iloc[:320].mean(), 1 - table["Purchased"].iloc[320:].mean()
    for of in RUNS["250"]["epoch"].values():
        assert (of["accuracy"], of["val_accuracy"]) == pytest.approx(of_no, abs=DIGIT)


def test_documented_counts_are_what_is_counted():
    documented = documented_runs()
    for size, run in RUNS.items():
        assert run["updates_per_epoch"] == math.ceil(320 / int(size))
    for case, counts in documented["arithmetic"].items():
        rows, *size = map(int, re.findall(r"\d+", case))
        sizes = {"batch": rows, "stochastic": 1} | dict.fromkeys(("batches", "updates"), *size)
        for name, count in counts.items():
            made = [len(batch) for batch in schedule(rows, sizes[name])]
            assert count == (made if name == "batches" else len(made)), (case, name)
    calls = [f"fib({call.argument})" for call in call_tree(5, memoized=False).walk()]
    for call, count in documented["memoization"]["calls_repeated_in_fib_5"].items():
        assert calls.count(call) == count


def test_documented_rows_are_those_of_the_stand_in():
    documented, table = documented_runs(), pd.read_csv(STAND_IN)
    features = [*ads.FEATURES]
    assert table[[*features, ads.TARGET]].head().to_numpy().tolist() == documented["head"]
    assert table[["User ID", "Gender"]].head().to_numpy().tolist() == documented["head_user_id_gender"]
    assert table[features].tail().to_numpy().tolist() == documented["tail_features"]


def test_the_claims_name_the_documented_figures():
    long, short = (RUNS[size] for size in DOCUMENTED.values())
    end = long["epoch"][str(long["epochs"])]["val_accuracy"]
    assert [*map(float, re.findall(r"[\d.]*\d", texts()["E1"]))] == [1, long["epochs"], end]
    same = [short["epoch"][str(short["epochs"])][name] for name in ("accuracy", "val_accuracy")]
    assert [*map(float, re.findall(r"[\d.]*\d", texts()["E2"]))] == [250, short["epochs"], *same]


# --- printed -----------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_the_documented_figures_are_printed_beside_those_of_a_run(tmp_path):
    """The notebook's own cells, but for its many runs."""
    stem, runs = "03_batch_size_250", "runs = helpers.fit_seeds(helpers.build_model, x, y, seeds=3, batch_size=250, "
    cells = [cell for cell in notebook(stem).cells if cell.cell_type == "code"]
    (compared,) = [cell for cell in cells if "documented-against-measured" in cell.metadata.get("tags", [])]
    load = "import helpers\ntable = helpers.load_ads()\nx, y = helpers.scale_features(table)"
    short = [new_code_cell(load), new_code_cell(f"{runs}epochs=10, validation_split=0.2)"), compared]
    (tmp_path / "in").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=short), tmp_path / "in" / f"{stem}.ipynb")

    places = ["--notebooks", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    environment = os.environ | {"ADS_CSV": str(STAND_IN), "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "tools/run_notebooks.py", *places]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    assert [path.stem for path in (tmp_path / "out").iterdir()] == [stem]

    _, _, tables = result.stdout.partition("Documented against measured")
    assert "Data: the synthetic stand-in" in tables or "Data: stand_in.csv" in tables
    printed = set(re.findall(r"\d\.\d{4}\b", tables))
    documented = {f"{value:.4f}" for value in documented_figures(DOCUMENTED[stem]).values()}
    assert documented <= printed, f"not in the printed tables: {sorted(documented - printed)}"


def test_the_documented_figures_of_both_batch_sizes_have_their_notebook():
    assert {size for size, run in RUNS.items() if run.get("epoch")} == set(DOCUMENTED.values())
    assert all(tagged_outputs(stem) for stem in DOCUMENTED)
