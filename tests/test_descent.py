"""Exact losses against finite differences, paths against theory and Keras, and what bad input is told."""

import math
import warnings

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchlab.ideas.descent import (
    KernelLoss,
    LogisticLoss,
    SquaredLoss,
    basin,
    descend,
    gradient_variance,
    minimise,
    observed_limit,
    rmsprop_step,
    schedule,
    stable_step_size,
    stationary_covariance,
    updates_per_epoch,
)

ROWS = 50
KINDS = ("logistic", "squared", "kernel")


def table(seed=0, rows=ROWS):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2)) * [1.0, 0.6] + [0.4, 0.0]
    y = (rng.random(rows) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(float)
    y[:2] = 0, 1
    return x, y


def make(kind, seed=0, rows=ROWS):
    x, y = table(seed, rows)
    return {"logistic": lambda: LogisticLoss(x, y), "squared": lambda: SquaredLoss(x, y)}.get(
        kind, lambda: KernelLoss(x, 0.7)
    )()


@pytest.fixture
def valleys():
    """Two clusters of 30 and 20 points about (0, 0) and (3, 0): a deep and a shallow minimum."""
    rng = np.random.default_rng(1)
    return KernelLoss(rng.normal(size=(50, 2)) * 0.3 + np.repeat([[0, 0], [3, 0]], [30, 20], axis=0), 0.6)


# --- losses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(w=st.tuples(st.floats(-3, 3), st.floats(-3, 3)), seed=st.integers(0, 99))
def test_derivatives_equal_central_differences(kind, w, seed):
    loss, w, h = make(kind, seed), np.array(w), 1e-5
    ahead, behind = w + h * np.eye(2), w - h * np.eye(2)
    np.testing.assert_allclose(loss.gradient(w), (loss.value(ahead) - loss.value(behind)) / (2 * h), atol=1e-8)
    np.testing.assert_allclose(loss.hessian(w), (loss.gradient(ahead) - loss.gradient(behind)) / (2 * h), atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), batch_size=st.integers(1, ROWS))
def test_the_mini_batches_of_an_epoch_average_to_the_gradient(kind, seed, batch_size):
    loss, w = make(kind, seed), np.array([0.3, -1.2])
    batches = schedule(ROWS, batch_size, seed=seed)
    parts = [len(rows) * loss.gradient(w, rows) for rows in batches]
    np.testing.assert_allclose(np.sum(parts, axis=0) / ROWS, loss.gradient(w), atol=1e-12)
    np.testing.assert_allclose(loss.row_gradients(w).mean(axis=0), loss.gradient(w), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_many_weights_go_side_by_side(kind):
    loss = make(kind)
    w = np.random.default_rng(2).normal(size=(3, 4, 2))
    rows = np.random.default_rng(3).integers(ROWS, size=(3, 4, 5))
    values, gradients, estimates = loss.value(w), loss.gradient(w), loss.gradient(w, rows)
    assert values.shape == (3, 4) and gradients.shape == estimates.shape == (3, 4, 2)
    for at in np.ndindex(3, 4):
        assert values[at] == pytest.approx(loss.value(w[at]), abs=1e-12)
        np.testing.assert_allclose(gradients[at], loss.gradient(w[at]), atol=1e-12)
        np.testing.assert_allclose(estimates[at], loss.row_gradients(w[at])[rows[at]].mean(axis=0), atol=1e-12)


def test_losses_are_what_they_say():
    x, y = np.array([[1.0, 1.0], [2.0, 1.0]]), np.array([1.0, 0.0])
    w = np.array([0.5, -0.25])
    p = 1 / (1 + np.exp(-np.array([0.25, 0.75])))
    assert LogisticLoss(x, y).value(w) == pytest.approx(-(math.log(p[0]) + math.log(1 - p[1])) / 2)
    assert SquaredLoss(x, y).value(w) == pytest.approx((0.75**2 + 0.75**2) / 4)
    # One point at a distance of one width: 1 - exp(-1/2).
    assert KernelLoss([[0.0, 0.0]], 2.0).value([0.0, 2.0]) == pytest.approx(1 - math.exp(-0.5))
    assert LogisticLoss(x, y).value([1000.0, 0.0]) == pytest.approx(1000.0)  # no overflow


@pytest.mark.parametrize("Linear", [LogisticLoss, SquaredLoss])
def test_bad_tables_are_told_where(Linear):  # noqa: N803
    x, y = table()
    hole = x.copy()
    hole[7, 1] = np.nan
    for bad_x, bad_y, said in [
        (hole, y, r"`x` holds nan in row 7"),
        (x, np.where(np.arange(ROWS) == 4, np.inf, y), r"`y` holds inf in row 4"),
        (x[:, :1], y, r"`x` must have the shape \(rows, 2\).*got \(50, 1\)"),
        (x, y[:-1], r"`y` must have the shape \(50,\).*got \(49,\)"),
        (x[:0], y[:0], r"at least one row"),
    ]:
        with pytest.raises(ValueError, match=said):
            Linear(bad_x, bad_y)


def test_other_bad_tables():
    x, y = table()
    with pytest.raises(ValueError, match=r"y\[3\] is 2; the targets of a logistic loss are 0 or 1"):
        LogisticLoss(x, np.where(np.arange(ROWS) == 3, 2, y))
    with pytest.raises(ValueError, match=r"`points` must have the shape \(rows, 2\)"):
        KernelLoss(x[:, 0], 1.0)
    with pytest.raises(ValueError, match=r"`width` is 0"):
        KernelLoss(x, 0)
    with pytest.raises(TypeError, match=r"`width` is 'wide'"):
        KernelLoss(x, "wide")


@pytest.mark.parametrize("w", [0.5, [1.0], [1.0, 2.0, 3.0], np.zeros((2, 3))])
def test_weights_of_a_wrong_shape_are_refused(w):
    loss = make("logistic")
    for method in (loss.value, loss.gradient, loss.hessian, loss.row_gradients):
        with pytest.raises(ValueError, match="Weights must have the shape"):
            method(w)


# --- minima and step sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_minimum_is_one(kind):
    loss = make(kind, rows=300)
    w = minimise(loss, [0.1, 0.1])
    around = w + 1e-3 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, 1]])
    assert np.linalg.norm(loss.gradient(w)) < 1e-10
    assert (loss.value(around) > loss.value(w)).all()


