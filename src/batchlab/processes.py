"""Work in fresh processes, and the memory that a process takes at its peak. Never knows what the work is."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import psutil

from batchlab.paths import SOURCE

MEBIBYTE = 2**20


def start(module: str, task: object, **environment: str) -> subprocess.Popen:
    """Run a module in a fresh process.

    Args:
        module: Its name. Run as the main module it takes the task from its first argument, and prints its result as
            JSON in the last line of its output.
        task: Anything that JSON can say.
        **environment: Variables that the process sees beside ours.

    Returns:
        The process, for `results`.
    """
    return subprocess.Popen(
        [sys.executable, "-m", module, json.dumps(task)],
        env=os.environ | {"PYTHONPATH": str(SOURCE), "TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(workers: Mapping[str, subprocess.Popen], *, unfinished: bool = False) -> dict[str, Any]:
    """Wait for processes that `start` started, side by side, and return the result of each.

    Args:
        workers: The processes, by what a complaint should call them.
        unfinished: Whether a process that a signal ended is no failure, if it printed something first; its result is
            then in the last line that it printed.

    Raises:
        RuntimeError: One failed; the message ends with the last line of what it complained. The others are ended, since
            they might wait for it for good.
    """
    with ThreadPoolExecutor(max(1, len(workers))) as pool:
        futures = {pool.submit(_result, name, worker, unfinished): name for name, worker in workers.items()}
        try:
            found = {futures[done]: done.result() for done in as_completed(futures)}
        finally:  # after Ctrl-C too
            for worker in workers.values():
                worker.kill()
    return {name: found[name] for name in workers}


def _result(name: str, worker: subprocess.Popen, unfinished: bool) -> Any:  # noqa: ANN401
    output, errors = worker.communicate()
    return _judged(name, worker.returncode, output, errors, unfinished)


def _judged(name: str, code: int, output: str, errors: str, unfinished: bool) -> Any:  # noqa: ANN401
    if code < 0 and not (unfinished and output):
        raise RuntimeError(f"{name} failed: signal {-code} ended it.")
    if code > 0:
        raise RuntimeError(f"{name} failed: {(errors.strip() or 'it gave no reason').splitlines()[-1]}")
    return json.loads(output.splitlines()[-1])


def side_by_side(
    module: str, tasks: Mapping[str, object], *, at_once: int = 0, unfinished: bool = False, **environment: str
) -> dict[str, Any]:
    """Run a module in a fresh process for each task, and return the result of each.

    To import TensorFlow takes seconds. On Linux one process imports the module, and then copies itself for every task
    (fork); no work has begun by then, so no task can see anything of another. Elsewhere each process imports it.

    Args:
        module: Its name. Run as the main module it calls `do_tasks`.
        tasks: Anything that JSON can say, by what a complaint should call the process.
        at_once: How many copies there may be at a time; all of them without it, and elsewhere than on Linux.
        unfinished: As in `results`.
        **environment: Variables that the processes see beside ours.

    Raises:
        RuntimeError: One failed; the message ends with the last line of what it complained. The others are ended.
    """
    names = list(tasks)
    if len(names) < 2 or not sys.platform.startswith("linux"):
        workers = {name: start(module, {"tasks": [task]}, **environment) for name, task in tasks.items()}
        return results(workers, unfinished=unfinished)
    together = f"{names[0]} or one beside it"
    order = {"tasks": list(tasks.values()), "at_once": at_once or len(names), "unfinished": unfinished}
    ends = results({together: start(module, order, **environment)})[together]
    found = {names[number]: _judged(names[number], *end, unfinished) for number, *end in ends}
    return {name: found[name] for name in names}


def do_tasks(work: Callable[[Any], None]) -> None:
    """Do the tasks that `side_by_side` gave to this process, each in a copy of the process if there are several.

    Args:
        work: Does a task, and prints its result as JSON in the last line of its output.
    """
    order = json.loads(sys.argv[1])
    if len(order["tasks"]) == 1:
        work(order["tasks"][0])
        return
    waiting, copies, ends = list(enumerate(order["tasks"])), {}, []
    while waiting or copies:
        if waiting and len(copies) < order["at_once"]:
            number, task = waiting.pop(0)
            output, errors = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 - `_text` closes them
            copy = os.fork()
            if not copy:
                ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)  # nobody would wait for the result any more
                os.dup2(output.fileno(), sys.stdout.fileno())
                os.dup2(errors.fileno(), sys.stderr.fileno())
                work(task)
                return
            copies[copy] = number, output, errors
            continue
        ended, status = os.wait()
        number, output, errors = copies.pop(ended)
        code = os.waitstatus_to_exitcode(status)
        ends.append((number, code, _text(output), _text(errors)))
        if code > 0 or (code < 0 and not order["unfinished"]):
            waiting = []
            for copy in copies:  # they might wait for it for good
                os.kill(copy, signal.SIGKILL)
    print(json.dumps(ends))


_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of Linux


def _text(file: IO[bytes]) -> str:
    with file:
        file.seek(0)
        return file.read().decode(errors="replace")


@dataclass
class Memory:
    """The resident memory of this process, in bytes.

    Attributes:
        before: When watching began.
        most: The most that was seen since.
    """

    before: int
    most: int

    @property
    def peak(self) -> float:
        """How far memory rose above its level before, in mebibytes."""
        return (self.most - self.before) / MEBIBYTE


@contextmanager
def watched_memory() -> Iterator[Memory]:
    """Watch the memory of the whole process, every millisecond, while the block runs."""
    resident = psutil.Process().memory_info
    memory = Memory(before := resident().rss, before)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            memory.most = max(memory.most, resident().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield memory
    finally:
        done.set()
        watcher.join()
        memory.most = max(memory.most, resident().rss)


def limit_memory(allowed: int) -> float | None:
    """Limit what this process may hold from here on, to what it holds now and some more.

    Linux counts memory that is private to the process and can be written (`RLIMIT_DATA`). Where a library does not
    expect to be refused memory, a signal ends the process, which then leaves no image of its memory behind.

    Args:
        allowed: How many mebibytes more.

    Returns:
        The limit in mebibytes, or None where the system cannot set one.
    """
    if not sys.platform.startswith("linux"):
        return None
    import resource  # Windows has none

    limit = psutil.Process().memory_info().data + allowed * MEBIBYTE
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return limit / MEBIBYTE
