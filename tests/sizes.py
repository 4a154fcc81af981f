"""The size of each part in lines of code: `python -m tests.sizes`; with --update, the reading order gets these numbers.

A line of code is one that holds more than blanks, a comment or a docstring. The table of the reading order says which
files belong to a part: those that its row links to; all files below a folder count. The rows above the bold one are the
engine. README states the engine's size too.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
ORDER = ROOT / "tutorials" / "pages" / "read-it.md"
ROW = re.compile(r"^(\|.*\]\(.*\|) ([\d,]+) \|$", re.MULTILINE)  # links, and a number in the last column
TOGETHER = re.compile(r"^(\| \*\*together\*\* .*\|) \*\*([\d,]+)\*\* \|$", re.MULTILINE)
ENGINE = re.compile(r"([\d,]+) lines of code(?: in ([\d,]+) files)?")
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def lines_of_code(source: str) -> int:
    """How many lines of a Python file are code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def size(path: str) -> int:
    """Lines of code of a file, or of all Python files below a folder."""
    place = ROOT / path
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    return sum(lines_of_code(file.read_text("utf-8")) for file in files)


def links(row: str) -> list[str]:
    """The files and folders of a row, or of a whole table, in order, as seen from the root."""
    return [link.removeprefix("../../") for link in re.findall(r"\]\(([^)]+)\)", row)]


def engine() -> list[str]:
    """The engine's files, in the order in which they are to be read."""
    text = ORDER.read_text("utf-8")
    total = TOGETHER.search(text)
    assert total, "the reading order has no row of the engine's size"
    return [path for row in ROW.finditer(text, 0, total.start()) for path in links(row[0])]


def update(text: str) -> str:
    """README, or the reading order, with the sizes as they are."""
    files = engine()
    whole = f"{sum(map(size, files)):,}"
    text = ENGINE.sub(lambda said: f"{whole} lines of code" + (f" in {len(files)} files" if said[2] else ""), text)
    text = TOGETHER.sub(rf"\1 **{whole}** |", text)
    return ROW.sub(lambda row: f"{row[1]} {sum(map(size, links(row[0]))):,} |", text)


def numbers(text: str) -> list[int]:
    """All sizes that README or the reading order states."""
    found = [match[2] for match in (*ROW.finditer(text), *TOGETHER.finditer(text))]
    found += [number for match in ENGINE.finditer(text) for number in match.groups() if number]
    return [int(number.replace(",", "")) for number in found]


def main() -> None:
    """Print the rows of the reading order with the sizes as they are, or bring it and README up to date."""
    text = ORDER.read_text("utf-8")
    for row in ROW.finditer(text):
        print(f"{sum(map(size, links(row[0]))):6,}  (said: {row[2]})  {', '.join(links(row[0]))}")
    if "--update" in sys.argv[1:]:
        for page in (README, ORDER):
            page.write_text(update(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
