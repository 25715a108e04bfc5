"""Build the web book into build/book, without a network, and check every link inside it: `make book`.

Notebooks are shown as they are stored; nothing is executed, and nothing outside build/ is written.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from book_links import broken_links
from book_pages import (
    api_pages,
    figure_index,
    figures_of,
    front_table,
    glossary,
    playground_script,
    shown_notebook,
    verdicts,
)
from sphinx.cmd.build import build_main

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from batchlab.environment import prepare  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Build the book.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        Exit status: 0 when the book stands, without a warning and with every link inside it whole; 1 otherwise.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="folder to read")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "book", help="where the pages go")
    parser.add_argument("--repository", default=repository(), help="address on GitHub; none means no launch buttons")
    options = parser.parse_args(arguments)

    start = time.perf_counter()
    notebooks = sorted(options.notebooks.glob("*.ipynb"))
    if not notebooks:
        parser.error(f"there are no notebooks in {options.notebooks}")
    shutil.rmtree(options.output, ignore_errors=True)  # a page of an earlier build must not pass for this one's
    prepare()  # imports TensorFlow without its lines; the code's pages need it
    os.environ["BATCHLAB_REPOSITORY"] = options.repository  # book/conf.py reads it
    with tempfile.TemporaryDirectory(prefix="batchlab-book-") as folder:
        source = Path(folder) / "source"
        write_sources(notebooks, source)
        quiet = ["-q", "-W", "--keep-going", "-j", "auto", "-d", str(Path(folder) / "doctrees")]
        status = build_main([*quiet, str(source), str(options.output)])
    if status:
        print("The book has warnings, see above: each of them counts as an error.", file=sys.stderr)
        return 1
    if broken := broken_links(options.output):
        print("\n".join(["Links inside the book that lead nowhere:", *broken]), file=sys.stderr)
        return 1
    print(f"The book stands in {time.perf_counter() - start:.0f} s: open {options.output / 'index.html'}")
    return 0


def repository() -> str:
    """Return the repository's address, as pyproject.toml holds it; empty where it holds none."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["batchlab"]["Repository"]


def write_sources(notebooks: list[Path], source: Path) -> None:
    """Write all pages, those that are written by hand and those that are made of notebooks and docstrings."""
    shutil.copytree(ROOT / "book", source, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("api", "notebooks"):
        (source / folder).mkdir()
    for path in notebooks:
        (source / "notebooks" / path.name).write_text(shown_notebook(path), encoding="utf-8")
    pages = api_pages(ROOT / "src")
    pages["figures.md"] = figure_index(figures_of(notebooks), source / "thumbnails")
    pages["glossary.md"] = glossary(notebooks)
    front = (source / "index.md").read_text(encoding="utf-8")
    pages["index.md"] = front.replace("%verdicts%", verdicts(notebooks)).replace("%notebooks%", front_table(notebooks))
    pages["static/playground.js"] = playground_script()
    for name, text in pages.items():
        (source / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
