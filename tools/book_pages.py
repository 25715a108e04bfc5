"""The pages of the web book that are made of the notebooks and of the code's docstrings. Never executes a notebook."""

from __future__ import annotations

import base64
import importlib
import inspect
import io
import json
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

_LIVE = "In this book it runs on the [front page](../index.md)."
THUMBNAIL_WIDTH = 640  # pixels: sharp at half the width of a page on a dense screen
_BADGE = re.compile(r"^\[!\[Open in Colab\]\(.*\n?", re.MULTILINE)  # a button takes its place; it is an image from afar
_NAMED = re.compile(r"(?<![\[`])`(\d\d_\w+)`(?![\]`])")
_SECTION = re.compile(r"(?<=\]\()((?:\d\d_\w+\.ipynb)?#)([^()]+)(?=\))")  # a heading, as JupyterLab names its place
_FILE = re.compile(r"""(?<=href=["'])(\d\d_\w+)\.ipynb""")


@dataclass(frozen=True)
class Figure:
    """A figure of a notebook: where it stands, what it shows in words, and its bytes as PNG."""

    notebook: str  # as 01_gradient_descent
    title: str  # of the notebook
    number: str  # as 01.3, the third figure of 01
    cell: str  # its identifier
    alt: str
    png: bytes


def shown_notebook(path: Path) -> str:
    """Return a notebook as JSON, as the book shows it: other notebooks that it names are links, its badge is gone."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    others = {other.stem for other in path.parent.glob("*.ipynb")} - {path.stem}

    def linked(name: re.Match) -> str:
        return f"[{name[0]}]({name[1]}.ipynb)" if name[1] in others else name[0]

    cells = notebook["cells"]
    for number, cell in reversed(list(enumerate(cells))):
        if _text(cell["source"]).strip() == "helpers.playground()":
            live = {"cell_type": "markdown", "id": "live", "metadata": {}, "source": _LIVE}
            cells.insert(number + 1, live)
        if cell["cell_type"] == "markdown":
            text = _NAMED.sub(linked, _BADGE.sub("", _text(cell["source"])))
            cell["source"] = _SECTION.sub(lambda section: section[1] + _slug(section[2]), text)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" in data:
                data["text/html"] = _FILE.sub(r"\1.html", _text(data["text/html"]))
    return json.dumps(notebook)


def _slug(heading: str) -> str:
    """The place of a heading as MyST names it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def figures_of(notebooks: list[Path]) -> list[Figure]:
    """Return every figure of the notebooks, in their order.

    Raises:
        ValueError: A figure has no alt text.
    """
    return [figure for path in notebooks for figure in _figures(path)]


def _figures(path: Path) -> Iterator[Figure]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    title = _text(cells[0]["source"]).splitlines()[0].removeprefix("# ")
    count = 0
    for cell in cells:
        for output in cell.get("outputs", []):
            if "image/png" not in output.get("data", {}):
                continue
            count += 1
            alt = output["metadata"].get("image/png", {}).get("alt")
            if not alt:
                raise ValueError(f"{path.name}, cell {cell['id']}: a figure has no alt text; use helpers.show.")
            png = base64.b64decode(_text(output["data"]["image/png"]))
            yield Figure(path.stem, title, f"{path.stem[:2]}.{count}", cell["id"], alt, png)


def figure_index(figures: list[Figure], thumbnails: Path) -> str:
    """Return the page that lists every figure with its text and a link to its place, and write its thumbnails.

    Args:
        figures: All of them, in order.
        thumbnails: The folder to write them into, beside the page.
    """
    thumbnails.mkdir()
    lines = [
        "# Every figure, in words",
        "",
        f"All {len(figures)} figures of the notebooks, each with the text that stands for it where it cannot be seen. "
        "A click on a figure leads to the place where it is drawn.",
    ]
    notebook = None
    for figure in figures:
        if figure.notebook != notebook:
            lines += ["", f"## {_plain(figure.title)}", ""]
            notebook = figure.notebook
        name = f"{figure.number}.png"
        (thumbnails / name).write_bytes(_thumbnail(figure.png))
        lines += [
            f"```{{figure}} {thumbnails.name}/{name}",
            f":alt: Figure {figure.number}, where it is drawn",
            f":target: notebooks/{figure.notebook}.html#{place(figure.cell)}",
            ":figclass: indexed",
            "",
            f"**{figure.number}** {_plain(figure.alt)}",
            "```",
            "",
        ]
    return "\n".join(lines)


def place(cell: str) -> str:
    """Return the anchor of a cell in the book's pages, the same as in JupyterLab's addresses."""
    return f"cell-id={cell}"


