"""The computational graph: its derivatives against TensorFlow's, its two walks against each other, its counts."""

import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from batchlab.ideas import autodiff
from batchlab.ideas.autodiff import (
    DenseNetwork,
    GraphError,
    Node,
    backward,
    backward_by_paths,
    count_paths,
    path_work,
    paths,
)

# What graphs are made of: our operation and TensorFlow's. Each keeps values within safe ranges where it can.
UNARY = {
    "-": (lambda x: -x, lambda x: -x),
    "exp": (lambda x: autodiff.exp(x), tf.exp),
    "log": (lambda x: autodiff.log(x * x + 1), lambda x: tf.math.log(x * x + 1)),
    "tanh": (autodiff.tanh, tf.tanh),
    "relu": (autodiff.relu, tf.nn.relu),
    "sigmoid": (autodiff.sigmoid, tf.sigmoid),
    "squared": (lambda x: x**2, lambda x: x**2),
    "power": (lambda x: (x * x + 0.5) ** -1.5, lambda x: (x * x + 0.5) ** -1.5),
    "constants": (
        lambda x: 2 - 3 * x + (x - 1) / 4 + 1 / (x * x + 2),
        lambda x: 2 - 3 * x + (x - 1) / 4 + 1 / (x * x + 2),
    ),
    "loss": (
        lambda x: autodiff.binary_cross_entropy(autodiff.sigmoid(x), 1.0),
        lambda x: keras.ops.binary_crossentropy(tf.ones_like(x), tf.sigmoid(x)),
    ),
}
BINARY = {
    "+": (lambda a, b: a + b, lambda a, b: a + b),
    "-": (lambda a, b: a - b, lambda a, b: a - b),
    "*": (lambda a, b: a * b, lambda a, b: a * b),
    "/": (lambda a, b: a / (b * b + 1), lambda a, b: a / (b * b + 1)),
    "total": (lambda a, b: autodiff.total([a, b, a]), lambda a, b: tf.add_n([a, b, a])),
}
RECIPES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(sorted(UNARY)), st.integers(0, 99)),
        st.tuples(st.sampled_from(sorted(BINARY)), st.integers(0, 99), st.integers(0, 99)),
    ),
    min_size=1,
    max_size=14,
)
LEAVES = st.lists(st.floats(-2, 2).filter(lambda x: abs(x) > 1e-3), min_size=1, max_size=4)


def grow(leaves, recipe, ours: bool):
    """Apply the recipe to earlier results, which shares them, and end in one that depends on several."""
    made = list(leaves)
    for name, *places in recipe:
        operation = (UNARY if len(places) == 1 else BINARY)[name][0 if ours else 1]
        made.append(operation(*(made[place % len(made)] for place in places)))
    root = made[-1]
    for leaf in made[:-1]:
        root = root + leaf * 0.5
    return root


def grown(values, recipe) -> tuple[list[Node], Node]:
    leaves = [Node(value, label=f"x{i}") for i, value in enumerate(values)]
    try:
        root = grow(leaves, recipe, ours=True)
    except GraphError:  # exp of exp of exp
        assume(False)
    assume(all(abs(node.value) < 1e3 for node in autodiff.topological(root)))
    return leaves, root


def network(sizes, activation="tanh", seed=0) -> DenseNetwork:
    rng = np.random.default_rng(seed)
    shapes = list(pairwise(sizes))
    activations = [activation] * (len(shapes) - 1) + ["sigmoid"]
    return DenseNetwork([rng.normal(size=s) for s in shapes], [rng.normal(size=s[1]) for s in shapes], activations)


# --- derivatives -------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(LEAVES, RECIPES)
def test_random_graphs_agree_with_tensorflow(values, recipe):
    leaves, root = grown(values, recipe)
    variables = [tf.Variable(value, dtype=tf.float64) for value in values]
    with tf.GradientTape() as tape:
        expected = grow([tf.convert_to_tensor(v) for v in variables], recipe, ours=False)
    derivatives = tape.gradient(expected, variables)
    assert root.value == pytest.approx(float(expected), rel=1e-6, abs=1e-6)
    gradient = backward(root)
    assert [gradient[leaf] for leaf in leaves] == pytest.approx([float(d) for d in derivatives], rel=1e-6, abs=1e-6)


