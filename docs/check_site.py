"""Check a built site: every link leads somewhere in it, and no page needs another server.

python docs/check_site.py site
"""

import argparse
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

# What makes a browser fetch something by itself, as opposed to a link that a reader may follow.
FETCHING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
NOT_FETCHED = {"canonical", "search", "author", "index", "next", "prev"}


class Page(NamedTuple):
    """What a page refers to, and what can be referred to in it."""

    anchors: set[str]
    links: list[str]
    fetched: list[str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page(set(), [], [])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.page.anchors.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.page.links.append(values["href"])
        if tag in FETCHING and values.get(FETCHING[tag]) and values.get("rel") not in NOT_FETCHED:
            self.page.fetched.append(values[FETCHING[tag]])


def problems(site: Path) -> list[str]:
    """Return what is wrong, one line each."""
    pages = {path.resolve(): _read(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        for link in page.links + page.fetched:
            if urlsplit(link).scheme not in ("", "data"):
                if link in page.fetched:
                    found.append(f"{name} fetches {link}, which is not of this site")
                continue
            if fault := _fault(link, path, pages):
                found.append(f"{name} links to {link}: {fault}")
    return found


def _read(path: Path) -> Page:
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def _fault(link: str, path: Path, pages: dict[Path, Page]) -> str | None:
    parts = urlsplit(link)
    if parts.scheme == "data":
        return None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        return "there is no such file"
    if "_modules" in target.parts:  # Sphinx gives properties no anchor in its pages of source
        return None
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return "the page has no such anchor"
    return None


def main() -> None:
    """Print what is wrong; exit with 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    found = problems(parser.parse_args().site)
    print("\n".join(found) or "Every link leads somewhere, and nothing is fetched from elsewhere.")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
