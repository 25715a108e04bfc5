"""Work spread over the cores: each piece has one, none is lost, and what nobody waits for ends."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from batchlab import cores as module
from batchlab.cores import check_wanted, cores, one_core_each, process_cores

PATIENCE = 120  # seconds, which pass only if a test fails


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(module, "process_cores", lambda: 4)


def until_unwanted(ended):
    """What waits to be told that nobody wants it, and notes that it was."""
    for _ in range(100 * PATIENCE):
        try:
            check_wanted()
        except CancelledError:
            ended.append(threading.get_ident())
            raise
        time.sleep(0.01)


@pytest.mark.parametrize(("at_most", "together"), [(None, 4), (2, 2)])
def test_every_item_is_done_once_with_one_core_and_no_more_at_a_time_than_there_are(four_cores, at_most, together):
    busy, most, lock, meeting = 0, [], threading.Lock(), threading.Barrier(together)

    def work(item):
        nonlocal busy
        with lock:
            busy += 1
            most.append(busy)
        meeting.wait(PATIENCE)  # for as many as there should be at a time
        with lock:
            busy -= 1
        return item**2, cores()

    assert cores() == 4
    assert dict(one_core_each(work, range(40), at_most=at_most)) == {item: (item**2, 1) for item in range(40)}
    assert max(most) == together and cores() == 4
    assert list(one_core_each(work, [])) == []


def test_results_come_as_they_are_done(four_cores):
    slow = threading.Event()

    def work(item):
        if item == "slow":
            assert slow.wait(PATIENCE)
        return item

    found = one_core_each(work, ["slow", "quick"])
    assert next(found) == ("quick", "quick")
    slow.set()
    assert list(found) == [("slow", "slow")]


def test_an_error_is_raised_and_ends_the_others(four_cores):
    ended, begun = [], []

    def work(item):
        begun.append(item)
        if item == 0:
            raise ValueError("no")
        until_unwanted(ended)

    with pytest.raises(ValueError, match="no"):
        list(one_core_each(work, range(100)))
    assert len(begun) < 10 and len(ended) == len(begun) - 1


def test_who_stops_asking_ends_what_runs(four_cores):
    begun, ended = threading.Event(), []

    def work(item):
        if item == 0:
            assert begun.wait(PATIENCE)
            return item
        begun.set()
        return until_unwanted(ended)

    found = one_core_each(work, [1, 0])
    assert next(found) == (0, 0)
    found.close()
    assert len(ended) == 1


def test_a_call_within_a_call_has_one_core_and_ends_with_it(four_cores):
    begun, ended, threads = threading.Event(), [], set()

    def inner(item):
        threads.add(threading.get_ident())
        return item, cores()

    def outer(item):
        if item == 0:
            assert begun.wait(PATIENCE)
            return dict(one_core_each(inner, range(5)))
        begun.set()
        return dict(one_core_each(lambda _: until_unwanted(ended), [item]))

    found = one_core_each(outer, [1, 0])
    assert next(found) == (0, {item: (item, 1) for item in range(5)}) and len(threads) == 1
    found.close()
    assert len(ended) == 1


def test_outside_everything_is_wanted():
    check_wanted()
    assert cores() == process_cores() >= 1
