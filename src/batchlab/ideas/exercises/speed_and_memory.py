"""The exercises of `10_speed_and_memory`."""

from __future__ import annotations

from batchlab.ideas.exercises import exercise


@exercise(
    inputs=[(800.0, 0.1, 0.5), (800.0, 0.1, 0.9), (1.0, 0.05, 0.5), (3000.0, 2.0, 0.99), (10.0, 1.0, 0.25)],
    tolerance=0,
)
def saturating_batch_size(overhead: float, each: float, share: float) -> int:
    """Return the least batch size that reaches a share of the highest possible speed.

    A step takes `overhead` µs whatever its size, and `each` µs for every row. The highest
    possible speed, in rows a second, is that of a batch without end.
    """
    # solution
    from math import ceil

    # b / (overhead + each * b) = share / each. Half of the speed is reached where both parts take as long.
    return ceil(round(share / (1 - share) * overhead / each, 6))


@exercise(
    inputs=[
        ([2, 10, 10, 1], 2**20, 3),
        ([256, 32, 1], 2**27, 3),
        ([784, 512, 512, 10], 2**30, 4),
        ([784, 512, 512, 10], 2**24, 4),
    ],
    tolerance=0,
)
def largest_batch_size(widths: list[int], memory: int, kept: int) -> int:
    """Return the largest batch size whose training step fits into `memory` bytes.

    `widths` are the numbers of inputs, of units of each Dense layer in turn, and of outputs.
    Every row needs its value at each of these, once. Beside the rows stand the weights and
    biases, `kept` times over: themselves, their gradients, and what the optimizer remembers.
    All numbers take 4 bytes. Where not even one row fits, return 0.
    """
    # solution
    weights = sum((widths[i] + 1) * widths[i + 1] for i in range(len(widths) - 1))
    # Weights are paid for once, rows one by one: no batch is small enough for a network that is too large.
    return max(0, (memory // 4 - kept * weights) // sum(widths))


@exercise(
    inputs=[(2, 3000.0, 10.0), (2, 3000.0, 0.5), (4, 3000.0, 10.0), (8, 100.0, 10.0), (2, 1.0, 1000.0)], tolerance=0
)
def batch_size_that_pays(processes: int, exchange: float, each: float) -> int:
    """Return the least batch size at which several processes are faster than one.

    One process computes a batch in `each` µs a row. Several share the rows of a batch evenly,
    with fractions of a row allowed, and then exchange their gradients, which takes `exchange`
    µs whatever the batch. Equally fast is not faster.
    """
    # solution
    from math import floor

    # each * b > each * b / processes + exchange. However many processes: below exchange / each rows none of it pays.
    return floor(round(exchange / each * processes / (processes - 1), 6)) + 1
