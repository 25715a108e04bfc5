"""Where the tests' time goes: by process, by kind of work, by test and cell. Writes `tests/durations.json`.

The same file is the command and the pytest plugin that every process of it loads. A notebook's work is done in its
kernel, which the plugin does not see: of a notebook the seconds of its cells are known.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "BATCHLAB_TEST_TIMES"  # the environment variable that names where each process leaves its times
KINDS = ("start", "plain Keras", "tracing", "compiling", "the rest")


# --- the plugin --------------------------------------------------------------------------------------


class Clock:
    """Seconds by kind of work, each counted once: what is called within another kind's work does not count for that."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def timed(self, kind: str, function: Callable) -> Callable:
        """Return the function, its time counted under `kind`."""

        @wraps(function)
        def wrapper(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                took = time.perf_counter() - start
                self.seconds[kind] += took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        return wrapper


_began = time.perf_counter()
os.environ.pop("PYTEST_ADDOPTS", None)  # tests that run pytest themselves do so without this plugin
_clock = Clock()
_seconds: dict[str, float] = defaultdict(float)  # by test


def pytest_collection_finish(session: pytest.Session) -> None:
    """Count all until here as the start, and time what the tests are about to call."""
    _clock.seconds["start"] = time.perf_counter() - _began
    if "keras" in sys.modules:
        import keras

        for name in ("fit", "evaluate", "predict"):
            setattr(keras.Model, name, _clock.timed("plain Keras", getattr(keras.Model, name)))
    if "batchlab.training" in sys.modules:
        from batchlab.training.programs.loop import Compiled

        Compiled.__init__ = _clock.timed("tracing", Compiled.__init__)
        Compiled.compile = _clock.timed("compiling", Compiled.compile)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up a test's set-up, call and tear-down."""
    _seconds[report.nodeid] += report.duration


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave what this process took."""
    if not _seconds:
        return
    took = time.perf_counter() - _began
    kinds = {**_clock.seconds, "the rest": took - sum(_clock.seconds.values())}
    record = {"seconds": took, "kinds": kinds, "tests": _seconds}
    Path(os.environ[FOLDER], f"{os.getpid()}.json").write_text(json.dumps(record), encoding="utf-8")


# --- the command -------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all tests with the plugin, print a table in Markdown, and keep the seconds of each file.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        Exit status of the tests.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thorough", action="store_true", help="of `make test-thorough` instead of `make test`")
    options = parser.parse_args(arguments)
    import run_tests

    unit = import_seconds()
    with tempfile.TemporaryDirectory(prefix="batchlab-") as folder:
        os.environ |= {FOLDER: folder, "PYTHONPATH": str(ROOT / "tools"), "PYTEST_ADDOPTS": "-p profile_tests"}
        start = time.perf_counter()
        status = run_tests.main(["--thorough"] if options.thorough else [])
        wall = time.perf_counter() - start
        records = [json.loads(file.read_text(encoding="utf-8")) for file in Path(folder).iterdir()]
    print("\n".join(table(records, unit, wall)))
    keep(records, "thorough" if options.thorough else "quick", ROOT / run_tests.DURATIONS)
    return status


def import_seconds(repeats: int = 5) -> float:
    """T, the unit of the budgets: median seconds that a new process needs to import TensorFlow."""
    command, taken = [sys.executable, "-c", "import tensorflow"], []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def table(records: Sequence[dict[str, Any]], unit: float, wall: float) -> Iterator[str]:
    """Lay out the times of processes, each in multiples of T.

    Args:
        records: What each process left.
        unit: T in seconds.
        wall: Seconds that all took, several at a time.

    Yields:
        Lines of Markdown.
    """
    notebooks = [r for r in records if next(iter(r["tests"])).startswith("notebooks/")]
    files = [r for r in records if r not in notebooks]
    yield f"T = {unit:.1f} s. Wall clock: {wall / unit:.0f} T. By process, in T:"
    yield ""
    yield "| | all | " + " | ".join(KINDS) + " |"
    yield "| --- |" + " --- |" * (1 + len(KINDS))
    for record in sorted(files, key=lambda r: -r["seconds"]):
        names = sorted({Path(test.partition("::")[0]).stem.removeprefix("test_") for test in record["tests"]})
        name = names[0] if len(names) == 1 else f"{len(names)} files: {', '.join(names)}"
        parts = " | ".join(f"{record['kinds'].get(kind, 0) / unit:.1f}" for kind in KINDS)
        yield f"| {name} | {record['seconds'] / unit:.1f} | {parts} |"
    together = {kind: sum(r["kinds"].get(kind, 0) for r in files) / unit for kind in KINDS}
    yield f"| all files | {sum(together.values()):.1f} | " + " | ".join(f"{together[k]:.1f}" for k in KINDS) + " |"
    yield ""
    yield "| notebook | all | its cells that take longest |"
    yield "| --- | --- | --- |"
    for record in sorted(notebooks, key=lambda r: -r["seconds"]):
        name = Path(next(iter(record["tests"])).partition("::")[0]).stem
        yield f"| {name} | {record['seconds'] / unit:.1f} | {_longest(record, unit, 4)} |"
    yield f"| all notebooks | {sum(r['seconds'] for r in notebooks) / unit:.1f} | |"
    yield ""
    yield "| tests that take longest | T |"
    yield "| --- | --- |"
    tests = {test: seconds for r in files for test, seconds in r["tests"].items()}
    for test, seconds in sorted(tests.items(), key=lambda item: -item[1])[:15]:
        yield f"| {test} | {seconds / unit:.1f} |"


def _longest(record: dict[str, Any], unit: float, number: int) -> str:
    cells = sorted(record["tests"].items(), key=lambda item: -item[1])[:number]
    return ", ".join(f"{name.partition('::')[2]}: {seconds / unit:.1f}" for name, seconds in cells)


def keep(records: Sequence[dict[str, Any]], what: str, path: Path) -> None:
    """Write the seconds of each file, in place of what was kept of the same run before."""
    measured: dict[str, float] = defaultdict(float)
    for record in records:
        for test, seconds in record["tests"].items():
            measured[test.partition("::")[0]] += seconds
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept[what] = {file: round(measured[file]) for file in sorted(measured)}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
