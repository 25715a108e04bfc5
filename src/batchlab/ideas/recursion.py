"""Fibonacci's recursion with and without memory: its values, its calls, and the trees that the calls make.

fib(0) = 0, fib(1) = 1, fib(n) = fib(n - 1) + fib(n - 2); calls are made from left to right.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from batchlab.checks import whole_number

_LARGEST_TREE = 1000  # calls; a picture of more would be a black patch

Status: TypeAlias = Literal["given", "computed", "repeated", "remembered", "saved"]
"""What became of a call: fib(0) and fib(1) are given; another call is computed, computed once more although it was
known, or answered from memory; and a call below a remembered one is never made: it is saved."""


def fibonacci(n: int) -> int:
    """Return fib(n) by plain recursion, which takes about 1.6^n calls.

    Args:
        n: A whole number of at least 0. At 38 this takes seconds, at 60 days.

    Raises:
        TypeError: n is not whole.
        ValueError: n is negative.
    """
    return _naive(whole_number(n, "n", 0))


def _naive(n: int) -> int:
    return n if n < 2 else _naive(n - 1) + _naive(n - 2)


def fibonacci_memoized(n: int) -> int:
    """Return fib(n) by the same recursion with a memory: each value is computed once (Michie 1968, "Memo functions").

    Args:
        n: A whole number of at least 0.

    Raises:
        TypeError: n is not whole.
        ValueError: n is negative, or deeper than Python's recursion limit allows.
    """
    n = whole_number(n, "n", 0)
    memory: dict[int, int] = {}

    def fib(k: int) -> int:
        if k < 2:
            return k
        if k not in memory:
            memory[k] = fib(k - 1) + fib(k - 2)
        return memory[k]

    try:
        return fib(n)
    except RecursionError:
        raise ValueError(
            f"fibonacci_memoized: n = {n} goes deeper than Python's recursion limit of {sys.getrecursionlimit()}. "
            "Memory saves repeated calls, not depth: give a smaller n, or fill the memory from below."
        ) from None


@dataclass(frozen=True, eq=False)
class Call:
    """One call of fib, and the calls that it makes, or would make.

    Attributes:
        argument: n.
        status: What became of the call.
        calls: The two calls below it, fib(n - 1) first; empty where n is 0 or 1.
    """

    argument: int
    status: Status
    calls: tuple[Call, ...]

    def walk(self) -> Iterator[Call]:
        """Yield this call and all below it, in the order in which they are made."""
        yield self
        for call in self.calls:
            yield from call.walk()


def call_tree(n: int, *, memoized: bool) -> Call:
    """Return the tree of all calls that fib(n) makes.

    Args:
        n: A whole number of at least 0.
        memoized: Whether values are kept. The calls that memory saves then hang below the remembered ones.

    Raises:
        TypeError: n is not whole.
        ValueError: n is negative, or the tree has over 1000 calls.
    """
    n = whole_number(n, "n", 0)
    calls = count_calls(n, memoized=False)
    if calls > _LARGEST_TREE:
        raise ValueError(
            f"call_tree: fib({n}) makes {calls:,} calls, too many for a tree; draw one of at most {_LARGEST_TREE:,}."
        )
    known: set[int] = set()

    def call(k: int, saved: bool) -> Call:
        if saved:
            status: Status = "saved"
        elif k < 2:
            status = "given"
        elif k in known:
            status = "remembered" if memoized else "repeated"
        else:
            status = "computed"
        below = saved or status == "remembered"
        calls = (call(k - 1, below), call(k - 2, below)) if k >= 2 else ()
        known.add(k)
        return Call(k, status, calls)

    return call(n, saved=False)


def count_calls(n: int, *, memoized: bool) -> int:
    """Return how many calls fib(n) makes, itself included, without making them.

    Without memory calls(n) = 1 + calls(n - 1) + calls(n - 2), which is 2 fib(n + 1) - 1. With memory every number from
    2 to n is computed once and makes two calls: 2n - 1.

    Args:
        n: A whole number of at least 0.
        memoized: Whether values are kept.

    Raises:
        TypeError: n is not whole.
        ValueError: n is negative.
    """
    n = whole_number(n, "n", 0)
    if memoized:
        return max(2 * n - 1, 1)
    before, here = 1, 1  # fib(0) and fib(1) make one call each
    for _ in range(n - 1):
        before, here = here, 1 + before + here
    return here


def counted(n: int) -> int:
    """Return how many calls plain recursion makes for fib(n), by making and counting them.

    Args:
        n: A whole number of at least 0.

    Raises:
        TypeError: n is not whole.
        ValueError: n is negative.
    """
    made = 0

    def fib(k: int) -> int:
        nonlocal made
        made += 1
        return k if k < 2 else fib(k - 1) + fib(k - 2)

    fib(whole_number(n, "n", 0))
    return made
