"""Change engine, statistics and claims in one place at a time, and see whether a test notices: `make mutants`.

A mutant is a copy of the source with one small change, such as `<` for `<=`. It is caught where a test fails, and a
mutant that survives shows what no test looks at. cosmic-ray makes the mutants and keeps the results; this file chooses
a sample, and for each module the test files that concern it. It takes most of an hour, so CI leaves it out.

**The sample.** Each module has a share in proportion to its number of places that can be changed, and at least one
place. Places are drawn first and then one change at each, since arithmetic signs have eleven changes and a number has
two. The draw depends on the seed and on the text of the source alone, so two checkouts with the same source give the
same sample. A mutant keeps its name and its rank when its line moves.

Left out is what no test could be expected to catch:

- annotations, which nothing evaluates, and imports for type checkers alone. Docstrings are never changed;
- what follows `raise`: the message of an error, and what is computed for it;
- `is` for `==` and the reverse, which for most values differ by an accident of Python;
- `strict=True` and `frozen=True`, which guard against mistakes that the code does not make;
- what is no Python any more.

**A run.** The working tree is never changed. When a session begins, all that the tests need is copied to a folder
beside the session's file, and mutants are tried in copies of that folder. So you can keep working meanwhile, and after
a kill the next call continues with the same files. Each test file runs in its own process: first the tests that are
not `thorough`, file after file, then the thorough ones. The first failure ends the trial. A mutant times out after 4
times the seconds of the unmutated source and a minute more, which counts as caught. A test that fails without a mutant
shows nothing. So each file is run unmutated before its first mutant, and a failure there ends the call.

Compiled programs are shared through a folder. XLA knows a program by its content, so no mutant is given another's.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

# cosmic-ray is imported where it is used: the test of the table below runs in CI, which does without it.
if TYPE_CHECKING:
    from cosmic_ray.work_db import WorkDB
    from cosmic_ray.work_item import WorkItem, WorkResult

ROOT = Path(__file__).resolve().parent.parent
NUMBER, SEED = 40, 1
# What the tests below read.
COPIED = ("src", "tests", "tools", "data", "notebooks", "conftest.py", "pyproject.toml")
_TIMES, _LEAST_SECONDS = 4, 60

TRAINING, PROGRAMS = "src/batchlab/training", "src/batchlab/training/programs"
#: Which test files concern a module: the most specific ones first, and among them the quickest.
TESTS: dict[str, tuple[str, ...]] = {
    f"{TRAINING}/__init__.py": ("tests/test_xla.py",),
    f"{TRAINING}/fit.py": (
        "tests/test_keras_internals.py",
        "tests/test_resume.py",
        "tests/test_fit_contract.py",
        "tests/test_fit_state.py",
    ),
    f"{TRAINING}/fit_seeds.py": (
        "tests/test_fit_seeds.py",
        "tests/test_resume.py",
        "tests/test_fit_seeds_one_by_one.py",
    ),
    f"{TRAINING}/keras_internals.py": (
        "tests/test_keras_internals.py",
        "tests/test_fit_losses.py",
        "tests/test_fit_seeds.py",
    ),
    f"{TRAINING}/recognise.py": (
        "tests/test_keras_internals.py",
        "tests/test_fit_losses.py",
        "tests/test_fit_contract.py",
        "tests/test_fit_seeds.py",
        "tests/test_fit_seeds_one_by_one.py",
        "tests/test_fit_every.py",
        "tests/test_fit_models.py",
    ),
    f"{TRAINING}/rows.py": (
        "tests/test_fit_losses.py",
        "tests/test_fit_exact.py",
        "tests/test_resume.py",
        "tests/test_fit_contract.py",
    ),
    f"{TRAINING}/ahead.py": ("tests/test_ahead.py",),
    f"{TRAINING}/configuration.py": ("tests/test_sweep.py",),
    f"{TRAINING}/structure.py": ("tests/test_structure.py", "tests/test_fit_exact.py"),
    f"{TRAINING}/subject.py": ("tests/test_structure.py", "tests/test_fit_exact.py"),
    f"{TRAINING}/self_check.py": ("tests/test_self_check.py",),
    f"{TRAINING}/state.py": ("tests/test_self_check.py", "tests/test_fit_state.py"),
    f"{TRAINING}/run.py": ("tests/test_fit_losses.py", "tests/test_fit_seeds.py"),
    f"{TRAINING}/weights.py": ("tests/test_fit_seeds.py",),
    f"{PROGRAMS}/__init__.py": ("tests/test_cache.py",),
    f"{PROGRAMS}/cache.py": ("tests/test_fit_state.py", "tests/test_cache.py", "tests/test_fit_memory.py"),
    f"{PROGRAMS}/device.py": ("tests/test_device.py",),
    f"{PROGRAMS}/single.py": ("tests/test_fit_losses.py", "tests/test_fit_state.py", "tests/test_device.py"),
    f"{PROGRAMS}/steps.py": ("tests/test_fit_optimizers.py", "tests/test_fit_losses.py", "tests/test_fit_models.py"),
    f"{PROGRAMS}/pure.py": (
        "tests/test_fit_losses.py",
        "tests/test_fit_models.py",
        "tests/test_fit_seeds_vectorised.py",
    ),
    f"{PROGRAMS}/philox.py": ("tests/test_philox.py",),
    f"{PROGRAMS}/convolution.py": ("tests/test_fit_seeds_vectorised.py",),
    f"{PROGRAMS}/patches.py": ("tests/test_philox.py",),
    f"{PROGRAMS}/vectorised.py": ("tests/test_fit_seeds_vectorised.py",),
    f"{PROGRAMS}/side_by_side.py": ("tests/test_fit_seeds_vectorised.py", "tests/test_fit_seeds.py"),
    f"{PROGRAMS}/loop.py": (
        "tests/test_fit_optimizers.py",
        "tests/test_resume.py",
        "tests/test_fit_seeds_equality.py",
    ),
    f"{PROGRAMS}/seeds.py": (
        "tests/test_fit_seeds_models.py",
        "tests/test_fit_seeds_equality.py",
        "tests/test_fit_seeds.py",
    ),
    "src/batchlab/statistics.py": ("tests/test_statistics.py",),
    "src/batchlab/claims.py": ("tests/test_claims.py", "tests/test_ledger.py", "tests/test_helpers.py"),
    "src/batchlab/ledger.py": ("tests/test_ledger.py",),
}


def main(arguments: list[str] | None = None) -> int:
    """Draw the sample, try what has no result yet, and print all results as a table.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        Exit status. 1 where tests fail without a mutant, where the session holds another sample, or where a mutant
        survives that was caught in the session named by `--before`; else 0, survivors or not.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=NUMBER, help=f"mutants to try ({NUMBER})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"decides the sample ({SEED})")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout whose source and tests are copied")
    parser.add_argument(
        "--session",
        type=Path,
        default=ROOT / "build" / "mutants" / "session.sqlite",
        help="the file that keeps the results; if it exists, the call continues it (build/mutants/session.sqlite)",
    )
    parser.add_argument("--before", type=Path, help="a session whose mutants are tried again and compared")
    parser.add_argument("--at-once", type=int, default=1, help="processes that test at a time (1)")
    parser.add_argument("--list", action="store_true", help="show the sample and try nothing")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except RefusalError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 1


