"""The web book as files: complete, offline, linked; what a browser sees of it is in tests/browser."""

import base64
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from book_links import broken_links
from book_pages import figures_of, glossary
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sphinx.util.inventory import InventoryFile

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
ALT = "A <single> pixel, *red*, which costs $5 and says 50 | 50."


def build(output: Path, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "tools" / "build_book.py", "--output", output, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """The book of the committed notebooks, without an address of the repository."""
    folder = tmp_path_factory.mktemp("book") / "html"
    result = build(folder, "--repository", "")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("The book stands in ")
    return folder


def figures_in(path: Path) -> list[str]:
    outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]
    return [output.metadata["image/png"]["alt"] for output in outputs if "image/png" in output.get("data", {})]


@pytest.mark.thorough
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_shows_its_notebook(path, book):
    page, cells = soup(book / "notebooks" / f"{path.stem}.html"), nbformat.read(path, 4).cells
    assert page.h1.get_text().removesuffix("#") == cells[0].source.splitlines()[0].removeprefix("# ")
    assert [image["alt"] for image in page.select(".cell_output img")] == figures_in(path)
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell["id"] for cell in page.select("div.cell")] == [f"cell-id={cell.id}" for cell in code]
    folded = ["hide-input" in cell.metadata.get("tags", []) for cell in code]
    assert [bool(cell.select("details.hide.above-input")) for cell in page.select("div.cell")] == folded
    assert any(folded)


@pytest.mark.thorough
def test_the_index_has_every_figure(book):
    page = soup(book / "figures.html")
    entries = page.select("figure.indexed")
    expected = [(path, alt) for path in NOTEBOOKS for alt in figures_in(path)]
    assert len(expected) > 50
    assert len(entries) == len(expected)
    for entry, (path, alt) in zip(entries, expected, strict=True):
        assert entry.figcaption.get_text(" ", strip=True).split(" ", 1)[1].removesuffix("#").strip() == alt
        link = urlsplit(entry.a["href"])
        place = soup(book / link.path).find(id=link.fragment)
        assert Path(link.path).stem == path.stem
        assert alt in [image["alt"] for image in place.select("img")]


@pytest.mark.thorough
def test_the_glossary_has_every_term(book):
    start = "\n".join(cell.source for cell in nbformat.read(NOTEBOOKS[0], 4).cells if cell.cell_type == "markdown")
    rows = [row.split("|")[1:3] for row in start.partition("## Glossary")[2].splitlines() if row.startswith("|")][2:]
    page = soup(book / "glossary.html")
    shown = {
        term.get_text().removesuffix("#"): term.find_next("dd").get_text() for term in page.select("dl.glossary dt")
    }
    assert len(rows) > 20
    assert {term.strip() for term, _ in rows} == set(shown)
    for term, sentence in rows:
        assert shown[term.strip()].startswith(sentence.strip().replace("`", "")[:20])


@pytest.mark.thorough
def test_the_code_is_documented(book):
    with (book / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda _base, name: name)
    documented = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    helpers = importlib.import_module("helpers")
    wanted = {f"helpers.{name}" for name in helpers.__all__ if inspect.isfunction(getattr(helpers, name))}
    package = importlib.import_module("batchlab")
    for found in pkgutil.walk_packages(package.__path__, "batchlab."):
        if found.name.startswith("batchlab.ideas.exercises."):
            continue
        module = importlib.import_module(found.name)
        wanted.add(found.name)
        wanted |= {
            f"{found.name}.{name}"
            for name, value in vars(module).items()
            if not name.startswith("_")
            and (inspect.isfunction(value) or inspect.isclass(value))
            and value.__module__ == found.name
            and value.__doc__
        }
    assert len(wanted) > 200
    assert wanted - documented == set()
    text = soup(book / "api" / "helpers.html").get_text()
    assert [name for name in helpers.__all__ if name not in text] == []


@pytest.mark.thorough
def test_formulas_are_drawn_without_a_script(book):
    article = soup(book / "notebooks" / "07_backpropagation.html").article
    assert len(article.select("math")) > 20
    text = "".join(part for part in article.find_all(string=True) if not part.find_parents(["pre", "code"]))
    assert "$" not in text
    assert "\\" not in text


@pytest.mark.thorough
def test_no_page_loads_anything_from_elsewhere(book):
    pages = list(book.rglob("*.html"))
    assert {path.stem for path in NOTEBOOKS} < {path.stem for path in pages}
    found = {
        f"{path.name}: {tag[attribute]}"
        for path in pages
        for tag in soup(path).select("[src], link[href]:not([rel=canonical])")
        for attribute in ("src", "href")
        if urlsplit(tag.get(attribute, "")).netloc
    }
    assert found == set()


@pytest.mark.thorough
def test_the_front_page_carries_the_playground(book):
    page = soup(book / "index.html")
    assert page.find(id="playground")
    assert {"_static/playground.js", "_static/front.js"} <= {
        tag.get("src", "").split("?")[0] for tag in page.select("script")
    }
    playground = importlib.import_module("batchlab.figures.playground")
    script = (book / "_static" / "playground.js").read_text(encoding="utf-8")
    carried = json.loads(script.removeprefix("window.batchlabPlayground = ").rstrip().removesuffix(";"))
    assert carried["data"] == json.loads(json.dumps(playground.playground_data()))
    assert carried["module"] == (Path(playground.__file__).parent / "playground.js").read_text(encoding="utf-8")


