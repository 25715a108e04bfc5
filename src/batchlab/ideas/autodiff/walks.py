"""Walks through a graph: its order, its paths, and the derivatives, with memory and without. Never makes a node."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from batchlab.ideas.autodiff.graph import GraphError, Node


def topological(root: Node) -> list[Node]:
    """Return all nodes that the root depends on, each after its inputs, the root last.

    Raises:
        TypeError: The root is not one node.
        GraphError: The graph has a cycle.
    """
    if not isinstance(root, Node):
        if isinstance(root, np.ndarray | Sequence) and not isinstance(root, str):
            raise TypeError("Non-scalar root: only a single node has a gradient. Add or average the nodes first.")
        raise TypeError(f"The root is {root!r}, a {type(root).__name__}; give a node.")
    order, open_nodes, done = [], {root: iter(root.inputs)}, set()
    while open_nodes:  # a stack of our own: Python's would end at some thousand nodes
        node, rest = next(reversed(open_nodes.items()))
        for source, _ in rest:
            if source in open_nodes:
                on_it = list(open_nodes)[list(open_nodes).index(source) :]
                names = " <- ".join(n.label or repr(n) for n in [*on_it, source])
                raise GraphError(f"The graph has a cycle: {names}. No value may depend on itself; cut an edge.")
            if source not in done:
                open_nodes[source] = iter(source.inputs)
                break
        else:
            del open_nodes[node]
            done.add(node)
            order.append(node)
    return order


class Gradient(Mapping[Node, float]):
    """The derivative of a root with respect to every node that it depends on.

    Attributes:
        multiplications: How many were made, one each time that an edge was walked. Each comes with one addition, of
            the product to the sum of the node where the edge leads.
    """

    def __init__(self, sums: dict[Node, float], multiplications: int) -> None:
        bad = [node for node, value in sums.items() if not math.isfinite(value)]
        if bad:
            raise GraphError(f"The derivative by ({bad[0]}) is not finite: the local derivatives are too large.")
        self._sums = sums
        self.multiplications = multiplications

    def __getitem__(self, node: Node) -> float:
        if node not in self._sums:
            raise KeyError(f"The root does not depend on ({node}), so there is no derivative by it.")
        return self._sums[node]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._sums)

    def __len__(self) -> int:
        return len(self._sums)

    def of(self, nodes: np.ndarray) -> np.ndarray:
        """Return the derivatives with respect to an array of nodes, as floats of the same shape."""
        return np.array([self[node] for node in nodes.flat]).reshape(nodes.shape)


def backward(root: Node) -> Gradient:
    """Differentiate by the chain rule with memory: each node's sum is complete before it is handed on.

    Reverse accumulation (Linnainmaa 1970; Rumelhart, Hinton & Williams 1986). The work is one multiplication an edge.

    Args:
        root: The scalar to differentiate, such as a loss.

    Returns:
        The gradient, with respect to inner nodes as well as leaves.

    Raises:
        TypeError: The root is not one node.
        GraphError: The graph has a cycle, or a derivative is not finite.
    """
    order = topological(root)
    sums = dict.fromkeys(reversed(order), 0.0)
    sums[root] = 1.0
    multiplications = 0
    for node in sums:
        for source, slope in node.inputs:
            sums[source] += sums[node] * slope
            multiplications += 1
    return Gradient(sums, multiplications)


def backward_by_paths(root: Node, *, limit: int = 10**7) -> Gradient:
    """Differentiate by the chain rule without memory: walk down every path from the root, as naive Fibonacci does.

    A node that many paths reach is unfolded anew for each of them, with all that lies below it.

    Args:
        root: The scalar to differentiate.
        limit: The most multiplications to begin with; `path_work` predicts them.

    Returns:
        The same gradient as `backward`, up to rounding.

    Raises:
        TypeError: The root is not one node.
        GraphError: The graph has a cycle, it would take more work than the limit, or a derivative is not finite.
    """
    work = path_work(root)
    if work > limit:
        raise GraphError(
            f"Walking every path from ({root}) takes {work:,} multiplications, over the limit of {limit:,}. "
            "Use `backward`, or raise the limit."
        )
    sums = dict.fromkeys(topological(root), 0.0)
    sums[root] = 1.0
    multiplications = 0
    ahead = [(root, 1.0)]
    while ahead:
        node, product = ahead.pop()
        for source, slope in node.inputs:
            sums[source] += product * slope
            multiplications += 1
            ahead.append((source, product * slope))
    return Gradient(sums, multiplications)


def path_work(root: Node) -> int:
    """Return how many multiplications `backward_by_paths` needs, exactly, without making them.

    Every path from the root to any other node costs one, for its last edge.

    Raises:
        TypeError: The root is not one node.
        GraphError: The graph has a cycle.
    """
    return sum(_counts(root).values()) - 1


def count_paths(root: Node, leaf: Node) -> int:
    """Return the number of paths from a leaf, or from an inner node, to the root, without walking them.

    Raises:
        TypeError: The root is not one node.
        GraphError: The graph has a cycle, or the root does not depend on the leaf.
    """
    counts = _counts(root)
    _require(leaf, counts, root)
    return counts[leaf]


def _counts(root: Node) -> dict[Node, int]:
    """The number of paths between the root and each node: a node has those of all nodes that it feeds."""
    counts = dict.fromkeys(reversed(topological(root)), 0)
    counts[root] = 1
    for node in counts:
        for source, _ in node.inputs:
            counts[source] += counts[node]
    return counts


class Edge(NamedTuple):
    """One step of a path, in the direction of the computation."""

    source: Node
    target: Node
    derivative: float  # of the target with respect to the source, all else held


class Path(tuple[Edge, ...]):
    """The edges from a leaf to the root, in the order of the computation."""

    __slots__ = ()

    @property
    def product(self) -> float:
        """The product of the local derivatives: what this path adds to the gradient."""
        return math.prod(edge.derivative for edge in self)


def paths(root: Node, leaf: Node) -> Iterator[Path]:
    """Yield every path from a leaf, or from an inner node, to the root. Their products add up to the derivative.

    Raises:
        TypeError: The root is not one node.
        GraphError: The graph has a cycle, or the root does not depend on the leaf.
    """
    order = topological(root)
    _require(leaf, order, root)
    fed = {leaf}  # nodes that the leaf reaches; no path leads elsewhere
    for node in order:
        if any(source in fed for source, _ in node.inputs):
            fed.add(node)
    return _walk(root, leaf, fed)


def _walk(root: Node, leaf: Node, fed: set[Node]) -> Iterator[Path]:
    ahead = [(root, None)]  # with a node, the linked list of edges from it up to the root
    while ahead:
        node, above = ahead.pop()
        if node is leaf:
            edges = []
            while above is not None:
                edge, above = above
                edges.append(edge)
            yield Path(edges)
        for source, slope in reversed(node.inputs):
            if source in fed:
                ahead.append((source, (Edge(source, node, slope), above)))


def _require(leaf: Node, nodes: Iterable[Node], root: Node) -> None:
    if leaf not in nodes:
        raise GraphError(f"({root}) does not depend on ({leaf}): no path leads there. Give a node of its graph.")