def test_least_squares_are_least_squares():
    x, y = table()
    np.testing.assert_allclose(minimise(SquaredLoss(x, y), [5, 5]), np.linalg.lstsq(x, y)[0], atol=1e-9)


def test_a_loss_without_a_minimum_is_told():
    x = np.array([[-1.0, 1.0], [1.0, 1.0]])
    with pytest.raises(ValueError, match=r"no minimum found from \[0, 0\].*Start nearer"):
        minimise(LogisticLoss(x, [0.0, 1.0]), [0, 0])  # separable: the weights grow for ever
    with pytest.raises(ValueError, match="no minimum found"):
        minimise(SquaredLoss([[1.0, 1.0], [2.0, 2.0]], [0.0, 1.0]), [0, 0])  # a flat valley, no lowest point


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99))
def test_the_step_size_at_which_a_quadratic_diverges(seed):
    loss = make("squared", seed)
    w = minimise(loss, [0, 0])
    limit = stable_step_size(loss.hessian(w))
    start = w + np.ones(2)
    for factor, shrinks in [(0.99, True), (1.01, False)]:
        path = descend(loss, start, step_size=factor * limit, batch_size=ROWS, updates=2000)[0]
        assert (loss.value(path[-1]) < loss.value(start)) == shrinks


@pytest.mark.parametrize("seed", range(3))
def test_the_observed_limit_of_a_quadratic_is_the_predicted_one(seed):
    loss = make("squared", seed)
    w = minimise(loss, [0, 0])
    predicted = stable_step_size(loss.hessian(w))
    observed = observed_limit(loss, w + np.array([1, 0.5]), (0.3 * predicted, 3 * predicted), updates=3000)
    assert observed == pytest.approx(predicted, rel=1e-3)


