"""Find what in a folder of HTML pages leads nowhere inside that folder. Never asks the network."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ATTRIBUTES = {"href", "src", "poster", "data-src"}


def broken_links(folder: Path) -> list[str]:
    """Return a line for every link or resource that leads nowhere.

    Args:
        folder: Of the pages; links into other hosts are left alone.

    Returns:
        Lines such as `a.html: b.html#there has no such place`, in the order of the pages.
    """
    folder = folder.resolve()
    return [
        f"{page.relative_to(folder)}: {link} {why}"
        for page in sorted(folder.rglob("*.html"))
        if page.relative_to(folder).parts[0] != "_static"  # where the theme leaves templates of its own
        for link in _read(page).links
        if (why := _trouble(link, page, folder))
    ]


def _trouble(link: str, page: Path, folder: Path) -> str:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    if not target.is_relative_to(folder):
        return "lies outside the book"
    if not target.is_file():
        return "is not there"
    place = unquote(parts.fragment)
    if place and target.suffix == ".html" and place not in _read(target).places:
        return "has no such place"
    return ""


class _Page(HTMLParser):
    """The links of a page, without repetition, and the places in it that a link can name."""

    def __init__(self) -> None:
        super().__init__()
        self.links: dict[str, None] = {}
        self.places: set[str] = {"top"}  # which every page has, by HTML's own rule

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in _ATTRIBUTES and value:
                self.links[value] = None
            elif name == "srcset" and value:
                self.links |= dict.fromkeys(_in_set(value))
            elif name == "id" or (name == "name" and tag == "a"):
                self.places.add(value or "")


def _in_set(value: str) -> Iterator[str]:
    for choice in value.split(","):
        if choice.strip():
            yield choice.split()[0]


@cache
def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page
