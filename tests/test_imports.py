"""What an import brings along: ideas and figures are for readers who do not train."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"
IDEAS = [f"batchlab.ideas.{name}" for name in ("descent", "autodiff", "recursion", "exercises")]
FIGURES = [f"batchlab.figures.{path.stem}" for path in (SRC / "batchlab" / "figures").glob("[!_]*.py")]
FIGURES.append("batchlab.figures.playground")
FRAMEWORKS = ("tensorflow", "keras")

# The exercises import their modules, one a notebook, when they are first asked for.
USE = {"ideas": "import batchlab.ideas.exercises; batchlab.ideas.exercises.names()", "figures": ""}


@pytest.mark.parametrize(
    ("room", "modules", "kept_out"),
    [
        ("ideas", IDEAS, (*FRAMEWORKS, "batchlab.training", "matplotlib")),
        ("figures", FIGURES, (*FRAMEWORKS, "batchlab.training")),
    ],
)
def test_no_framework_comes_along(room, modules, kept_out):
    assert len(modules) > 3
    code = f"import sys, {', '.join(modules)}\n{USE[room]}\nprint(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = result.stdout.split()
    assert set(modules) <= set(loaded)
    brought = [name for name in loaded for out in kept_out if name == out or name.startswith(f"{out}.")]
    assert not brought, brought[:5]
