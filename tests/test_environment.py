"""What the set-up cell calls: installing in Colab, the silent import, and the report."""

import ast
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from batchlab import environment

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
REAL_FIND_SPEC = importlib.util.find_spec

# A stand-in for TensorFlow that writes where its C++ code does, past Python's sys.stderr.
NOISY = "import os\nos.write(2, b'NOISE')\n"


# --- what Colab may lack -----------------------------------------------------------------------------


@pytest.fixture
def colab(monkeypatch):
    """Pretend to be Colab; the lists hold the modules that are absent and pip's calls."""
    absent, calls = [], []

    def find_spec(name, package=None):
        if name in absent:
            return None
        return object() if name in {"google", "google.colab"} else REAL_FIND_SPEC(name, package)

    def run(command, **_):
        calls.append(command)
        return SimpleNamespace(returncode=pip.returncode, stderr=pip.stderr)

    pip = SimpleNamespace(returncode=0, stderr="")
    tensorflow = ModuleType("tensorflow")  # the import is not what these tests are about
    tensorflow.__spec__ = object()
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(subprocess, "run", run)
    return SimpleNamespace(absent=absent, calls=calls, pip=pip)


def test_a_complete_colab_installs_nothing(colab):
    environment.prepare()
    assert colab.calls == []


def test_only_what_is_missing_is_installed_with_its_range(colab):
    colab.absent += ["pooch"]
    environment.prepare()
    [command] = colab.calls
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert [part for part in command[4:] if not part.startswith("--")] == ["pooch>=1.8,<2"]
    assert "--upgrade" not in command


def test_several_missing_packages_are_one_call(colab):
    colab.absent += ["pooch", "sklearn"]
    environment.prepare()
    [command] = colab.calls
    assert command[-2:] == ["scikit-learn>=1.6,<2", "pooch>=1.8,<2"]


@pytest.mark.parametrize("missing_too", ["google", "google.colab"])
def test_outside_colab_nothing_is_installed(colab, missing_too):
    colab.absent += ["pooch", missing_too]
    environment.prepare()
    assert colab.calls == []


@pytest.mark.parametrize(
    ("stderr", "why"),
    [("WARNING: x\nERROR: No matching distribution found\n", "ERROR: No matching distribution found"),
     ("", "it gave no reason")],
)  # fmt: skip
def test_a_failing_pip_is_one_message(colab, stderr, why):
    colab.absent += ["pooch"]
    colab.pip.returncode, colab.pip.stderr = 1, stderr
    with pytest.raises(RuntimeError) as error:
        environment.prepare()
    assert str(error.value) == f"pip could not install pooch>=1.8,<2: {why}"


def test_the_packages_are_those_that_src_imports():
    imported = set()
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    own = {path.stem for path in SRC.iterdir()}
    # Each kernel brings IPython; matplotlib and pooch both require packaging; who gives `sweep` a client has Dask.
    third_party = imported - sys.stdlib_module_names - own - {"IPython", "packaging", "dask"}
    assert third_party == set(environment.PACKAGES)


# --- the silent import -------------------------------------------------------------------------------


def run_with_fake_tensorflow(folder, tensorflow, code):
    (folder / "tensorflow.py").write_text(tensorflow)
    variables = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    variables["PYTHONPATH"] = os.pathsep.join([str(folder), str(SRC)])
    code = f"import os, sys\nfrom batchlab.environment import prepare\n{code}"
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)


def test_the_fake_is_heard_without_prepare(tmp_path):
    assert run_with_fake_tensorflow(tmp_path, NOISY, "import tensorflow").stderr == "NOISE"


def test_the_import_is_silent_and_stderr_works_afterwards(tmp_path):
    code = (
        "before = len(os.listdir('/dev/fd')) if os.path.isdir('/dev/fd') else 0\n"
        "prepare()\n"
        "assert 'tensorflow' in sys.modules and os.environ['TF_CPP_MIN_LOG_LEVEL'] == '3'\n"
        "assert not before or len(os.listdir('/dev/fd')) == before\n"
        "os.write(2, b'after')"
    )
    result = run_with_fake_tensorflow(tmp_path, NOISY, code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "after")


def test_stderr_works_after_a_failed_import(tmp_path):
    code = "try:\n    prepare()\nexcept ImportError as error:\n    os.write(2, str(error).encode())"
    result = run_with_fake_tensorflow(tmp_path, NOISY + "raise ImportError('no AVX here')", code)
    assert (result.returncode, result.stderr) == (0, "no AVX here")


def test_a_closed_stderr_does_not_matter(tmp_path):
    code = "os.close(2)\nprepare()\nprint('tensorflow' in sys.modules)"
    result = run_with_fake_tensorflow(tmp_path, "", code)
    assert (result.returncode, result.stdout) == (0, "True\n")


def test_a_log_level_that_the_user_chose_stays(tmp_path):
    code = "os.environ['TF_CPP_MIN_LOG_LEVEL'] = '0'\nprepare()\nprint(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    assert run_with_fake_tensorflow(tmp_path, "", code).stdout == "0\n"


# --- the report --------------------------------------------------------------------------------------


def test_report_compares_with_what_is_asked_for():
    table = environment.report()
    assert list(table.columns) == ["here", "asked for", "ok"]
    assert list(table.index) == [*environment.PACKAGES.values(), "Python", "processor cores", "runs in"]
    assert table.loc["pooch", "asked for"] == ">=1.8,<2"
    assert table.loc["numpy", "here"] == importlib.metadata.version("numpy")
    assert table.loc["Python", "asked for"] == ">=3.11,<3.14"
    assert int(table.loc["processor cores", "here"]) >= 1
    assert table["ok"].all()
    assert not table.map(lambda value: "/" in str(value)).any(axis=None), "no machine path"


@pytest.mark.parametrize("version", ["1.7.9", "2.0", "2.0.0"])
def test_report_says_when_a_version_is_outside_its_range(monkeypatch, version):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == "pooch" else real(name))
    table = environment.report()
    assert list(table.index[~table["ok"]]) == ["pooch"]
    assert table.loc["pooch", "here"] == version


def test_report_says_when_a_package_is_missing(monkeypatch):
    def version(name):
        if name == "pooch":
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.20"

    monkeypatch.setattr(importlib.metadata, "version", version)
    row = environment.report().loc["pooch"]
    assert (row["here"], row["ok"]) == ("missing", False)


def test_report_names_the_place(monkeypatch):
    def place():
        return environment.report().loc["runs in", "here"]

    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert place() == "plain Python"
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/00_start_here.ipynb")
    assert place() == "JupyterLab"
    monkeypatch.setattr(sys.modules["__main__"], "__vsc_ipynb_file__", "x.ipynb", raising=False)
    assert place() == "VS Code"


def test_report_names_colab(colab):
    assert environment.report().loc["runs in", "here"] == "Colab"
