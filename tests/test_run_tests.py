"""The runner adds up what its processes found, and fails when one of them does."""

import pytest
import run_tests

PASSES = "def test_one():\n    pass\n\n\ndef test_two():\n    pass\n"
FAILS = "def test_wrong():\n    assert 1 == 2\n"
SKIPS = (
    "import pytest\n\n\n@pytest.mark.skip(reason='not here')\ndef test_no():\n    pass\n\n\ndef test_yes():\n    pass\n"
)


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    def go(*options, named=True, **files):
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take most of the time
        (tmp_path / "tests").mkdir(exist_ok=True)
        for name, content in files.items():
            (tmp_path / "tests" / f"test_{name}.py").write_text(content, encoding="utf-8")
        monkeypatch.setattr(run_tests, "ALONE", ("tests/test_alone.py",))
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = thorough\n")
        paths = [f"tests/test_{name}.py" for name in files] if named else []
        return run_tests.main([*paths, *options, "--root", str(tmp_path)]), capfd.readouterr().out

    return go


def test_counts_of_all_processes_are_added_up(run):
    status, out = run(alone=PASSES, other=SKIPS, third=PASSES)
    assert status == 0
    assert out.splitlines()[-1] == "5 passed, 0 failed, 1 skipped"
    assert "--- tests/test_alone.py: " in out and "--- tests/test_other.py: " in out


def test_one_failure_is_shown_and_fails_the_whole(run):
    status, out = run(alone=FAILS, other=PASSES)
    assert status == 1
    assert "assert 1 == 2" in out and "Failed: tests/test_alone.py" in out
    assert out.splitlines()[-1] == "2 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize("content", ["", "def test_broken(:\n"])
def test_files_without_a_test_or_that_cannot_be_read_fail(run, content):
    status, out = run(alone=PASSES, other=content)
    assert status == 1 and "Failed: tests/test_other.py" in out


def test_each_test_is_run_by_default_or_thoroughly_and_never_by_both(run):
    marked = "import pytest\n\n\n@pytest.mark.thorough\ndef test_more():\n    pass\n\n\n" + PASSES
    wholly = "import pytest\n\npytestmark = pytest.mark.thorough\n\n\n" + PASSES
    speaks = "CODE = '@pytest.mark.thorough'\n\n\ndef test_speaks_of_it():\n    pass\n"
    files = {"alone": PASSES, "marked": marked, "wholly": wholly, "speaks": speaks}
    for options, named, passed in (([], False, 5), (["--thorough"], False, 3), ([], True, 8)):
        status, out = run(*options, named=named, **files)
        assert status == 0
        assert out.splitlines()[-1] == f"{passed} passed, 0 failed, 0 skipped"


def test_every_file_is_run_once_and_those_that_compile_most_alone():
    notebooks = [f"notebooks/{path.name}" for path in run_tests.ROOT.glob("notebooks/*.ipynb")]
    paths = [f"tests/{path.name}" for path in run_tests.ROOT.glob("tests/test_*.py")] + notebooks
    found = run_tests.groups(paths)
    assert sorted(path for group in found for path in group) == sorted(paths)
    assert [[path] for path in notebooks] == found[: len(notebooks)]
    assert [[path] for path in run_tests.ALONE] == found[-len(run_tests.ALONE) :]  # so each of them is there
    assert len(found) == len(notebooks) + run_tests.OTHERS_IN + len(run_tests.ALONE)
