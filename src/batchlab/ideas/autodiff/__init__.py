"""Backpropagation on scalars: a graph whose edges are numbers, two ways to walk it, four ways to a network's gradient.

`backward` visits each edge once; `backward_by_paths` has no memory. Only `by_tape` needs TensorFlow, when it is called.
"""

from batchlab.ideas.autodiff.four_ways import by_differences, by_graph, by_hand, by_tape
from batchlab.ideas.autodiff.graph import (
    GraphError,
    Node,
    binary_cross_entropy,
    exp,
    log,
    relu,
    sigmoid,
    tanh,
    total,
)
from batchlab.ideas.autodiff.network import DenseNetwork
from batchlab.ideas.autodiff.walks import (
    Edge,
    Gradient,
    Path,
    backward,
    backward_by_paths,
    count_paths,
    path_work,
    paths,
    topological,
)

__all__ = [
    "DenseNetwork",
    "Edge",
    "Gradient",
    "GraphError",
    "Node",
    "Path",
    "backward",
    "backward_by_paths",
    "binary_cross_entropy",
    "by_differences",
    "by_graph",
    "by_hand",
    "by_tape",
    "count_paths",
    "exp",
    "log",
    "path_work",
    "paths",
    "relu",
    "sigmoid",
    "tanh",
    "topological",
    "total",
]
