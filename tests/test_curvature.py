"""Curvature and gradient noise against closed forms, finite differences and brute force."""

import itertools
import warnings
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf
from keras import layers

import helpers
from batchlab.study import curvature
from batchlab.study.curvature import programs
from batchlab.study.curvature.programs import programs_for
from batchlab.training.rows import Rows
from batchlab.training.weights import draw_weights

GENERATOR = np.random.default_rng(11)
X = GENERATOR.normal(size=(60, 2)).astype(np.float32)
Y = (X.sum(axis=1) + GENERATOR.normal(size=60) > 0).astype(np.float32)
CLASSES = np.digitize(X[:, 0], [-0.5, 0.8])
WEIGHTS = GENERATOR.uniform(0.2, 3, 60).astype(np.float32)


STATE = GENERATOR.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers():
    """A test draws the same numbers whichever tests ran before it."""
    GENERATOR.bit_generator.state = STATE


def quadratic(x, y):
    """The surface mean((xw - y)²) in float64: its Hessian is 2 x'x / n, a row's gradient 2 (xw - y) x."""
    model = keras.Sequential(
        [keras.Input(x.shape[1:], dtype="float64"), layers.Dense(1, use_bias=False, dtype="float64")]
    )
    model.compile("sgd", keras.losses.MeanSquaredError(dtype="float64"))
    return curvature.LossSurface(model, x, y)


def with_spectrum(eigenvalues, rows=40):
    """Features for which `quadratic` has a Hessian with these eigenvalues."""
    size = len(eigenvalues)
    left, _ = np.linalg.qr(GENERATOR.normal(size=(rows, size)))
    right, _ = np.linalg.qr(GENERATOR.normal(size=(size, size)))
    return (left * np.sqrt(np.array(eigenvalues) * rows / 2) @ right.T).astype(np.float32)


def targets(x, noise=1.0):
    return (x @ np.arange(1, x.shape[1] + 1) + noise * GENERATOR.normal(size=len(x))).astype(np.float32)


def least_squares(x, y):
    return np.linalg.lstsq(x.astype(float), y.astype(float), rcond=None)[0]


@pytest.fixture(scope="module")
def network():
    """The documented network, half trained, and its surface."""
    model = helpers.build_model(seed=4, optimizer=keras.optimizers.SGD(0.1))
    helpers.fit(model, X, Y, batch_size=10, epochs=20, seed=4)
    return model, curvature.LossSurface(model, X, Y)


@pytest.fixture
def in_float64():
    """Models, losses and data in double precision, so that differences are accurate."""
    policy = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)


# --- the surface is the loss that Keras computes -----------------------------------------------------


def sequential(*inner, loss="binary_crossentropy", outputs=1, head="sigmoid", **compiled):
    model = keras.Sequential([keras.Input((2,)), *inner, layers.Dense(outputs, head)])
    model.compile("sgd", loss, **compiled)
    return model


def two_outputs():
    features = keras.Input((2,))
    hidden = layers.Dense(4, "tanh")(features)
    model = keras.Model(features, [layers.Dense(1)(hidden), layers.Dense(3, "softmax")(hidden)])
    model.compile("sgd", ["mse", "sparse_categorical_crossentropy"], loss_weights=[0.3, 2.0])
    return model


def normalised():
    """Averages of BatchNormalization that are not those of a new layer, a dropout, and a layer that is frozen."""
    frozen = layers.Dense(4, "relu", trainable=False)
    model = sequential(frozen, layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(3, "tanh"))
    model.layers[1].moving_mean.assign([0.1, 0.2, 0.3, 0.4])
    model.layers[1].moving_variance.assign([0.5, 1, 2, 3])
    return model