def test_few_updates_observe_what_happened_and_not_the_limit():
    loss = SquaredLoss(np.eye(2) * math.sqrt(2), [0, 0])  # |w|^2 / 2, of curvature 1 everywhere: the limit is 2
    for updates in (1, 3):  # after any number of updates the loss has changed by (1 - step size)^(2 updates)
        assert observed_limit(loss, [1, 1], (0.5, 5), updates=updates) == pytest.approx(2, rel=1e-4)
    steep = SquaredLoss(np.diag([math.sqrt(2), math.sqrt(0.02)]), [0, 0])  # of curvatures 1 and 0.01
    # From (1, 20) the flat direction's fall hides the steep one's rise: 1 + 4 > (1 - s)^2 + 4 (1 - 0.01 s)^2.
    root = (2 + 0.08) / (1 + 4e-4)
    assert observed_limit(steep, [1, 20], (0.5, 5), updates=1) == pytest.approx(root, rel=1e-4)


@pytest.mark.parametrize("between", [(0.1, 1.9), (2.1, 5), (5, 0.1)])
def test_step_sizes_that_do_not_enclose_the_limit_are_refused(between):
    loss = SquaredLoss(np.eye(2) * math.sqrt(2), [0, 0])
    with pytest.raises(ValueError, match=r"observed_limit: 50 updates must end lower at step size .* and not at"):
        observed_limit(loss, [1, 1], between, updates=50)


@pytest.mark.parametrize("hessian", [np.zeros((2, 2)), [[1, 1], [1, 1]], [[1, 0], [0, -1]], [[-1, 0], [0, -2]]])
def test_a_singular_hessian_is_no_minimum(hessian):
    for ask in (stable_step_size, lambda h: stationary_covariance(h, np.eye(2), 0.1, 1)):
        with pytest.raises(ValueError, match="no isolated minimum"):
            ask(np.array(hessian, float))


@pytest.mark.parametrize("hessian", [np.eye(3), [[1, 2], [3, 4]], [[np.nan, 0], [0, 1]], 1.0])
def test_a_matrix_that_is_no_hessian_is_refused(hessian):
    with pytest.raises(ValueError, match="A Hessian must be finite, symmetric"):
        stable_step_size(hessian)


def test_basins_part_between_the_valleys(valleys):
    minima = np.array([minimise(valleys, [0, 0]), minimise(valleys, [3, 0])])
    assert valleys.value(minima[0]) < valleys.value(minima[1])
    places = [[-0.5, 0.2], [0.9, 0.0], [2.2, 0.0], [3.4, 0.3]]
    np.testing.assert_array_equal(basin(valleys, places, minima), [0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"descent from place 1 ends at \[.*near none of the minima"):
        basin(valleys, [[3.0, 0.1], [0.1, 0.1]], minima[1:])


# --- paths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "batch_size", "batches"),
    [(400, 150, [150, 150, 100]), (320, 250, [250, 70]), (320, 32, [32] * 10), (50, 1, [1] * 50), (50, 50, [50])],
)
def test_documented_batches(rows, batch_size, batches):
    assert [len(batch) for batch in schedule(rows, batch_size)] == batches
    assert updates_per_epoch(rows, batch_size) == len(batches)


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 300), data=st.data(), seed=st.integers(0, 99))
def test_an_epoch_takes_every_row_once(rows, data, seed):
    batch_size = data.draw(st.integers(1, rows))
    for order in ("shuffled", "table"):
        batches = schedule(rows, batch_size, order=order, seed=seed)
        assert sorted(np.concatenate(batches)) == list(range(rows))
        assert {len(batch) for batch in batches[:-1]} <= {batch_size}
        assert len(batches) == updates_per_epoch(rows, batch_size)
    drawn = schedule(rows, batch_size, order="with replacement", seed=seed)
    assert {len(batch) for batch in drawn} == {batch_size} and len(drawn) == len(batches)


