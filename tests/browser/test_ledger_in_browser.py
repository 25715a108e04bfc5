"""The ledger's table in a browser: its filters, its looks in light and dark, and what is left of it without scripts."""

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe

from batchlab.claims import evidence
from batchlab.figures.ledger import LOOKS, show_ledger, show_page

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven")


@pytest.fixture
def address(shown, tmp_path, served) -> str:
    """A page with the table of eight claims, two of each outcome, above it the short list."""
    outcomes = [outcome for outcome in LOOKS for _ in range(2)]
    rows = {
        "text": [f"Claim number {word} is that something falls." for word in WORDS],
        "outcome": outcomes,
        "sentence": [f"Of 64 runs {number} did fall; this part says heron." for number in range(8)],
        "evidence": [[evidence("share of runs", (0.4, 0.3, 0.5), runs=64, above=0.1)]] * 8,
        "runs": [64.0] * 8,
        "notebook": ["01_gradient_descent"] * 8,
        "section": ["A section"] * 8,
        "cell": [f"cell-{number}" for number in range(8)],
    }
    frame = pd.DataFrame(rows, index=[f"G{number}" for number in range(8)])
    show_page(frame)
    show_ledger(frame, "Eight claims.")
    look = "body { background: #fff; color: #222 } a { color: #0645ad }"
    dark = "@media (prefers-color-scheme: dark) { body { background: #121212; color: #ddd } a { color: #8ab4f8 } }"
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Ledger</title><style>{look} {dark}</style>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<main><h1>Ledger</h1>{''.join(output.data['text/html'] for output in shown)}</main></html>"
    )
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    return f"{served(tmp_path)}/index.html"


def claims_shown(page) -> list[str]:
    return [row.inner_text() for row in page.locator("tbody th").all() if row.is_visible()]


def test_words_and_verdict_filter_together(page, address):
    page.goto(address)
    status = page.get_by_role("status")
    assert status.inner_text() == "8 of 8 shown"
    page.get_by_label("Words").fill("THREE falls")
    assert claims_shown(page) == ["G3"] and status.inner_text() == "1 of 8 shown"
    page.get_by_label("Words").fill("heron")  # within what is folded, too
    assert len(claims_shown(page)) == 8
    page.get_by_label("Verdict").select_option("does not hold here")
    assert claims_shown(page) == ["G4", "G5"]
    page.get_by_label("Words").fill("nowhere")
    assert claims_shown(page) == [] and status.inner_text() == "0 of 8 shown"
    page.get_by_label("Words").fill("")
    page.get_by_label("Verdict").select_option("")
    assert len(claims_shown(page)) == 8


def test_the_filters_are_reached_and_used_by_keyboard(page, address):
    page.goto(address)
    page.get_by_label("Words").focus()
    page.keyboard.type("two")
    assert claims_shown(page) == ["G2"]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SELECT"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "region"  # so that it scrolls by keys


def test_without_scripts_the_table_is_complete_and_has_no_dead_filters(open_page, address):
    page = open_page(java_script_enabled=False)
    page.goto(address)
    assert len(claims_shown(page)) == 8
    assert not page.get_by_label("Words").is_visible() and not page.get_by_label("Verdict").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_it_is_legible_and_fits(open_page, address, scheme, width):
    page = open_page(width=width, color_scheme=scheme)
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
