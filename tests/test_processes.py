"""Fresh processes: results, failures that are named and stop the others, and watched memory."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest

from batchlab.paths import SOURCE
from batchlab.processes import MEBIBYTE, limit_memory, results, side_by_side, start, watched_memory

ECHO = """
import json, os, sys
task = json.loads(sys.argv[1])
print("something else first")
print(json.dumps([task, os.environ["GREETING"]]))
"""


def python(code):
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_module_gets_its_task_and_gives_its_result(tmp_path, monkeypatch):
    (tmp_path / "echo_module.py").write_text(ECHO)
    monkeypatch.setattr("batchlab.processes.SOURCE", tmp_path)
    workers = {name: start("echo_module", {"rows": [name, 2]}, GREETING="hello") for name in ("b", "a")}
    found = results(workers)
    assert found == {name: [{"rows": [name, 2]}, "hello"] for name in ("b", "a")}
    assert list(found) == ["b", "a"]


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("raise ValueError('no rows')", "worker 2 failed: ValueError: no rows"),
        ("raise SystemExit(3)", "worker 2 failed: it gave no reason"),
        ("import os; os.kill(os.getpid(), 9)", "worker 2 failed: signal 9 ended it"),
    ],
)
def test_a_failure_is_named_and_ends_the_others(code, complaint):
    patient = python("import time; time.sleep(600)")
    with pytest.raises(RuntimeError, match=complaint):
        results({"worker 1": patient, "worker 2": python(code)})
    assert patient.wait() < 0  # a signal ended it: it did not come to its own end


WORK = """
import json, os, time
from pathlib import Path
from batchlab.processes import do_tasks
imported = os.getpid()

def work(task):
    if task == "wait":
        Path(__file__).with_name(f"waits-{os.getpid()}").touch()
        time.sleep(600)
        Path(__file__).with_name("came to its end").touch()
    if task == "fail":
        raise ValueError("no rows")
    print(json.dumps([task, os.environ["GREETING"], os.getpid(), imported]), flush=True)
    if task == "die":
        os.kill(os.getpid(), 9)

if __name__ == "__main__":
    do_tasks(work)
"""
ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only on Linux does a process copy itself")


@pytest.fixture
def work_module(tmp_path, monkeypatch):
    (tmp_path / "work_module.py").write_text(WORK)
    monkeypatch.setattr("batchlab.processes.SOURCE", f"{tmp_path}{os.pathsep}{SOURCE}")
    return "work_module"


def test_every_task_has_a_process_of_its_own(work_module):
    found = side_by_side(work_module, {"b": ["rows", 2], "a": 1, "c": None}, GREETING="hello")
    assert {name: result[:2] for name, result in found.items()} == {
        "b": [["rows", 2], "hello"],
        "a": [1, "hello"],
        "c": [None, "hello"],
    }
    assert list(found) == ["b", "a", "c"]
    assert len({process for _, _, process, _ in found.values()}) == 3


@ON_LINUX
def test_no_more_work_is_done_at_once_than_allowed(work_module):
    found = side_by_side(work_module, {name: name for name in "abcd"}, at_once=2, GREETING="hello")
    assert [task for task, *_ in found.values()] == list("abcd")
    begin = time.perf_counter()
    with pytest.raises(RuntimeError, match="a failed"):  # and what has not begun by then never does
        side_by_side(work_module, {"a": "fail", "b": "wait"}, at_once=1, GREETING="hello")
    assert time.perf_counter() - begin < 60


@ON_LINUX
def test_several_tasks_import_once(work_module):
    found = side_by_side(work_module, {"a": 1, "b": 2}, GREETING="hello")
    assert len({imported for *_, imported in found.values()}) == 1


@pytest.mark.parametrize("tasks", [{"a": 1}, {"a": 1, "b": 2}])
def test_where_a_process_cannot_copy_itself_each_imports(work_module, monkeypatch, tasks):
    monkeypatch.setattr(sys, "platform", "darwin")
    found = side_by_side(work_module, tasks, GREETING="hello")
    assert [task for task, *_ in found.values()] == list(tasks.values())
    assert all(process == imported for *_, process, imported in found.values())


@pytest.mark.parametrize(
    ("task", "complaint"),
    [("fail", "worker 2 failed: ValueError: no rows"), ("die", "worker 2 failed: signal 9 ended")],
)
def test_a_task_that_fails_is_named_and_ends_the_others(work_module, tmp_path, task, complaint):
    with pytest.raises(RuntimeError, match=complaint):
        side_by_side(work_module, {"worker 1": "wait", "worker 2": task, "worker 3": "wait"}, GREETING="hello")
    assert not (tmp_path / "came to its end").exists()


def test_a_task_may_be_left_unfinished_where_that_is_asked_for(work_module):
    found = side_by_side(work_module, {"first": "die", "second": 2}, unfinished=True, GREETING="hello")
    assert [task for task, *_ in found.values()] == ["die", 2]
    with pytest.raises(RuntimeError, match="first failed: ValueError: no rows"):
        side_by_side(work_module, {"first": "fail", "second": "wait"}, unfinished=True, GREETING="hello")


@ON_LINUX
def test_no_copy_outlives_the_process_that_waits_for_it(work_module, tmp_path):
    worker = start(work_module, {"unfinished": False, "at_once": 2, "tasks": ["wait", "wait"]}, GREETING="hello")
    while len(list(tmp_path.glob("waits-*"))) < 2:  # a copy is there a moment before it has asked to be ended
        assert worker.poll() is None
        time.sleep(0.01)
    copies = psutil.Process(worker.pid).children()
    worker.kill()
    worker.communicate()
    psutil.wait_procs(copies)
    assert len(copies) == 2 and not (tmp_path / "came to its end").exists()


def test_memory_that_was_given_back_counts():
    with watched_memory() as memory:
        block = np.ones(64 * MEBIBYTE, np.uint8)
        for _ in range(6000):  # a minute, if nobody looks
            if memory.peak > 60:
                break
            time.sleep(0.01)
        del block
        time.sleep(0.05)  # so that somebody looks when it is gone, too
    assert 60 < memory.peak < 100


def test_an_error_ends_the_watching():
    before = set(threading.enumerate())
    with pytest.raises(KeyError), watched_memory():
        assert set(threading.enumerate()) > before
        raise KeyError
    assert set(threading.enumerate()) == before


def test_what_a_process_printed_before_a_signal_ended_it_counts_where_that_is_asked_for():
    ended = "import os; print(1); print(2, flush=True); os.kill(os.getpid(), 9)"
    assert results({"first": python(ended), "second": python("print(3)")}, unfinished=True) == {"first": 2, "second": 3}
    with pytest.raises(RuntimeError, match="first failed: signal 9 ended it"):
        results({"first": python(ended)})
    with pytest.raises(RuntimeError, match="mute failed: signal 9 ended it"):
        results({"mute": python("import os; os.kill(os.getpid(), 9)")}, unfinished=True)


TAKE = """
import numpy as np
from batchlab.processes import limit_memory
held = np.ones(100 * 2**20, np.uint8)
limit = limit_memory(60)
some = np.ones(40 * 2**20, np.uint8)
try:
    np.ones(40 * 2**20, np.uint8)
except MemoryError:
    print(limit)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits what a process may hold")
def test_a_limit_leaves_what_is_held_and_some_more():
    (limit,) = results({"taker": python(f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n{TAKE}")}).values()
    assert 160 < limit < 1000  # what was held, and 60


def test_a_system_that_cannot_limit_memory_says_so(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert limit_memory(1) is None
