"""What helps everybody to read the suite: alt texts, colours told apart, contrast, headings, tables, light pages.

Contrast is WCAG 2.2's, of which level AA asks 4.5 for text and 3 for lines that carry meaning.
"""

import ast
import base64
import io
import re
from itertools import combinations, pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from test_notebooks import NOTEBOOKS, code_cells, tree

from batchlab.figures import ledger, style
from batchlab.figures.graphs import plot_graph

SOURCE = Path(style.__file__).resolve().parents[1]
READABLE, VISIBLE = 4.5, 3

# --- colours -----------------------------------------------------------------------------------------

# Machado, Oliveira & Fernandes (2009), severity 1.0, for linear RGB.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# IEC 61966-2-1 (sRGB): linear RGB to XYZ; the rows' sums are the white point D65.
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
TOLD_APART = 15  # of CIELAB's distance; 2.3 is just noticeable side by side, red and green below are 7 apart


def linear(shade) -> np.ndarray:
    channels = np.array(to_rgb(shade))
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(shade, background) -> float:
    dark, light = sorted(TO_XYZ[1] @ linear(each) for each in (shade, background))
    return (light + 0.05) / (dark + 0.05)


def seen(shade, deficiency: str) -> np.ndarray:
    """CIELAB coordinates of a colour as it looks with a deficiency."""
    share = TO_XYZ @ np.clip(DEFICIENCIES[deficiency] @ linear(shade), 0, 1) / TO_XYZ.sum(axis=1)
    x, y, z = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(shades, deficiency: str) -> tuple[float, tuple]:
    """The least distance between any two colours, and which two."""
    return min(
        (float(np.linalg.norm(seen(a, deficiency) - seen(b, deficiency))), (a, b)) for a, b in combinations(shades, 2)
    )


def coloured(source: str) -> set[str]:
    """The colours in a text that are not greys."""
    found = {shade.upper() for shade in re.findall(r"#[0-9A-Fa-f]{6}\b", source)}
    return {shade for shade in found if np.ptp(to_rgb(shade)) > 0.15}


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_batch_sizes_are_told_apart_with_every_common_deficiency(deficiency):
    least, pair = distance([style.colour(size) for size in (1, 8, 32, 250, 4096, "all")], deficiency)
    assert least > TOLD_APART, pair


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_so_are_the_verdicts_of_the_ledger(deficiency):
    assert distance([back for _, back, _ in ledger.LOOKS.values()], deficiency)[0] > TOLD_APART


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_so_are_the_other_colours_of_a_notebook(path, deficiency):
    shades = coloured("\n".join(cell.source for _, cell in code_cells(nbformat.read(path, as_version=4))))
    if len(shades) > 1:
        least, pair = distance(shades, deficiency)
        assert least > TOLD_APART, pair


def test_colours_are_found_in_a_source():
    assert coloured('ax.plot(x, color="#d62728"); ax.text(0, 0, "a", color="#555555")') == {"#D62728"}  # a grey is none


def test_red_and_green_would_not_be_told_apart():
    red_green = ["#D62728", "#2CA02C"]  # matplotlib's
    assert distance(["#000000", "#FFFFFF"], "deuteranopia")[0] == pytest.approx(100, abs=0.1)
    assert distance(red_green, "deuteranopia")[0] < TOLD_APART < distance(red_green, "tritanopia")[0]


# --- contrast ----------------------------------------------------------------------------------------


def test_contrast_is_that_of_the_standard():
    assert contrast("black", "white") == pytest.approx(21)
    assert contrast("#777777", "white") == pytest.approx(4.48, abs=0.005)  # the usual example of just too little


def faint(figure) -> list[str]:
    """The texts of a figure that stand out too little from what is behind them."""
    found = []
    for text in figure.findobj(Text):
        patch = text.get_bbox_patch()
        behind = patch.get_facecolor() if patch else figure.get_facecolor()
        if text.get_visible() and text.get_text() and contrast(text.get_color(), to_hex(behind)) < READABLE:
            found.append(text.get_text())
    plt.close(figure)
    return found


def test_the_texts_of_figures_are_readable():
    figure, (ax,) = style.subplots()
    ax.plot([1, 2], label="a line")
    ax.set(xlabel="epoch", ylabel="loss (nats)", title="A title")
    ax.legend()
    assert faint(figure) == []
    figure, (ax,) = style.subplots()
    ax.text(0, 0, "pale", color=style.MUTED)
    assert faint(figure) == ["pale"]