def test_orders_differ_by_seed_epoch_and_run():
    first, again, other = (np.concatenate(schedule(ROWS, 8, seed=seed)) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    np.testing.assert_array_equal(np.concatenate(schedule(ROWS, 8, order="table")), np.arange(ROWS))
    paths = descend(make("logistic"), np.zeros((2, 2)), step_size=0.5, batch_size=1, updates=2 * ROWS)
    assert (paths[0, 1] != paths[1, 1]).any()  # runs have orders of their own
    rows = np.stack([*map(np.concatenate, (schedule(1000, 1, order="with replacement", seed=s) for s in range(20)))])
    assert abs(len(np.unique(rows[0])) / 1000 - (1 - math.exp(-1))) < 0.05  # a share 1/e is left out


@pytest.mark.parametrize("order", ["shuffled", "table", "with replacement"])
@pytest.mark.parametrize("batch_size", [1, 7, ROWS])
def test_a_path_follows_its_schedule(order, batch_size):
    loss, w = make("logistic"), np.array([1.0, -1.0])
    batches = schedule(ROWS, batch_size, order=order, seed=5)
    path = descend(loss, w, step_size=0.3, batch_size=batch_size, updates=len(batches), order=order, seed=5)
    assert path.shape == (1, len(batches) + 1, 2)
    for rows, reached in zip(batches, path[0, 1:], strict=True):
        w = w - 0.3 * loss.row_gradients(w)[rows].mean(axis=0)
        np.testing.assert_allclose(reached, w, atol=1e-12)


def test_runs_side_by_side_go_as_alone():
    loss, starts = make("squared"), np.array([[1.0, 2.0], [-1.0, 0.5]])
    together = descend(loss, starts, step_size=0.2, batch_size=8, updates=20, order="table")
    alone = [descend(loss, start, step_size=0.2, batch_size=8, updates=20, order="table")[0] for start in starts]
    np.testing.assert_allclose(together, alone, atol=1e-12)


def test_no_update_is_the_start():
    np.testing.assert_array_equal(descend(make("kernel"), [1, 2], step_size=1, batch_size=1, updates=0), [[[1.0, 2.0]]])


def test_a_diverging_run_stays_in_its_path_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = descend(make("squared"), [1.0, 1.0], step_size=1e6, batch_size=ROWS, updates=200)[0]
        values = make("squared").value(path)
    assert np.isfinite(path[:2]).all() and not np.isfinite(path[-1]).any()
    assert np.isfinite(values[0]) and not np.isfinite(values[-1])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), start=st.tuples(st.floats(-4, 4), st.floats(-4, 4)))
def test_batch_descent_goes_downhill_below_the_greatest_curvature(seed, start):
    loss = make("logistic", seed)
    greatest = np.linalg.eigvalsh(loss.x.T @ loss.x / ROWS)[-1] / 4  # of the logistic loss anywhere
    path = descend(loss, start, step_size=1.99 / greatest, batch_size=ROWS, updates=50)[0]
    assert (np.diff(loss.value(path)) <= 1e-12).all()


@pytest.mark.parametrize("batch_size", [1, 32, 250])
def test_an_epoch_equals_keras(batch_size):
    x, y = table(rows=320)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.SGD(0.3), "binary_crossentropy")
    model.set_weights([np.array([[0.5]]), np.array([-0.25])])
    model.fit(x[:, :1], y, batch_size=batch_size, epochs=1, shuffle=False, verbose=0)
    loss = LogisticLoss(np.column_stack([x[:, 0], np.ones(320)]), y)
    updates = updates_per_epoch(320, batch_size)
    path = descend(loss, [0.5, -0.25], step_size=0.3, batch_size=batch_size, updates=updates, order="table")
    np.testing.assert_allclose(path[0, -1], np.concatenate([w.ravel() for w in model.get_weights()]), atol=2e-6)


GOOD = {"step_size": 0.1, "batch_size": 8, "updates": 3}


@pytest.mark.parametrize(
    ("changed", "kind", "said"),
    [
        ({"step_size": 0}, ValueError, "`step_size` is 0; give a finite number above 0"),
        ({"step_size": -0.1}, ValueError, "`step_size` is -0.1"),
        ({"step_size": math.inf}, ValueError, "`step_size` is inf"),
        ({"step_size": math.nan}, ValueError, "`step_size` is nan"),
        ({"step_size": "0.1"}, TypeError, "`step_size` is '0.1'; give a finite number above 0"),
        ({"step_size": True}, TypeError, "`step_size` is True"),
        ({"batch_size": 0}, ValueError, "`batch_size` is 0; give a whole number from 1 to 50"),
        ({"batch_size": ROWS + 1}, ValueError, "`batch_size` is 51; give a whole number from 1 to 50"),
        ({"batch_size": 8.0}, TypeError, "`batch_size` is 8.0; give a whole number"),
        ({"updates": -1}, ValueError, "`updates` is -1; give a whole number of at least 0"),
        ({"updates": 2.5}, TypeError, "`updates` is 2.5"),
        ({"order": "sorted"}, ValueError, "`order` is 'sorted'; choose among 'shuffled', 'table', 'with replacement'"),
    ],
)
def test_bad_settings_are_refused(changed, kind, said):
    with pytest.raises(kind, match=said):
        descend(make("logistic"), [0, 0], **GOOD | changed)


