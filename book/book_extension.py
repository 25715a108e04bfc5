"""What the book adds to Sphinx: alt texts of figures, anchors of cells, formulas as MathML, the playground.

Never changes what a notebook says.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the additions."""
    app.connect("doctree-read", describe_figures)
    app.connect("doctree-read", name_cells)
    app.connect("autodoc-process-docstring", write_as_rst, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", skip_fields)
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def describe_figures(app: Sphinx, document: nodes.document) -> None:
    """Give each figure of a notebook the alt text that its output's metadata hold; MyST-NB drops it.

    MyST-NB names a figure's file by the hash of its bytes, which is how they find each other here.
    """
    alts = {
        hashlib.sha256(base64.b64decode("".join(output["data"]["image/png"]))).hexdigest(): metadata["alt"]
        for cell in _cells(app)
        for output in cell.get("outputs", [])
        if (metadata := output.get("metadata", {}).get("image/png", {})).get("alt")
    }
    for image in document.findall(nodes.image):
        if alt := alts.get(Path(image["uri"]).stem):
            image["alt"] = alt


def name_cells(app: Sphinx, document: nodes.document) -> None:
    """Give each code cell the anchor that it has in JupyterLab, so that one link works in both, and its outcome."""
    cells = _cells(app)
    for node in document.findall(nodes.container):
        if node.get("nb_element") == "cell_code":
            cell = cells[node["cell_index"]]
            node["ids"].append(f"cell-id={cell['id']}")
            outcomes = [output.get("metadata", {}).get("batchlab", {}).get("outcome") for output in cell["outputs"]]
            node["classes"] += [f"outcome-{outcome.replace(' ', '-')}" for outcome in outcomes if outcome]


def _cells(app: Sphinx) -> list[dict]:
    path = Path(app.env.doc2path(app.env.docname))
    return json.loads(path.read_text(encoding="utf-8"))["cells"] if path.suffix == ".ipynb" else []


def write_as_rst(_app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Our docstrings are plain text with names in backticks: take reStructuredText's meaning from |, * and `name`s."""
    for number, line in enumerate(lines):
        code_apart = re.split(r"(`+[^`]*`+)", line)
        code_apart[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in code_apart[::2]]
        lines[number] = re.sub(r"(`[^`]+`)(?=\w)", r"\1\\ ", "".join(code_apart))


def skip_fields(_app: Sphinx, _what: str, _name: str, member: object, _skip: bool, _options: object) -> bool | None:
    """Leave out a named tuple's fields, of which Python's docstring says their number; its own docstring has them."""
    return True if str(getattr(member, "__doc__", "")).startswith("Alias for field number") else None


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    # Wider than a phone, it scrolls; with the keys too.
    translator.body.append(f'<div class="formula" tabindex="0">{_mathml(node, "block")}</div>')
    raise nodes.SkipNode


def _mathml(node: nodes.math | nodes.math_block, display: str) -> str:
    """The formula as MathML, which browsers draw and screen readers read without any script."""
    mathml = convert(node.astext(), display=display)
    if "\\" in mathml:
        LOGGER.warning("latex2mathml does not know all of %s", node.astext(), location=node)
    return mathml
