"""The names of files that learning platforms export: the student and the file's original name.

Moodle       Ada Lovelace_123_assignsubmission_file_/adam.py     a folder for each student and submission type
             Ada Lovelace_123_assignsubmission_file_adam.py      the same, in one folder
Canvas       lovelaceada_LATE_123_4567_adam-1.py                 all files in one folder
Blackboard   SGD and Adam_s123_attempt_2026-01-15-14-30-22_adam.py, and a .txt for each attempt
Brightspace  12-34 - Ada Lovelace - Jan 15, 2026 230 PM - adam.py, or a folder without the file's name

Canvas numbers files in order of arrival (the second number) and renames a second adam.py to adam-1.py.
Students with the same name are told apart: in Brightspace by their numbers; in Blackboard, where the title before
a_weber may end with _a, by more of the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_PATTERNS = (
    r"(?P<student>.+_\d+)_assignsubmission_[a-z]+(_(?P<file>[^/]*))?",
    r"(?P<person>.+_(?P<student>[^_/]+))_attempt_(?P<attempt>\d{4}(-\d\d){5})(_(?P<file>[^/]+)|\.txt)",
    r"(?P<student>[^_/]+)(_LATE)?_(?P<id>\d+)_(?P<number>\d+)_(?P<file>[^/]+)",
    r"(?P<student>[^_/]+)(_LATE)?_(?P<id>\d+)_(?P<file>(text|link)\.html)",  # Canvas, text entry
    r"(?P<student>anon[^_/]*)(_LATE)?_(?P<id>\w+?)_(?P<number>\d+)_(?P<file>[^/]+)",  # Canvas, anonymous grading
    r"(?P<person>\d+-\d+ - (?P<student>.+?)) - (?P<date>[^/]*? [AP]M)( - (?P<file>[^/]+))?",
)
_KNOWN = [re.compile(pattern) for pattern in _PATTERNS]


class HandedIn(NamedTuple):
    """A file's student and original name.

    attempt  which of several attempts, "" if unknown
    when     later is larger: Canvas's number, or Brightspace's date; () if unknown
    person   the beginning of the name, which differs for each person; "" if `student` is enough to tell them apart
    """

    student: str
    file: str
    attempt: str = ""
    when: tuple[int, ...] = ()
    person: str = ""


def handed_in(name: str) -> HandedIn | None:
    """The parts of a platform's name of a file or folder; None if it is not such a name."""
    for known in _KNOWN:
        if match := known.fullmatch(name):
            parts = match.groupdict()
            student = f"{parts['student']}_{parts['id']}" if parts.get("id") else parts["student"]
            when = (int(parts["number"]),) if parts.get("number") else _minute(parts.get("date") or "")
            return HandedIn(student, parts["file"] or name, parts.get("attempt") or "", when, parts.get("person") or "")
    return None


def owners(names: Iterable[str]) -> dict[str, str]:
    """name -> student for the files and folders of a class. A name that is not a platform's is its own student."""
    known = {name: handed_in(name) or HandedIn(name, name) for name in names}
    persons: dict[str, set[str]] = {}
    for each in known.values():
        persons.setdefault(each.student, set()).add(each.person)
    parts = [each.person.split("_") for each in known.values() if each.person]
    same = next((i for i, each in enumerate(zip(*parts, strict=False)) if len(set(each)) > 1), 0)
    title = "".join(f"{part}_" for part in parts[0][:same]) if parts else ""
    return {
        name: each.student if len(persons[each.student]) == 1 else each.person.removeprefix(title) or each.student
        for name, each in known.items()
    }


def own_names(names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """One student's files: name -> original name, earliest first; and name -> why it doesn't count, for the others."""
    known = {name: handed_in(name) or HandedIn(name, name) for name in names}
    last = max((each.attempt for each in known.values()), default="")
    own: dict[str, str] = {}
    why: dict[str, str] = {}
    for name, each in sorted(known.items(), key=lambda item: (item[1].when, item[0])):
        if each.attempt and each.attempt != last:
            why[name] = f"an earlier attempt than the one of {last}"
            continue
        first = _AGAIN.sub("", each.file)
        file = first if len(each.when) == 1 and first in own.values() else each.file
        for earlier in [earlier for earlier in own if own[earlier] == file]:
            why[earlier] = f"handed in before {name}"
            del own[earlier]
        own[name] = file
    return own, why


_AGAIN = re.compile(r"-\d+(?=(\.tar)?\.\w+$)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE = re.compile(r"([A-Za-z]{3})[a-z]*\.? (\d+), (\d+) (\d{1,2}):?(\d\d) ([AP])M")


def _minute(date: str) -> tuple[int, ...]:
    """Brightspace's date, Jan 15, 2026 230 PM, as year, month, day, hour, minute; () if it is not a date."""
    match = _DATE.fullmatch(date)
    if not match or match[1].lower() not in _MONTHS:
        return ()
    hour = int(match[4]) % 12 + 12 * (match[6] == "P")
    return int(match[3]), _MONTHS.index(match[1].lower()) + 1, int(match[2]), hour, int(match[5])
