"""`pip install .` gives training to somebody's own project, with no more packages than it declares."""

import importlib.metadata
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
USE = """
import sys
from batchlab import DataError, fit, fit_seeds
import batchlab, batchlab.data, batchlab.paths, batchlab.training
assert batchlab.__file__.startswith(sys.argv[1]), batchlab.__file__
assert DataError is batchlab.data.DataError and issubclass(DataError, ValueError)
assert fit is batchlab.training.fit and fit_seeds is batchlab.training.fit_seeds
assert {"fit", "fit_seeds", "draw_weights", "DataError"} <= set(dir(batchlab))

import keras
import numpy as np

def build_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1, "sigmoid")])
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    return model

x = np.random.default_rng(0).normal(size=(40, 2)).astype("float32")
y = (x[:, 0] > 0).astype("float32")
history = fit(build_model(), x, y, batch_size=8, epochs=3, seed=1)
assert len(history.history["loss"]) == 3
frame = fit_seeds(build_model, x, y, seeds=5, batch_size=8, epochs=3)
assert len(frame) == 15 and frame["loss"].notna().all()
try:
    fit(build_model(), x, y[:-1], batch_size=8, epochs=1)
except ValueError as error:
    assert "39" in str(error) and "40" in str(error), error
else:
    raise AssertionError("arrays of two lengths were taken")
try:
    batchlab.paths.in_clone("data/claims.json")
except FileNotFoundError as error:
    assert str(error).startswith("data/claims.json is not there: it comes with a clone"), error
else:
    raise AssertionError("an installed batchlab has no claims")
print(*sorted(sys.modules))
"""


def closure(requirements):
    """All distributions that these requirements bring."""
    found, waiting = {}, [Requirement(line) for line in requirements]
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[name] = importlib.metadata.distribution(requirement.name)
        waiting += [Requirement(line) for line in found[name].requires or ()]
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: setuptools writes its own files beside pyproject.toml.
    import shutil

    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements-train.txt"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", "-q", *offline, "-w", folder, source], check=True)
    [file] = folder.glob("*.whl")
    subprocess.run([*pip, "install", "-q", *offline, "--target", folder / "installed", file], check=True)
    return folder / "installed"


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory):
    """A folder with batchlab and what it declares, and nothing else of this environment."""
    folder = tmp_path_factory.mktemp("clean")
    [metadata] = importlib.metadata.distributions(name="batch-size-lab", path=[str(wheel)])
    for distribution in closure(metadata.requires).values():
        tops = {Path(file).parts[0] for file in distribution.files if Path(file).parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(distribution.locate_file(top)))
    for top in wheel.iterdir():
        (folder / top.name).symlink_to(top)
    return folder


@pytest.mark.thorough
def test_the_wheel_holds_the_engines_and_nothing_of_the_clone(wheel):
    [top] = [path.name for path in wheel.iterdir() if not path.name.endswith(".dist-info")]
    assert top == "batchlab"
    parts = {path.relative_to(ROOT / "src") for path in (ROOT / "src" / "batchlab").rglob("*.py")}
    assert parts == {path.relative_to(wheel) for path in wheel.rglob("*.py")}
    pages = {path for path in (ROOT / "src" / "batchlab").rglob("*") if path.suffix in {".js", ".css", ".html"}}
    assert {path.suffix for path in pages} == {".js", ".css", ".html"}
    assert all((wheel / path.relative_to(ROOT / "src")).exists() for path in pages)


@pytest.mark.thorough
def test_an_installed_batchlab_trains_with_what_it_declares(clean):
    code = "import sys; sys.path.append(sys.argv[1])\n" + textwrap.dedent(USE)
    command = [sys.executable, "-I", "-S", "-W", "error::RuntimeWarning", "-c", code, str(clean)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=clean)
    assert result.returncode == 0, result.stderr[-3000:]
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert not loaded & {"matplotlib", "sklearn", "scipy", "IPython", "ipywidgets", "igraph", "pooch", "helpers"}


def test_training_brings_no_figure_and_no_table_reader_along():
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); import batchlab.training; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert not {name for name in loaded if name.startswith(("batchlab.figures", "batchlab.ideas", "batchlab.table"))}
    assert not loaded & {"batchlab.data", "batchlab.statistics", "batchlab.claims"}


def test_importing_batchlab_alone_imports_nothing():
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); import batchlab; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorflow", "keras", "numpy", "pandas"} & set(result.stdout.split())


def test_a_name_that_is_not_there_is_an_attribute_error():
    import batchlab

    with pytest.raises(AttributeError, match="no attribute 'fits'"):
        _ = batchlab.fits
