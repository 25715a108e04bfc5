"""Figures of a comparison, held against closed forms."""

import math

import numpy as np
import pytest

from batchlab.study.scaling import deviation, fit_scaling, narrowing, roughness

SIZES = 2.0 ** np.arange(9)


# --- the curve of updates against batch size -----------------------------------------------------------


@pytest.mark.parametrize(("least", "critical"), [(10.0, 0.5), (3.0, 20.0), (7.0, 256.0), (100.0, 3000.0)])
def test_a_curve_of_the_model_is_found_again(least, critical):
    fit = fit_scaling(SIZES, least * (1 + critical / SIZES))
    assert fit.critical.value == pytest.approx(critical, rel=1e-4)
    assert fit.least_updates == pytest.approx(least, rel=1e-4)
    assert fit.misfit < 1e-6
    assert fit.critical.low == pytest.approx(critical, rel=1e-3) == fit.critical.high


def test_the_critical_batch_size_is_the_knee():
    fit = fit_scaling(SIZES, 5 * (1 + 40 / SIZES))
    assert fit.updates(40) == pytest.approx(2 * fit.least_updates, rel=1e-3)
    assert fit.updates(40) == pytest.approx(2 * fit.perfect(40), rel=1e-3)
    slope = np.diff(np.log(fit.updates(np.array([39.0, 41.0])))) / np.diff(np.log([39, 41]))
    assert slope == pytest.approx(-0.5, abs=1e-3)
    assert fit.perfect(1) == pytest.approx(5 * 40, rel=1e-3)


def test_the_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    truth = 5 * (1 + 40 / SIZES)
    fits = [fit_scaling(SIZES, truth * np.exp(generator.normal(0, 0.1, SIZES.size))).critical for _ in range(300)]
    covered = np.mean([fit.low < 40 < fit.high for fit in fits])
    assert 0.92 < covered < 0.98  # 95 %, and two and a half standard errors of 300 trials about it


def test_an_end_may_be_out_of_sight():
    generator = np.random.default_rng(1)
    noise = np.exp(generator.normal(0, 0.15, SIZES.size))
    nearly_perfect = fit_scaling(SIZES, (1 + 4000 / SIZES) * noise).critical
    assert nearly_perfect.high == math.inf and nearly_perfect.low > SIZES.mean()
    nearly_flat = fit_scaling(SIZES, 1000 * (1 + 0.1 / SIZES) * noise).critical
    assert nearly_flat.low == 0 and nearly_flat.high < 10


@pytest.mark.parametrize(
    ("updates", "why"),
    [(1000 / SIZES, "follow perfect scaling"), (np.full(9, 20.0), "do not fall"), (SIZES, "do not fall")],
)
def test_figures_without_a_bend_are_refused(updates, why):
    with pytest.raises(ValueError, match=why):
        fit_scaling(SIZES, updates)


@pytest.mark.parametrize(
    ("sizes", "updates", "why"),
    [
        ([1, 2, 4], [9, 5, 3], "four or more"),
        ([1, 2, 4, 4], [9, 5, 3, 3], "different"),
        ([1, 2, 4, 8], [9, 5, 3], "shapes"),
        ([1, 2, 4, 8], [9, 5, 3, np.inf], "never arrived"),
        ([0, 2, 4, 8], [9, 5, 3, 2], "above 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(sizes, updates, why):
    with pytest.raises(ValueError, match=why):
        fit_scaling(sizes, updates)


# --- roughness -----------------------------------------------------------------------------------------


def test_a_straight_line_is_smooth_and_a_parabola_nearly():
    t = np.arange(50.0)
    assert roughness(3 - 0.1 * t) == pytest.approx(0, abs=1e-12)
    assert roughness(0.5 * t**2) == pytest.approx(1 / math.sqrt(3))  # it bends by 1 a step squared


def test_noise_has_the_roughness_of_its_differences():
    noise = np.random.default_rng(0).normal(0, 0.2, (4, 100_000))
    assert roughness(noise) == pytest.approx(np.full(4, math.sqrt(2) * 0.2), rel=0.02)
    assert roughness(noise[0] + np.linspace(5, 0, 100_000)) == pytest.approx(roughness(noise[0]))
    assert roughness(noise[0]) == pytest.approx(np.diff(noise[0]).std(), rel=0.02)


def test_a_zigzag_by_hand():
    assert roughness([0, 1, 0, 1]) == pytest.approx(2 / math.sqrt(3))  # second differences -2 and 2


def test_roughness_needs_three_points_and_passes_nan_on():
    assert np.isnan(roughness([[1, np.nan, 2], [1, 2, 3]])).tolist() == [True, False]
    for few in ([1, 2], 3.0):
        with pytest.raises(ValueError, match="three or more points"):
            roughness(few)


# --- how far runs lie apart ----------------------------------------------------------------------------


def test_deviation_is_pooled_about_each_groups_mean():
    generator = np.random.default_rng(0)
    groups = generator.normal(0, 0.3, (4, 200)) + np.array([[0], [10], [-5], [100]])
    found = deviation(*groups)
    assert found.value == pytest.approx(math.sqrt(np.mean(groups.var(axis=1, ddof=1))))
    assert found.low < 0.3 < found.high
    # Of normal figures the standard error of a deviation is s / sqrt(2 n).
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.3 / math.sqrt(2 * 800), rel=0.15)
    assert deviation(groups[0]).value == pytest.approx(groups[0].std(ddof=1))


def test_runs_that_are_all_equal_do_not_deviate():
    assert deviation([3.0] * 8, [5.0] * 8) == (0, 0, 0)


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.6, 0.99])
def test_pairing_narrows_as_the_correlation_says(correlation):
    drawn = np.random.default_rng(0).normal(size=(4000, 2))
    drawn = np.linalg.qr(drawn - drawn.mean(axis=0))[0]  # of covariance 0 exactly, so that no chance is left
    first, second = drawn[:, 0], correlation * drawn[:, 0] + math.sqrt(1 - correlation**2) * drawn[:, 1]
    found = narrowing(first, second + 5)
    assert found.value == pytest.approx(1 / math.sqrt(1 - correlation), rel=1e-6)
    assert found.low < found.value < found.high < 1.1 * found.low


@pytest.mark.parametrize("measure", [deviation, narrowing])
def test_runs_that_cannot_be_compared_are_refused(measure):
    with pytest.raises(ValueError, match="six or more"):
        measure([1, 2, 3], [1, 2, 3])
    with pytest.raises(ValueError, match="one length"):
        measure(range(8), range(9))
    with pytest.raises(ValueError, match="not finite"):
        measure([*range(7), np.inf], range(8))


def test_pairs_that_all_differ_by_the_same_have_no_interval():
    with pytest.raises(ValueError, match="the same"):
        narrowing(range(8), range(1, 9))


def test_no_group_is_refused():
    with pytest.raises(ValueError, match="six or more"):
        deviation()