CASES = {
    "documented": (lambda: helpers.build_model(seed=1), Y, None),
    "penalty": (lambda: sequential(layers.Dense(3, "relu", kernel_regularizer="l2")), Y, WEIGHTS),
    "softmax": (
        lambda: sequential(loss="categorical_crossentropy", outputs=3, head="softmax"),
        np.eye(3)[CLASSES],
        None,
    ),
    "sparse": (lambda: sequential(loss="sparse_categorical_crossentropy", outputs=3, head="softmax"), CLASSES, WEIGHTS),
    "two outputs": (two_outputs, [Y, CLASSES], None),
    "state": (normalised, Y, None),
    "convolution": (lambda: sequential(layers.Reshape((2, 1)), layers.Conv1D(3, 2), layers.Flatten()), Y, None),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_are_those_of_keras(case):
    make, y, weight = CASES[case]
    model = make()
    before = [w.copy() for w in model.get_weights()]
    surface = curvature.LossSurface(model, X, y, weight)

    def by_keras(rows):
        some = keras.tree.map_structure(lambda leaf: None if leaf is None else tf.constant(leaf[rows]), (X, y, weight))
        with tf.GradientTape() as tape:
            loss = model.compute_loss(*some[:2], model(some[0], training=False), some[2], training=False)
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        return float(loss), np.concatenate([g.numpy().ravel() for g in gradients])

    together, row_losses, row_gradients = by_keras(slice(None)), surface.row_losses(), surface.row_gradients()
    assert surface.value() == pytest.approx(together[0], rel=1e-5)
    assert row_losses.mean() == pytest.approx(together[0], rel=1e-5)
    np.testing.assert_allclose(surface.gradient(), together[1], atol=1e-6)
    np.testing.assert_allclose(row_gradients.mean(axis=0), together[1], atol=1e-6)
    for row in (0, 7, 59):
        loss, gradient = by_keras(slice(row, row + 1))
        assert row_losses[row] == pytest.approx(loss, rel=1e-5)
        np.testing.assert_allclose(row_gradients[row], gradient, atol=1e-5)
    assert (surface.size, surface.rows) == (len(gradient), 60)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("case", ["documented", "state"])
def test_derivatives_are_differences_of_values(case, in_float64):
    make, y, weight = CASES[case]
    surface = curvature.LossSurface(make(), X, y, weight)
    w, v = surface.flat() + 0.01, GENERATOR.normal(size=surface.size)  # no unit at its kink
    forward, backward = (surface.value_and_gradient(w + step * v) for step in (1e-6, -1e-6))
    assert (forward[0] - backward[0]) / 2e-6 == pytest.approx(surface.gradient(w) @ v, rel=1e-7)
    product = surface.hessian_product(w, v)
    np.testing.assert_allclose(product, (forward[1] - backward[1]) / 2e-6, atol=1e-7 * np.abs(product).max())


def test_weights_may_be_a_vector_a_list_or_the_models_own(network):
    model, surface = network
    given = model.get_weights()
    flat = np.concatenate([w.ravel() for w in given])
    np.testing.assert_array_equal(surface.flat(), flat)
    np.testing.assert_array_equal(surface.flat(given), flat)
    others = [w + 0.1 for w in given]
    assert surface.value(flat) == surface.value(given) == surface.value()
    assert surface.value(others) == surface.value(flat + np.float32(0.1)) != surface.value()


def test_a_list_brings_its_own_averages_and_a_vector_leaves_the_models():
    model = normalised()
    surface = curvature.LossSurface(model, X, Y)
    weights = model.get_weights()
    own = surface.value()
    moved = next(i for i, v in enumerate(model.weights) if v.name == "moving_mean")
    weights[moved] = weights[moved] + 1
    with_others = surface.value(weights)
    assert surface.value(surface.flat(weights)) == own != with_others
    model.set_weights(weights)
    assert surface.value() == pytest.approx(with_others)


def test_models_of_one_structure_share_programs_and_nothing_else():
    models, targets_of = [helpers.build_model(seed=seed) for seed in (1, 2)], (Y, 1 - Y)
    surfaces = [curvature.LossSurface(model, X, y) for model, y in zip(models, targets_of, strict=True)]
    known = programs_for(models[0], Rows(X, Y, None))
    assert programs_for(models[1], Rows(X + 1, 1 - Y, None)) is known
    assert programs_for(models[0], Rows(X[:9], Y[:9], None)) is not known
    for model, y, surface in zip(models, targets_of, surfaces, strict=True):
        assert surface.value() == pytest.approx(model.evaluate(X, y, batch_size=60, verbose=0)[0], rel=1e-5)


def test_what_one_thread_compiles_another_one_uses(monkeypatch):
    compiled = []

    class Counted(programs.Compiled):
        def __init__(self, *arguments):
            compiled.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(programs, "Compiled", Counted)
    model = helpers.build_model((7,), seed=0)
    pairs = [curvature.LossSurfaces([curvature.LossSurface(model, X, Y)] * 2) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda pair: pair.values_and_gradients(pair.places([model.get_weights()] * 2))[0], pairs))
    assert len(compiled) == 1
    np.testing.assert_allclose(found, model.evaluate(X, Y, batch_size=60, verbose=0)[0], rtol=1e-5)


