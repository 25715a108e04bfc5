import matplotlib.pyplot as plt
import numpy as np
import pytest

from batchlab.figures.estimates import plot_estimates
from batchlab.figures.style import subplots
from batchlab.statistics import Estimate

AT = [1, 32, 250]
ESTIMATES = [Estimate(2.0, 1.5, 4.0), Estimate(3.0, 2.0, 3.5), Estimate(5.0, 4.9, 5.1)]


@pytest.fixture
def ax():
    yield subplots()[1][0]
    plt.close("all")


@pytest.mark.parametrize("band", [False, True])
def test_values_and_intervals_are_where_they_belong(ax, band):
    assert plot_estimates(ax, AT, ESTIMATES, colour="#8C510A", label="compiled", band=band) is ax
    line = ax.get_lines()[0]
    np.testing.assert_array_equal(line.get_xydata(), np.column_stack([AT, [of.value for of in ESTIMATES]]))
    assert line.get_color() == "#8C510A"
    assert [text.get_text() for text in ax.legend().get_texts()] == ["compiled"]
    (drawn,) = ax.collections
    corners = {(x, y) for path in drawn.get_paths() for x, y in path.vertices.round(9).tolist()}
    assert {(x, end) for x, of in zip(AT, ESTIMATES, strict=True) for end in (of.low, of.high)} <= corners


def test_bars_may_stand_alone(ax):
    plot_estimates(ax, AT, ESTIMATES, colour="k", marks="none")
    assert all(line.get_linestyle() == "None" for line in ax.get_lines())  # the caps
    assert len(ax.collections) == 1


def test_a_place_is_needed_for_each_estimate(ax):
    with pytest.raises(ValueError, match="2 places for 3 estimates"):
        plot_estimates(ax, AT[:2], ESTIMATES, colour="k")
