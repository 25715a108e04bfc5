"""`make colab REPO=owner/name`: the address goes to its places and nowhere else."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import set_repository as tool
from set_repository import RepositoryError, set_repository

ROOT = Path(__file__).resolve().parent.parent
FILES = ["pyproject.toml", "README.md", "CITATION.cff"]


@pytest.fixture
def clone(tmp_path):
    """The files of this repository that carry the address."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def notebooks(clone):
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in (clone / "notebooks").glob("*.ipynb")}


def contents(clone):
    return {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()}


def source(cell):
    return "".join(cell["source"])


def set_up_cell(notebook):
    return next(cell for cell in notebook["cells"] if "set-up" in cell["metadata"].get("tags", []))


def test_the_address_reaches_its_places(clone):
    changed = set_repository("ada/batch.size-lab", clone)
    assert {path.name for path in changed} >= {"pyproject.toml", "README.md", *notebooks(clone)}
    assert 'Repository = "https://github.com/ada/batch.size-lab"' in (clone / "pyproject.toml").read_text()

    colab = "https://colab.research.google.com/github/ada/batch.size-lab/blob/main/notebooks/"
    image = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    for name, notebook in notebooks(clone).items():
        title, blank, badge, *_ = source(notebook["cells"][0]).split("\n")
        assert title.startswith("# ")
        assert blank == ""
        assert badge == f"{image}({colab}{name})"
        assert re.findall(r'^REPOSITORY = "(.*?)"', source(set_up_cell(notebook)), re.MULTILINE) == [
            "ada/batch.size-lab"
        ]
    assert f"<!-- colab -->\n{image}({colab}00_start_here.ipynb)\n<!-- /colab -->" in (clone / "README.md").read_text()


def test_nothing_else_changes(clone):
    set_repository("ada/one", clone)  # from here on, only the address differs
    texts = {path: path.read_text(encoding="utf-8") for path in contents(clone)}
    set_repository("grace/two", clone)
    for path, text in texts.items():
        assert path.read_text(encoding="utf-8") == text.replace("ada/one", "grace/two")


def test_a_first_address_leaves_outputs_and_layout(clone):
    before = notebooks(clone)
    set_repository("ada/one", clone)
    for name, notebook in notebooks(clone).items():
        for position, (cell, old) in enumerate(zip(notebook["cells"], before[name]["cells"], strict=True)):
            if position != 0 and cell != set_up_cell(notebook):
                assert cell == old
            assert {**cell, "source": ""} == {**old, "source": ""}
        assert notebook["metadata"] == before[name]["metadata"]
        text = (clone / "notebooks" / name).read_text(encoding="utf-8")
        assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def test_text_after_the_title_stays(clone):
    path = clone / "notebooks" / "00_start_here.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"][0]["source"] = ["# Title\n", "First line.\n", "\n", "Last line."]
    path.write_text(json.dumps(notebook))
    for address in ("ada/one", "grace/two"):
        set_repository(address, clone)
        lines = source(notebooks(clone)[path.name]["cells"][0]).split("\n")
        assert lines[0] == "# Title"
        assert address in lines[2]
        assert lines[1:2] + lines[3:] == ["", "", "First line.", "", "Last line."]


def test_a_second_call_changes_nothing(clone):
    set_repository("ada/one", clone)
    before = contents(clone)
    assert set_repository("ada/one", clone) == []
    assert contents(clone) == before


def test_citation_carries_the_address(clone):
    (clone / "CITATION.cff").write_text('title: Batch Size Lab\nrepository-code: ""\nversion: 1\n')
    set_repository("ada/one", clone)
    assert (clone / "CITATION.cff").read_text() == (
        'title: Batch Size Lab\nrepository-code: "https://github.com/ada/one"\nversion: 1\n'
    )


OTHER_FORMS = ["", "name", "a/b/c", "/name", "owner/", "https://github.com/a/b", "a b/c", "-a/b", "a/b.git", "a/.."]


@pytest.mark.parametrize("address", [*OTHER_FORMS, 'a/b"', "a/b\n", "ä/b"])
def test_another_form_is_refused_and_nothing_written(clone, address):
    before = contents(clone)
    with pytest.raises(RepositoryError, match="REPO=owner/name"):
        set_repository(address, clone)
    assert contents(clone) == before


def remove_markers(clone):
    (clone / "README.md").write_text("# Batch Size Lab\n")


def remove_set_up(clone):
    path = clone / "notebooks" / "00_start_here.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace('"set-up"', '"other"'), encoding="utf-8")


def remove_constant(clone):
    path = clone / "notebooks" / "00_start_here.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace("REPOSITORY = ", "ADDRESS = "), encoding="utf-8")


def remove_key(clone):
    (clone / "pyproject.toml").write_text("[project]\n")


def remove_notebooks(clone):
    shutil.rmtree(clone / "notebooks")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_markers, "README.md has 0 places"),
        (lambda clone: (clone / "README.md").unlink(), "README.md is missing"),
        (remove_set_up, "00_start_here.ipynb lacks its title cell or its cell tagged set-up"),
        (remove_constant, "set-up cell of 00_start_here.ipynb has no line REPOSITORY"),
        (remove_key, "pyproject.toml has 0 places"),
        (remove_notebooks, "no notebooks"),
    ],
)
def test_a_file_without_its_place_is_named_and_nothing_written(clone, spoil, message):
    spoil(clone)
    before = contents(clone)
    with pytest.raises(RepositoryError, match=re.escape(message)):
        set_repository("ada/one", clone)
    assert contents(clone) == before


@pytest.mark.parametrize("arguments", [[""], [], ["owner name"]])
def test_the_command_refuses_with_one_line(arguments):
    result = subprocess.run([sys.executable, tool.__file__, *arguments], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.endswith("write make colab REPO=owner/name, as on GitHub\n")
    assert result.stderr.count("\n") == 1


def test_the_command_says_what_it_wrote(clone):
    (clone / "tools").mkdir()
    command = [sys.executable, shutil.copy(tool.__file__, clone / "tools"), "ada/one"]
    first, second = (subprocess.run(command, capture_output=True, text=True) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert "wrote pyproject.toml\n" in first.stdout
    assert f"wrote {Path('notebooks') / '00_start_here.ipynb'}\n" in first.stdout
    assert second.stdout == "nothing to change\n"