def _thumbnail(png: bytes) -> bytes:
    picture, small = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    picture.thumbnail((THUMBNAIL_WIDTH, picture.height))
    picture.quantize(128, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue()


def glossary(notebooks: list[Path]) -> str:
    """Return the page of terms, from the glossary of the start notebook.

    Raises:
        ValueError: The first notebook has no table under a heading "Glossary".
    """
    lines = ["# Glossary", "", "````{glossary}", ":sorted:", ""]
    for term, sentence, shown_in in _table(notebooks[0], "Glossary"):
        lines += [term, f"  {sentence} Shown in {_NAMED.sub(_page, shown_in)}.", ""]
    return "\n".join([*lines, "````", ""])


def verdicts(notebooks: list[Path]) -> str:
    """Return in words how many of the documentation's claims hold, counted in the notebooks' stored outputs."""
    outputs = [
        output
        for path in notebooks
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
    ]
    found = Counter(output.get("metadata", {}).get("batchlab", {}).get("outcome") for output in outputs)
    hold, under, not_here = (found[outcome] for outcome in ("holds", "holds only if", "does not hold here"))
    return f"Of {hold + under + not_here} claims {hold} hold, {under} only under a condition, and {not_here} not here."


def playground_script() -> str:
    """Return what the front page runs: the playground's module, look and data as one script, without a request.

    A module that is imported by its address does not load where the book is opened as a file.
    """
    from batchlab.figures import playground

    folder = Path(playground.__file__).parent
    parts = {
        "module": (folder / "playground.js").read_text(encoding="utf-8"),
        "style": (folder / "playground.css").read_text(encoding="utf-8"),
        "data": playground.playground_data(),
    }
    return f"window.batchlabPlayground = {json.dumps(parts)};\n"


def front_table(notebooks: list[Path]) -> str:
    """Return the map of the notebooks as a table of links, from the start notebook's map, without that notebook itself.

    Raises:
        ValueError: The first notebook has no table under a heading "The notebooks".
    """
    rows = [f"| {_NAMED.sub(_page, name)} | {what} |" for name, what, _ in _table(notebooks[0], "The notebooks")[1:]]
    return "\n".join(["| notebook | what it shows |", "| --- | --- |", *rows])


def _page(name: re.Match) -> str:
    return f"[{name[0]}](notebooks/{name[1]}.ipynb)"


def _table(path: Path, heading: str) -> list[list[str]]:
    """The rows of the Markdown table under a heading, without its header."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    prose = "\n".join(_text(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    found = re.search(rf"^## {heading}\n+((?:\|.*\n?)+)", prose, re.MULTILINE)
    if not found:
        raise ValueError(f'{path.name} has no table under a heading "{heading}"; the book makes a page of it.')
    return [[part.strip() for part in row.strip("|").split("|")] for row in found[1].splitlines()[2:]]


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def _plain(text: str) -> str:
    """The text as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>$|#~^])", r"\\\1", text)


# --- the code's docstrings ---------------------------------------------------------------------------


def api_pages(source: Path) -> dict[str, str]:
    """Return the pages of `helpers` and of each room of `batchlab`, which Sphinx fills from the docstrings.

    Args:
        source: The folder of both, which is on Python's path.
    """
    rooms = {room.name: list(_modules(room)) for room in pkgutil.iter_modules([str(source / "batchlab")]) if room.ispkg}
    rooms[""] = [f"batchlab.{room.name}" for room in pkgutil.iter_modules([str(source / "batchlab")]) if not room.ispkg]
    pages = {"api/helpers.rst": _helpers_page()}
    for room, modules in sorted(rooms.items()):
        name = f"batchlab.{room}".rstrip(".")
        pages[f"api/{name}.rst"] = "\n".join(
            [*_heading(f"``{name}``", "="), _module(name, members=_defines(name)), *_sections(modules)]
        )
    return pages


def _modules(room: pkgutil.ModuleInfo) -> Iterator[str]:
    """A room's modules, and those of the rooms in it; the exercises' own modules hold solutions and stay out."""
    package = importlib.import_module(f"batchlab.{room.name}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.startswith("batchlab.ideas.exercises."):
            yield module.name


def _sections(modules: list[str]) -> Iterator[str]:
    for name in modules:
        package = hasattr(importlib.import_module(name), "__path__")
        yield "\n".join([*_heading(f"``{name}``", "-"), _module(name, members=not package or _defines(name))])


def _defines(name: str) -> bool:
    """Whether a package defines anything itself, rather than naming what its modules define."""
    module = importlib.import_module(name)
    return any(getattr(value, "__module__", None) == name for value in vars(module).values() if callable(value))


def _module(name: str, *, members: bool = False) -> str:
    return f".. automodule:: {name}\n" + ("   :members:\n   :ignore-module-all:\n" if members else "")


def _heading(title: str, line: str) -> list[str]:
    return [title, line * len(title), ""]


def _helpers_page() -> str:
    """The vocabulary of the notebooks, by the room that each word comes from."""
    helpers = importlib.import_module("helpers")
    rooms: dict[str, list[str]] = {}
    others, constants = [], []
    for name in sorted(helpers.__all__, key=str.lower):
        value = getattr(helpers, name)
        if inspect.ismodule(value):
            others.append(f"- ``helpers.{name}``: :py:mod:`{value.__name__}`. {_first_sentence(value)}")
        elif inspect.isclass(value):
            where = f":py:class:`{value.__name__} <{value.__module__}.{value.__qualname__}>`"
            others.append(f"- ``helpers.{name}``: {where}. {_first_sentence(value)}")
        elif callable(value):
            rooms.setdefault(value.__module__.split(".")[1], []).append(f".. autofunction:: helpers.{name}\n")
        else:
            constants.append(f"- ``helpers.{name}`` = ``{value!r}``")
    lines = [*_heading("``helpers``", "="), _module("helpers")]
    for room, entries in sorted(rooms.items()):
        module = importlib.import_module(f"batchlab.{room}")
        lines += [*_heading(room.capitalize(), "-"), _first_sentence(module), "", *entries]
    lines += [*_heading("Modules and classes", "-"), *others, "", *_heading("Constants", "-"), *constants, ""]
    return "\n".join(lines)


def _first_sentence(module) -> str:  # noqa: ANN001 - a module has no better type
    return inspect.getdoc(module).split("\n\n")[0].replace("\n", " ")