def test_what_xla_refuses_runs_without_it():
    class Refused(layers.Layer):
        def call(self, x):
            return tf.ensure_shape(tf.py_function(lambda a: 2 * a, [x], tf.float32), x.shape)

    model = keras.Sequential([keras.Input((2,)), Refused(), layers.Dense(1, "sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    surface = curvature.LossSurface(model, X, Y)
    assert surface.value() == pytest.approx(model.evaluate(X, Y, batch_size=60, verbose=0), rel=1e-5)
    np.testing.assert_allclose(surface.row_gradients().mean(axis=0), surface.gradient(), atol=1e-6)
    with pytest.raises(tf.errors.OpError):
        tf.function(lambda: model(X), jit_compile=True)()


# --- curvature ---------------------------------------------------------------------------------------


def test_eigenvalues_of_a_known_spectrum():
    spectrum = [9.0, 5.0, 4.9, 2.0, 0.5, 0.1, 0.001]
    x = with_spectrum(spectrum)
    surface = quadratic(x, targets(x))
    anywhere = GENERATOR.normal(size=7)
    np.testing.assert_allclose(curvature.largest_eigenvalues(surface, anywhere, 6), spectrum[:6], rtol=1e-5)
    np.testing.assert_allclose(curvature.largest_eigenvalues(surface), [9.0], rtol=1e-5)
    product = surface.hessian_product(anywhere, anywhere)
    np.testing.assert_allclose(product, 2 / len(x) * x.T.astype(float) @ (x.astype(float) @ anywhere), rtol=1e-9)


def test_eigenvalues_of_the_documented_network_are_those_of_its_full_hessian(network):
    _, surface = network
    full = np.stack([surface.hessian_product(None, unit) for unit in np.eye(surface.size)])
    expected = np.linalg.eigvalsh((full + full.T) / 2)[::-1]
    assert expected[-1] < 0 < expected[0]  # it is no minimum yet
    found = curvature.largest_eigenvalues(surface, count=5)
    np.testing.assert_allclose(found, expected[:5], atol=1e-4 * expected[0])


def test_one_parameter_and_no_curvature():
    x = np.array([[1.0], [3.0]], np.float32)
    np.testing.assert_allclose(curvature.largest_eigenvalues(quadratic(x, x[:, 0])), [10.0])  # 2 (1 + 9) / 2
    model = sequential(loss=lambda y, predicted: keras.ops.mean(predicted - y, axis=-1), head="linear")
    plane = curvature.LossSurface(model, X, Y)
    np.testing.assert_array_equal(curvature.largest_eigenvalues(plane, count=2), [0, 0])


def greatest_rise_at_a_corner(surface, w, box):
    """A convex function is greatest in a corner of a box, so all corners are tried."""
    corners = itertools.product((-1, 1), repeat=len(w))
    return max(surface.value(w + box * np.array(corner)) for corner in corners) - surface.value(w)


@pytest.mark.parametrize("at_the_minimum", [True, False])
@pytest.mark.parametrize("radius", [1e-3, 0.1])
def test_sharpness_of_a_quadratic_is_its_highest_corner(at_the_minimum, radius):
    x = with_spectrum([9.0, 3.0, 1.0, 0.5, 0.1, 0.01])
    y = targets(x)
    surface = quadratic(x, y)
    w = least_squares(x, y) + (0 if at_the_minimum else 0.3)
    rise = greatest_rise_at_a_corner(surface, w, radius * (np.abs(w) + 1))
    found = curvature.perturbation_sharpness(surface, w, radius=radius)
    assert found == pytest.approx(100 * rise / (1 + surface.value(w)), rel=1e-4)
    rise = greatest_rise_at_a_corner(surface, w, radius * np.abs(w))
    assert curvature.adaptive_sharpness(surface, w, radius=radius) == pytest.approx(rise, rel=1e-4)


def test_the_search_climbs_as_far_as_the_published_one(network):
    _, surface = network
    w = surface.flat().astype(float)
    box = 1e-3 * (np.abs(w) + 1)

    def negative(d):
        value, gradient = surface.value_and_gradient(w + d)
        return -value, -gradient.astype(float)

    limits = scipy.optimize.Bounds(-box, box)
    published = scipy.optimize.minimize(
        negative, 0 * w, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 10}
    )
    expected = 100 * (-published.fun - surface.value()) / (1 + surface.value())
    assert expected * 0.999 < curvature.perturbation_sharpness(surface) < expected * 1.5


def rescaled(weights, by):
    """Incoming weights and biases of the first hidden layer's units times `by`, outgoing ones divided by it."""
    kernel, bias, out, *rest = weights
    return [kernel * by, bias * by, out / by[:, None], *rest]


def test_rescaling_relu_units_changes_sharpness_but_not_adaptive_sharpness(network):
    model, surface = network
    weights = model.get_weights()
    other = rescaled(weights, np.geomspace(0.1, 50, 10).astype(np.float32))
    np.testing.assert_allclose(surface.row_losses(other), surface.row_losses(weights), atol=1e-5)
    adaptive = [curvature.adaptive_sharpness(surface, w) for w in (weights, other)]
    assert adaptive[1] == pytest.approx(adaptive[0], rel=1e-3)
    for measure in (curvature.perturbation_sharpness, curvature.largest_eigenvalues):
        plain, changed = (float(np.squeeze(measure(surface, w))) for w in (weights, other))
        assert changed > 2 * plain


# --- noise -------------------------------------------------------------------------------------------


def test_noise_scales_by_hand():
    # Rows (1, 0) and (0, 2) with targets 1 and 1, at w = 0: gradients (-2, 0) and (0, -4), so G = (-1, -2), Sigma =
    # [[1, -2], [-2, 4]]; and H = x'x = diag(1, 4).
    surface = quadratic(np.array([[1, 0], [0, 2]], np.float32), np.ones(2, np.float32))
    noise = curvature.noise_scale(surface, np.zeros(2))
    assert noise == pytest.approx((5 / 5, (1 * 1 + 4 * 4) / (1 * 1 + 4 * 4), 5, 5))
    noise = curvature.noise_scale(surface, np.array([1, 0.25]))  # gradients (0, 0) and (0, -2): G = (0, -1)
    assert noise == pytest.approx((1, 1, 1, 1))


@pytest.mark.parametrize("rows", [40, 5])  # more rows than parameters, and fewer
def test_noise_scales_of_a_linear_model(rows):
    x = GENERATOR.normal(size=(rows, 7)).astype(np.float32) * np.linspace(0.2, 2, 7).astype(np.float32)
    y, w = targets(x), np.ones(7)
    exact = x.astype(float)
    gradients = 2 * (exact @ w - y)[:, None] * exact
    mean, covariance, hessian = gradients.mean(axis=0), np.cov(gradients.T, bias=True), 2 * exact.T @ exact / rows
    noise = curvature.noise_scale(quadratic(x, y), w)
    assert noise.trace == pytest.approx(np.trace(covariance), rel=1e-9)
    assert noise.gradient_norm_squared == pytest.approx(mean @ mean, rel=1e-9)
    assert noise.simple == pytest.approx(np.trace(covariance) / (mean @ mean), rel=1e-9)
    assert curvature.simple_noise_scale(quadratic(x, y), w) == noise.simple
    assert noise.weighted == pytest.approx(np.trace(hessian @ covariance) / (mean @ hessian @ mean), rel=1e-5)


def test_noise_predicts_the_scatter_of_mini_batches(network):
    model, surface = network
    noise = curvature.noise_scale(surface)
    batch_size, draws = 8, 2000
    drawn = GENERATOR.integers(0, len(X), size=(draws, batch_size))

    @tf.function
    def gradient(rows):
        x, y = tf.gather(X, rows), tf.gather(Y, rows)
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=False), training=False)
        return tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(loss, [v.value for v in model.weights])], 0)

    seen = np.stack([gradient(tf.constant(rows)).numpy() for rows in drawn])
    scatter = ((seen - surface.gradient()) ** 2).sum(axis=1)
    error = scatter.std() / np.sqrt(draws)
    assert noise.trace / batch_size == pytest.approx(scatter.mean(), abs=4 * error)
    assert error < 0.03 * scatter.mean()


