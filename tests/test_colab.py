"""The set-up cell everywhere: a rehearsal of Colab without a network, and the folders of a clone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parent.parent
START = ROOT / "notebooks" / "00_start_here.ipynb"
ADVICE = (
    "FileNotFoundError: Open this notebook inside a clone, or run `make colab REPO=owner/name` there and open it again."
)


def git(*arguments, cwd):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    result = subprocess.run(["git", *identity, *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return result.stdout


def start_notebook(repository):
    notebook = nbformat.read(START, as_version=4)
    cell = next(cell for cell in notebook.cells if "set-up" in cell.metadata.get("tags", []))
    cell.source, count = re.subn(r'^REPOSITORY = ".*?"', f'REPOSITORY = "{repository}"', cell.source, flags=re.M)
    assert count == 1
    return notebook, cell


# --- Colab -------------------------------------------------------------------------------------------


@pytest.fixture
def remote(tmp_path):
    """A bare repository of the files as they are now, committed or not, under host/owner/name."""
    work = tmp_path / "work"
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0"):
        if (ROOT / name).is_file():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, work / name)
    git("init", "-q", "-b", "main", cwd=work)
    git("add", "-A", cwd=work)
    git("commit", "-q", "-m", "The files as they are now", cwd=work)
    bare = tmp_path / "host" / "owner" / "name"
    git("clone", "-q", "--bare", str(work), str(bare), cwd=tmp_path)
    return bare


@pytest.fixture
def colab(tmp_path, monkeypatch, remote):
    """Colab's traits: google.colab is importable, the folder is empty, and pip's calls go into a file."""
    fakes = tmp_path / "fakes"
    (fakes / "google" / "colab").mkdir(parents=True)  # no __init__ in google: protobuf's part must stay
    (fakes / "google" / "colab" / "__init__.py").touch()
    (fakes / "pip").mkdir()
    pip_calls = tmp_path / "pip_calls"
    (fakes / "pip" / "__init__.py").write_text(f"open({str(pip_calls)!r}, 'a').write('called')")
    monkeypatch.setenv("PYTHONPATH", str(fakes))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{remote.parents[1].as_uri()}/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    monkeypatch.delenv("ADS_CSV", raising=False)
    content = tmp_path / "content"
    content.mkdir()
    return content


def execute(notebook, folder):
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()


@pytest.mark.thorough
def test_a_notebook_alone_runs_in_colab_and_runs_again(colab, remote):
    notebook, set_up = start_notebook("owner/name")
    check = new_code_cell("from pathlib import Path\nPath(helpers.__file__).relative_to(Path.cwd()).as_posix()")
    notebook.cells.append(check)
    execute(notebook, colab)  # the whole notebook, on the stand-in that the clone brings
    assert set_up.outputs == []
    assert check.outputs[0].data["text/plain"] == "'batch-size-lab/src/helpers.py'"
    assert [path.name for path in colab.iterdir()] == ["batch-size-lab"]
    assert git("rev-list", "--count", "HEAD", cwd=colab / "batch-size-lab") == "1\n"
    assert not (colab.parent / "pip_calls").exists()

    shutil.rmtree(remote)  # so that a second clone would fail
    again, set_up = start_notebook("owner/name")
    again.cells = [set_up, check]
    execute(again, colab)
    assert set_up.outputs == []
    assert check.outputs[0].data["text/plain"] == "'batch-size-lab/src/helpers.py'"


def test_the_fake_pip_would_be_noticed(colab):
    subprocess.run([sys.executable, "-m", "pip", "install", "x"], cwd=colab, capture_output=True)
    assert (colab.parent / "pip_calls").read_text().startswith("called")


# --- anywhere else -----------------------------------------------------------------------------------


def run_set_up(folder, repository="", *, python=(), after="", environment=None):
    """Run the set-up cell as a script, with the lines `after` it."""
    _, cell = start_notebook(repository)
    command = [sys.executable, *python, "-c", f"{cell.source}\n{after}"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def clone(tmp_path):
    """A clone's layout, with engines that only say that they were called."""
    engines = tmp_path / "clone" / "src" / "batchlab"
    engines.mkdir(parents=True)
    (engines / "__init__.py").touch()
    (engines / "environment.py").write_text("called = []\n\ndef prepare():\n    called.append(True)\n")
    (engines.parent / "helpers.py").touch()
    (tmp_path / "clone" / "notebooks" / "drafts").mkdir(parents=True)
    return tmp_path / "clone"


@pytest.mark.parametrize("folder", [".", "notebooks", "notebooks/drafts", ".."])
def test_the_clone_is_found_from_its_folders(clone, folder):
    if folder == "..":  # where Colab's second run stands
        clone = clone.rename(clone.parent / "batch-size-lab")
    after = "from batchlab import environment\nprint(helpers.__file__, environment.called)"
    result = run_set_up(clone / folder, after=after)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{clone.resolve() / 'src' / 'helpers.py'} [True]\n"


def test_a_second_run_in_the_same_kernel_adds_no_second_path(clone):
    _, cell = start_notebook("")
    result = run_set_up(clone / "notebooks", after=f"{cell.source}\nprint(sys.path.count(source))")
    assert (result.stdout, result.stderr) == ("1\n", "")


@pytest.mark.parametrize("python", [(), ("-I", "-S")], ids=["with protobuf's google", "without any google"])
@pytest.mark.parametrize("repository", ["", "owner/name"])
def test_outside_a_clone_and_outside_colab_one_sentence_says_what_to_do(tmp_path, repository, python):
    result = run_set_up(tmp_path, repository, python=python)
    assert result.stderr.splitlines()[-1] == ADVICE
    assert list(tmp_path.iterdir()) == []


def test_colab_without_an_address_says_what_to_do(tmp_path):
    (tmp_path / "fakes" / "google" / "colab").mkdir(parents=True)
    (tmp_path / "content").mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "fakes")}
    result = run_set_up(tmp_path / "content", "", environment=environment)
    assert result.stderr.splitlines()[-1] == ADVICE
