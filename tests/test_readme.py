"""The README may not say what the repository does not hold."""

import base64
import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_every_notebook_is_on_both_maps():
    start = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", 4)
    story = "\n".join(cell.source for cell in start.cells if cell.cell_type == "markdown")
    for path in NOTEBOOKS:
        assert f"(notebooks/{path.name})" in README
        assert f"| `{path.stem}` |" in story


def test_the_picture_is_the_one_in_the_start_notebook():
    start = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", 4)
    outputs = [output for cell in start.cells for output in cell.get("outputs", [])]
    # The first one: the playground has a picture too.
    picture = next(o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {}))
    assert base64.b64decode(picture) == (ROOT / "docs" / "start.png").read_bytes()


def test_linked_files_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert "notebooks/00_start_here.ipynb" in targets
    for target in targets:
        assert "://" in target or (ROOT / target).is_file(), target


def test_named_commands_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"run", "test"} <= set(re.findall(r"`make (\w+)", README)) <= set(targets)
