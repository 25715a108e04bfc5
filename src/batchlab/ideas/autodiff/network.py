"""Chains of dense layers as graphs of scalars. Never differentiates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from batchlab.ideas.autodiff.graph import GraphError, Node, binary_cross_entropy, relu, sigmoid, tanh, total

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
