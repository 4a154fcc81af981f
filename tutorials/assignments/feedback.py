"""What the feedback adds for the student: the lines to look at, and the lesson that explains them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tutorials.assignments.assignment import LESSONS
from tutorials.assignments.submission import Submission
from tutorials.assignments.text import as_utf8

_NOT_RUN = ("not run", "not handed in", "the file can't be loaded", "not written yet")


def explained(
    said: str, functions: Iterable[str], lesson: int, submission: Submission, broken: Mapping[str, str]
) -> str:
    """The feedback, with the lines of these functions in the student's file and the lesson."""
    if said.startswith(_NOT_RUN):
        return said
    found = {name: _places(name, submission, broken) for name in functions}
    places = [place for each in found.values() for place in each]
    lines = [said]
    if places:
        lines.append(f"Look at {'; '.join(places)}.")
    missing = [name for name, each in found.items() if not each]
    if missing and not (broken or submission.problems):
        lines.append(f"There is no def of {', '.join(missing)}: keep the names as they are in the hand-out.")
    if lesson:
        lines.append(f"See lesson {lesson}: {LESSONS[lesson]}.")
    return "\n".join(lines)


def _places(name: str, submission: Submission, broken: Mapping[str, str]) -> list[str]:
    """Where this function is in the student's files."""
    for path, data in submission.files.items():
        if path not in broken:
            found = _lines(as_utf8(data).decode("utf-8", "replace").splitlines(), name)
            if found:
                return [f"{name} in {submission.sources.get(path, path)}, lines {found[0]} to {found[1]}"]
    return []


def _lines(source: list[str], name: str) -> tuple[int, int] | None:
    """The first and last line of a function, by its qualified name. The file is not parsed: it might crash the parser.

    If there are several definitions, the last one counts, as in Python.
    """
    begin, end, indent = 0, len(source), 0
    *classes, function = name.split(".")
    for word, each in [*(("class", each) for each in classes), ("def", function)]:
        head = re.compile(rf"^( *|\t*){word} +{re.escape(each)}\b")
        found = [i for i in range(begin, end) if (match := head.match(source[i])) and len(match[1]) >= indent]
        if not found:
            return None
        begin = found[-1]
        own = len(source[begin]) - len(source[begin].lstrip())
        after = (i for i in range(begin + 1, end) if _ends(source[i], own))
        end, indent = next(after, end), own + 1
    while end > begin + 1 and not source[end - 1].strip():
        end -= 1
    return begin + 1, end


def _ends(line: str, indent: int) -> bool:
    """Whether a block with this indentation ends before this line."""
    text = line.strip()
    return bool(text) and not text.startswith(("#", ")")) and len(line) - len(line.lstrip()) <= indent
