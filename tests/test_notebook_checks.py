"""How `conftest.py` checks notebooks: on which table, against stored outputs or without, in how many kernels."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent


def said(text):
    return [new_output("execute_result", data={"text/plain": repr(text)}, execution_count=1)]


# It shows the table's name, remembers its kernel, and may not see what an earlier run of it defined.
CELLS = [
    new_code_cell("import os, pathlib  # and then load_ads()"),
    new_code_cell("pathlib.Path(os.environ['ADS_CSV']).name", outputs=said("real.csv"), execution_count=1),
    new_code_cell("assert 'seen' not in globals()\nseen = True"),
    new_code_cell(
        "with open('kernels', 'a') as file:\n    print(os.getpid(), os.environ['ADS_CSV'], file=file)",
        metadata={"tags": ["nbval-ignore-output"]},
    ),
]


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Check a notebook in a folder of its own; return pytest's exit status, and the kernels and tables that it used."""

    def go(*options, real=True, cells=CELLS):
        shutil.copy(ROOT / "conftest.py", tmp_path)
        (tmp_path / "data").mkdir()
        for name in ("data/stand_in.csv", "real.csv"):
            (tmp_path / name).touch()
        monkeypatch.setenv("ADS_CSV", str(tmp_path / ("real.csv" if real else "data/stand_in.csv")))
        nbformat.write(new_notebook(cells=cells), tmp_path / "small.ipynb")
        command = [sys.executable, "-m", "pytest", "small.ipynb", "--nbval-current-env", *options]
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        kernels = tmp_path / "kernels"
        used = [line.split() for line in kernels.read_text().splitlines()] if kernels.is_file() else []
        counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed)", result.stdout)}
        return counts, [Path(table).name for _, table in used], len({process for process, _ in used})

    return go


def test_the_thorough_run_takes_both_tables_in_one_kernel_and_compares_on_the_real_one_alone(check):
    # 4 cells twice, and the one in between that begins anew.
    assert check("--thorough") == ({"passed": 9}, ["real.csv", "stand_in.csv"], 1)


def test_a_changed_output_fails_on_the_real_table(check):
    changed = [CELLS[0], new_code_cell(CELLS[1].source, outputs=said("another.csv"), execution_count=1), *CELLS[2:]]
    assert check(cells=changed) == ({"failed": 1, "passed": 3}, ["real.csv"], 1)


def test_without_the_real_table_outputs_are_not_compared_but_assertions_hold(check):
    cells = [*CELLS, new_code_cell("assert not seen")]
    assert check("--thorough", real=False, cells=cells) == ({"failed": 1, "passed": 4}, ["stand_in.csv"], 1)


def test_a_notebook_that_does_not_read_the_table_runs_once(check):
    assert check("--thorough", cells=[new_code_cell("import os, pathlib"), *CELLS[1:]])[0] == {"passed": 4}
