import sys
from collections import Counter

import numpy as np
import pytest

from batchlab.ideas.recursion import call_tree, count_calls, counted, fibonacci, fibonacci_memoized

FIRST = [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55]


@pytest.mark.parametrize("function", [fibonacci, fibonacci_memoized])
def test_the_first_numbers(function):
    assert [function(n) for n in range(11)] == FIRST
    assert function(np.int64(10)) == 55


def test_the_memoized_one_reaches_large_numbers_exactly():
    assert fibonacci_memoized(np.int8(100)) == 354224848179261915075


def test_too_deep_a_recursion_says_so():
    with pytest.raises(ValueError, match="n = 100000 goes deeper than Python's recursion limit of"):
        fibonacci_memoized(100_000)
    assert sys.getrecursionlimit() < 100_000


FUNCTIONS = {
    "fibonacci": fibonacci,
    "fibonacci_memoized": fibonacci_memoized,
    "counted": counted,
    "count_calls": lambda n: count_calls(n, memoized=True),
    "call_tree": lambda n: call_tree(n, memoized=False),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("n", [2.5, 5.0, "5", True, None, np.float64(3), [3]], ids=repr)
def test_what_is_no_whole_number_is_refused(name, n):
    with pytest.raises(TypeError, match=r"`n` is .*; give a whole number of at least 0"):
        FUNCTIONS[name](n)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_negative_number_is_refused(name):
    with pytest.raises(ValueError, match="`n` is -1; give a whole number of at least 0"):
        FUNCTIONS[name](-1)


# --- calls -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 10, 20])
def test_calls_are_predicted_as_they_are_made(n):
    assert count_calls(n, memoized=False) == counted(n) == 2 * fibonacci_memoized(n + 1) - 1


@pytest.mark.parametrize("n", [0, 1, 2, 5, 13])
@pytest.mark.parametrize("memoized", [False, True])
def test_the_tree_has_as_many_calls_as_are_counted(n, memoized):
    made = [call for call in call_tree(n, memoized=memoized).walk() if call.status != "saved"]
    assert len(made) == count_calls(n, memoized=memoized)


def test_with_memory_the_calls_are_those_that_a_traced_run_makes():
    made = 0

    def trace(frame, event, _):
        nonlocal made
        made += event == "call" and frame.f_code.co_name == "fib"

    sys.setprofile(trace)
    try:
        fibonacci_memoized(12)
    finally:
        sys.setprofile(None)
    assert made == count_calls(12, memoized=True) == 23


def test_fib_5_computes_fib_3_twice_and_fib_2_three_times():
    calls = list(call_tree(5, memoized=False).walk())
    assert Counter(call.argument for call in calls) == {5: 1, 4: 1, 3: 2, 2: 3, 1: 5, 0: 3}
    assert Counter(call.argument for call in calls if call.status == "repeated") == {3: 1, 2: 2}


def test_with_memory_each_number_is_computed_once_and_two_branches_are_saved():
    tree = call_tree(5, memoized=True)
    by_status = {status: [c.argument for c in tree.walk() if c.status == status] for status in ("computed", "saved")}
    assert by_status["computed"] == [5, 4, 3, 2]
    assert by_status["saved"] == [1, 0, 2, 1, 0, 1]
    assert [call.argument for call in tree.walk() if call.status == "remembered"] == [2, 3]


def test_every_call_has_the_two_below_it():
    for call in call_tree(7, memoized=True).walk():
        assert [below.argument for below in call.calls] == (
            [call.argument - 1, call.argument - 2] if call.argument > 1 else []
        )


def test_a_tree_too_large_to_draw_is_refused_with_its_size():
    with pytest.raises(ValueError, match=r"fib\(38\) makes 126,491,971 calls"):
        call_tree(38, memoized=True)