def test_the_best_step_makes_half_the_progress_at_the_weighted_noise_scale():
    x = with_spectrum([4.0, 2.0, 1.0], rows=200)
    y = targets(x, noise=3)
    surface, w = quadratic(x, y), np.zeros(3)
    noise, gradient = curvature.noise_scale(surface, w), surface.gradient(w)
    along = gradient @ surface.hessian_product(w, gradient)

    def progress(batch_size):
        """Of the best step with random batches: expectation over draws, by the rows' own gradients."""
        step = noise.gradient_norm_squared / along / (1 + noise.weighted / batch_size)
        rows = surface.row_gradients(w)[GENERATOR.integers(0, 200, size=(20_000, batch_size))].mean(axis=1)
        ends = w - step * rows
        losses = ((ends @ x.T - y) ** 2).mean(axis=1)
        return surface.value(w) - losses.mean(), losses.std() / np.sqrt(len(losses))

    batch_size = round(noise.weighted)
    assert batch_size > 2
    full = noise.gradient_norm_squared**2 / along / 2
    got, error = progress(batch_size)
    assert got == pytest.approx(full / (1 + noise.weighted / batch_size), abs=4 * error)
    assert error < 0.03 * got


def test_a_zero_gradient_has_an_infinite_noise_scale():
    x = np.array([[1], [1]], np.float32)
    surface = quadratic(x, np.array([-1, 1], np.float32))
    with pytest.warns(UserWarning, match="gradient is zero to rounding"):
        assert curvature.simple_noise_scale(surface, np.zeros(1)) == np.inf
    with pytest.warns(UserWarning, match="gradient is zero to rounding"):
        noise = curvature.noise_scale(surface, np.zeros(1))
    assert noise == (np.inf, np.inf, 0, 4)


