"""The links of a built site: internal ones must lead to a file and an anchor in it; external ones are listed."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What an HTML page links to, what it loads, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        if "src" in given or (tag == "link" and "href" in given and given.get("rel") not in ("canonical", "alternate")):
            self.loads.add(given.get("src") or given["href"])
        elif tag == "a" and "href" in given:
            self.links.add(given["href"])


@cache
def read(path: Path) -> Page:
    """Parse the page in this file."""
    return Page(path.read_text("utf-8"))


def wrong(page: Path, link: str) -> bool:
    """Whether an internal link is broken."""
    address = urlsplit(link)
    there = (page.parent / unquote(address.path)).resolve() if address.path else page
    if not there.is_file():
        return True
    return bool(address.fragment) and there.suffix == ".html" and unquote(address.fragment) not in read(there).names


def outside(link: str) -> bool:
    """Whether a link leaves the site."""
    return bool(urlsplit(link).scheme or urlsplit(link).netloc)


def check(site: Path) -> tuple[list[str], set[str]]:
    """(problems, one line each; external links) of all pages below a folder.

    A page that loads anything external is also a problem: the site must work offline.
    """
    problems, leaving = [], set()
    for path in sorted(site.resolve().rglob("*.html")):
        page, name = read(path), path.relative_to(site.resolve())
        leaving |= {link for link in page.links if outside(link)}
        within = {link for link in page.links | page.loads if not outside(link)}
        problems += [f"{name}: {link} leads nowhere" for link in sorted(within) if wrong(path, link)]
        far = {link for link in page.loads if outside(link) and not link.startswith("data:")}
        problems += [f"{name} loads {link}" for link in sorted(far)]
    return problems, leaving