class RefusalError(Exception):
    """Why no mutant can be tried, in words for the user."""


def _run(options: argparse.Namespace) -> int:
    before = results_of(options.before) if options.before else None
    tree = options.tree.resolve()
    if options.list:
        print(table([Tried(item, change_of(tree, item), None) for item in chosen(tree, options, before)]))
        return 0
    complete(options.session, tree, options, before)
    now = results_of(options.session)
    text = report(now, before)
    written = options.session.with_suffix(".md")
    written.write_text(f"{text}\n", encoding="utf-8")
    print(f"\n{text}\n\nAlso in {written}.")
    return 1 if before and lost(now, before) else 0


def complete(path: Path, tree: Path, options: argparse.Namespace, before: Mapping[str, Tried] | None) -> None:
    """Begin a session or continue one, until each of its mutants has been tried.

    Raises:
        RefusalError: The session holds another sample, or tests fail without a mutant.
    """
    from cosmic_ray.work_db import use_db
    from cosmic_ray.work_item import WorkItem

    path.parent.mkdir(parents=True, exist_ok=True)
    files = path.parent / f"{path.name}.files"
    with use_db(path) as session:
        known, done = {item.job_id: item for item in session.work_items}, {job for job, _ in session.results}
        begun = {job for job, item in known.items() if item.mutations}
        if begun and begun <= done:
            print(f"{path} is complete. To begin again, remove it.")
            return
        if not begun:
            shutil.rmtree(files, ignore_errors=True)  # of a session that was removed
        snapshot = _snapshot(tree, files)
        sample = chosen(snapshot, options, before)
        if begun and begun != {item.job_id for item in sample}:
            raise RefusalError(
                f"{path} holds another sample, of another number, seed or source. Fix: remove it, or name another "
                "file with --session."
            )
        wanted = [*sample, *(WorkItem(_unmutated(*step), ()) for step in sorted({s for m in TESTS for s in steps(m)}))]
        session.add_work_items(item for item in wanted if item.job_id not in known)
        Bench(session, snapshot, files, options.at_once).try_all([i for i in sample if i.job_id not in done])
    shutil.rmtree(files)


