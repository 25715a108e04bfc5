import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch

from batchlab.figures.graphs import plot_graph
from batchlab.figures.style import subplots
from batchlab.figures.surfaces import plot_contours, plot_surface

DIAMOND = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
TREE = [("root", "left"), ("root", "right"), ("left", "deep")]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def places(ax):
    return {text.get_text(): text.get_position() for text in ax.texts}


def arrows(ax):
    return [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]


def test_layers_run_from_left_to_right():
    at = places(plot_graph(DIAMOND))
    assert at["a"][0] < at["b"][0] == at["c"][0] < at["d"][0]
    assert at["b"][1] != at["c"][1]


def test_an_edge_over_several_layers_goes_round_the_nodes_between():
    ax = plot_graph([("a", "b"), ("b", "c"), ("a", "c")])
    assert len(arrows(ax)) == 4  # two direct edges, and one that bends once
    (bend,) = {tuple(arrow._posA_posB[0]) for arrow in arrows(ax)} - {tuple(place) for place in places(ax).values()}
    assert abs(bend[1] - places(ax)["b"][1]) >= 0.5


def test_a_tree_runs_downwards_with_children_in_order():
    at = places(plot_graph(TREE, layout="tree"))
    assert at["root"][1] > at["left"][1] == at["right"][1] > at["deep"][1]
    assert at["left"][0] < at["right"][0]


def test_labels_colours_and_ghosts_reach_what_they_name():
    ax = plot_graph(
        DIAMOND,
        labels={"a": "first"},
        node_colours={"b": "#0072B2"},
        edge_labels={("a", "b"): "0.5"},
        edge_colours={("a", "b"): "#D55E00"},
        ghosts={"c"},
    )
    texts = {text.get_text(): text for text in ax.texts}
    assert {"first", "b", "c", "d", "0.5"} == set(texts)
    assert texts["b"].get_color() != texts["d"].get_color(), "light ink on the dark fill"
    assert texts["0.5"].get_color() == "#D55E00"
    strong = [arrow for arrow in arrows(ax) if arrow.get_linewidth() > 2]
    assert len(strong) == 1
    pale = [arrow for arrow in arrows(ax) if arrow.get_linestyle() not in ("-", "solid")]
    assert len(pale) == 2


def test_arrows_end_at_the_boxes():
    ax = plot_graph([("a", "b")], labels={"a": "a long label\nof two lines"})
    ax.figure.canvas.draw()
    (arrow,) = arrows(ax)
    path = arrow.get_path().get_extents()  # in data coordinates
    for end, name in ((path.x0, "a long label\nof two lines"), (path.x1, "b")):
        box = next(text for text in ax.texts if text.get_text() == name).get_bbox_patch()
        inside = box.get_window_extent().transformed(ax.transData.inverted())
        assert min(abs(end - inside.x0), abs(end - inside.x1)) < 0.02


@pytest.mark.parametrize(
    ("edges", "options", "complaint"),
    [
        ([], {}, "no edge to draw"),
        ([("a", "b"), ("b", "a")], {}, "run in a circle"),
        (DIAMOND, {"layout": "tree"}, "no tree"),
        ([("a", "b"), ("c", "d")], {"layout": "tree"}, "no tree"),
        (DIAMOND, {"labels": {"z": "?"}}, "'z' is neither a node nor an edge"),
        (DIAMOND, {"edge_colours": {("d", "a"): "#000000"}}, "neither a node nor an edge"),
        (DIAMOND, {"ghosts": {"y"}}, "'y' is neither"),
    ],
)
def test_what_cannot_be_drawn_is_refused(edges, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        plot_graph(edges, **options)


# --- losses with two parameters ----------------------------------------------------------------------


class Bowl:
    """w1² + 10 w2²."""

    def value(self, w):
        return w[..., 0] ** 2 + 10 * w[..., 1] ** 2


def test_contours_have_the_first_parameter_to_the_right():
    ax = plot_contours(Bowl(), (-2, 2), (-2, 2), levels=[1, 10])
    lines = ax.collections[-1]
    inner = lines.get_paths()[0].vertices
    np.testing.assert_allclose(inner[:, 0] ** 2 + 10 * inner[:, 1] ** 2, 1, atol=0.02)


def test_the_surface_stands_over_the_same_plane():
    _, (ax,) = subplots(projections=("3d",))
    plot_surface(Bowl(), (-1, 1), (-2, 2), ax=ax)
    for limits, expected in ((ax.get_xlim(), (-1, 1)), (ax.get_ylim(), (-2, 2)), (ax.get_zlim(), (0, 41))):
        np.testing.assert_allclose(limits, expected, atol=0.1 * (expected[1] - expected[0]))
