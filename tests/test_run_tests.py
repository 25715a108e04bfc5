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
    def go(*options, named=True, at_once=8, held=None, **files):
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take most of the time
        for name in ("PYTEST_ADDOPTS", "XLA_FLAGS"):  # `make profile` and `make test` set them
            monkeypatch.delenv(name, raising=False)
        (tmp_path / "tests").mkdir(exist_ok=True)
        for name, content in files.items():
            (tmp_path / "tests" / f"test_{name}.py").write_text(content, encoding="utf-8")
        monkeypatch.setattr(run_tests, "at_once", lambda: at_once)  # 8: each file has a process of its own
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = thorough\n")
        (tmp_path / "conftest.py").write_text(
            "def pytest_addoption(parser):\n"
            "    parser.addoption('--thorough', action='store_true')\n"
            "    parser.addoption('--left')\n"
            if held is None
            else (run_tests.ROOT / "conftest.py").read_text(encoding="utf-8")
            + f"\n\ndef held_bytes():\n    return {held}\n"
        )
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


def test_the_default_leaves_out_what_only_the_thorough_run_includes(run):
    marked = "import pytest\n\n\n@pytest.mark.thorough\ndef test_more():\n    pass\n\n\n" + PASSES
    wholly = "import pytest\n\npytestmark = pytest.mark.thorough\n\n\n" + PASSES
    asks = "def test_option(pytestconfig):\n    assert pytestconfig.option.thorough\n"
    files = {"alone": PASSES, "marked": marked, "wholly": wholly}
    for options, named, passed in (([], False, 4), (["--thorough"], False, 7), ([], True, 7)):
        status, out = run(*options, named=named, **files)
        assert status == 0
        assert out.splitlines()[-1] == f"{passed} passed, 0 failed, 0 skipped"
    assert run("--thorough", asks=asks)[0] == 0 and run(asks=asks)[0] == 1


def test_files_that_are_not_named_are_compiled_without_optimising(run):
    asks = (
        "import os\n\n\ndef test_flags():\n    assert {}('optimization_level=0' in os.environ.get('XLA_FLAGS', ''))\n"
    )
    assert run(named=False, asks=asks.format(""))[0] == 0
    assert run(asks=asks.format("not "))[0] == 0


@pytest.mark.parametrize(
    ("held", "processes"), [(run_tests.PROCESS_BYTES, 3), pytest.param(0, 1, marks=pytest.mark.thorough)]
)
def test_a_process_that_has_grown_leaves_the_files_that_follow_to_another(run, held, processes):
    files = {"alone": PASSES, "other": FAILS + PASSES, "third": PASSES}
    status, out = run(at_once=1, held=held, **files)
    assert status == 1 and out.splitlines()[-1] == "6 passed, 1 failed, 0 skipped"
    assert out.count("--- tests/") == processes
    assert f"Failed: tests/test_{'other.py' if processes == 3 else 'alone.py and 2 more'}\n" in out
    files["other"] = PASSES
    status, out = run(at_once=1, held=held, **files)
    assert status == 0 and out.splitlines()[-1] == "6 passed, 0 failed, 0 skipped"


def test_a_run_without_any_test_fails(run):
    wholly = "import pytest\n\npytestmark = pytest.mark.thorough\n\n\n" + PASSES
    assert run(named=False, wholly=wholly)[0] == 1


def test_every_file_is_run_once_in_processes_of_equal_length():
    files = [f"tests/test_{letter}.py" for letter in "abcdef"]
    known = dict(zip(files, [90, 50, 40, 30, 20, 10], strict=True))
    alone = {"notebooks/long.ipynb": 300, "notebooks/middle.ipynb": 130, "notebooks/short.ipynb": 5}
    found = run_tests.groups([*files, *alone], known | alone, 2)
    assert sorted(path for group in found for path in group) == sorted([*files, *alone])
    together = [sum((known | alone)[path] for path in group) for group in found]
    assert together == [300, 130, 120, 120, 5]


def test_files_that_were_never_measured_are_shared_out_too():
    files = [f"tests/test_{letter}.py" for letter in "abcdef"]
    assert sorted(map(len, run_tests.groups(files, {}, 2))) == [3, 3]
    known = {"tests/test_a.py": 10}
    assert sorted(path for group in run_tests.groups(files, known, 2) for path in group) == files


def test_the_files_that_were_measured_are_there():
    for thorough in (False, True):
        assert all((run_tests.ROOT / path).is_file() for path in run_tests.durations(run_tests.ROOT, thorough))