def steps(module: str) -> list[tuple[str, str]]:
    """Return what is run against a mutant of a module, one after the other: test files, each with pytest's marks."""
    return [(path, marks) for marks in ("not thorough", "thorough") for path in TESTS[module]]


# --- the sample --------------------------------------------------------------------------------------


def modules(root: Path) -> list[str]:
    """Return the paths of the modules that are mutated, relative to the root."""
    found = [*(root / TRAINING).rglob("*.py"), *(root / "src" / "batchlab" / f"{n}.py" for n in _OTHERS)]
    return sorted(path.relative_to(root).as_posix() for path in found)


_OTHERS = ("statistics", "claims", "ledger")


def chosen(root: Path, options: argparse.Namespace, before: Mapping[str, Tried] | None) -> list[WorkItem]:
    """Return the mutants to try: a new sample, or those of an earlier session whose lines are still there.

    Args:
        root: The checkout.
        options: The `number` of mutants, and the `seed` that decides which.
        before: The earlier session, if any; its sample is then taken.

    Raises:
        RefusalError: A module has no entry in `TESTS`.
    """
    if unknown := sorted(set(modules(root)) - set(TESTS)):
        raise RefusalError(f"{', '.join(unknown)} has no test files. Fix: name them in TESTS, in tools/mutants.py.")
    pool = {module: mutants(root, module) for module in modules(root)}
    if before is None:
        return draw(pool, options.number, options.seed, lambda item: change_of(root, item) is not None)
    sample = [item for items in pool.values() for item in items if item.job_id in before]
    gone = len(before) - len(sample)
    if gone:
        print(f"{gone} of {len(before)} mutants cannot be made any more: their lines have changed.")
    return sample


def mutants(root: Path, module: str) -> list[WorkItem]:
    """Return every mutant of a module that a test could be expected to catch.

    Its name, the `job_id`, is a digest of the function, the line and the place in it, so that it is the same in every
    checkout, and stays when the line moves.
    """
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.ast.ast_query import ASTQuery
    from cosmic_ray.plugins import get_operator, operator_names
    from cosmic_ray.work_item import MutationSpec, WorkItem

    source = (root / module).read_text(encoding="utf-8")
    lines = source.split("\n")
    nodes = list(ast_nodes(get_ast(source)))
    alike, found = Counter(), []
    for name in operator_names():
        if (kind := get_operator(name)).arguments() or name in _SAME_MEANING:  # arguments name single variables
            continue
        positions = ((node, *ends) for node in nodes for ends in kind().mutation_positions(node))
        for occurrence, (node, start, end) in enumerate(positions):
            if is_beyond_tests(node):
                continue
            definition = ASTQuery(node).get_definition_name()
            line = lines[start[0] - 1]
            column = start[1] - (len(line) - len(line.lstrip()))
            said = f"{module}|{definition}|{line.strip()}|{column}|{name}"
            spec = MutationSpec(module, name, occurrence, start, end, definition_name=definition)
            found.append(WorkItem.single(_digest(f"{said}|{alike[said]}"), spec))
            alike[said] += 1  # the two changes of a number, and lines that are repeated
    return found


