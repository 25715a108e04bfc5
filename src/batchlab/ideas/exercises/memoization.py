"""The exercises of `08_memoization`."""

from __future__ import annotations

from batchlab.ideas.exercises import exercise


@exercise(inputs=[(0,), (2,), (3,), (5,), (20,)], tolerance=0)
def tribonacci_calls(n: int) -> int:
    """Return how many calls plain recursion makes for T(n).

    T(n) = T(n - 1) + T(n - 2) + T(n - 3), and T(0), T(1) and T(2) are given: each takes
    the one call that asks for it. Count the first call too, and find the number without
    making the calls.
    """
    # solution
    # The growth rate solves x**3 = x**2 + x + 1: about 1.839, as x**2 = x + 1 gives the golden ratio.
    calls = [1, 1, 1]
    for k in range(3, n + 1):
        calls.append(1 + calls[k - 1] + calls[k - 2] + calls[k - 3])
    return calls[n]


@exercise(inputs=[(12, 0), (12, 1), (12, 2), (12, 3), (20, 1), (25, 3)], tolerance=0)
def computations_with_room(n: int, room: int) -> int:
    """Return how often fib's body runs for fib(n) with a memory for `room` values.

    It keeps those that were used last. A memory with room for 0 values is plain
    recursion. Predict before you compute: how much room is enough to be as fast as with
    all of it? `functools.lru_cache(maxsize=room)` counts its misses in `cache_info()`.
    """
    # solution
    from functools import lru_cache

    @lru_cache(maxsize=room)
    def fib(k: int) -> int:
        return k if k < 2 else fib(k - 1) + fib(k - 2)

    fib(n)
    return fib.cache_info().misses  # room for 3 is enough, room for 1 saves nothing


@exercise(inputs=[(1,), (2,), (9,), (16,), (30,), (100,), (1000,)], tolerance=0)
def best_segment(depth: int) -> int:
    """Return how many layers a segment should hold to keep the fewest activations.

    On the way forward one activation is kept for each segment. On the way back, those
    of the segment at hand are computed again and kept beside them, one a layer. The
    last segment may be shorter. Of equally good lengths return the shortest.
    """
    # solution
    kept = {length: -(-depth // length) + length for length in range(1, depth + 1)}
    # Near the square root of the depth: for 40 layers 5, with 13 activations kept; segments of 4 keep 14.
    return min(kept, key=kept.get)
