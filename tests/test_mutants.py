"""The runner behind `make mutants`: its table of test files, its sample, and what it says of a mutant."""

import shutil
import sqlite3
from types import SimpleNamespace

import mutants
import pytest

SOURCE = """from __future__ import annotations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    BITS = 1 | 2
LIMIT = 7


def double(x: int | None = 1) -> int | None:
    '''Return 2 * x.'''
    if x is None:
        raise ValueError(f"{LIMIT + 1} is too much")
    found: int | None = x * 2
    return sum(a for a, _ in zip([found], [0], strict=True))
"""
TEST = """from batchlab.statistics import double


def test_double():
    assert double(3) == 6
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A checkout with one module to mutate, of which the test looks at some lines."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take most of the time
    monkeypatch.setenv("PYTEST_PLUGINS", "_hypothesis_pytestplugin")
    root = tmp_path / "tree"
    for path, text in {
        "src/batchlab/statistics.py": SOURCE,
        "src/batchlab/claims.py": "",
        "src/batchlab/ledger.py": "",
        "tests/test_statistics.py": TEST,
        "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['src']\nmarkers = ['thorough']\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return root


# --- without cosmic-ray ------------------------------------------------------------------------------


def test_every_module_has_test_files_and_each_of_them_exists():
    assert set(mutants.TESTS) == set(mutants.modules(mutants.ROOT))
    for module, paths in mutants.TESTS.items():
        assert paths and len(set(paths)) == len(paths), module
        assert all((mutants.ROOT / path).is_file() for path in paths), module


def test_quotas_are_in_proportion_and_leave_no_module_out():
    assert mutants.quotas({"a": 600, "b": 300, "c": 100}, 20) == {"a": 12, "b": 6, "c": 2}
    assert mutants.quotas({"a": 1000, "b": 1, "c": 0}, 10) == {"a": 9, "b": 1, "c": 0}
    assert mutants.quotas({"a": 2, "b": 1}, 10) == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("text", "limit", "fate", "test"),
    [
        (TEST, None, "passed", "tests/test_statistics.py"),
        (TEST.replace("6", "7"), None, "failed", "tests/test_statistics.py::test_double"),
        ("import missing", None, "failed", "tests/test_statistics.py"),
        ("", None, "empty", "tests/test_statistics.py"),
        ("while True: pass", 1, "timed out", "tests/test_statistics.py"),
    ],
    ids=["passes", "fails", "cannot be imported", "has no test", "never ends"],
)
def test_what_becomes_of_a_test_file(tree, tmp_path, text, limit, fate, test):
    (tree / "tests" / "test_statistics.py").write_text(text)
    bench = mutants.Bench(SimpleNamespace(results=[]), tree, tmp_path / "files", at_once=1)
    trial = bench.test(tree, "tests/test_statistics.py", "not thorough", limit)
    assert (trial.fate, trial.test) == (fate, test), trial.output


@pytest.mark.parametrize(
    ("status", "output", "fate"),
    [
        (2, "ERROR tests/test_a.py\n1 error in 0.10s\n", "failed"),
        (-11, "..", "failed"),
        (-11, "..\n2 passed, 1 skipped in 61.20s (0:01:01)\n", "passed"),
        (-11, ".F\n===== 1 failed, 1 passed in 3.00s =====\n", "failed"),
        (-6, "\npeak memory of this process: 815 MiB\n27 deselected in 4.79s\n", "empty"),
    ],
)
def test_a_crash_after_the_last_line_says_nothing_of_the_tests(status, output, fate):
    assert mutants.fate_of_process(status, output) == fate


def test_the_first_failure_is_named_with_its_whole_parameters():
    summary = "FAILED tests/test_a.py::test_b[two words] - assert 1 == 2\nFAILED tests/test_a.py::test_c\n"
    assert mutants.first_failure(summary) == "tests/test_a.py::test_b[two words]"
    assert mutants.first_failure("ERROR tests/test_a.py\n") == "tests/test_a.py"
    assert mutants.first_failure("2 passed in 0.10s\n") == ""


def tried(fate, line=3):
    spec = SimpleNamespace(
        module_path=mutants.Path("src/batchlab/claims.py"), start_pos=(line, 0), operator_name="core/AddNot"
    )
    found = {"fate": fate, "by": "tests/test_claims.py", "seconds": 30.0, "status": 0}
    return mutants.Tried(SimpleNamespace(mutations=(spec,)), "-    if a | b:\n+    if not a | b:", found)


def test_the_report_counts_and_names_what_is_no_longer_caught():
    before = {"a": tried("caught"), "b": tried("survived"), "c": tried("timed out")}
    now = {"a": tried("survived", 7), "b": tried("survived"), "c": tried("caught")}
    lines = mutants.report(now, before).splitlines()
    assert lines[0] == "3 mutants: 1 caught, 0 timed out, 2 survived. Their tests took 2 minutes."
    row = r"claims.py | 7 | AddNot | `if a \| b:` → `if not a \| b:` | **survived** tests/test_claims.py | 30 |"
    assert lines[4] == lines[-1] == f"| 1 | {row}"
    assert "Caught before and surviving now: 1." in lines
    assert "surviving now: 0" in mutants.report(before, now)


# --- with it -----------------------------------------------------------------------------------------


@pytest.fixture
def cosmic_ray():
    return pytest.importorskip("cosmic_ray", reason="cosmic-ray is not installed; `make mutants` installs it")


def sample(root, number=4, seed=1):
    return mutants.chosen(root, SimpleNamespace(number=number, seed=seed), None)


def test_what_no_test_could_catch_is_left_out(cosmic_ray, tree):
    items = mutants.mutants(tree, "src/batchlab/statistics.py")
    assert {item.mutations[0].start_pos[0] for item in items} == {6, 9, 11, 13, 14}
    changes = {mutants.change(mutants.change_of(tree, item)) for item in items}
    assert "`LIMIT = 7` → `LIMIT = 8`" in changes
    assert "`found: int | None = x * 2` → `found: int | None = x + 2`" in changes
    assert not [change for change in changes if "strict=False" in change]


def test_the_sample_depends_on_the_seed_and_on_nothing_but_the_source(cosmic_ray, tree, tmp_path):
    other = tmp_path / "elsewhere" / "copy"
    shutil.copytree(tree, other)
    assert sample(tree) == sample(other)
    names = {item.job_id for item in sample(tree)}
    assert len(names) == 4
    assert names != {item.job_id for item in sample(tree, seed=2)}
    module = other / "src" / "batchlab" / "statistics.py"
    module.write_text("# A new line at the top.\n" + module.read_text())
    assert names == {item.job_id for item in sample(other)}


def test_a_session_is_completed_continued_and_never_touches_the_tree(cosmic_ray, tree, tmp_path, capfd):
    session = tmp_path / "session.sqlite"
    arguments = ["--tree", str(tree), "--session", str(session), "--number", "7"]
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    assert mutants.main(arguments) == 0
    out = capfd.readouterr().out
    assert "7 mutants: 4 caught, 0 timed out, 3 survived." in out
    assert out.count("caught by tests/test_statistics.py::test_double") == 8  # as they come, and in the table
    assert {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["session.md", "session.sqlite", "tree"]

    assert mutants.main(arguments) == 0
    assert "complete" in capfd.readouterr().out

    with sqlite3.connect(session) as database:  # as if it had been killed before the last one
        database.execute("delete from work_results where rowid = (select max(rowid) from work_results)")
    assert mutants.main(arguments) == 0
    out = capfd.readouterr().out
    assert "[1/1]" in out and "7 mutants: 4 caught" in out


def test_tests_that_fail_without_a_mutant_are_refused_in_words(cosmic_ray, tree, tmp_path, capfd):
    (tree / "tests" / "test_statistics.py").write_text(TEST.replace("6", "7"))
    assert mutants.main(["--tree", str(tree), "--session", str(tmp_path / "s.sqlite"), "--number", "1"]) == 1
    said = capfd.readouterr().err
    assert "tests/test_statistics.py (not thorough) fails without a mutant" in said and "assert 6 == 7" in said