_GUARDS = ("strict", "frozen")
_COMPARISON = "core/ReplaceComparisonOperator"
_SAME_MEANING = {f"{_COMPARISON}_{pair}" for pair in ("Eq_Is", "Is_Eq", "NotEq_IsNot", "IsNot_NotEq")}


def is_beyond_tests(node: Any) -> bool:  # noqa: ANN401
    """Whether a change at this node of a parso tree is none that a test could be expected to catch."""
    inner, outer = None, node
    while outer is not None:
        if outer.type in ("raise_stmt", "tfpdef"):  # tfpdef: a parameter and its annotation, without its default
            return True
        if outer.type == "annassign" and inner is outer.children[1]:
            return True
        if outer.type == "argument" and inner is node and outer.children[0].get_code().strip() in _GUARDS:
            return True
        if outer.type == "funcdef" and inner is not None and inner is outer.annotation:
            return True
        if outer.type == "if_stmt" and outer.children[1].get_code().strip() == "TYPE_CHECKING":
            return True
        inner, outer = outer, outer.parent
    return False


def draw(
    pool: Mapping[str, Sequence[WorkItem]], number: int, seed: int, can_be_made: Callable[[WorkItem], bool]
) -> list[WorkItem]:
    """Draw a sample: places first, in proportion to their number in each module, then one mutant at each.

    Args:
        pool: The mutants of each module.
        number: How many are wanted.
        seed: Decides the sample.
        can_be_made: Whether a mutant is Python; asked of those that are drawn alone, since it takes long.

    Returns:
        The sample, in the order of the pool and of the lines.
    """
    places: dict[str, list[list[WorkItem]]] = {}
    for module, items in pool.items():
        there = defaultdict(list)
        for item in items:
            there[item.mutations[0].start_pos, item.mutations[0].end_pos].append(item)
        places[module] = sorted(there.values(), key=lambda place: _digest(f"{seed}|place|{place[0].job_id}"))
    sample = []
    for module, share in quotas({module: len(found) for module, found in places.items()}, number).items():
        drawn = []
        for place in places[module]:
            if len(drawn) == share:
                break
            ranked = sorted(place, key=lambda item: _digest(f"{seed}|{item.job_id}"))
            drawn += [item for item in ranked if can_be_made(item)][:1]
        sample += sorted(drawn, key=lambda item: item.mutations[0].start_pos)
    return sample


def quotas(places: Mapping[str, int], number: int) -> dict[str, int]:
    """Share a number among modules in proportion to their places (Sainte-Laguë), with at least one for each."""
    found = dict.fromkeys(places, 0)
    for _ in range(min(number, sum(places.values()))):
        free = [module for module in places if found[module] < places[module]]
        found[max(free, key=lambda m: (found[m] == 0, places[m] / (2 * found[m] + 1), m))] += 1
    return found


