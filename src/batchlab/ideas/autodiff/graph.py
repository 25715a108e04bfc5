"""Real numbers in a computational graph, each with its inputs and the local derivatives by them. Never walks it.

Every node holds its value and its inputs, each with the local derivative towards it. An edge is data, not a closure, so
it can be drawn, counted and walked.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable


class GraphError(ValueError):
    """A graph, or a value in it, that has no derivative or cannot be walked."""


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