@settings(max_examples=120, deadline=None)
@given(LEAVES, RECIPES)
def test_both_walks_agree_and_their_work_is_predicted(values, recipe):
    _, root = grown(values, recipe)
    assume(path_work(root) <= 20_000)
    once, unfolded = backward(root), backward_by_paths(root)
    assert set(once) == set(unfolded) == set(autodiff.topological(root))
    largest = max(map(abs, once.values()))
    assert [unfolded[n] for n in once] == pytest.approx(list(once.values()), rel=1e-9, abs=1e-9 * largest)
    assert unfolded.multiplications == path_work(root)
    assert once.multiplications == sum(len(node.inputs) for node in once)


@settings(max_examples=60, deadline=None)
@given(LEAVES, RECIPES)
def test_products_of_the_paths_add_up_to_the_derivative(values, recipe):
    leaves, root = grown(values, recipe)
    assume(path_work(root) <= 5_000)
    gradient = backward(root)
    for leaf in leaves:
        found = list(paths(root, leaf))
        assert len(found) == count_paths(root, leaf)
        assert sum(path.product for path in found) == pytest.approx(gradient[leaf], rel=1e-9, abs=1e-6)


def test_a_path_runs_from_the_leaf_to_the_root():
    x = Node(0.5, label="x")
    inner = autodiff.tanh(x)
    root = inner * 3 + x
    long, short = sorted(paths(root, x), key=len, reverse=True)
    assert [edge.source for edge in long] == [x, inner, long[2].source] and long[-1].target is root
    assert all(first.target is second.source for first, second in pairwise(long))
    assert long.product == pytest.approx(3 * (1 - math.tanh(0.5) ** 2))
    assert [(edge.source, edge.target, edge.derivative) for edge in short] == [(x, root, 1.0)]
    assert [len(path) for path in paths(root, root)] == [0]


def test_a_product_with_itself_has_two_paths():
    x = Node(3.0)
    assert backward(x * x)[x] == 6
    assert count_paths(x * x, x) == len(list(paths(x * x, x))) == 2


def test_relu_has_derivative_0_at_0_as_in_tensorflow():
    x, variable = Node(0.0), tf.Variable(0.0)
    with tf.GradientTape() as tape:
        expected = tf.nn.relu(variable)
    assert backward(autodiff.relu(x))[x] == 0 == float(tape.gradient(expected, variable))


@pytest.mark.parametrize("p", [0.0, 1e-9, 1e-7, 0.3, 1 - 1e-7, 1 - 1e-9, 1.0])
@pytest.mark.parametrize("target", [0.0, 0.25, 1.0])
def test_binary_cross_entropy_clips_as_keras_does(p, target):
    x, variable = Node(p), tf.Variable(p, dtype=tf.float64)
    with tf.GradientTape() as tape:
        probability = tf.convert_to_tensor(variable)
        expected = keras.ops.binary_crossentropy(tf.constant(target, tf.float64), probability)
    root = autodiff.binary_cross_entropy(x, target)
    assert root.value == pytest.approx(float(expected), rel=1e-6)
    assert backward(root)[x] == pytest.approx(float(tape.gradient(expected, variable)), rel=1e-6)


def test_keras_does_not_clip_behind_a_sigmoid():
    logit = 20.0  # sigmoid(20) lies within 1e-7 of 1
    variable = tf.Variable([[logit]])
    with tf.GradientTape() as tape:
        expected = keras.losses.BinaryCrossentropy()(tf.zeros((1, 1)), keras.activations.sigmoid(variable))
    x = Node(logit)
    clipped = autodiff.binary_cross_entropy(autodiff.sigmoid(x), 0.0)
    assert float(expected) == pytest.approx(20) and float(tape.gradient(expected, variable)[0, 0]) == pytest.approx(1)
    assert clipped.value == pytest.approx(-math.log(1e-7)) and backward(clipped)[x] == 0


def test_numpy_scalars_and_arrays_of_nodes_take_part():
    x = Node(np.float32(2))
    assert (np.float64(3) * x).value == 6 and isinstance(np.float64(3) * x, Node)
    nodes = np.array([[Node(1.0), Node(2.0)]], dtype=object)
    gradient = backward((nodes * nodes).sum())
    assert gradient.of(nodes).tolist() == [[2.0, 4.0]]


# --- counting ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=5))
def test_paths_from_a_first_weight_are_the_product_of_the_widths_behind(widths):
    net = network([2, *widths, 1])
    (output,) = net([0.3, -0.7])
    expected = math.prod(widths[1:])
    for weight in net.kernels[0].flat:
        assert count_paths(output, weight) == expected
    assert len(list(paths(output, net.kernels[0][0, 0]))) == expected


