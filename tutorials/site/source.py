"""Source files as pages of the site: every file or folder of the clone that a page links to."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound

ROOT = Path(__file__).parent.parent.parent
BINARY = (".png", ".gz", ".csv", ".html")  # served as they are
HIDDEN = ("__pycache__", ".")


def page_of(path: Path) -> str:
    """The name of the page for a file or folder."""
    return "source/" + path.relative_to(ROOT).as_posix()


def first_line(path: Path) -> str:
    """The first paragraph of a Python file's docstring."""
    if path.suffix != ".py":
        return ""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ")


def parts(folder: Path) -> list[Path]:
    """The files and folders listed on a folder's page."""
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(HIDDEN) and path.suffix not in BINARY and path.name != "embedded"
    )


def with_parts(paths: set[Path]) -> set[Path]:
    """These files and folders, and everything inside the folders."""
    found, waiting = set(), list(paths)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += parts(path) if path.is_dir() else []
    return found


def of_file(path: Path) -> str:
    """A file's text as HTML, with syntax highlighting."""
    text = path.read_text("utf-8")
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        lexer = TextLexer()
    return f'<div class="source-page">{highlight(text, lexer, HtmlFormatter(cssclass="highlight"))}</div>'


def of_folder(path: Path) -> str:
    """A folder's contents as HTML: links, each with the first paragraph of its docstring."""
    rows = (
        f'<dt><a href="{path.name}/{part.name}.html"><code>{part.name}{"/" if part.is_dir() else ""}</code></a></dt>'
        f"<dd>{escape(first_line(part / '__init__.py' if (part / '__init__.py').exists() else part))}</dd>"
        for part in parts(path)
    )
    return f"<dl>{''.join(rows)}</dl>"


def pages(paths: set[Path]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(name, context, template) of each page, in Sphinx's format."""
    for path in sorted(with_parts(paths)):
        name = path.relative_to(ROOT).as_posix()
        body = of_folder(path) if path.is_dir() else of_file(path)
        yield page_of(path), {"title": name, "body": f"<h1><code>{escape(name)}</code></h1>{body}"}, "page.html"