def change_of(root: Path, item: WorkItem) -> str | None:
    """Return the changed lines of a mutant as a diff without context, or None where it is no Python any more."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    (spec,) = item.mutations
    source = (root / spec.module_path).read_text(encoding="utf-8")
    mutated = mutate_code(source, get_operator(spec.operator_name)(), spec.occurrence)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # `is` with a literal
            compile(mutated, str(spec.module_path), "exec")
    except SyntaxError:
        return None
    return _diff(source, mutated)


def _diff(source: str, mutated: str) -> str:
    lines = difflib.unified_diff(source.split("\n"), mutated.split("\n"), n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- running tests -----------------------------------------------------------------------------------


def _snapshot(tree: Path, files: Path) -> Path:
    """Copy what tests need, unless the session has done so already; return the folder."""
    snapshot = files / "unmutated"
    if not snapshot.exists():
        half = files / "half"
        shutil.rmtree(half, ignore_errors=True)
        _copy(tree, half, COPIED)
        half.rename(snapshot)  # so that a copy is whole, or not there
    return snapshot


def _copy(tree: Path, to: Path, names: Sequence[str]) -> None:
    to.mkdir(parents=True)
    for name in names:
        if (tree / name).is_dir():
            shutil.copytree(tree / name, to / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        elif (tree / name).exists():
            shutil.copy2(tree / name, to / name)


class Trial(NamedTuple):
    """What came of one test file.

    Attributes:
        fate: "passed", "failed", "timed out", or "empty" where the file holds no such test.
        test: The first test that failed, or the file.
        seconds: How long it took.
        output: What pytest printed.
        status: The exit status; minus its number where a signal ended the process.
    """

    fate: str
    test: str
    seconds: float
    output: str
    status: int


class Bench:
    """Tries mutants in copies of a tree, some at a time.

    Args:
        session: Keeps the results, and how long the unmutated tests take, as items without a mutation.
        snapshot: The unmutated tree.
        files: A folder for the copies and for compiled programs.
        at_once: How many processes test at a time.
    """

    def __init__(self, session: WorkDB, snapshot: Path, files: Path, at_once: int) -> None:
        self._session = session
        self._at_once = at_once
        self._programs = files / "programs"
        self._plain = files / "plain"
        self._trees: SimpleQueue[Path] = SimpleQueue()
        copies = [files / f"mutant-{number}" for number in range(at_once)]
        for folder in (self._programs, self._plain, *copies):
            shutil.rmtree(folder, ignore_errors=True)  # of a call that was killed, perhaps with a mutant in it
        for folder in (self._plain, *copies):
            _copy(snapshot, folder, COPIED)
        for folder in copies:
            self._trees.put(folder)
        self._measuring = threading.Lock()
        self._usual: dict[str, float | None] = {}  # seconds of the unmutated tests
        for job, result in session.results:
            if job.startswith(_UNMUTATED):
                self._usual[job] = json.loads(result.output)["seconds"]
        self._ending = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._ended = False

    def try_all(self, items: Sequence[WorkItem]) -> None:
        """Try mutants, keep what comes of each, and say so.

        Raises:
            RefusalError: Tests fail without a mutant.
        """
        with ThreadPoolExecutor(self._at_once) as pool:
            futures = {pool.submit(self._try, item): item for item in items}
            try:
                for count, future in enumerate(as_completed(futures), 1):
                    (spec,) = futures[future].mutations
                    self._session.set_result(futures[future].job_id, result := future.result())
                    found = json.loads(result.output)
                    where = f"{spec.module_path.as_posix()}:{spec.start_pos[0]}"
                    print(f"[{count}/{len(items)}] {where} {fate_of(found)}, {found['seconds']:.0f} s", flush=True)
            except BaseException:  # Ctrl-C, or tests that fail unmutated: nothing else is waited for
                pool.shutdown(wait=False, cancel_futures=True)
                with self._ending:
                    self._ended = True
                    for process in self._running:
                        _kill(process)
                raise

    def _try(self, item: WorkItem) -> WorkResult:
        """Run the test files of a module against a mutant of it, up to the first failure."""
        from cosmic_ray.mutating import use_mutation
        from cosmic_ray.plugins import get_operator
        from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

        (spec,) = item.mutations
        module, tree = spec.module_path.as_posix(), self._trees.get()
        found = {"fate": "survived", "by": ", ".join(TESTS[module]), "seconds": 0.0, "status": 0}
        try:
            with use_mutation(tree / module, get_operator(spec.operator_name)(), spec.occurrence) as (source, mutated):
                for path, marks in steps(module):
                    if (usual := self._usual_seconds(path, marks)) is None:
                        continue
                    trial = self.test(tree, path, marks, _TIMES * usual + _LEAST_SECONDS)
                    found["seconds"] = round(found["seconds"] + trial.seconds, 1)
                    found["status"] = trial.status
                    if trial.fate != "passed":
                        found |= {"fate": "caught" if trial.fate == "failed" else trial.fate, "by": trial.test}
                        break
        finally:
            self._trees.put(tree)
        outcome = TestOutcome.SURVIVED if found["fate"] == "survived" else TestOutcome.KILLED
        return WorkResult(WorkerOutcome.NORMAL, json.dumps(found), outcome, _diff(source, mutated))

    def _usual_seconds(self, path: str, marks: str) -> float | None:
        """Return how long a test file takes unmutated, None where it holds no such test; run it if need be.

        Raises:
            RefusalError: It fails.
        """
        from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

        job = _unmutated(path, marks)
        with self._measuring:
            if job not in self._usual:
                trial = self.test(self._plain, path, marks, None)
                if trial.fate == "failed":
                    raise RefusalError(
                        f"{path} ({marks}) fails without a mutant, so it shows nothing. Fix: make it pass first.\n"
                        f"{trial.output[-3000:]}\npytest's exit status was {trial.status}."
                    )
                seconds = None if trial.fate == "empty" else round(trial.seconds, 1)
                output = json.dumps({"seconds": seconds})
                self._session.set_result(job, WorkResult(WorkerOutcome.NORMAL, output, TestOutcome.SURVIVED))
                self._usual[job] = seconds
                print(f"{job}: {'no such test' if seconds is None else f'{seconds:.0f} s'}", flush=True)
            return self._usual[job]

    def test(self, tree: Path, path: str, marks: str, limit: float | None) -> Trial:
        """Run the tests of one file that have these marks, up to the first failure, in a process of their own.

        Args:
            tree: The folder that holds source and tests.
            path: The file, relative to it.
            marks: As pytest's `-m` takes them.
            limit: Seconds after which the process is ended, or None.
        """
        command = [sys.executable, "-m", "pytest", path, "-x", "-q", "-m", marks, "-p", "no:cacheprovider"]
        command.append("--hypothesis-seed=0")  # the same examples for each mutant, before and after
        environment = os.environ | {
            "PYTHONDONTWRITEBYTECODE": "1",  # two mutants of one second and one size would share their bytecode
            "TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={self._programs}",
        }
        environment.pop("ADS_CSV", None)  # the copy has the stand-in
        shutil.rmtree(tree / ".hypothesis", ignore_errors=True)  # what failed with another mutant
        start = time.perf_counter()
        with self._ending:
            if self._ended:
                raise CancelledError
            process = subprocess.Popen(
                command,
                cwd=tree,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # so that whatever a test has started ends with it
            )
            self._running.add(process)
        try:
            output, _ = process.communicate(timeout=limit)
            fate = fate_of_process(process.returncode, output)
        except subprocess.TimeoutExpired:
            _kill(process)
            output, _ = process.communicate()
            fate = "timed out"
        with self._ending:
            self._running.remove(process)
        _kill(process)  # what it has left behind
        if self._ended:
            raise CancelledError
        return Trial(fate, first_failure(output) or path, time.perf_counter() - start, output, process.returncode)


_UNMUTATED = "unmutated "


def _unmutated(path: str, marks: str) -> str:
    """Return the name under which a session keeps how long the unmutated tests of a file take."""
    return f"{_UNMUTATED}{path}, {marks}"


def _kill(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def fate_of_process(status: int, output: str) -> str:
    """Return what a pytest process says of its tests: "passed", "failed" or "empty".

    A process that a signal ended before pytest's last line crashed in a test, and so it failed. After that line the
    signal says nothing of the tests: TensorFlow's threads sometimes crash a process that is ending.

    Args:
        status: Its exit status, as `subprocess` gives it.
        output: What it printed.
    """
    if status < 0 and (last := re.findall(r"^(?:=+ )?(\w.*) in [\d.]+s\b", output, re.MULTILINE)):
        words = set(re.findall(r"[a-z]+", last[-1]))
        status = 1 if words & {"failed", "error", "errors"} else 0 if words & {"passed", "skipped"} else 5
    return {0: "passed", 5: "empty"}.get(status, "failed")


def first_failure(output: str) -> str:
    """Return the name of the first test that pytest's summary says has failed, or the file that it could not read."""
    found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", output, re.MULTILINE)
    return found.group(1) if found else ""


