"""Backpropagation on scalars: a graph whose edges are numbers, and two ways to walk it.

Every node holds its value and its inputs, each with the local derivative towards it. An edge is data, not a closure, so
it can be drawn, counted and walked. `backward` visits each edge once; `backward_by_paths` has no memory.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class GraphError(ValueError):
    """A graph, or a value in it, that has no derivative or cannot be walked."""


# --- nodes and their local derivatives ---------------------------------------------------------------


class Node:
    """A real number in a computational graph. Nodes are equal only to themselves.

    Args:
        value: A finite real scalar.
        inputs: Pairs (node, local derivative of this node's value with respect to that node). Without inputs the node
            is a leaf.
        label: A name for pictures and errors. Nodes that an operator makes carry its symbol until they are renamed.

    Raises:
        TypeError: The value is no real scalar, or an input is no such pair.
        GraphError: The value or a derivative is not finite.
    """

    __slots__ = ("inputs", "label", "value")
    __array_ufunc__ = None  # an array or a NumPy scalar on the left leaves the operator to us

    def __init__(self, value: float, inputs: Iterable[tuple[Node, float]] = (), label: str = "") -> None:
        self.label = label
        self.value = _real(value, f"the value of {label or 'a node'}")
        inputs = tuple(inputs)
        for pair in inputs:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], Node)):
                raise TypeError(f"Input {pair!r} of {self} is no pair (node, local derivative); give such pairs.")
        self.inputs = tuple((node, _real(slope, f"the derivative of {self} by {node}")) for node, slope in inputs)

    def __repr__(self) -> str:
        return f"{self.label or 'node'} = {self.value:.6g}"

    def __add__(self, other: Node | float) -> Node:
        return _apply("+", self, other)

    def __radd__(self, other: float) -> Node:
        return _apply("+", other, self)

    def __sub__(self, other: Node | float) -> Node:
        return _apply("-", self, other)

    def __rsub__(self, other: float) -> Node:
        return _apply("-", other, self)

    def __neg__(self) -> Node:
        return _apply("-", 0.0, self)

    def __mul__(self, other: Node | float) -> Node:
        return _apply("*", self, other)

    def __rmul__(self, other: float) -> Node:
        return _apply("*", other, self)

    def __truediv__(self, other: Node | float) -> Node:
        return _apply("/", self, other)

    def __rtruediv__(self, other: float) -> Node:
        return _apply("/", other, self)

    def __pow__(self, exponent: float) -> Node:
        if isinstance(exponent, Node):
            raise TypeError(
                f"({self}) ** ({exponent}): the exponent must be a number; write exp(b * log(a)) for a ** b."
            )
        return _apply("**", self, exponent)


def exp(x: Node) -> Node:
    """Return e to the x."""
    return _apply("exp", x)


def log(x: Node) -> Node:
    """Return the natural logarithm of a positive number."""
    return _apply("log", x)


def tanh(x: Node) -> Node:
    """Return the hyperbolic tangent."""
    return _apply("tanh", x)


def relu(x: Node) -> Node:
    """Return max(x, 0). At 0, where it has no derivative, we take 0, as TensorFlow does."""
    return _apply("relu", x)


def sigmoid(x: Node) -> Node:
    """Return 1 / (1 + e^-x)."""
    return _apply("sigmoid", x)


def binary_cross_entropy(probability: Node, target: float) -> Node:
    """Return -(t log p + (1 - t) log(1 - p)) in nats, for a probability p and a target t within [0, 1].

    As in `keras.ops.binary_crossentropy`, p is first clipped to [1e-7, 1 - 1e-7]; a clipped p has the derivative 0.
    (A Keras model that ends in a sigmoid takes its loss from the logits instead: the same, but never clipped.)
    """
    return _apply("loss", probability, target)


def total(terms: Iterable[Node | float]) -> Node:
    """Return the sum as one node, with one edge for each node among the terms."""
    return _apply("+", *terms)


def _sigmoid(a: float) -> tuple[float, float]:
    small = math.exp(-abs(a))  # never overflows
    value = (1.0 if a >= 0 else small) / (1 + small)
    return value, value * (1 - value)


def _binary_cross_entropy(p: float, t: float) -> tuple[float, float, float]:
    if not (0 <= p <= 1 and 0 <= t <= 1):
        raise ValueError("probability and target must lie within [0, 1]")
    q = min(max(p, 1e-7), 1 - 1e-7)
    loss = -(t * math.log(q) + (1 - t) * math.log(1 - q))
    return loss, (q - t) / (q * (1 - q)) if p == q else 0.0, math.log(1 - q) - math.log(q)


# All the calculus there is: the operands' values to the result, then its derivative by each operand.
_RULES: dict[str, Callable[..., tuple[float, ...]]] = {
    "+": lambda *terms: (math.fsum(terms), *[1.0] * len(terms)),
    "-": lambda a, b: (a - b, 1.0, -1.0),
    "*": lambda a, b: (a * b, b, a),
    "/": lambda a, b: (a / b, 1 / b, -(a / b) / b),
    "**": lambda a, k: (a**k, k * a ** (k - 1) if k else 0.0, 0.0),  # the exponent is a number: no edge leads to it
    "exp": lambda a: (math.exp(a), math.exp(a)),
    "log": lambda a: (math.log(a), 1 / a),
    "tanh": lambda a: (math.tanh(a), 1 - math.tanh(a) ** 2),
    "relu": lambda a: (a, 1.0) if a > 0 else (0.0, 0.0),
    "sigmoid": _sigmoid,
    "loss": _binary_cross_entropy,
}


def _apply(name: str, *operands: Node | float) -> Node:
    """Make the node of an operation, with an edge from each operand that is a node; plain numbers get none."""
    values = [x.value if isinstance(x, Node) else _real(x, f"an operand of {name}") for x in operands]
    try:
        value, *slopes = _RULES[name](*values)
        return Node(value, [(x, d) for x, d in zip(operands, slopes, strict=True) if isinstance(x, Node)], name)
    except (ArithmeticError, ValueError, TypeError) as error:  # TypeError: the root of a negative number is complex
        shown = ", ".join(f"({x})" for x in operands)
        raise GraphError(
            f"{name} of {shown} has no finite real value and derivative: {error}. Give operands for which it has."
        ) from error


def _real(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{what[0].upper()}{what[1:]} is {value!r}, a {type(value).__name__}; give one real number.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise GraphError(f"{what[0].upper()}{what[1:]} is {number}; give a finite number.")
    return number


# --- walking the graph -------------------------------------------------------------------------------


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


# --- networks ----------------------------------------------------------------------------------------

_ACTIVATIONS: dict[str, Callable[[Node], Node]] = {
    "linear": lambda x: x,
    "relu": relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
}


class DenseNetwork:
    """A chain of dense layers whose parameters are nodes, shared by the graphs of all rows.

    In layer l, unit j has the sum zlj and the output olj; wij leads from input i to unit j of the first layer, wij(l)
    into layer l, and likewise the biases bj and bj(l).

    Args:
        kernels: One array (inputs, units) a layer, as Keras keeps them.
        biases: One array (units,) a layer.
        activations: One of "linear", "relu", "sigmoid", "tanh" a layer.

    Attributes:
        kernels: The same arrays, of nodes.
        biases: The same arrays, of nodes.

    Raises:
        GraphError: The shapes do not fit, a parameter is not finite, or an activation is unknown.
    """

    def __init__(self, kernels: Sequence[np.ndarray], biases: Sequence[np.ndarray], activations: Sequence[str]) -> None:
        if not len(kernels) == len(biases) == len(activations) >= 1:
            raise GraphError(
                f"{len(kernels)} kernels, {len(biases)} biases and {len(activations)} activations; give one of each a "
                "layer, for at least one layer."
            )
        shapes = [np.shape(kernel) for kernel in kernels]
        for layer, (shape, bias, name) in enumerate(zip(shapes, biases, activations, strict=True), start=1):
            if len(shape) != 2 or 0 in shape or np.shape(bias) != shape[1:]:
                raise GraphError(
                    f"Layer {layer} has a kernel of shape {shape} and a bias of shape {np.shape(bias)}; give "
                    "(inputs, units) and (units,)."
                )
            if layer > 1 and shape[0] != shapes[layer - 2][1]:
                raise GraphError(f"Layer {layer} takes {shape[0]} inputs, but {shapes[layer - 2][1]} units feed it.")
            if name not in _ACTIVATIONS:
                raise GraphError(f"Layer {layer}: unknown activation {name!r}; there are {', '.join(_ACTIVATIONS)}.")
        self.kernels = [_parameters("w", layer, kernel) for layer, kernel in enumerate(kernels, start=1)]
        self.biases = [_parameters("b", layer, bias) for layer, bias in enumerate(biases, start=1)]
        self._activations = [_ACTIVATIONS[name] for name in activations]

    def __call__(self, row: Sequence[float | Node]) -> list[Node]:
        """Build the graph of one row.

        Args:
            row: The inputs; numbers, or nodes where their derivatives are wanted.

        Returns:
            The outputs of the last layer.

        Raises:
            GraphError: The row has not one entry for each input.
        """
        if len(row) != len(self.kernels[0]):
            raise GraphError(f"The row has {len(row)} entries; the network takes {len(self.kernels[0])}.")
        outputs = list(row)
        for layer, (kernel, bias, activate) in enumerate(
            zip(self.kernels, self.biases, self._activations, strict=True), start=1
        ):
            units = range(len(bias))
            sums = [total([*(w * o for w, o in zip(kernel[:, j], outputs, strict=True)), bias[j]]) for j in units]
            for j in units:
                sums[j].label = f"z{layer}{j + 1}"
            outputs = [activate(z) for z in sums]
            for j in units:
                outputs[j].label = f"o{layer}{j + 1}"
        return outputs

    def loss(self, x: np.ndarray, y: np.ndarray) -> Node:
        """Build the graph of a batch: the mean binary cross-entropy of its rows, in nats.

        Args:
            x: Shape (rows, inputs).
            y: Shape (rows,); 0 or 1.

        Raises:
            GraphError: There are no rows, x and y differ in number, or the network has several outputs.
        """
        if not len(x) == len(y) >= 1:
            raise GraphError(f"{len(x)} rows and {len(y)} targets; give one target a row, for at least one row.")
        if len(self.biases[-1]) != 1:
            raise GraphError(f"The network has {len(self.biases[-1])} outputs; this loss is of one probability.")
        losses = [binary_cross_entropy(*self(row), target) for row, target in zip(x, y, strict=True)]
        return total(losses) / len(losses)


def _parameters(letter: str, layer: int, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    nodes = np.empty(values.shape, dtype=object)
    for at in np.ndindex(values.shape):
        numbering = ("," if max(values.shape) > 9 else "").join(str(i + 1) for i in at)
        nodes[at] = Node(values[at], label=f"{letter}{numbering}" + (f"({layer})" if layer > 1 else ""))
    return nodes
