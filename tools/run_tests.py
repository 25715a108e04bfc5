"""Run the tests, two processes at a time, each with files of its own: `make test`, `make test-thorough`.

Tests marked `thorough` are further cases of what others test, kept for CI since they take as long again. Files that are
named are run whole.

What XLA has compiled stays in a process until it ends, some 20 MB a model, so the files that compile most have a
process each, and so has every notebook. Through a folder on disk they share what they compiled.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 2
OTHERS_IN = 5  # processes
# What takes longest first, so that no process is left alone with it at the end.
ALONE = (
    "tests/test_fit_models.py",
    "tests/test_fit_losses.py",
    "tests/test_fit_seeds.py",
    "tests/test_fit_optimizers.py",
    "tests/test_fit_seeds_models.py",
    "tests/test_fit_seeds_one_by_one.py",
    "tests/test_fit_seeds_equality.py",
    "tests/test_fit_further_optimizers.py",
    "tests/test_fit_contract.py",
    "tests/test_fit_state.py",
    "tests/test_fit_memory.py",
    "tests/test_keras_internals.py",
    "tests/test_cache.py",
    "tests/test_sweep.py",
    "tests/test_advice.py",
    "tests/test_curvature.py",
    "tests/test_cohort.py",
    "tests/test_bench.py",
    "tests/test_book.py",
    "tests/test_study.py",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the tests and add up what came of them.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        Exit status: 0 when every process ran tests and none of them failed, 1 otherwise.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", help="test files, run whole; all of them, and the notebooks, by default")
    parser.add_argument("--thorough", action="store_true", help="only the tests that the default leaves out")
    parser.add_argument("--root", type=Path, default=ROOT, help="where the tests are")
    options = parser.parse_args(arguments)
    paths, marks = options.paths, []
    if not paths:
        paths = default_paths(options.root, options.thorough)
        marks = ["-m", "thorough" if options.thorough else "not thorough"]

    counts, failed, start = Counter(), [], time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="batchlab-", ignore_cleanup_errors=True) as programs:
        environment = os.environ | {"TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={programs}"}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            futures = [pool.submit(_run, group, marks, options.root, environment) for group in groups(paths)]
            for future in as_completed(futures):
                group, status, output, seconds = future.result()
                name = group[0] if len(group) == 1 else f"{len(group)} other files"
                print(f"--- {name}: {seconds:.0f} s\n{output}", flush=True)
                counts += Counter({word: int(number) for number, word in re.findall(_COUNTED, output)})
                if status:  # 5 too: a group without a test
                    failed.append(name)
    if failed:
        print(f"Failed: {', '.join(failed)}")
    print(f"All together took {time.perf_counter() - start:.0f} s.")
    print(f"{counts['passed']} passed, {counts['failed'] + counts['error']} failed, {counts['skipped']} skipped")
    return 1 if failed else 0


_COUNTED = re.compile(r"(?<=[ =])(\d+) (passed|failed|skipped|error)s?(?=[, ])")


def groups(paths: Sequence[str]) -> list[list[str]]:
    """Give notebooks, and files that need it, a process each, and the other files a few more, which take long too."""
    notebooks = [path for path in paths if path.endswith(".ipynb")]
    alone = [path for path in ALONE if path in paths]
    others = [path for path in paths if path not in (*notebooks, *alone)]
    parts = [part for i in range(OTHERS_IN) if (part := others[i::OTHERS_IN])]
    return [*([path] for path in notebooks), *parts, *([path] for path in alone)]


def default_paths(root: Path, thorough: bool) -> list[str]:
    """Every notebook and every file with tests that are not `thorough`; or every file with some that are."""
    files = sorted(root.glob("tests/test_*.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    if thorough:
        return [f"tests/{path.name}" for path in files if _is_marked(texts[path])]
    notebooks = [f"notebooks/{path.name}" for path in sorted(root.glob("notebooks/*.ipynb"))]
    return [*notebooks, *(f"tests/{path.name}" for path in files if _WHOLLY_THOROUGH not in texts[path])]


_WHOLLY_THOROUGH = "\npytestmark = pytest.mark.thorough\n"


def _is_marked(text: str) -> bool:
    """Whether the code says `pytest.mark.thorough` anywhere but in a string, as the test of this runner does."""
    return any(isinstance(node, ast.Attribute) and node.attr == "thorough" for node in ast.walk(ast.parse(text)))


def _run(
    group: list[str], marks: list[str], root: Path, environment: dict[str, str]
) -> tuple[list[str], int, str, float]:
    start = time.perf_counter()
    command = [sys.executable, "-m", "pytest", *group, *marks]
    result = subprocess.run(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return group, result.returncode, result.stdout, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