@pytest.mark.thorough
def test_without_an_address_there_are_no_buttons_that_need_one(book):
    for path in NOTEBOOKS:
        assert (
            soup(book / "notebooks" / f"{path.stem}.html").select(
                "[href*='colab'], [href*='mybinder'], [href*='github.com//']"
            )
            == []
        )


# --- small books, made here --------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path) -> Path:
    """A folder of three notebooks, those that the front page names."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    maps = "| notebook | what | time |\n| --- | --- | --- |\n| `00_start_here` | this | now |\n"
    maps += "| `12_claims` | the *next* one | soon |\n"
    terms = "| term | in one sentence | shown in |\n| --- | --- | --- |\n| row | One of them. | `12_claims` |\n"
    start = new_notebook(cells=[new_markdown_cell(f"# Start\n\n## The notebooks\n\n{maps}\n## Glossary\n\n{terms}")])
    picture = new_output("display_data", {"image/png": PIXEL, "text/plain": ALT}, metadata={"image/png": {"alt": ALT}})
    verdict = new_output("display_data", {"text/plain": "G1"}, metadata={"batchlab": {"outcome": "holds only if"}})
    table = new_output(
        "execute_result", {"text/html": "<a href='00_start_here.ipynb#cell-id=a'>there</a>"}, execution_count=3
    )
    other = new_notebook(
        cells=[
            new_markdown_cell(
                "# Next\n\n[![Open in Colab](https://example.org/badge.svg)](https://example.org/)\n\nText"
            ),
            new_code_cell("import helpers", metadata={"tags": ["set-up", "hide-input"]}, execution_count=1),
            new_markdown_cell("## What is it?\n\nSee `00_start_here`, [below](#What-is-it?), and $a^2 + b_i$."),
            new_code_cell("draw()", metadata={"tags": ["hide-input"]}, execution_count=2, outputs=[picture, verdict]),
            new_code_cell("frame", execution_count=3, outputs=[table]),
        ]
    )
    start.cells.append(new_code_cell("1", id="a", execution_count=1))
    own = new_notebook(cells=[new_markdown_cell("# Own")])
    for notebook, name in ((start, "00_start_here"), (own, "11_your_own_data"), (other, "12_claims")):
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder


@pytest.mark.thorough
def test_a_small_book_with_an_address(small, tmp_path):
    result = build(tmp_path / "html", "--notebooks", small, "--repository", "https://github.com/owner/name")
    assert (result.returncode, result.stderr) == (0, "")
    page = soup(tmp_path / "html" / "notebooks" / "12_claims.html")
    links = [link["href"] for link in page.select("a[href]")]
    assert "https://colab.research.google.com/github/owner/name/blob/main/notebooks/12_claims.ipynb" in links
    assert any(link.startswith("https://mybinder.org/v2/gh/owner/name/main") for link in links)
    assert {"00_start_here.html", "#what-is-it", "00_start_here.html#cell-id=a"} <= set(links)
    assert [image["alt"] for image in page.select("article img")] == [ALT]  # the badge is gone
    assert len(page.select("details.hide.above-input")) == 2
    assert page.select("math msup")
    assert ALT in soup(tmp_path / "html" / "figures.html").figcaption.get_text()
    assert (
        "Of 1 claims 0 hold, 1 only under a condition, and 0 not here." in soup(tmp_path / "html" / "index.html").text
    )


@pytest.mark.thorough
def test_a_warning_fails_the_build(small, tmp_path):
    notebook = nbformat.read(small / "12_claims.ipynb", 4)
    notebook.cells.append(new_markdown_cell("[nowhere](#No-such-heading)"))
    nbformat.write(notebook, small / "12_claims.ipynb")
    result = build(tmp_path / "html", "--notebooks", small)
    assert result.returncode == 1
    assert "no-such-heading" in result.stderr
    assert result.stderr.endswith("The book has warnings, see above: each of them counts as an error.\n")


def test_a_figure_without_words_is_refused(small):
    notebook = nbformat.read(small / "12_claims.ipynb", 4)
    notebook.cells[3].outputs[0].metadata = {}
    nbformat.write(notebook, small / "12_claims.ipynb")
    with pytest.raises(ValueError, match=r"12_claims\.ipynb, cell \w+: a figure has no alt text; use helpers\.show"):
        figures_of([small / "12_claims.ipynb"])


def test_a_glossary_is_missed(small):
    with pytest.raises(ValueError, match=r'12_claims\.ipynb has no table under a heading "Glossary"'):
        glossary([small / "12_claims.ipynb"])


def test_links_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "macros.html").write_text("<a href='{{ of_the_theme }}'>")
    (tmp_path / "there.html").write_text("<h1 id='place'>There</h1>")
    (tmp_path / "picture.png").write_bytes(base64.b64decode(PIXEL))
    good = [
        "there.html",
        "there.html#place",
        "#here",
        "picture.png",
        "?q=word",
        "https://example.org/gone",
        "mailto:a@b.c",
    ]
    bad = ["gone.html", "there.html#gone", "#gone", "../outside.html", "gone.png"]
    tags = "".join(f"<a href='{link}'></a>" for link in good + bad[:4]) + f"<img src='{bad[4]}'><p id='here'>"
    (tmp_path / "page.html").write_text(tags)
    assert broken_links(tmp_path) == [
        "page.html: gone.html is not there",
        "page.html: there.html#gone has no such place",
        "page.html: #gone has no such place",
        "page.html: ../outside.html lies outside the book",
        "page.html: gone.png is not there",
    ]
