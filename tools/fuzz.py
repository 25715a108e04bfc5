"""Train what hypothesis draws with `fit`, or `fit_seeds`, and with `model.fit`, and say what was found.

Each process takes 50 cases, so that memory stays bounded, and stops at the first case that differs, made as small as
hypothesis can; the others go on. A seed names a process's cases: the same seed draws them again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASES_A_PROCESS = 50
_RESULT = "fuzz: "  # begins the line in which a process says what it found


def main() -> int:
    """Draw cases in one process after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=int, nargs="?", default=200, help="how many cases to draw")
    parser.add_argument("--seed", type=int, default=0, help="of the first process; the others count on from it")
    parser.add_argument("--only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        return draw(options.seed, options.cases)
    found, failures = Counter(), 0
    for i, start in enumerate(range(0, options.cases, CASES_A_PROCESS)):
        seed, count = options.seed + i, min(CASES_A_PROCESS, options.cases - start)
        command = [sys.executable, __file__, str(count), "--seed", str(seed), "--only"]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        told = [line for line in ended.stdout.splitlines() if line.startswith(_RESULT)]
        if told:
            found.update(json.loads(told[-1].removeprefix(_RESULT)))
        if ended.returncode:
            failures += 1
            print(f"--- seed {seed}, exit {ended.returncode}\n{ended.stdout[-6000:]}\n{ended.stderr[-3000:]}")
        print(f"seed {seed}: {sum(found.values())} cases held, {failures} processes with a failure", flush=True)
    for what, count in found.most_common():
        print(f"{count:6d}  {what}")
    return min(failures, 1)


def draw(seed: int, count: int) -> int:
    """Draw cases in this process; the first that differs is made small and raised."""
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    import hypothesis
    from generated import CASES, MANY, hold, hold_runs

    found: Counter[str] = Counter()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(hypothesis.strategies.one_of(CASES, CASES, CASES, MANY.map(lambda case: case | {"runs": 2})))
    def every(case: dict) -> None:
        what = hold_runs(case) if "runs" in case else hold(case)
        found[f"{'fit_seeds' if 'runs' in case else 'fit'}: {what or 'equal'}"] += 1

    try:
        every()
    finally:
        print(_RESULT + json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