# --- the report --------------------------------------------------------------------------------------


class Tried(NamedTuple):
    """A mutant, its change as a diff, and what came of it: its fate, by which test or files, and the seconds."""

    item: WorkItem
    diff: str
    found: dict[str, Any] | None


def results_of(session: Path) -> dict[str, Tried]:
    """Return the mutants of a session by their names, in the order of modules and lines.

    Raises:
        RefusalError: There is no such session.
    """
    from cosmic_ray.work_db import WorkDB, use_db

    if not session.exists():
        raise RefusalError(f"there is no session {session}. Fix: check its path.")
    with use_db(session, WorkDB.Mode.open) as opened:
        pairs = [(item, result) for item, result in opened.completed_work_items if item.mutations]
    pairs.sort(key=lambda pair: (str(pair[0].mutations[0].module_path), pair[0].mutations[0].start_pos))
    return {item.job_id: Tried(item, result.diff, json.loads(result.output)) for item, result in pairs}


def lost(now: Mapping[str, Tried], before: Mapping[str, Tried]) -> list[Tried]:
    """Return the mutants that survive now and were caught before."""
    return [
        tried
        for name, tried in now.items()
        if name in before and tried.found["fate"] == "survived" != before[name].found["fate"]
    ]


def report(now: Mapping[str, Tried], before: Mapping[str, Tried] | None) -> str:
    """Return how many mutants were caught, and the table of all, as Markdown."""
    fates = Counter(tried.found["fate"] for tried in now.values())
    minutes = sum(tried.found["seconds"] for tried in now.values()) / 60
    counts = ", ".join(f"{fates[fate]} {fate}" for fate in ("caught", "timed out", "survived"))
    lines = [f"{len(now)} mutants: {counts}. Their tests took {minutes:.0f} minutes.", "", table(now.values())]
    if before is not None:
        gone = lost(now, before)
        lines += ["", f"Caught before and surviving now: {len(gone)}.", *(["", table(gone)] if gone else [])]
    return "\n".join(lines)