def test_counts_are_exact_far_beyond_what_could_be_walked():
    net = network([2, *[3] * 45, 1])
    (output,) = net([0.3, -0.7])
    assert count_paths(output, net.kernels[0][0, 0]) == 3**44
    assert path_work(output) > 10**20
    assert backward(output).multiplications < 10**4


def test_more_work_than_the_limit_is_refused_beforehand():
    (output,) = network([2, *[3] * 45, 1])([0.3, -0.7])
    with pytest.raises(GraphError, match=f"takes {path_work(output):,} multiplications, over the limit of 10,000,000"):
        backward_by_paths(output)
    x = Node(1.0)
    root = autodiff.exp(x) * x
    assert path_work(root) == 3
    assert backward_by_paths(root, limit=3).multiplications == 3
    with pytest.raises(GraphError, match="limit of 2"):
        backward_by_paths(root, limit=2)


def test_a_chain_of_ten_thousand_needs_no_recursion():
    x = Node(1.0)
    root = x
    for _ in range(10_000):
        root = root * 1.0
    assert len(autodiff.topological(root)) == 10_001
    assert backward(root)[x] == backward_by_paths(root)[x] == 1
    assert len(next(paths(root, x))) == 10_000


def test_every_node_comes_after_its_inputs():
    (output,) = network([2, 3, 3, 1])([0.3, -0.7])
    order = autodiff.topological(output)
    place = {node: i for i, node in enumerate(order)}
    assert len(place) == len(order) and order[-1] is output
    assert all(place[source] < place[node] for node in order for source, _ in node.inputs)


# --- networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "linear"])
def test_a_batch_agrees_with_keras_in_every_parameter(activation):
    with_float64 = keras.DTypePolicy("float64")
    model = keras.Sequential(
        [
            keras.Input((2,), dtype="float64"),
            keras.layers.Dense(4, activation, dtype=with_float64),
            keras.layers.Dense(3, activation, dtype=with_float64),
            keras.layers.Dense(1, "sigmoid", dtype=with_float64),
        ]
    )
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    x, y = rng.normal(size=(5, 2)), np.array([0, 1, 1, 0, 1.0])
    with tf.GradientTape() as tape:
        expected = keras.losses.BinaryCrossentropy(dtype="float64")(y[:, None], model(x))
    derivatives = tape.gradient(expected, model.trainable_variables)

    weights = model.get_weights()
    net = DenseNetwork(weights[::2], weights[1::2], [activation, activation, "sigmoid"])
    loss = net.loss(x, y)
    gradient = backward(loss)
    assert loss.value == pytest.approx(float(expected), rel=1e-9)
    for nodes, derivative in zip([*net.kernels, *net.biases], [*derivatives[::2], *derivatives[1::2]], strict=True):
        np.testing.assert_allclose(gradient.of(nodes), derivative.numpy(), rtol=1e-9, atol=1e-12)


def test_parameters_and_units_are_labelled_as_documented():
    net = network([2, 2, 2, 1])
    (output,) = net([1.0, 2.0])
    assert [w.label for w in net.kernels[0].flat] == ["w11", "w12", "w21", "w22"]
    assert [w.label for w in net.kernels[2].flat] == ["w11(3)", "w21(3)"]
    assert [b.label for b in net.biases[1]] == ["b1(2)", "b2(2)"]
    assert output.label == "o31"
    labels = {node.label for node in autodiff.topological(output)}
    assert {"o11", "o12", "o21", "o22", "z11", "z31"} <= labels
    w12 = net.kernels[0][0, 1]  # from input 1 to unit 2
    labels = [edge.target.label for edge in next(paths(output, w12))]
    assert next(label for label in labels if label.startswith("o")) == "o12"


def test_inputs_may_be_nodes():
    row = [Node(0.3), Node(-0.7)]
    (output,) = network([2, 3, 1])(row)
    assert count_paths(output, row[0]) == 3


