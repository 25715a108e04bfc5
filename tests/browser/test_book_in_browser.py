"""The web book as readers have it: at a desk and on a phone, in light and dark, searched, scanned by axe-core."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

ROOT = Path(__file__).resolve().parents[2]
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 375, "height": 667}
LOOKS = [(size, scheme) for size in (DESK, PHONE) for scheme in ("light", "dark")]

# What sticks out of the page at its right, unless it can be scrolled to within an element of its own.
OVERFLOWING = """() => {
  const room = document.documentElement.clientWidth;
  const scrolls = (element) => {
    for (let each = element.parentElement; each && each !== document.body; each = each.parentElement) {
      if (["auto", "scroll"].includes(getComputedStyle(each).overflowX)) return true;
    }
    return false;
  };
  const out = [...document.querySelectorAll("article *")].filter(
    (element) => element.checkVisibility() && element.getBoundingClientRect().right > room + 1 && !scrolls(element),
  );
  const wide = document.documentElement.scrollWidth > room ? ["the page itself"] : [];
  const named = (element) => `${element.tagName} ${element.className} ${element.textContent.slice(0, 40)}`;
  return [...wide, ...out.map(named)];
}"""
HEADINGS = """() => [...document.querySelectorAll("main :is(h1, h2, h3, h4, h5, h6)")]
  .filter((heading) => heading.checkVisibility())
  .map((heading) => Number(heading.tagName[1]))"""
WITHOUT_ALT = "() => [...document.images].filter((image) => !image.alt.trim()).map((image) => image.outerHTML)"
UNSEEN = "() => [...document.images].filter((image) => image.naturalWidth === 0).map((image) => image.src)"


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> Path:
    """The folder of the book, built anew."""
    folder = tmp_path_factory.mktemp("book") / "html"
    command = [sys.executable, ROOT / "tools" / "build_book.py", "--output", folder]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def pages(book: Path) -> list[str]:
    found = (path.relative_to(book).as_posix() for path in book.rglob("*.html"))
    return sorted(name for name in found if not name.startswith("_static/"))


def show_lazy_images(page) -> None:
    page.evaluate("() => document.querySelectorAll('img[loading=lazy]').forEach((image) => (image.loading = 'eager'))")
    page.wait_for_function("() => [...document.images].every((image) => image.complete)")


def heading_faults(levels: list[int]) -> list[str]:
    faults = (
        [] if levels.count(1) == 1 and levels[0] == 1 else [f"headings begin {levels[:3]} or h1 is not the one title"]
    )
    return faults + [f"h{a} is followed by h{b}" for a, b in pairwise(levels) if b > a + 1]


def faults(page, *, contrast: bool = True) -> list[str]:
    """What is wrong with the page at hand; contrast of colours only where asked for, since it takes longest."""
    show_lazy_images(page)
    found = [f"sticks out: {each}" for each in page.evaluate(OVERFLOWING)[:5]]
    found += [f"no alt text: {each}" for each in page.evaluate(WITHOUT_ALT)]
    found += [f"not drawn: {each}" for each in page.evaluate(UNSEEN)]
    found += heading_faults(page.evaluate(HEADINGS))
    # Without `preload`, which looks for imported styles in the wrong place.
    options = {"preload": False, "resultTypes": ["violations"], "rules": {"color-contrast": {"enabled": contrast}}}
    for violation in Axe().run(page, options=options).response["violations"]:
        if violation["impact"] in {"serious", "critical"}:
            nodes = violation["nodes"]
            found.append(f"axe: {violation['id']} ({violation['impact']}) {len(nodes)} times: {nodes[0]['html'][:200]}")
    return found


@pytest.mark.parametrize(("size", "scheme"), LOOKS, ids=[f"{size['width']}-{scheme}" for size, scheme in LOOKS])
def test_every_page(size, scheme, book, served, open_page, complaints):
    address, page = served(book), open_page(**size, color_scheme=scheme, reduced_motion="reduce")
    names, found = pages(book), {}
    assert len(names) > 20
    for name in names:
        page.goto(f"{address}/{name}", wait_until="load")
        assert page.locator("html").get_attribute("data-theme") == scheme
        if trouble := faults(page, contrast=size is DESK) + complaints:  # a phone's colours are the same
            found[name] = trouble
        complaints.clear()
    assert found == {}


def test_the_faults_are_found(served, page, tmp_path, complaints):
    """The test above can fail: a page with one of each fault shows them all."""
    (tmp_path / "bad.html").write_text(
        "<!doctype html><html><link rel=icon href='data:,'><main><article><h1>a</h1><h3>b</h3><img src=none.png>"
        "<p style='color:#aaa;background:#bbb'>pale</p><p style='width:3000px'>wide</p></article></main>"
        "<script>console.error('oh'); fetch('https://example.org/').catch(() => 0)</script></html>"
    )
    page.goto(f"{served(tmp_path)}/bad.html")
    found = "\n".join(faults(page))
    for fault in (
        "sticks out: P",
        "no alt text",
        "not drawn",
        "h1 is followed by h3",
        "color-contrast",
        "html-has-lang",
    ):
        assert fault in found
    said = "\n".join(complaints)
    for complaint in ("console: oh", "404: ", "leaves this machine: https://example.org/"):
        assert complaint in said
    complaints.clear()


def test_the_search_finds_a_word(book, served, page):
    page.goto(f"{served(book)}/index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("memoization")
    page.locator("#search-results a[href*='08_memoization']").first.wait_for()
    page.wait_for_load_state("networkidle")  # it fetches the pages that it quotes
    page.goto(f"{served(book)}/search.html?q=memoization")
    page.locator("#search-results a[href*='08_memoization']").first.wait_for()
    page.wait_for_load_state("networkidle")


def test_figures_keep_their_light_page_in_the_dark(book, served, open_page):
    page = open_page(color_scheme="dark")
    page.goto(f"{served(book)}/notebooks/01_gradient_descent.html")
    style = "each => { const style = getComputedStyle(each); return [style.filter, style.backgroundColor]; }"
    assert page.locator(".cell_output img").first.evaluate(style) == ["none", "rgb(252, 252, 250)"]  # style.PAGE


def test_a_folded_cell_opens(book, served, page):
    page.goto(f"{served(book)}/notebooks/01_gradient_descent.html")
    folded = page.locator("div.cell.tag_set-up details")
    assert not folded.locator("pre").is_visible()
    folded.locator("summary").click()
    assert folded.locator("pre").is_visible()


def test_a_figure_of_the_index_leads_to_its_place(book, served, page):
    page.goto(f"{served(book)}/figures.html")
    page.locator("figure.indexed", has_text="05.1").locator("a").first.click()
    page.wait_for_url("**/notebooks/05_fair_comparison.html#cell-id=*")
    assert page.locator("div.cell:target img").count() == 1


def test_the_front_page_trains_from_a_file_too(book, open_page, served):
    """Opened as a file, a page may import no module by its address."""
    for address in (served(book), book.as_uri()):
        page = open_page()
        page.goto(f"{address}/index.html")
        page.get_by_role("button", name="Step").click()
        page.get_by_text("1 updates").or_(page.get_by_text("1 update")).first.wait_for()