def test_where_the_loss_bends_down_no_step_is_the_best():
    model = sequential(loss=lambda y, predicted: keras.ops.mean(-((predicted - y) ** 2), axis=-1), head="linear")
    noise = curvature.noise_scale(curvature.LossSurface(model, X, Y))
    assert np.isnan(noise.weighted) and noise.simple > 0


def test_the_critical_batch_size_is_rows_over_updates():
    scales = np.array([2.0, 10.0, 60.0])
    # With batches of B rows each of three full updates becomes 1 + scale/B updates of B rows.
    rows, updates = (1e-6 * (1 + scales / 1e-6)).sum(), (1 + scales / 1e9).sum()  # the least of either
    assert curvature.critical_batch_size(scales) == pytest.approx(rows / updates, rel=1e-5)
    for wrong, said in (([], "at least one"), ([1, np.inf], "1 of 2"), ([np.nan, -1, 2], "2 of 3")):
        with pytest.raises(ValueError, match=said):
            curvature.critical_batch_size(wrong)


# --- the callback ------------------------------------------------------------------------------------


def test_the_recorder_sees_the_same_under_fit_and_under_keras():
    arguments = {"batch_size": 16, "epochs": 5, "shuffle": False, "verbose": 0}
    frames, models = [], []
    for train in (keras.Model.fit, helpers.fit):
        model, recorder = helpers.build_model(seed=2), curvature.CurvatureRecorder(X, Y, every=2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # `fit` would warn if it left the run to Keras
            train(model, X, Y, callbacks=[recorder], **arguments)
        frames.append(recorder.frame())
        models.append(model)
    ours = frames[1]
    assert ours[["epoch", "updates"]].to_numpy().tolist() == [[2, 8], [4, 16]]
    np.testing.assert_allclose(ours, frames[0], rtol=1e-3)
    surface = curvature.LossSurface(models[1], X, Y)
    train(models[1], X, Y, callbacks=[recorder], **{**arguments, "epochs": 6, "initial_epoch": 5})
    last = recorder.frame().iloc[-1]
    assert (last["epoch"], last["updates"], len(recorder.frame())) == (6, 24, 3)
    assert last["loss"] == pytest.approx(surface.value())
    assert last["largest_eigenvalue"] == pytest.approx(curvature.largest_eigenvalues(surface)[0], rel=1e-5)
    assert tuple(last[list(curvature.NoiseScale._fields)]) == pytest.approx(curvature.noise_scale(surface))


def test_the_recorder_outlives_a_run_that_diverges():
    model = sequential(loss="mse", head="linear")
    model.optimizer.learning_rate = 1e20
    recorder = curvature.CurvatureRecorder(X, Y)
    with pytest.warns(UserWarning, match="NaN"):
        helpers.fit(model, X, Y, batch_size=20, epochs=3, callbacks=[recorder])
    assert recorder.frame()["epoch"].tolist() == [1, 2, 3]
    assert recorder.frame()["largest_eigenvalue"].isna().all()


# --- what is refused ---------------------------------------------------------------------------------


def test_models_without_a_loss_to_measure_are_refused():
    unbuilt = keras.Sequential([layers.Dense(1)])
    unbuilt.compile("sgd", "mse")
    uncompiled = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    no_loss = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    no_loss.compile("sgd")
    frozen = sequential()
    frozen.trainable = False

    class Own(keras.Model):
        def compute_loss(self, *arguments, **named):
            return 0.0

    features = keras.Input((2,))
    own = Own(features, layers.Dense(1)(features))
    own.compile("sgd", "mse")
    refused = {
        "has no weights yet": unbuilt,
        "has no loss": uncompiled,
        r"call model\.compile": no_loss,
        "nothing to train": frozen,
        "compute_loss of its own": own,
    }
    for said, model in refused.items():
        with pytest.raises(ValueError, match=said):
            curvature.LossSurface(model, X, Y)
    with pytest.raises(TypeError, match="`model` is a function"):
        curvature.LossSurface(helpers.build_model, X, Y)
    with pytest.raises(ValueError, match="rows differ in number"):
        curvature.LossSurface(helpers.build_model(), X, Y[:-1])
    with pytest.raises(ValueError, match="`x` holds nan in row 0"):
        curvature.LossSurface(helpers.build_model(), X * np.nan, Y)


@pytest.mark.parametrize("weights", [np.zeros(150), np.zeros((151, 1)), [np.zeros((2, 10))], [0.0] * 151])
def test_weights_of_another_shape_are_refused(network, weights):
    with pytest.raises(ValueError, match=r"model\.get_weights"):
        network[1].value(weights)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(network, wrong):
    weights = network[1].flat().copy()
    weights[5] = wrong
    for measure in (curvature.largest_eigenvalues, curvature.perturbation_sharpness, curvature.noise_scale):
        with pytest.raises(curvature.NotFiniteError, match=f"hold {wrong} at parameter 5"):
            measure(network[1], weights)


def test_losses_that_overflow_are_refused():
    model = sequential(loss="mse", head="linear")
    surface = curvature.LossSurface(model, X, Y)
    weights = np.full(3, 3e38)
    for measure in (curvature.perturbation_sharpness, curvature.noise_scale):
        with pytest.raises(curvature.NotFiniteError):
            measure(surface, weights)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda s: curvature.largest_eigenvalues(s, count=151), ValueError, "whole number from 1 to 150"),
        (lambda s: curvature.largest_eigenvalues(s, count=0), ValueError, "`count` is 0"),
        (lambda s: curvature.largest_eigenvalues(s, count=1.5), TypeError, "`count` is 1.5"),
        (lambda s: curvature.perturbation_sharpness(s, radius=0), ValueError, "`radius` is 0"),
        (lambda s: curvature.adaptive_sharpness(s, radius=-1), ValueError, "`radius` is -1"),
        (lambda s: s.hessian_product(None, np.ones(3)), ValueError, r"needs one of shape \(151,\)"),
        (lambda s: curvature.CurvatureRecorder(X, Y, every=0), ValueError, "`every` is 0"),
    ],
)
def test_nonsense_is_refused(network, call, error, said):
    with pytest.raises(error, match=said):
        call(network[1])


