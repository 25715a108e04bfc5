"""Fresh processes: results, failures that are named and stop the others, and watched memory."""

import subprocess
import sys
import time

import numpy as np
import pytest

from batchlab.paths import SOURCE
from batchlab.processes import MEBIBYTE, limit_memory, results, start, watched_memory

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
    begin = time.perf_counter()
    with pytest.raises(RuntimeError, match=complaint):
        results({"worker 1": patient, "worker 2": python(code)})
    assert patient.poll() is not None
    assert time.perf_counter() - begin < 60


def test_memory_that_was_given_back_counts():
    with watched_memory() as memory:
        block = np.ones(64 * MEBIBYTE, np.uint8)
        time.sleep(0.1)
        del block
    assert 60 < memory.peak < 100


def test_an_error_ends_the_watching():
    with pytest.raises(KeyError), watched_memory() as memory:
        raise KeyError
    most = memory.most
    block = np.ones(64 * MEBIBYTE, np.uint8)
    time.sleep(0.05)
    assert memory.most == most and block[0] == 1


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