def table(mutants: Iterable[Tried]) -> str:
    """Return mutants as a Markdown table, one row each."""
    rows = ["| | module | line | operator | change | fate | seconds |", "| --: | --- | --: | --- | --- | --- | --: |"]
    for number, (item, diff, found) in enumerate(mutants, 1):
        (spec,) = item.mutations
        fate, seconds = (fate_of(found), f"{found['seconds']:.0f}") if found else ("", "")
        cells = [
            str(number),
            spec.module_path.as_posix().removeprefix("src/batchlab/"),
            str(spec.start_pos[0]),
            spec.operator_name.removeprefix("core/"),
            change(diff),
            fate,
            seconds,
        ]
        rows.append(" | ".join(cell.replace("|", r"\|") for cell in cells).join(("| ", " |")))
    return "\n".join(rows)


def change(diff: str) -> str:
    """Return a diff as one line: the code before and after the change."""
    sides = [" ".join(line[1:].strip() for line in diff.splitlines() if line.startswith(sign)) for sign in "-+"]
    return " → ".join(f"`{side}`" if side else "nothing" for side in sides)


def fate_of(found: dict[str, Any]) -> str:
    """Say what came of a mutant."""
    word = {"caught": "caught by", "timed out": "timed out in", "survived": "**survived**"}[found["fate"]]
    crash = f", which crashed (signal {-found['status']})" if found["fate"] == "caught" and found["status"] < 0 else ""
    return f"{word} {found['by']}{crash}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # like Ctrl-C, so that no test runs on alone
    sys.exit(main())
