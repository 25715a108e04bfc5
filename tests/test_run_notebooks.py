"""The runner behind `make run`, on small notebooks made here."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, str(ROOT / "tools" / "run_notebooks.py"), "--notebooks", "in", "--output", "out"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path


def write(folder, stem, *sources, tags=()):
    """Write a notebook whose code cells hold stale output, as committed ones do."""
    stale = new_output("execute_result", data={"text/plain": "STALE"}, execution_count=9)
    cells = [new_markdown_cell("# Title")]
    for source in sources:
        cells.append(new_code_cell(source, metadata={"tags": list(tags)}, outputs=[stale], execution_count=9))
    nbformat.write(new_notebook(cells=cells), folder / "in" / f"{stem}.ipynb")


def run(folder, *arguments):
    return subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True)


def copy(folder, stem):
    return nbformat.read(folder / "out" / f"{stem}.ipynb", as_version=4)


def test_runs_in_name_order_and_prints_the_tagged_tables(folder):
    # A line that TensorFlow writes past Python is in no output.
    write(folder, "02_b", "import os\n_ = os.write(2, b'NOISE')\nos.environ['TF_CPP_MIN_LOG_LEVEL']")
    table = "print('nor this')\n{'documented': 0.5813}"
    write(folder, "01_a", "import os, sys", table, "os.path.basename(os.getcwd())", "sys.prefix", tags=["other"])
    write(folder, "03_c", "{'documented': 0.5813}", tags=["documented-against-measured"])
    before = (folder / "in" / "03_c.ipynb").read_bytes()

    result = run(folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert "NOISE" not in result.stdout
    assert copy(folder, "02_b").cells[1].outputs[-1].data["text/plain"] == "'3'"
    progress, _, rest = result.stdout.partition("\nDocumented against measured\n")
    starts = ["[1/3] 01_a ... ", "[2/3] 02_b ... ", "[3/3] 03_c ... "]
    assert [line.startswith(start) for line, start in zip(progress.splitlines(), starts, strict=True)] == [True] * 3
    assert all(line.endswith(" s") for line in progress.splitlines())
    tables, _, to_open = rest.partition("\nOpen the executed copies")
    assert tables.strip().splitlines() == ["03_c", "{'documented': 0.5813}"]
    assert "make lab" in to_open
    assert "  " + str(Path("out") / "03_c.ipynb") in to_open.splitlines()

    executed = [cell for cell in copy(folder, "01_a").cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in executed] == [1, 2, 3, 4]
    assert executed[2].outputs[0].data["text/plain"] == "'in'"  # the kernel works in the notebooks' folder
    assert executed[3].outputs[0].data["text/plain"] == repr(sys.prefix)  # with this interpreter's packages
    assert (folder / "in" / "03_c.ipynb").read_bytes() == before


def test_the_table_behind_the_figures_is_named_once_above_them(folder):
    line = "Data: the synthetic stand-in, 400 rows. Figures differ from the documented ones."
    for stem in ("01_a", "02_b"):
        write(folder, stem, f"print({line!r})\n{{'documented': 0.5813}}", tags=["documented-against-measured"])
    write(folder, "03_c", "print('Data: of a notebook without such a table')")
    _, _, rest = run(folder).stdout.partition("\nDocumented against measured\n")
    assert rest.startswith(f"{line}\n\n01_a\n")
    assert rest.count("Data: ") == 1


def test_the_start_of_a_notebook_is_seen_while_it_runs(folder):
    write(folder, "01_slow", "import time\nopen('begun', 'w').close()\ntime.sleep(600)")
    process = subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    start = "[1/1] 01_slow ... "
    assert process.stdout.read(len(start)) == start

    while not (folder / "in" / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate()
    assert rest.strip() == "Interrupted: the remaining notebooks were not run."
    assert process.returncode == 130


def test_failing_notebooks_are_named_and_the_next_one_runs(folder):
    """Also one whose kernel dies; and of what fails, no table from an earlier run is printed."""
    tags = ["documented-against-measured"]
    write(folder, "01_bad", "'fine'", "raise ValueError('the table has no column Age')", "'the table'", tags=tags)
    write(folder, "02_dead", "1", "import os\nos._exit(3)")
    write(folder, "03_good", "'fine'")
    result = run(folder)
    assert result.returncode == 1
    assert "2 of 3 notebooks failed:\n  01_bad: code cell 2: ValueError: the table has no column Age" in result.stdout
    assert result.stdout.endswith("\n  02_dead: code cell 2: the kernel died\n")
    assert "Traceback" not in result.stdout + result.stderr and "STALE" not in result.stdout
    assert "[3/3] 03_good ... " in result.stdout

    partly = copy(folder, "01_bad").cells
    assert partly[1].outputs[0].data["text/plain"] == "'fine'"
    assert partly[2].outputs[0].ename == "ValueError"
    assert partly[3].outputs == []
    assert copy(folder, "03_good").cells[1].outputs[0].data["text/plain"] == "'fine'"


def test_each_broken_file_is_one_message(folder):
    (folder / "out").mkdir()
    broken = {"01_word": "{ not json", "02_list": "[]", "03_none": '{"nbformat": 4, "cells": "none"}', "04_empty": ""}
    for stem, content in broken.items():
        (folder / "in" / f"{stem}.ipynb").write_text(content)
        (folder / "out" / f"{stem}.ipynb").write_text("an earlier copy")
    result = run(folder)
    assert result.returncode == 1
    _, _, said = result.stdout.partition("4 of 4 notebooks failed:\n")
    lines = said.splitlines()
    for stem, line in zip(broken, lines, strict=True):
        assert line.startswith(f"  {stem}: is not a valid notebook (")
    assert "Traceback" not in result.stdout + result.stderr
    assert not list((folder / "out").iterdir())


def test_an_empty_folder_is_refused(folder):
    result = run(folder)
    assert result.returncode == 2
    assert result.stderr.endswith("there are no notebooks in in\n")


def test_names_choose(folder):
    write(folder, "01_a", "1")
    write(folder, "02_b", "1")
    assert run(folder, "02_b").stdout.startswith("[1/1] 02_b ... ")
    assert [path.name for path in (folder / "out").iterdir()] == ["02_b.ipynb"]
    unknown = run(folder, "03_c")
    assert unknown.returncode == 2
    assert "in has no notebook named 03_c" in unknown.stderr