@pytest.mark.parametrize("fill", ["#3B3B98", "#8C510A", "#5FB3B3", "#E9E9E3", "#D9D2B0", "#FFFFFF", "#222222"])
def test_the_texts_in_the_nodes_of_a_graph_are_readable(fill):
    ax = plot_graph([("a", "b"), ("a", "c")], labels={"c": "a ghost"}, node_colours={"a": fill}, ghosts={"c"})
    assert faint(ax.figure) == []


def test_lines_and_frames_are_visible():
    assert all(contrast(shade, style.PAGE) > VISIBLE for shade in (style.INK, style.MUTED))


def texts_are_readable(notebook):
    """Texts that a cell writes into a figure, in a colour of its own."""
    return [
        f"{name} writes in {keyword.value.value} on the page"
        for name, cell in code_cells(notebook)
        for call in ast.walk(tree(cell))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if call.func.attr in {"text", "annotate", "set_title", "set_xlabel", "set_ylabel", "suptitle"}
        for keyword in call.keywords
        if keyword.arg == "color" and isinstance(keyword.value, ast.Constant)
        if contrast(keyword.value.value, style.PAGE) < READABLE
    ]


def test_the_words_of_a_verdict_are_readable():
    assert all(contrast(ink, back) > READABLE for _, back, ink in ledger.LOOKS.values())


PAGES = [SOURCE / "report" / "report.html", SOURCE / "figures" / "playground" / "playground.css"]
PAIRS = [(ink, page) for ink in ("ink", "muted", "warn") for page in ("page", "soft", "panel")]


def palettes(sheet: str) -> list[dict[str, str]]:
    """The blocks of a style sheet that set both ink and page, as names to colours."""
    blocks = [
        {name: "#" + "".join(2 * digit for digit in shade) if len(shade) == 3 else f"#{shade}" for name, shade in found}
        for block in re.findall(r"\{([^{}]*)\}", sheet)
        if (found := re.findall(r"--(?:bl-)?(\w+):\s*#([0-9a-fA-F]{3}(?:[0-9a-fA-F]{3})?)\s*;", block))
    ]
    return [block for block in blocks if {"ink", "page"} <= block.keys()]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_texts_of_pages_are_readable_in_the_light_and_in_the_dark(path):
    found = palettes(path.read_text(encoding="utf-8"))
    assert {contrast(block["page"], "white") < 2 for block in found} == {True, False}, (
        "one of light and dark is missing"
    )
    for block in found:
        for ink, page in PAIRS:
            if {ink, page} <= block.keys():
                assert contrast(block[ink], block[page]) > READABLE, (ink, page, block)


# --- the stored notebooks ----------------------------------------------------------------------------


def outputs(notebook, kind: str):
    """Each output of a kind with the name of its cell, its source and its metadata."""
    return [
        (name, cell, output.data[kind], output.get("metadata", {}).get(kind, {}))
        for name, cell in code_cells(notebook)
        for output in cell.outputs
        if kind in output.get("data", {})
    ]


def headings(notebook) -> list[tuple[int, str]]:
    """Level and text of each heading, outside of blocks of code."""
    prose = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    prose = re.sub(r"^(`{3,}|~{3,}).*?^\1", "", prose, flags=re.MULTILINE | re.DOTALL)
    return [(len(marks), text.strip()) for marks, text in re.findall(r"^(#{1,6}) (.+)$", prose, re.MULTILINE)]


def plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().lower()


