"""Intervals against published values, other implementations and their own promise; what has none is refused."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from batchlab import statistics


def far(estimate, expected):
    return np.abs(np.subtract(estimate, expected)).max()


# --- shares ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_a_share_has_the_interval_that_newcombe_1998_prints(hits, of, low, high):
    assert far(statistics.share(hits, of), (hits / of, low, high)) < 5e-5


@settings(max_examples=50, deadline=None)
@given(of=st.integers(1, 400), data=st.data())
def test_a_share_has_the_interval_of_scipy_s_exact_test(of, data):
    hits = data.draw(st.integers(0, of))
    expected = scipy.stats.binomtest(hits, of).proportion_ci(method="exact")
    assert far(statistics.share(hits, of), (hits / of, *expected)) < 1e-9


def test_a_share_of_none_or_all_ends_where_one_in_forty_would():
    assert statistics.share(0, 64)[:2] == (0, 0) and statistics.share(64, 64)[::2] == (1, 1)
    assert statistics.share(64, 64).low ** 64 == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("hits", "of", "error", "said"),
    [
        (1, 0, ValueError, "`of` is 0; give a whole number of at least 1"),
        (5, 4, ValueError, "`hits` is 5; give a whole number from 0 to 4"),
        (-1, 4, ValueError, "`hits` is -1"),
        (0.5, 4, TypeError, "`hits` is 0.5"),
    ],
)
def test_counts_that_make_no_share_are_refused(hits, of, error, said):
    with pytest.raises(error, match=said):
        statistics.share(hits, of)


# --- means and medians -------------------------------------------------------------------------------


def test_the_mean_of_a_textbook_sample():
    # Student's own data (1908): the additional sleep of ten patients; mean 1.58, t(9) = 2.262, s = 1.230.
    hours = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    assert far(statistics.mean(hours), (1.58, 0.700, 2.460)) < 5e-4


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (10, 2), (15, 4), (20, 6), (25, 8), (50, 18), (64, 24), (100, 40)])
def test_the_median_lies_between_the_tabulated_ranks(n, rank):
    # Ranks of the sign test's interval, as in Dixon & Mood (1946): here figure and rank are the same.
    figures = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    assert statistics.median(figures) == ((n + 1) / 2, rank, n + 1 - rank)


def test_a_median_bears_runs_that_never_arrive():
    assert statistics.median([3, 1, 2, np.inf, 5, 4]) == (3.5, 1, np.inf)


@pytest.mark.parametrize("interval", [statistics.mean, statistics.median])
def test_an_interval_holds_the_truth_as_often_as_it_says(interval):
    rng = np.random.default_rng(0)
    held = [low < 3 < high for _, low, high in (interval(rng.normal(3, 2, 15)) for _ in range(2000))]
    assert 0.935 < np.mean(held) < 0.98  # the median's ranks give 96.5 %; 2000 draws know it to 1 %


@pytest.mark.parametrize(
    ("interval", "figures", "said"),
    [
        (statistics.mean, [1.0], "mean: an interval needs 2 or more figures"),
        (statistics.median, [1.0] * 5, "median: an interval needs 6 or more figures"),
        (statistics.mean, [[1.0, 2.0]], r"got shape \(1, 2\)"),
        (statistics.mean, [1, 2, np.inf], "mean: figure 2 is not finite"),
        (statistics.median, [1, 2, np.nan, 4, 5, 6], "median: figure 2 is NaN"),
    ],
)
def test_figures_without_an_interval_are_refused(interval, figures, said):
    with pytest.raises(ValueError, match=said):
        interval(figures)


# --- bands -------------------------------------------------------------------------------------------


def test_a_band_holds_the_middle_95_percent_along_the_first_axis():
    runs = np.arange(201.0)[:, None] / 200 + np.arange(3)
    np.testing.assert_allclose(statistics.band(runs), np.array([[0.025], [0.5], [0.975]]) + np.arange(3))
    assert statistics.band(np.arange(64.0), method="nearest").tolist() == [2, 32, 61]  # figures that occurred


def test_pandas_and_arrays_have_the_same_band():
    figures = np.random.default_rng(0).normal(size=(50, 2))
    frame = pd.DataFrame(figures, columns=["loss", "accuracy"])
    np.testing.assert_array_equal(statistics.band(frame), statistics.band(figures))
    low, median, high = statistics.band(frame["loss"])
    assert (low, median, high) == tuple(statistics.band(figures[:, 0]))
    grouped = statistics.band(pd.concat([frame, 2 * frame], keys=[1, 2], names=["batch_size"]).groupby("batch_size"))
    np.testing.assert_allclose(grouped.loc[2], 2 * statistics.band(figures))
    assert grouped.loc[(1, 0.5), "loss"] == median


def test_a_band_of_nothing_is_refused():
    with pytest.raises(ValueError, match="there are no values"):
        statistics.band([])


# --- lines -------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(n=st.integers(3, 30), seed=st.integers(0, 999))
def test_a_line_is_that_of_scipy_with_student_s_t(n, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(5, 2, n), rng.normal(size=n)
    expected = scipy.stats.linregress(x, y)
    half_width = scipy.stats.t.ppf(0.975, n - 2) * expected.stderr
    slope = expected.slope
    np.testing.assert_allclose(
        statistics.line(x, y), (slope, slope - half_width, slope + half_width, expected.intercept), rtol=1e-6, atol=1e-9
    )


def test_a_line_through_four_points_by_hand():
    # Residuals -0.2, 0.6, -0.6 and 0.2: squares of 0.8, so a variance of 0.4, over 5 for x. t(2) is 4.303.
    slope, low, high, intercept = statistics.line([0, 1, 2, 3], [1, 3, 3, 5])
    assert (slope, intercept) == pytest.approx((1.2, 1.2))
    assert high - slope == pytest.approx(slope - low) == pytest.approx(4.3027 * (0.4 / 5) ** 0.5, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(exponent=st.floats(-3, 3), factor=st.floats(0.01, 100))
def test_an_exact_power_law_is_found(exponent, factor):
    x = np.array([1.0, 2.0, 5.0, 30.0])
    np.testing.assert_allclose(statistics.power_law(x, factor * x**exponent), [exponent] * 3, atol=1e-6)


def test_the_interval_holds_the_exponent_as_often_as_it_says():
    rng, x = np.random.default_rng(0), np.geomspace(1, 100, 8)
    fits = [statistics.power_law(x, x**-1.0 * np.exp(rng.normal(0, 0.1, 8))) for _ in range(400)]
    assert 0.92 < np.mean([low < -1 < high for _, low, high in fits]) < 0.98


@pytest.mark.parametrize("fit", [statistics.line, statistics.power_law])
@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ([1, 2], [1, 2], "three or more"),
        ([1, 2, 3], [1, 2], "shapes"),
        ([2, 2, 2], [1, 2, 3], "three or more"),
        ([1, 2, 3], [1, np.nan, 3], "finite"),
        ([1, np.inf, 3], [1, 2, 3], "finite"),
    ],
)
def test_what_has_no_line_is_refused(fit, x, y, said):
    with pytest.raises(ValueError, match=said):
        fit(x, y)


@pytest.mark.parametrize("y", [[1, 0, 3], [1, -2, 3]])
def test_a_power_law_needs_logarithms(y):
    with pytest.raises(ValueError, match="above 0"):
        statistics.power_law([1, 2, 3], y)


# --- rank correlation --------------------------------------------------------------------------------


def test_a_rank_correlation_is_that_of_scipy_and_knows_only_ranks():
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    y = x + rng.normal(size=50)
    found = statistics.rank_correlation(x, y)
    assert found.value == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert statistics.rank_correlation(np.exp(x), -y) == pytest.approx((-found.value, -found.high, -found.low))
    assert -1 <= statistics.rank_correlation(x, x).low <= statistics.rank_correlation(x, x).high <= 1


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_the_interval_of_a_rank_correlation_holds_the_true_one_in_95_of_100_samples(slope):
    rng = np.random.default_rng(1)
    r = slope / np.hypot(1, slope)
    true = 6 / np.pi * np.arcsin(r / 2)  # of a normal distribution with correlation r
    held = 0
    for _ in range(1000):
        x, noise = rng.normal(size=(2, 40))
        found = statistics.rank_correlation(x, slope * x + noise)
        held += found.low <= true <= found.high
    assert 0.92 < held / 1000 < 0.98


@pytest.mark.parametrize(
    ("x", "y"), [(range(9), range(9)), (range(12), range(11)), ([1.0] * 12, range(12)), ([np.nan] * 12, range(12))]
)
def test_what_has_no_rank_correlation_is_refused(x, y):
    with pytest.raises(ValueError, match="rank_correlation"):
        statistics.rank_correlation(x, y)
