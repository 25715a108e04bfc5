"""Run the tests, as many processes at a time as there are cores: `make test`, `make test-thorough`.

Tests marked `thorough` are further cases of what others test, which only the thorough run includes. Files that are
named are run whole.

To import TensorFlow takes as long as many a test, so a process is given many files. But what XLA has compiled stays in
a process until it ends, so it is given no more than fit into its memory. How long each file takes and how much memory
it leaves behind is read from `tests/durations.json`, which `make profile` writes. A notebook's kernel is its own
process. Through a folder on disk all of them share what they compiled.

Half of the seconds of the files are XLA's, which compiles hundreds of small programs that then run for milliseconds. So
`make test` has it compile them without optimising, in half the time. Notebooks, and all of the thorough run, have what
users have.
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
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
DURATIONS = Path("tests", "durations.json")  # from the root
PROCESS_MEBIBYTES = 4096  # what a process may take; conftest.py fails beyond
START_MEBIBYTES = 900  # of these when nothing has been compiled yet
SPARE_MEBIBYTES = 1300  # of these for what is held only for a while


@dataclass(frozen=True)
class Cost:
    """What a file of tests takes: seconds on the machine that measured, and mebibytes that remain in the process."""

    seconds: float
    mebibytes: float


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
    paths, flags, xla_flags = options.paths or default_paths(options.root), [], {}
    if options.thorough:
        flags = ["--thorough"]
    elif not options.paths:
        flags, xla_flags = ["-m", "not thorough"], {"XLA_FLAGS": "--xla_backend_optimization_level=0"}

    counts, failed, start = Counter(), [], time.perf_counter()
    known = costs(options.root, thorough="not thorough" not in flags)
    with tempfile.TemporaryDirectory(prefix="batchlab-", ignore_cleanup_errors=True) as folder:
        of_notebooks = _environment(Path(folder, "notebooks"))
        of_files = _environment(Path(folder, "files")) | xla_flags
        with ThreadPoolExecutor(number := at_once()) as pool:
            futures = [
                pool.submit(_run, group, flags, options.root, of_notebooks if _is_notebook(group[0]) else of_files)
                for group in groups(paths, known, number)
            ]
            for future in as_completed(futures):
                group, status, output, seconds = future.result()
                name = group[0] if len(group) == 1 else f"{group[0]} and {len(group) - 1} more"
                print(f"--- {name}: {seconds:.0f} s\n{output}", flush=True)
                counts += Counter({word: int(number) for number, word in re.findall(_COUNTED, output)})
                if status and not (status == _NO_TESTS and " deselected" in output):  # a file may be wholly thorough
                    failed.append(name)
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
    return max(1, min(cores, psutil.virtual_memory().total // (PROCESS_MEBIBYTES * 2**20)))


def default_paths(root: Path) -> list[str]:
    """Every notebook and every file of tests."""
    found = [*root.glob("notebooks/*.ipynb"), *root.glob("tests/test_*.py")]
    return [path.relative_to(root).as_posix() for path in sorted(found)]


def costs(root: Path, thorough: bool) -> dict[str, Cost]:
    """What each file took when it was last measured; nothing where that was never done."""
    if not (root / DURATIONS).is_file():
        return {}
    measured = json.loads((root / DURATIONS).read_text(encoding="utf-8"))
    return {path: Cost(*cost) for path, cost in measured.get("thorough" if thorough else "quick", {}).items()}


def groups(paths: Sequence[str], known: Mapping[str, Cost], number: int) -> list[list[str]]:
    """Divide files among processes of about equal length, no more of them than memory asks for.

    Args:
        paths: Notebooks, which get a process each, and files of tests.
        known: What they take; a file that is not in it is taken for an average one.
        number: Processes that run at a time.

    Returns:
        The files of each process, those that take longest first.
    """
    average = Cost(
        statistics.mean([cost.seconds for cost in known.values()] or [1]),
        statistics.mean([cost.mebibytes for cost in known.values()] or [0]),
    )
    cost = {path: known.get(path, average) for path in paths}

    def seconds(group: Sequence[str]) -> float:
        return sum(cost[path].seconds for path in group)

    def fits(group: Sequence[str]) -> bool:
        return sum(cost[path].mebibytes for path in group) < PROCESS_MEBIBYTES - START_MEBIBYTES - SPARE_MEBIBYTES

    notebooks = [[path] for path in paths if _is_notebook(path)]
    files: list[list[str]] = [[] for _ in range(number)]
    for path in sorted(set(paths) - {path for (path,) in notebooks}, key=lambda path: (-cost[path].seconds, path)):
        group = min((group for group in files if fits([*group, path])), key=seconds, default=None)
        if group is None:
            files.append(group := [])
        group.append(path)
    return sorted(filter(None, [*notebooks, *files]), key=seconds, reverse=True)


def _is_notebook(path: str) -> bool:
    return path.endswith(".ipynb")


def _environment(programs: Path) -> dict[str, str]:
    """Our environment, and a folder that keeps compiled programs: XLA's flags are no part of a program's name there."""
    programs.mkdir()
    return os.environ | {"TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={programs}"}


def _run(
    group: list[str], flags: list[str], root: Path, environment: dict[str, str]
) -> tuple[list[str], int, str, float]:
    start = time.perf_counter()
    command = [sys.executable, "-m", "pytest", *group, *flags]
    result = subprocess.run(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return group, result.returncode, result.stdout, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