def test_a_loss_that_is_no_mean_over_rows_has_no_rows():
    model = sequential(loss=keras.losses.BinaryCrossentropy(reduction="sum"))
    surface = curvature.LossSurface(model, X, Y)
    assert surface.value() > 0
    with pytest.raises(ValueError, match="not a mean over rows"):
        curvature.noise_scale(surface)
    cosine = sequential(loss="cosine_similarity", outputs=3, head="linear")
    aligned = curvature.LossSurface(cosine, X, np.ones((60, 3), np.float32))
    with pytest.raises(ValueError, match="above -1"):
        curvature.perturbation_sharpness(aligned, [np.zeros((2, 3)), np.ones(3)])


# --- many networks at once -------------------------------------------------------------------------------


def trained(build, seed, rows=60):
    """A model trained for a while on rows of its own, and its surface there."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 2)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + generator.normal(size=rows) > 0).astype(np.float32)
    model = build()
    draw_weights(model, seed)
    helpers.fit(model, x, y, batch_size=10, epochs=30, seed=seed)
    return model, curvature.LossSurface(model, x, y)


SMALL = {
    "documented": lambda: helpers.build_model(optimizer=keras.optimizers.SGD(0.3)),
    "logistic": lambda: helpers.build_model((), optimizer="SGD"),
    "state": lambda: sequential(layers.Dense(4, "relu"), layers.BatchNormalization()),
}


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(build, id=name, marks=[] if name == "documented" else pytest.mark.thorough)
        for name, build in SMALL.items()
    ],
)
@pytest.mark.parametrize(
    ("of_each", "of_one"),
    [
        (curvature.largest_eigenvalue_of_each, lambda *of: curvature.largest_eigenvalues(*of)[0]),
        (curvature.perturbation_sharpness_of_each, curvature.perturbation_sharpness),
        pytest.param(curvature.adaptive_sharpness_of_each, curvature.adaptive_sharpness, marks=pytest.mark.thorough),
        # In a box so large the loss does not curve upwards everywhere, so that some maxima are no corners.
        pytest.param(
            lambda *of: curvature.perturbation_sharpness_of_each(*of, radius=1.0),
            lambda *of: curvature.perturbation_sharpness(*of, radius=1.0),
            marks=pytest.mark.thorough,
        ),
        (
            lambda *of: [scale.weighted for scale in curvature.noise_scale_of_each(*of)],
            lambda *of: curvature.noise_scale(*of).weighted,
        ),
    ],
    ids=["eigenvalue", "box", "adaptive", "large box", "noise"],
)
def test_together_they_are_measured_as_each_alone(build, of_each, of_one):
    networks = [trained(build, seed) for seed in range(5)]
    weights = [model.get_weights() for model, _ in networks]
    found = of_each(curvature.LossSurfaces([surface for _, surface in networks]), weights)
    expected = [of_one(surface, w) for (_, surface), w in zip(networks, weights, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=2e-4)
    assert np.ptp(expected) > 0.01 * np.mean(expected)  # they differ


def test_together_the_noise_of_known_gradients_and_of_none():
    """The second one fits all of its rows, so that it has neither gradient nor noise."""
    x = GENERATOR.normal(size=(40, 3)).astype(np.float32)
    surfaces = curvature.LossSurfaces([quadratic(x, y) for y in (targets(x), np.zeros(40, np.float32))])
    with pytest.warns(UserWarning, match="zero to rounding"):
        found, none = curvature.noise_scale_of_each(surfaces, [np.zeros(3)] * 2)
    alone = curvature.noise_scale(surfaces.single[0], np.zeros(3))
    assert found == pytest.approx(alone, rel=1e-5)
    assert none == (np.inf, np.inf, 0.0, 0.0)


def test_together_on_known_spectra():
    spectra = [(3.0, 1.0, 0.5), (7.0, 6.9, 0.1), (0.2, 0.2, 0.2)]
    surfaces = []
    for spectrum in spectra:
        x = with_spectrum(spectrum)
        surfaces.append(quadratic(x, targets(x)))
    found = curvature.largest_eigenvalue_of_each(curvature.LossSurfaces(surfaces), [np.zeros(3)] * 3)
    np.testing.assert_allclose(found, [max(spectrum) for spectrum in spectra], rtol=1e-5)


def test_together_they_are_not_taken_for_one_another(network):
    model, surface = network
    other = helpers.build_model((3,))
    with pytest.raises(ValueError, match="there is no surface"):
        curvature.LossSurfaces([])
    with pytest.raises(ValueError, match="surface 1 differs"):
        curvature.LossSurfaces([surface, curvature.LossSurface(other, X, Y)])
    with pytest.raises(ValueError, match="surface 2 differs"):
        curvature.LossSurfaces([surface, surface, curvature.LossSurface(model, X[:40], Y[:40])])
    pair = curvature.LossSurfaces([surface, surface])
    with pytest.raises(ValueError, match="1 sets of weights for 2 networks"):
        curvature.largest_eigenvalue_of_each(pair, [None])
    for measure in (curvature.perturbation_sharpness_of_each, curvature.adaptive_sharpness_of_each):
        with pytest.raises(ValueError, match="`radius`"):
            measure(pair, [None, None], radius=0)
    huge = [np.full(w.shape, 1e30, np.float32) for w in model.get_weights()]
    with pytest.raises(curvature.NotFiniteError, match="network 1"):
        curvature.adaptive_sharpness_of_each(pair, [model.get_weights(), huge])
    with pytest.raises(curvature.NotFiniteError, match="network 1"):
        curvature.largest_eigenvalue_of_each(pair, [model.get_weights(), huge])