def titles(cell) -> set[str]:
    """What the cell writes over its figures and panels."""
    calls = [node for node in ast.walk(tree(cell)) if isinstance(node, ast.Call)]
    given = [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "title"]
    given += [part for call in calls if ast.unparse(call.func).endswith("title") for part in call.args]
    return {plain(part.value) for part in given if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def alt_texts_say_what_is_shown(notebook):
    """An alt text of at least 40 characters that is more than a title; that it is there, test_notebooks sees to."""
    above = {plain(text) for _, text in headings(notebook)}
    breaches = [
        f"{name} has an alt text that is only a title: {metadata.get('alt', '')}"
        for name, cell, _, metadata in outputs(notebook, "image/png")
        if plain(metadata.get("alt", "")) in above | titles(cell) | {""}
    ]
    return breaches + [
        f"{name} has a picture in HTML without an alt text of at least 40 characters"
        for name, _, html, _ in outputs(notebook, "text/html")
        for tag in re.findall(r"<img\b[^>]*>", html)
        if not re.search(r'\balt="[^"]{40,}"', tag)
    ]


def headings_are_in_order(notebook):
    found = headings(notebook)
    breaches = [f"“{text}” skips a level" for (before, _), (level, text) in pairwise(found) if level > before + 1]
    if [level for level, _ in found].count(1) != 1:
        breaches.append("there is not one heading of the first level")
    return breaches


def tables_have_headers(notebook):
    tables = [
        (name, table)
        for name, _, html, _ in outputs(notebook, "text/html")
        for table in re.findall(r"<table\b.*?</table>", html, re.DOTALL)
    ]
    return [
        f"{name} has a table without headers" for name, table in tables if not re.search(r"<th\b[^>]*>\s*[^<\s]", table)
    ]


def figures_are_light_pages(notebook):
    """Opaque and light to the corners, so that dark ink stays legible in a dark theme."""
    breaches = []
    for name, _, data, _ in outputs(notebook, "image/png"):
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        if picture.has_transparency_data:
            breaches.append(f"{name} has a figure that can be seen through")
        dots = np.asarray(picture.convert("RGB"))
        if any(contrast(dot / 255, "white") > 1.1 for dot in (dots[0, 0], dots[0, -1], dots[-1, 0], dots[-1, -1])):
            breaches.append(f"{name} has a figure on a dark page")
    return breaches


RULES = [
    alt_texts_say_what_is_shown,
    headings_are_in_order,
    tables_have_headers,
    figures_are_light_pages,
    texts_are_readable,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, rule):
    breaches = rule(nbformat.read(path, as_version=4))
    assert not breaches, f"{path.name}: " + "; ".join(breaches)


# --- the rules at work -------------------------------------------------------------------------------

ALT = "Loss in nats against epochs: a curve that falls from 0.70 to 0.25."


def shown(
    alt: str = ALT, page=(252, 252, 250), mode: str = "RGB", source: str = 'ax.set(title="Equal epochs, and more")'
):
    file = io.BytesIO()
    Image.new(mode, (4, 4), page).save(file, format="PNG")
    data = {"image/png": base64.b64encode(file.getvalue()).decode()}
    return new_code_cell(source, outputs=[new_output("display_data", data, metadata={"image/png": {"alt": alt}})])


def html(text: str):
    return new_code_cell("page", outputs=[new_output("display_data", {"text/html": text})])


def markdown(*lines: str):
    return new_markdown_cell("\n\n".join(lines))


GOOD = [
    markdown("# Title", "## Goals", "### One", "## Recap", "```\n##### no heading\n```"),
    shown(),
    html(f'<img src="x" alt="{ALT}"><table><tr><th>epoch</th></tr><tr><td>1</td></tr></table>'),
    new_code_cell('ax.text(0, 1, "a day", color="#555555")'),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_accepts_what_is_good(rule):
    assert rule(new_notebook(cells=GOOD)) == []


@pytest.mark.parametrize(
    ("rule", "cell"),
    [
        (alt_texts_say_what_is_shown, shown("")),
        (alt_texts_say_what_is_shown, shown("Equal epochs, and more.")),
        (alt_texts_say_what_is_shown, shown("Goals")),
        (alt_texts_say_what_is_shown, html('<img src="x">')),
        (alt_texts_say_what_is_shown, html('<img src="x" alt="A figure">')),
        (headings_are_in_order, markdown("# Another")),
        (headings_are_in_order, markdown("#### Deep")),
        (tables_have_headers, html("<table><tr><td>1</td></tr></table>")),
        (tables_have_headers, html("<table><tr><th></th></tr></table>")),
        (figures_are_light_pages, shown(page=(30, 30, 30))),
        (figures_are_light_pages, shown(page=(252, 252, 250, 0), mode="RGBA")),
        (texts_are_readable, new_code_cell('ax.text(0, 1, "a day", color="#999999")')),
    ],
)
def test_a_rule_refuses_what_is_not(rule, cell):
    assert rule(new_notebook(cells=[*GOOD, cell]))
