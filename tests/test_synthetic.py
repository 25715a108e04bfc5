"""Generated tables: their Bayes figures against two other ways to find them, and their rows."""

import numpy as np
import pytest
import scipy.integrate
from scipy.special import entr, expit

from batchlab.study.synthetic import Waves

ROWS = 400_000


@pytest.mark.parametrize(("waves", "steepness", "features"), [(1, 4.0, 2), (3, 4.0, 2), (2.5, 1.0, 7)])
def test_bayes_figures_are_those_of_many_rows(waves, steepness, features):
    table = Waves(waves, steepness, features)
    x, y = table.draw(ROWS, seed=0)
    chance = expit(steepness * np.sin(waves * x.sum(axis=1, dtype=np.float64) / np.sqrt(features)))
    np.testing.assert_allclose(table.chances(x), chance, atol=1e-5)
    loss = -(y * np.log(chance) + (1 - y) * np.log(1 - chance))
    wrong = (chance > 0.5) != y
    for drawn, exact in ((loss, table.bayes_loss()), (wrong, table.bayes_error())):
        assert abs(drawn.mean() - exact) < 4 * drawn.std() / np.sqrt(ROWS)  # four standard errors
        assert drawn.std() > 0.1


def test_many_waves_spread_the_phase_evenly():
    # A wave that turns often among the rows meets every phase alike: the mean is one over the circle.
    def mean(figure):
        return scipy.integrate.quad(lambda phase: figure(expit(4 * np.sin(phase))), 0, np.pi, epsabs=1e-13)[0] / np.pi

    assert Waves(40).bayes_error() == pytest.approx(mean(lambda p: 1 - p), abs=1e-10)
    assert Waves(40).bayes_loss() == pytest.approx(mean(lambda p: entr(p) + entr(1 - p)), abs=1e-10)


def test_the_limits_are_a_coin_and_a_certainty():
    assert Waves(1, steepness=1e-9).bayes_loss() == pytest.approx(np.log(2))
    assert Waves(1, steepness=1e-9).bayes_error() == pytest.approx(0.5)
    assert Waves(1, steepness=1e4).bayes_loss() < 1e-3
    assert Waves(1, steepness=1e4).bayes_error() < 1e-3


def test_no_classifier_does_better():
    table = Waves(2)
    x, y = table.draw(ROWS, seed=1)
    u = x.sum(axis=1) / np.sqrt(2)
    # The share of ones in each of 400 narrow bins of u, read off these very rows: about as well as one can know them.
    bins = np.digitize(u, np.linspace(-3, 3, 400))
    share = np.bincount(bins, y)[bins] / np.bincount(bins)[bins]
    error = np.minimum(share, 1 - share).mean()
    assert error == pytest.approx(table.bayes_error(), abs=0.003)


def test_rows_are_what_they_should_be():
    x, y = Waves(1, features=3).draw(50_000, seed=2)
    assert x.shape == (50_000, 3) and y.shape == (50_000,)
    assert x.dtype == y.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(x.T), np.eye(3), atol=0.03)
    assert set(np.unique(y)) == {0, 1}
    again, other = Waves(1, features=3).draw(50_000, seed=2), Waves(1, features=3).draw(50_000, seed=3)
    np.testing.assert_array_equal(x, again[0])
    np.testing.assert_array_equal(y, again[1])
    assert not np.array_equal(x, other[0])


def test_more_waves_mean_more_borders():
    def borders(waves):
        u = np.linspace(-2, 2, 10_000)
        return (np.diff(np.sign(np.sin(waves * u))) != 0).sum()

    assert borders(1) < borders(2) < borders(4)


@pytest.mark.parametrize(
    ("call", "error", "complaint"),
    [
        (lambda: Waves(0), ValueError, "`waves` is 0; give a finite number above 0"),
        (lambda: Waves(1, steepness=-1), ValueError, "`steepness` is -1"),
        (lambda: Waves(1, features=0), ValueError, "`features` is 0"),
        (lambda: Waves(1).draw(0, 0), ValueError, "`rows` is 0"),
        (lambda: Waves(1).draw(1.5, 0), TypeError, r"`rows` is 1\.5"),
        (lambda: Waves(1).draw(1, -1), ValueError, "`seed` is -1"),
    ],
)
def test_bad_input_is_refused(call, error, complaint):
    with pytest.raises(error, match=complaint):
        call()