# --- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([1.0, 2.0], TypeError),
        (np.ones(2), TypeError),
        (np.array(1.0), TypeError),
        (1 + 2j, TypeError),
        (True, TypeError),
        ("1", TypeError),
        (None, TypeError),
        (math.nan, GraphError),
        (-math.inf, GraphError),
        (10**400, GraphError),
    ],
)
def test_a_value_is_one_finite_real_number(value, error):
    with pytest.raises(error, match=r"(?s)The value of w is .*; give"):
        Node(value, label="w")
    with pytest.raises(error, match=r"(?s)An operand of .* is .*; give"):
        Node(1.0) * value


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda x: autodiff.log(x), r"log of \(x = -1\)"),
        (lambda x: autodiff.log(x + 1), r"log of \(\+ = 0\)"),
        (lambda x: 1 / (x + 1), r"/ of \(1\), \(\+ = 0\)"),
        (lambda x: x / 0, r"/ of \(x = -1\), \(0\)"),
        (lambda x: x**0.5, r"\*\* of \(x = -1\), \(0.5\)"),
        (lambda x: (x + 1) ** 0.5, r"\*\* of \(\+ = 0\), \(0.5\)"),
        (lambda x: autodiff.exp(x * -1000), r"exp of \(\* = 1000\)"),
        (lambda x: x * 1e308 * 1e10, r"\* of \(\* = -1e\+308\)"),
        (lambda x: autodiff.binary_cross_entropy(x, 1.0), r"loss of \(x = -1\), \(1.0\).*within \[0, 1\]"),
        (lambda x: autodiff.binary_cross_entropy(x * x, 2.0), r"loss of \(\* = 1\), \(2.0\).*within \[0, 1\]"),
    ],
)
def test_operations_without_a_finite_derivative_name_their_nodes(make, named):
    with pytest.raises(GraphError, match=named):
        make(Node(-1.0, label="x"))


def test_a_gradient_that_overflows_names_its_node():
    x = Node(1e-200, label="x")
    root = (x * 1e200) * 1e200 * 1e-300
    with pytest.raises(GraphError, match=r"derivative by \(x = 1e-200\) is not finite"):
        backward(root * 1e300)


def test_an_exponent_is_a_number():
    x = Node(2.0)
    with pytest.raises(TypeError, match="the exponent must be a number"):
        x**x
    with pytest.raises(TypeError, match="unsupported operand"):
        2**x


@pytest.mark.parametrize("inputs", [[Node(1.0)], [(Node(1.0),)], [(1.0, Node(1.0))]])
def test_inputs_are_pairs_of_node_and_derivative(inputs):
    with pytest.raises(TypeError, match="is no pair"):
        Node(1.0, inputs)


def test_a_cycle_is_refused_and_named():
    a = Node(1.0, label="a")
    b = autodiff.exp(a)
    c = b * 2
    b.label, c.label = "b", "c"
    a.inputs = ((c, 1.0),)
    for walk in (autodiff.topological, backward, backward_by_paths, path_work):
        with pytest.raises(GraphError, match="has a cycle: c <- b <- a <- c"):
            walk(c)
    a.inputs = ((a, 1.0),)
    with pytest.raises(GraphError, match="has a cycle: a <- a"):
        count_paths(c, a)


@pytest.mark.parametrize("root", [[Node(1.0)], (Node(1.0), Node(2.0)), np.array([Node(1.0)], dtype=object)])
def test_a_root_of_several_nodes_is_refused(root):
    for walk in (backward, backward_by_paths, path_work):
        with pytest.raises(TypeError, match=r"Non-scalar root.*average"):
            walk(root)


@pytest.mark.parametrize("root", [1.0, "loss", None])
def test_a_root_is_a_node(root):
    with pytest.raises(TypeError, match="give a node"):
        backward(root)


def test_a_stranger_has_neither_paths_nor_derivative():
    x, stranger = Node(1.0), Node(2.0, label="s")
    for ask in (count_paths, paths):
        with pytest.raises(GraphError, match=r"does not depend on \(s = 2\)"):
            ask(autodiff.exp(x), stranger)
    with pytest.raises(KeyError, match=r"does not depend on \(s = 2\)"):
        backward(x)[stranger]


@pytest.mark.parametrize(
    ("kernels", "biases", "activations", "said"),
    [
        ([np.ones((2, 1))], [], ["relu"], "one of each a layer"),
        ([], [], [], "one of each a layer"),
        ([np.ones(2)], [np.ones(1)], ["relu"], r"Layer 1 has a kernel of shape \(2,\)"),
        ([np.ones((2, 3))], [np.ones(2)], ["relu"], r"a bias of shape \(2,\)"),
        ([np.ones((2, 0))], [np.ones(0)], ["relu"], "Layer 1 has a kernel"),
        ([np.ones((2, 3)), np.ones((2, 1))], [np.ones(3), np.ones(1)], ["relu"] * 2, "Layer 2 takes 2 inputs, but 3"),
        ([np.ones((2, 1))], [np.ones(1)], ["softmax"], "Layer 1: unknown activation 'softmax'"),
        ([np.full((2, 1), np.nan)], [np.ones(1)], ["relu"], "The value of w11 is nan"),
    ],
)
def test_a_network_that_does_not_fit_together_is_refused(kernels, biases, activations, said):
    with pytest.raises(GraphError, match=said):
        DenseNetwork(kernels, biases, activations)


