"""`make run`'s program executes notebooks on the committed stand-in and prints the documented figures beside ours."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTED = {"02_batch_size_1": "1", "03_batch_size_250": "250"}


@pytest.mark.thorough
@pytest.mark.parametrize("stem", DOCUMENTED)
def test_a_notebook_runs_and_its_documented_figures_are_printed(stem, tmp_path):
    command = [sys.executable, "tools/run_notebooks.py", "--output", str(tmp_path), stem]
    environment = os.environ | {"ADS_CSV": str(ROOT / "data" / "stand_in.csv")}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    assert [path.stem for path in tmp_path.iterdir()] == [stem]

    _, _, tables = result.stdout.partition("Documented against measured")
    assert "Data: the synthetic stand-in" in tables or "Data: stand_in.csv" in tables
    printed = set(re.findall(r"\d\.\d{4}\b", tables))
    runs = json.loads((ROOT / "data" / "documented_runs.json").read_text(encoding="utf-8"))["runs"]
    documented = {f"{v:.4f}" for epoch in runs[DOCUMENTED[stem]]["epoch"].values() for v in epoch.values()}
    assert len(documented) > 5
    assert documented <= printed, f"not in the printed tables: {sorted(documented - printed)}"


def test_the_documented_figures_of_both_batch_sizes_have_their_notebook():
    tagged = {
        path.stem
        for path in (ROOT / "notebooks").glob("*.ipynb")
        for cell in nbformat.read(path, as_version=4).cells
        if "documented-against-measured" in cell.metadata.get("tags", [])
    }
    assert set(DOCUMENTED) <= tagged
    runs = json.loads((ROOT / "data" / "documented_runs.json").read_text(encoding="utf-8"))["runs"]
    assert {size for size, run in runs.items() if run.get("epoch")} == set(DOCUMENTED.values())
