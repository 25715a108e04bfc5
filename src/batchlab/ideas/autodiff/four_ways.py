"""The gradient of a dense network's loss in four ways, which share the way forward at most. Never trains.

Each takes a chain of dense layers that ends in one sigmoid: its parameters in Keras's order, kernel and bias of each
layer in turn; rows x of shape (n, inputs) and targets y of shape (n,), each 0 or 1; and the hidden layers' activation.
Each returns the derivatives of the mean binary cross-entropy, in nats, as float64 in the parameters' shapes and order,
and raises ValueError where the activation is unknown or the shapes do not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np

from batchlab.ideas.autodiff.network import DenseNetwork
from batchlab.ideas.autodiff.walks import backward

Activation: TypeAlias = Literal["tanh", "relu"]
Arrays: TypeAlias = Sequence[np.ndarray]

# Each activation, and its slope.
_ACTIVATIONS: dict[str, tuple[Callable, Callable]] = {
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: z > 0),
}
_STEP = 1e-6  # of a central difference: its error is then some 1e-10, for losses of about 1


def by_hand(parameters: Arrays, x: np.ndarray, y: np.ndarray, activation: Activation) -> list[np.ndarray]:
    """Differentiate by the chain rule for whole layers, from the output back (Rumelhart, Hinton & Williams 1986)."""
    activate, slope = _known(activation)
    x, y = _float64(x, y)
    kernels = parameters[::2]
    sums = _sums(parameters, x, activate)
    inputs = [x, *map(activate, sums[:-1])]  # of each layer
    delta = (1 / (1 + np.exp(-sums[-1])) - y[:, None]) / len(y)  # the loss by the last layer's sums
    gradient = []
    for layer in reversed(range(len(kernels))):
        gradient[:0] = [inputs[layer].T @ delta, delta.sum(axis=0)]
        if layer:
            delta = delta @ kernels[layer].T * slope(sums[layer - 1])
    return gradient


def by_graph(parameters: Arrays, x: np.ndarray, y: np.ndarray, activation: Activation) -> list[np.ndarray]:
    """Build the graph of all rows from scalars, and walk it once."""
    kernels, biases = parameters[::2], parameters[1::2]
    network = DenseNetwork(kernels, biases, [activation] * (len(kernels) - 1) + ["sigmoid"])
    gradient = backward(network.loss(*_float64(x, y)))
    return [gradient.of(part) for pair in zip(network.kernels, network.biases, strict=True) for part in pair]


def by_tape(parameters: Arrays, x: np.ndarray, y: np.ndarray, activation: Activation) -> list[np.ndarray]:
    """Let TensorFlow record the way forward and play it backwards."""
    import keras  # here alone: the other three need neither
    import tensorflow as tf

    x, y = _float64(x, y)
    variables = [tf.Variable(values, dtype=tf.float64) for values in parameters]
    with tf.GradientTape() as recorded:
        sums = _sums(variables, x, keras.activations.get(activation))
        losses = keras.ops.binary_crossentropy(y[:, None], tf.sigmoid(sums[-1]))
        loss = tf.reduce_mean(losses)
    return [gradient.numpy() for gradient in recorded.gradient(loss, variables)]


def by_differences(parameters: Arrays, x: np.ndarray, y: np.ndarray, activation: Activation) -> list[np.ndarray]:
    """Move each parameter up and down a little and see what the loss does: two losses a parameter, and no calculus."""
    activate, _ = _known(activation)
    x, y = _float64(x, y)
    moved = [np.array(values, dtype=np.float64) for values in parameters]

    def loss() -> float:
        z = _sums(moved, x, activate)[-1][:, 0]
        return np.mean(np.logaddexp(0, z) - y * z)  # the cross-entropy of sigmoid(z), without 1 - p and its rounding

    gradient = [np.empty_like(values) for values in moved]
    for values, slopes in zip(moved, gradient, strict=True):
        for at in np.ndindex(values.shape):
            here = values[at]
            values[at] = here + _STEP
            above = loss()
            values[at] = here - _STEP
            slopes[at] = (above - loss()) / (2 * _STEP)
            values[at] = here
    return gradient


def _known(activation: str) -> tuple[Callable, Callable]:
    if activation not in _ACTIVATIONS:
        raise ValueError(f"The activation is {activation!r}; choose among {', '.join(map(repr, _ACTIVATIONS))}.")
    return _ACTIVATIONS[activation]


def _sums(parameters: Arrays, x: np.ndarray, activate: Callable) -> list[np.ndarray]:
    """The weighted sums of each layer, (n, units), before its activation; of NumPy's arrays or of TensorFlow's."""
    sums = []
    for kernel, bias in zip(parameters[::2], parameters[1::2], strict=True):
        sums.append((activate(sums[-1]) if sums else x) @ kernel + bias)
    return sums


def _float64(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
