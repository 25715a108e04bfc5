"""How many cores there are, and work spread over them. Never knows what the work is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")

_thread = threading.local()


def process_cores() -> int:
    """Cores that this process may use, where the system tells; else all of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores() -> int:
    """Cores that the calling thread may keep busy: one in a thread of `one_core_each`, else those of the process."""
    return 1 if hasattr(_thread, "unwanted") else process_cores()


def check_wanted() -> None:
    """Return, unless this is a thread of `one_core_each` for whose result nobody waits any more.

    Raises:
        CancelledError: Nobody does.
    """
    if hasattr(_thread, "unwanted") and _thread.unwanted.is_set():
        raise CancelledError


def one_core_each(
    work: Callable[[Item], Result], items: Iterable[Item], *, at_most: int | None = None
) -> Iterator[tuple[Item, Result]]:
    """Do a piece of work for each item, as many at a time as there are cores, each of them with one core.

    To compile a small program takes longer than to run it. By itself a long call of `fit_seeds` has one compiled for
    each core; with one core to use, it has one, and meanwhile the other cores do other items.

    Args:
        work: Called with an item, in a thread; asks `cores` how many it may use, and `check_wanted` from time to time.
        items: Begin with those that take longest, so that none of them is left to run alone.
        at_most: How many at a time, where memory does not allow one for each core.

    Yields:
        An item and its result, as they are done. Whoever stops asking, or is stopped by Ctrl-C or by an error, cancels
        what has not begun, and has the rest end at its next `check_wanted`.

    Raises:
        Exception: Whatever `work` raised.
    """
    unwanted = threading.Event()

    def keep_to_one_core() -> None:
        _thread.unwanted = unwanted

    number = min(cores(), at_most or cores())  # one, within another call
    with ThreadPoolExecutor(number, initializer=keep_to_one_core) as pool:
        futures = {pool.submit(work, item): item for item in items}
        try:
            waiting = set(futures)
            while waiting:  # in short waits: Windows answers Ctrl-C between two of them only
                check_wanted()
                done, waiting = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
                for future in done:
                    yield futures[future], future.result()
        finally:
            unwanted.set()
            pool.shutdown(wait=False, cancel_futures=True)
