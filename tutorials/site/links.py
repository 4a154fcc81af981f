"""The links of a built site: each one within it must lead to a file, and to a place in it; outside ones are listed."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page of HTML links to, what it loads, and the places in it that have a name."""

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
    """The page in this file."""
    return Page(path.read_text("utf-8"))


def wrong(page: Path, link: str) -> bool:
    """Does a link within the site lead nowhere?"""
    address = urlsplit(link)
    there = (page.parent / unquote(address.path)).resolve() if address.path else page
    if not there.is_file():
        return True
    return bool(address.fragment) and there.suffix == ".html" and unquote(address.fragment) not in read(there).names


def outside(link: str) -> bool:
    """Does a link leave the site?"""
    return bool(urlsplit(link).scheme or urlsplit(link).netloc)


def check(site: Path) -> tuple[list[str], set[str]]:
    """(what is wrong, a line each; the links that lead outside) of all pages below a folder.

    Wrong is also a page that loads anything from elsewhere: the site must work without a network.
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
