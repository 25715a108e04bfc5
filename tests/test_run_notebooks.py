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
    write(folder, "02_b", "'not this one'")
    table = "print('nor this')\n{'documented': 0.5813}"
    write(folder, "01_a", "import os, sys", table, "os.path.basename(os.getcwd())", "sys.prefix", tags=["other"])
    write(folder, "03_c", "{'documented': 0.5813}", tags=["documented-against-measured"])
    before = (folder / "in" / "03_c.ipynb").read_bytes()

    result = run(folder)
    assert (result.returncode, result.stderr) == (0, "")
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
    write(folder, "01_slow", "import time; time.sleep(60)")
    process = subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    start = "[1/1] 01_slow ... "
    assert process.stdout.read(len(start)) == start

    time.sleep(3)  # by now the cell runs
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert rest.strip() == "Interrupted: the remaining notebooks were not run."
    assert process.returncode == 130


def test_a_failing_notebook_is_named_and_the_next_one_runs(folder):
    write(folder, "01_bad", "'fine'", "raise ValueError('the table has no column Age')", "'never'")
    write(folder, "02_good", "'fine'")
    result = run(folder)
    assert result.returncode == 1
    assert "1 of 2 notebooks failed:\n  01_bad: code cell 2: ValueError: the table has no column Age" in result.stdout
    assert "[2/2] 02_good ... " in result.stdout

    partly = copy(folder, "01_bad").cells
    assert partly[1].outputs[0].data["text/plain"] == "'fine'"
    assert partly[2].outputs[0].ename == "ValueError"
    assert partly[3].outputs == []
    assert copy(folder, "02_good").cells[1].outputs[0].data["text/plain"] == "'fine'"


def test_a_table_from_an_earlier_run_is_not_printed(folder):
    write(folder, "01_bad", "1 / 0", "'the table'", tags=["documented-against-measured"])
    result = run(folder)
    assert "ZeroDivisionError" in result.stdout
    assert "STALE" not in result.stdout


def test_a_dead_kernel_is_one_message(folder):
    write(folder, "01_dead", "1", "import os\nos._exit(3)")
    write(folder, "02_good", "'fine'")
    result = run(folder)
    assert result.returncode == 1
    assert result.stdout.endswith("1 of 2 notebooks failed:\n  01_dead: code cell 2: the kernel died\n")
    assert "Traceback" not in result.stdout + result.stderr
    assert copy(folder, "02_good").cells[1].execution_count == 1


@pytest.mark.parametrize("content", ["{ not json", "[]", '{"nbformat": 4, "cells": "none"}', ""])
def test_a_broken_file_is_one_message(folder, content):
    (folder / "in" / "01_broken.ipynb").write_text(content)
    (folder / "out").mkdir()
    (folder / "out" / "01_broken.ipynb").write_text("an earlier copy")
    result = run(folder)
    assert result.returncode == 1
    assert "1 of 1 notebooks failed:\n  01_broken: is not a valid notebook (" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert not (folder / "out" / "01_broken.ipynb").exists()


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


def test_lines_that_tensorflow_writes_past_python_do_not_show(folder):
    write(folder, "01_noisy", "import os\n_ = os.write(2, b'NOISE')\nos.environ['TF_CPP_MIN_LOG_LEVEL']")
    result = run(folder)
    assert "NOISE" not in result.stdout + result.stderr
    assert copy(folder, "01_noisy").cells[1].outputs[-1].data["text/plain"] == "'3'"
