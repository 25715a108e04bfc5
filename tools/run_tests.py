"""Run the tests, as many processes at a time as there are cores: `make test`, `make test-thorough`.

Tests marked `thorough` are further cases of what others test, which only the thorough run includes. Files that are
named are run whole.

To import TensorFlow takes as long as many a test, so a process is given many files, those of each process taking about
as long as those of the others: `tests/durations.json`, which `make profile` writes, says how long each took. But what
XLA has compiled stays in a process until it ends, so a process that has grown begins no further file, and another one
goes on with the rest (conftest.py). A notebook's kernel is its own process. Through a folder on disk all of them share
what they compiled.

Half of the seconds of the files are XLA's, which compiles hundreds of small programs that then run for milliseconds. So
they are compiled without optimising, in half the time. Notebooks, and files that are named, have what users have.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
DURATIONS = Path("tests", "durations.json")  # from the root
PROCESS_BYTES = 2**32  # what a process may take; conftest.py fails beyond


@dataclass(frozen=True)
class Result:
    """What one process did."""

    name: str
    status: int
    output: str
    seconds: float


def main(arguments: list[str] | None = None) -> int:
    """Run the tests and add up what came of them.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        Exit status: 0 when every process ran tests and none of them failed, 1 otherwise.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", help="test files, run whole; all of them, and the notebooks, by default")
    parser.add_argument("--thorough", action="store_true", help="every case, and notebooks on both tables")
    parser.add_argument("--root", type=Path, default=ROOT, help="where the tests are")
    options = parser.parse_args(arguments)
    paths, flags = options.paths or default_paths(options.root), []
    if options.thorough:
        flags = ["--thorough"]
    elif not options.paths:
        flags = ["-m", "not thorough"]

    counts, failed, start = Counter(), [], time.perf_counter()
    lock = threading.Lock()

    def tell(result: Result) -> None:
        with lock:  # several processes end at a time
            print(f"--- {result.name}: {result.seconds:.0f} s\n{result.output}", flush=True)
            counts.update({word: int(number) for number, word in re.findall(_COUNTED, result.output)})
            nothing_due = result.status == _NO_TESTS and " deselected" in result.output
            if result.status and not nothing_due:  # a file may be wholly thorough
                failed.append(result.name)

    known = durations(options.root, thorough="not thorough" not in flags)
    with tempfile.TemporaryDirectory(prefix="batchlab-", ignore_cleanup_errors=True) as folder:
        as_users_do = _environment(Path(folder, "optimised"))
        quickly = _environment(Path(folder, "quick")) | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
        with ThreadPoolExecutor(number := at_once()) as pool:
            futures = []
            for group in groups(paths, known, number):
                environment = as_users_do if options.paths or _alone(group[0]) else quickly
                futures.append(pool.submit(_run, group, flags, options.root, environment, tell))
            for future in as_completed(futures):
                future.result()
    if failed:
        print(f"Failed: {', '.join(failed)}")
    print(f"All together took {time.perf_counter() - start:.0f} s.")
    print(f"{counts['passed']} passed, {counts['failed'] + counts['error']} failed, {counts['skipped']} skipped")
    return 1 if failed or not counts["passed"] else 0


_COUNTED = re.compile(r"(?<=[ =])(\d+) (passed|failed|skipped|error)s?(?=[, ])")
_NO_TESTS = 5  # pytest's exit status


def at_once() -> int:
    """How many processes run at a time: one for each core that has memory enough."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, psutil.virtual_memory().total // PROCESS_BYTES))


def default_paths(root: Path) -> list[str]:
    """Every notebook and every file of tests."""
    found = [*root.glob("notebooks/*.ipynb"), *root.glob("tests/test_*.py")]
    return [path.relative_to(root).as_posix() for path in sorted(found)]


def durations(root: Path, thorough: bool) -> dict[str, float]:
    """Seconds that each file took when it was last measured; nothing where that was never done."""
    if not (root / DURATIONS).is_file():
        return {}
    measured = json.loads((root / DURATIONS).read_text(encoding="utf-8"))
    return measured.get("thorough" if thorough else "quick", {})


def groups(paths: Sequence[str], known: Mapping[str, float], number: int) -> list[list[str]]:
    """Divide files among processes of about equal length.

    Args:
        paths: Notebooks, which get a process each, and files of tests.
        known: Seconds that they take; a file that is not in it is taken for an average one.
        number: Processes that run at a time.

    Returns:
        The files of each process, those that take longest first.
    """
    average = statistics.mean(known.values() or [1])

    def seconds(group: Sequence[str]) -> float:
        return sum(known.get(path, average) for path in group)

    shared: list[list[str]] = [[] for _ in range(number)]
    for path in sorted((path for path in paths if not _alone(path)), key=lambda path: (-seconds([path]), path)):
        min(shared, key=seconds).append(path)
    return sorted([*([path] for path in paths if _alone(path)), *filter(None, shared)], key=seconds, reverse=True)


def _alone(path: str) -> bool:
    return path.endswith(".ipynb")


def _environment(programs: Path) -> dict[str, str]:
    """Our environment, and a folder that keeps compiled programs: XLA's flags are no part of a program's name there."""
    programs.mkdir()
    return os.environ | {"TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={programs}"}


def _run(
    group: list[str], flags: list[str], root: Path, environment: dict[str, str], tell: Callable[[Result], None]
) -> None:
    """Test the files in one process, or, where that grows too large, in one after the other."""
    while group:
        with tempfile.TemporaryDirectory(prefix="batchlab-") as folder:
            left = Path(folder, "left")
            command, start = [sys.executable, "-m", "pytest", *group, *flags, "--left", left], time.perf_counter()
            done = subprocess.run(
                command,
                cwd=root,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            rest = left.read_text(encoding="utf-8").splitlines() if left.exists() else []
        number = len(group) - len(rest)
        name = group[0] if number == 1 else f"{group[0]} and {number - 1} more"
        tell(Result(name, done.returncode, done.stdout, time.perf_counter() - start))
        group = rest


if __name__ == "__main__":
    sys.exit(main())