@pytest.mark.parametrize("starts", [[1.0, 2.0, 3.0], [np.nan, 0.0], np.zeros((2, 2, 2)), 1.0])
def test_bad_starts_are_refused(starts):
    with pytest.raises(ValueError, match="shape"):
        descend(make("logistic"), starts, **GOOD)


# --- noise -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 5, 25, ROWS])
def test_the_variance_of_the_estimate_is_the_sampling_theory_s(batch_size):
    loss, w, draws = make("logistic"), np.array([0.5, 0.5]), 20_000
    total = loss.row_gradients(w).var(axis=0).sum()
    with_replacement = gradient_variance(loss, w, batch_size, draws=draws, order="with replacement")
    without = gradient_variance(loss, w, batch_size, draws=draws)
    # Of a mean of squares over 20,000 draws; its relative error is near 1 %, here allowed five times that.
    assert with_replacement == pytest.approx(total / batch_size, rel=0.05)
    assert without == pytest.approx(total / batch_size * (ROWS - batch_size) / (ROWS - 1), rel=0.05, abs=1e-25)


def test_the_variance_wants_a_random_order():
    with pytest.raises(ValueError, match="in table order every first batch is the same"):
        gradient_variance(make("squared"), np.zeros(2), 4, draws=10, order="table")
    with pytest.raises(ValueError, match="`draws` is 0"):
        gradient_variance(make("squared"), np.zeros(2), 4, draws=0)


def test_runs_stray_as_far_as_predicted():
    loss = make("squared", rows=200)
    w = minimise(loss, [0, 0])
    noise = np.cov(loss.row_gradients(w).T, bias=True)
    predicted = stationary_covariance(loss.hessian(w), noise, 0.05, 4)
    paths = descend(loss, np.tile(w, (200, 1)), step_size=0.05, batch_size=4, updates=600, order="with replacement")
    measured = np.cov(paths[:, 300:].reshape(-1, 2).T)
    np.testing.assert_allclose(measured, predicted, atol=0.12 * np.trace(predicted))


def test_the_prediction_solves_its_equation():
    hessian, noise = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, 0.2], [0.2, 3.0]])
    s = stationary_covariance(hessian, noise, 0.1, 4)
    np.testing.assert_allclose(hessian @ s + s @ hessian, 0.025 * noise, atol=1e-12)
    # The textbook case: with H and C diagonal, step_size * c / (2 * batch_size * h).
    np.testing.assert_allclose(stationary_covariance(np.diag([2, 1]), np.eye(2), 0.1, 4), np.diag([0.1 / 16, 0.1 / 8]))
    for bad in (np.eye(3), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match="`noise` must be finite numbers of shape"):
            stationary_covariance(hessian, bad, 0.1, 4)


# --- RMSprop -----------------------------------------------------------------------------------------


def test_the_rmsprop_step_is_that_of_keras():
    gradients = np.random.default_rng(0).normal(size=(10, 3, 2))
    weights, mean_square = np.ones((3, 2)), np.zeros((3, 2))
    variable = keras.Variable(weights, dtype="float64")
    optimizer = keras.optimizers.RMSprop(0.01)
    for gradient in gradients:
        weights, mean_square = rmsprop_step(weights, gradient, mean_square, step_size=0.01)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    # Keras keeps its learning rate in float32, 0.01 to eight digits.
    np.testing.assert_allclose(weights, variable.numpy(), atol=1e-7)
    assert np.abs(weights - 1).max() > 0.02


def test_the_rmsprop_step_wants_one_shape_and_a_step_size():
    with pytest.raises(ValueError, match=r"the shapes \(2,\), \(3,\) and \(2,\)"):
        rmsprop_step(np.ones(2), np.ones(3), np.zeros(2))
    with pytest.raises(ValueError, match="`step_size` is 0"):
        rmsprop_step(np.ones(2), np.ones(2), np.zeros(2), step_size=0)
