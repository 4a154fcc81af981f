"""Docstrings converted for Sphinx.

A docstring of minidl is plain text, to be read at a prompt. Empty lines separate blocks; a block is

    name   text        a table of arguments: names at the margin, two or more spaces, their meaning
    indented lines     code or a formula, kept as it is, like lines that are aligned with several spaces
    - text             a list
    anything else      a paragraph

and single backticks hold code. This file converts that to reStructuredText.
"""

from __future__ import annotations

import re
from itertools import groupby, pairwise

ROW = re.compile(r"^([\w.*\"`-]+(?:(?:, | and )[\w.*\"`-]+)*|[a-z] (?:number|function)) {2,}(\S.*)$")
ALIGNED = re.compile(r"\S {2,}\S")
CODE = re.compile(r"(`[^`]+`)")
SPECIAL = re.compile(r"([\\*_|`])")


def inline(text: str) -> str:
    """A line of plain text: code between backticks stays code, everything else is escaped."""
    pieces = CODE.split(text)
    return "".join(
        rf"\ ``{piece[1:-1]}``\ " if CODE.fullmatch(piece) else SPECIAL.sub(r"\\\1", piece) for piece in pieces
    )


def literal(lines: list[str]) -> list[str]:
    """Lines as they are, as a code block."""
    return ["::", "", *(f"    {line}" for line in lines), ""]


def table(lines: list[str]) -> list[str]:
    """Names and their meanings as a definition list; a meaning can contain another table."""
    made: list[str] = []
    starts = [i for i, line in enumerate(lines) if not line.startswith(" ")] + [len(lines)]
    for start, end in pairwise(starts):
        row = ROW.match(lines[start])
        if row is None:
            made += block(lines[start:end])
            continue
        width = min((len(line) - len(line.lstrip()) for line in lines[start + 1 : end]), default=0)
        text = [row[2], *(line[width:] for line in lines[start + 1 : end])]
        made += [f"``{row[1].replace('`', '')}``", *(f"    {line}" for line in meaning(text)), ""]
    return made


def meaning(lines: list[str]) -> list[str]:
    """The text beside a name: a sentence, then possibly a table of choices."""
    first = next((i for i, line in enumerate(lines) if i and ROW.match(line.lstrip())), len(lines))
    made = [" ".join(inline(line.strip()) for line in lines[:first]), ""]
    if first < len(lines):
        margin = min(len(line) - len(line.lstrip()) for line in lines[first:])
        made += table([line[margin:] for line in lines[first:]])
    return made


def block(lines: list[str]) -> list[str]:
    """One block of a docstring, as reStructuredText."""
    if all(line.startswith("    ") for line in lines):
        return literal([line[4:] for line in lines])
    if any(ROW.match(line) for line in lines) and (ROW.match(lines[0]) or len(lines) > 1):
        first = next(i for i, line in enumerate(lines) if ROW.match(line))
        return [*(block(lines[:first]) if first else []), *table(lines[first:])]
    if any(ALIGNED.search(line) for line in lines):
        return literal(lines)
    if lines[0].startswith("- "):
        starts = [i for i, line in enumerate(lines) if line.startswith("- ")] + [len(lines)]
        items = [lines[start:end] for start, end in pairwise(starts)]
        return [*("- " + inline(" ".join(line.strip() for line in item)[2:]) for item in items), ""]
    opening = next((i for i, line in enumerate(lines) if i and line.startswith("    ")), len(lines))
    if (
        opening < len(lines)
        and lines[opening - 1].endswith(":")
        and all(line.startswith("    ") for line in lines[opening:])
    ):
        return [*block(lines[:opening]), *block(lines[opening:])]
    return [inline(" ".join(line.strip() for line in lines)), ""]


def to_rst(docstring: list[str]) -> list[str]:
    """Convert the lines of a docstring to lines of reStructuredText."""
    made: list[str] = []
    for has_text, lines in groupby(docstring, key=lambda line: bool(line.strip())):
        if has_text:
            made += block(list(lines))
    return made
