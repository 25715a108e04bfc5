"""Where a notebook runs: install what Colab lacks, import TensorFlow silently, report versions.

Imports only the standard library at the top: `prepare` runs before anything else is known to be there.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from batchlab import xla
from batchlab.cores import process_cores
from batchlab.paths import in_clone

if TYPE_CHECKING:
    import pandas as pd

# What src/ imports, and the name of each in requirements.txt. A test keeps this equal to the imports.
PACKAGES = {
    "tensorflow": "tensorflow",
    "keras": "keras",
    "numpy": "numpy",
    "pandas": "pandas",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "PIL": "pillow",
    "pooch": "pooch",
    "scipy": "scipy",
    "igraph": "igraph",
    "ipywidgets": "ipywidgets",
    "anywidget": "anywidget",
    "traitlets": "traitlets",
    "psutil": "psutil",
    "pyarrow": "pyarrow",
    "platformdirs": "platformdirs",
    "jinja2": "jinja2",
}


def prepare() -> None:
    """Make the notebook's kernel ready: complete in Colab, and with TensorFlow imported. Prints nothing.

    Raises:
        RuntimeError: In Colab, when pip cannot install a package that is missing.
    """
    if _in_colab():
        _install_missing()
    xla.set_up()
    # The variable alone does not silence the C++ start-up lines: they go to file descriptor 2 itself.
    with _muted_descriptor_2():
        import tensorflow  # noqa: F401


def report() -> pd.DataFrame:
    """Compare this environment with what requirements.txt and pyproject.toml ask for.

    Returns:
        One row per package, then Python, the processor cores and the place where the notebook runs. Columns:
        `here` (version or value), `asked for` (range, empty where any will do), `ok` (bool).
    """
    # Not at the top: `prepare` may have to install these first.
    import pandas as pd
    from packaging.specifiers import SpecifierSet

    lines = _requirement_lines()
    asked = {name: lines[name].removeprefix(name) for name in PACKAGES.values()}
    here = {name: _installed_version(name) for name in asked}
    with in_clone("pyproject.toml").open("rb") as file:
        asked["Python"] = tomllib.load(file)["project"]["requires-python"]
    here["Python"] = platform.python_version()

    rows = []
    for name, version in here.items():
        fits = version is not None and SpecifierSet(asked[name]).contains(version, prereleases=True)
        rows.append((name, version or "missing", asked[name], fits))
    rows += [("processor cores", str(process_cores()), "", True), ("runs in", _place(), "", True)]
    return pd.DataFrame(rows, columns=["what", "here", "asked for", "ok"]).set_index("what")


def is_live() -> bool:
    """Tell whether somebody may be looking: JupyterLab, VS Code or Colab, rather than a run that nobody watches."""
    return _place() != "plain Python"


def _in_colab() -> bool:
    # find_spec on a dotted name raises when the parent is absent; protobuf brings a `google` without Colab.
    return bool(importlib.util.find_spec("google") and importlib.util.find_spec("google.colab"))


def _install_missing() -> None:
    lines = _requirement_lines()
    missing = [lines[name] for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if not missing:
        return
    # Only missing packages are named, so pip leaves every version that Colab has in its place.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *missing]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        why = (result.stderr.strip() or "it gave no reason").splitlines()[-1]
        raise RuntimeError(f"pip could not install {', '.join(missing)}: {why}")
    importlib.invalidate_caches()


def _requirement_lines() -> dict[str, str]:
    """The lines of requirements.txt by package name, those of requirements-train.txt among them."""
    files = ("requirements-train.txt", "requirements.txt")
    text = "\n".join(in_clone(file).read_text(encoding="utf-8") for file in files)
    return {
        line[0]: line[0] + line[1] for line in re.findall(r"^(\w[\w.-]*)([^#\n]*?)\s*(?:#.*)?$", text, re.MULTILINE)
    }


@contextlib.contextmanager
def _muted_descriptor_2() -> Iterator[None]:
    try:
        kept = os.dup(2)
    except OSError:  # closed, as under pythonw: there is nothing to mute
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _place() -> str:
    if _in_colab():
        return "Colab"
    # VS Code's extension puts this name into the kernel's namespace; Jupyter's server sets the variable.
    if "__vsc_ipynb_file__" in vars(sys.modules["__main__"]):
        return "VS Code"
    return "JupyterLab" if "JPY_SESSION_NAME" in os.environ else "plain Python"
