"""Check that a directory of pages has no broken link and loads nothing from a network."""

from __future__ import annotations

from collections.abc import Collection
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}


class _Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        self.names |= {has[name] for name in ("id", "name") if name in has}
        if tag == "a" and "href" in has:
            self.links.append(has["href"])
        if _LOADED.get(tag) in has and has.get("rel") not in ("next", "prev", "search", "index"):
            self.loaded.append(has[_LOADED[tag]])
        if "srcdoc" in has:
            self.loaded += _Page(has["srcdoc"]).loaded


def find_problems(folder: Path, *, ignore: Collection[str] = ()) -> list[str]:
    """List the broken links of pages, and what they load from a network, in words.

    Args:
        folder: holds ``.html`` files.
        ignore: names of files that may be linked and missing.
    """
    pages = {path.resolve(): _Page(path.read_text("utf-8")) for path in folder.rglob("*.html")}
    problems = []
    for path, page in sorted(pages.items()):
        for address in page.loaded:
            if urlsplit(address).scheme in ("http", "https") or address.startswith("//"):
                problems.append(f"{path.name} loads {address[:80]}")
        for address in {*page.links, *page.loaded}:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or Path(parts.path).name in ignore:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                problems.append(f"{path.name} links to {address[:80]}, a missing file")
            elif parts.fragment and target in pages:
                if unquote(parts.fragment) not in pages[target].names:
                    problems.append(f"{path.name} links to {address[:80]}, a missing anchor")
    return problems