def test_rows_must_fit_the_network():
    net = network([2, 3, 1])
    with pytest.raises(GraphError, match="3 entries; the network takes 2"):
        net([1, 2, 3])
    with pytest.raises(GraphError, match="2 rows and 1 targets"):
        net.loss(np.ones((2, 2)), np.ones(1))
    with pytest.raises(GraphError, match="0 rows"):
        net.loss(np.ones((0, 2)), np.ones(0))
    with pytest.raises(GraphError, match="2 outputs"):
        network([2, 3, 2]).loss(np.ones((1, 2)), np.ones(1))


# --- four ways to a gradient -------------------------------------------------------------------------

WAYS = (autodiff.by_hand, autodiff.by_graph, autodiff.by_tape, autodiff.by_differences)


def drawn(sizes, rows=7, seed=0):
    """Parameters in Keras's order, rows and targets."""
    rng = np.random.default_rng(seed)
    shapes = [shape for inputs, units in pairwise(sizes) for shape in ((inputs, units), (units,))]
    x = rng.normal(size=(rows, sizes[0])).astype(np.float32)
    return [rng.normal(size=shape) for shape in shapes], x, (np.arange(rows) % 2).astype(np.float32)


@pytest.mark.parametrize("way", WAYS)
def test_without_hidden_layers_it_is_the_gradient_of_logistic_regression(way):
    (kernel, bias), x, y = drawn((3, 1))
    error = 1 / (1 + np.exp(-(x.astype(np.float64) @ kernel + bias))) - y[:, None]
    by_kernel, by_bias = way([kernel, bias], x, y, "tanh")
    np.testing.assert_allclose(by_kernel, x.T @ error / len(y), atol=1e-8)
    np.testing.assert_allclose(by_bias, error.mean(axis=0), atol=1e-8)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("sizes", [(2, 2, 2, 1), (1, 5, 1), (3, 4, 2, 3, 1)])
def test_the_four_ways_agree_at_any_depth(sizes, activation):
    parameters, x, y = drawn(sizes, seed=sum(sizes))
    before = [values.copy() for values in parameters]
    hand, *others = (way(parameters, x, y, activation) for way in WAYS)
    assert [part.shape for part in hand] == [values.shape for values in parameters]
    assert max(np.abs(part).max() for part in hand) > 1e-2  # there is something to compare
    for found, tolerance in zip(others, (1e-13, 1e-13, 1e-8), strict=True):
        assert {part.dtype for part in found} == {np.dtype(np.float64)}
        for part, expected in zip(found, hand, strict=True):
            np.testing.assert_allclose(part, expected, atol=tolerance)
    for values, kept in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(values, kept)


@pytest.mark.parametrize("way", WAYS)
def test_an_unknown_activation_is_refused(way):
    with pytest.raises(ValueError, match="swoosh"):
        way(*drawn((2, 2, 1)), "swoosh")


# --- the engine itself -------------------------------------------------------------------------------


ALONE = """
import json, sys
for name in ("tensorflow", "keras", "torch", "jax", "autograd", "scipy", "sympy"):
    sys.modules[name] = None  # to import it is an error
import numpy as np
from batchlab.ideas import autodiff
net = autodiff.DenseNetwork([np.array([[0.5, -1.0], [2.0, 0.25]]), np.array([[1.0], [-0.5]])],
                            [np.array([0.1, -0.2]), np.array([0.3])], ["tanh", "sigmoid"])
loss = net.loss(np.array([[1.0, 2.0], [-1.0, 0.5]]), np.array([1.0, 0.0]))
for walk in (autodiff.backward, autodiff.backward_by_paths):
    print(json.dumps(walk(loss).of(net.kernels[0]).tolist()))
"""


def test_the_engine_does_not_borrow_its_derivatives():
    environment = os.environ | {"PYTHONPATH": str(Path(autodiff.__file__).parents[3])}
    ran = subprocess.run([sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    parameters = [np.array(values) for values in ([[0.5, -1.0], [2.0, 0.25]], [0.1, -0.2], [[1.0], [-0.5]], [0.3])]
    x, y = np.array([[1.0, 2.0], [-1.0, 0.5]]), np.array([1.0, 0.0])
    expected = autodiff.by_tape(parameters, x, y, "tanh")[0]
    for line in ran.stdout.splitlines():
        np.testing.assert_allclose(json.loads(line), expected, rtol=1e-9)
    assert ran.stdout.count("\n") == 2
