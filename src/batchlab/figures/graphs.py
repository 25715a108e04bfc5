"""Graphs and trees in igraph's layouts. Never knows what they mean."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Literal, TypeAlias

import igraph
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyArrowPatch

from batchlab.figures.style import INK, MUTED, PAGE, subplots

_GHOST = "#A9A9A4"
_NODE = "#E9E9E3"
_DASHED = (0, (3, 2))
_EDGE_LABEL_AT = 0.36  # share of the edge; at its middle the labels of crossing edges would meet

Edge: TypeAlias = tuple[Hashable, Hashable]


def plot_graph(
    edges: Iterable[Edge],
    *,
    layout: Literal["layers", "tree"] = "layers",
    labels: Mapping[Hashable, str] | None = None,
    node_colours: Mapping[Hashable, str] | None = None,
    edge_labels: Mapping[Edge, str] | None = None,
    edge_colours: Mapping[Edge, str] | None = None,
    ghosts: Collection[Hashable] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw a directed acyclic graph, nodes as rounded boxes and edges as arrows.

    Args:
        edges: Pairs (from, to) of nodes, which may be any hashable things.
        layout: "layers" runs from left to right (Sugiyama, Tagawa & Toda 1981); "tree" from the root
            downwards, children in the order of their edges (Reingold & Tilford 1981).
        labels: Text in nodes; `str(node)` in the others.
        node_colours: Fills; a light grey for the other nodes.
        edge_labels: Text on edges.
        edge_colours: Edges to be drawn strong, with their labels, in a colour; the others are thin and grey.
        ghosts: Nodes to be drawn in pale outline, with the edges that touch them.
        ax: Where to draw; a new figure without it.

    Returns:
        The axes, without frame or ticks. Give `show` a text alternative that says what the graph says.

    Raises:
        ValueError: There is no edge, the edges run in a circle or are no tree where one is asked for, or
            an argument names a node or an edge that is not there.
    """
    edges = list(edges)
    nodes = list(dict.fromkeys(node for edge in edges for node in edge))
    labels, node_colours = labels or {}, node_colours or {}
    edge_labels, edge_colours = edge_labels or {}, edge_colours or {}
    strange = {*labels, *node_colours, *ghosts} - set(nodes) | {*edge_labels, *edge_colours} - set(edges)
    if strange:
        raise ValueError(f"plot_graph: {strange.pop()!r} is neither a node nor an edge of this graph.")

    routes = _tree(edges, nodes) if layout == "tree" else _layers(edges, nodes)
    ax = subplots()[1][0] if ax is None else ax
    corners = np.vstack(list(routes.values()))
    (left, low), (right, high) = corners.min(axis=0), corners.max(axis=0)
    ax.set(xlim=(left - 0.5, right + 0.5), ylim=(low - 0.5, high + 0.5))
    ax.axis("off")

    places = {node: route[end] for edge, route in routes.items() for node, end in zip(edge, (0, -1), strict=True)}
    boxes = {}
    for node, place in places.items():
        pale = node in ghosts
        fill = PAGE if pale else node_colours.get(node, _NODE)
        text = ax.text(
            *place,
            labels.get(node, str(node)),
            color="#6F6F6A" if pale else _ink_on(fill),
            bbox={
                "boxstyle": "round,pad=0.4,rounding_size=0.5",
                "facecolor": fill,
                "edgecolor": _GHOST if pale else MUTED,
                "linestyle": _DASHED if pale else "-",
            },
            **_CENTRED,
            fontsize=10,
            zorder=2,
        )
        boxes[node] = text.get_bbox_patch()
    for edge, route in routes.items():
        pale = not {*edge}.isdisjoint(ghosts)
        shade = _GHOST if pale else edge_colours.get(edge, MUTED)
        width = 2.2 if edge in edge_colours and not pale else 1.0
        for i in range(len(route) - 1):
            last = i == len(route) - 2
            arrow = FancyArrowPatch(
                route[i],
                route[i + 1],
                patchA=boxes[edge[0]] if i == 0 else None,
                patchB=boxes[edge[1]] if last else None,
                shrinkA=0,
                shrinkB=0,
                arrowstyle="-|>,head_width=0.22,head_length=0.4" if last else "-",
                mutation_scale=14,
                linewidth=width,
                linestyle=_DASHED if pale else "-",
                color=shade,
                zorder=3,  # after the boxes, whose sizes are known only once they are drawn
            )
            ax.add_patch(arrow)
        if edge in edge_labels:
            page = {"facecolor": PAGE, "edgecolor": "none", "boxstyle": "square,pad=0.1"}
            spot = _along(route, _EDGE_LABEL_AT)
            ink = shade if edge in edge_colours else INK
            ax.text(*spot, edge_labels[edge], color=ink, bbox=page, **_CENTRED, fontsize=9.5, zorder=4)
    return ax


_CENTRED = {"ha": "center", "va": "center"}


def _layers(edges: list[Edge], nodes: list[Hashable]) -> dict[Edge, np.ndarray]:
    """The corners of each edge, (2 or more, 2): it bends where it must go round the nodes between."""
    graph = _graph(edges, nodes)
    if not graph.is_dag():
        raise ValueError("plot_graph: the edges run in a circle, so there are no layers. Draw an acyclic graph.")
    layout = graph.layout_sugiyama(hgap=1, maxiter=1000)
    turn = np.array([[0, -1], [1, 0]])  # igraph's layers run down the page, ours to the right
    places = dict(zip(nodes, np.asarray(layout.coords) @ turn, strict=True))
    return {
        (a, b): np.vstack([places[a], np.reshape(bend, (-1, 2)) @ turn, places[b]])
        for (a, b), bend in zip(edges, layout.edge_routing, strict=True)
    }


def _tree(edges: list[Edge], nodes: list[Hashable]) -> dict[Edge, np.ndarray]:
    graph = _graph(edges, nodes)
    roots = [i for i, parents in enumerate(graph.indegree()) if parents == 0]
    if not graph.is_tree(mode="all") or len(roots) != 1:
        raise ValueError("plot_graph: the edges are no tree. Give every node one parent, and one node, the root, none.")
    coordinates = np.asarray(graph.layout_reingold_tilford(mode="out", root=roots).coords) * [1, -1]
    places = dict(zip(nodes, coordinates, strict=True))
    return {(a, b): np.vstack([places[a], places[b]]) for a, b in edges}


def _graph(edges: list[Edge], nodes: list[Hashable]) -> igraph.Graph:
    if not edges:
        raise ValueError("plot_graph: there is no edge to draw.")
    number = {node: i for i, node in enumerate(nodes)}
    return igraph.Graph(n=len(nodes), edges=[(number[a], number[b]) for a, b in edges], directed=True)


def _along(route: np.ndarray, share: float) -> np.ndarray:
    """The point at a share of the route's length."""
    lengths = np.hypot(*np.diff(route, axis=0).T)
    at = np.concatenate([[0], np.cumsum(lengths)])
    return np.array([np.interp(share * at[-1], at, route[:, axis]) for axis in (0, 1)])


def _ink_on(fill: str) -> str:
    """Dark ink, or light ink on a dark fill (relative luminance, ITU-R BT.709)."""
    return INK if np.dot(to_rgb(fill), [0.2126, 0.7152, 0.0722]) > 0.45 else PAGE
