"""The parts of a page, as HTML. Text from files and users is escaped here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from minidl.data.outputs import page_mark

STYLE = Path(__file__).with_name("page.css")


class Html(str):
    """Text that is already markup; any other text is escaped."""


class Cell(NamedTuple):
    """A table cell with its own CSS class and style."""

    value: object
    look: str = ""
    style: str = ""


def text(value: object) -> str:
    """A value as markup; None becomes an empty string."""
    if value is None:
        return ""
    return value if isinstance(value, Html) else escape(str(value))


def isolated(words: str) -> Html:
    """The name of a class: one that is written from right to left leaves the order of the words around it."""
    return Html(f"<bdi>{escape(words)}</bdi>")


def page(program: str, title: str, lead: str, parts: Iterable[str]) -> str:
    """The whole page. program: the command that writes it; lead: a sentence under the title."""
    head = (
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'{page_mark(program)}\n<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{text(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n"
    )
    body = f'<h1>{text(title)}</h1>\n<p class="lead">{text(lead)}</p>\n' + "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n'
    )


def section(title: str, *parts: str) -> Html:
    """A section with a heading."""
    return Html(f"<section>\n<h2>{text(title)}</h2>\n" + "\n".join(filter(None, parts)) + "\n</section>")


def note(words: object) -> Html:
    """A sentence in small print."""
    return Html(f'<p class="note">{text(words)}</p>')


def table(head: Sequence[object], rows: Iterable[Sequence[object]], look: str = "", caption: str = "") -> Html:
    """A table that scrolls horizontally if it is too wide; the first cell of a row is its header."""
    top = "".join(f'<th scope="col">{text(each)}</th>' for each in head)
    lines = "\n".join(f"<tr>{''.join(_cell(i, each) for i, each in enumerate(row))}</tr>" for row in rows)
    told = f"<caption>{text(caption)}</caption>" if caption else ""
    return Html(
        f'<div class="scroll" tabindex="0"><table class="{look}">{told}<thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody></table></div>"
    )


def _cell(i: int, value: object) -> str:
    if i == 0:
        return f'<th scope="row">{text(value)}</th>'
    if isinstance(value, Cell):
        look = f' class="{value.look}"' if value.look else ""
        style = f' style="{value.style}"' if value.style else ""
        return f"<td{look}{style}>{text(value.value)}</td>"
    return f"<td>{text(value)}</td>"


def facts(rows: Mapping[str, object]) -> Html:
    """A list of names and values."""
    return Html("<dl>" + "".join(f"<dt>{text(k)}</dt><dd>{text(v)}</dd>" for k, v in rows.items()) + "</dl>")


def figure(picture: str, caption: object, legend: Mapping[str, str] | None = None) -> Html:
    """A plot with a caption. legend: {name: CSS class of its line}."""
    if not picture:
        return Html("")
    keys = " ".join(f'<span class="key {look}">{text(name)}</span>' for name, look in (legend or {}).items())
    return Html(f"<figure><figcaption>{text(caption)} {keys}</figcaption>{picture}</figure>")


def figures(*each: str) -> Html:
    """Figures side by side, wrapped to the page's width."""
    return Html(f'<div class="figures">{"".join(each)}</div>')


def image(address: str, alt: str, caption: object = "") -> Html:
    """A small image, shown without smoothing."""
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return Html(f'<figure><img src="{address}" alt="{escape(alt)}">{below}</figure>')
