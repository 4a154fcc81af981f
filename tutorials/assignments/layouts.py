"""The names that learning platforms give to what they export: whose a file or folder is, and what it was called.

Moodle       Ada Lovelace_123_assignsubmission_file_/adam.py     a folder for each student, and each kind of hand-in
             Ada Lovelace_123_assignsubmission_file_adam.py      the same, side by side
Canvas       lovelaceada_LATE_123_4567_adam-1.py                 all files side by side
Blackboard   SGD and Adam_s123_attempt_2026-01-15-14-30-22_adam.py, and a .txt for each attempt
Brightspace  12-34 - Ada Lovelace - Jan 15, 2026 230 PM - adam.py, or a folder without the file's name

Canvas numbers its files as they come in, the second number, and makes adam-1.py of a second adam.py.
Namesakes are told apart: in Brightspace by their numbers, in Blackboard, where a_weber's title may end with _a, by more
of the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_PATTERNS = (
    r"(?P<student>.+_\d+)_assignsubmission_[a-z]+(_(?P<file>[^/]*))?",
    r"(?P<person>.+_(?P<student>[^_/]+))_attempt_(?P<attempt>\d{4}(-\d\d){5})(_(?P<file>[^/]+)|\.txt)",
    r"(?P<student>[^_/]+)(_LATE)?_(?P<id>\d+)_(?P<number>\d+)_(?P<file>[^/]+)",
    r"(?P<student>[^_/]+)(_LATE)?_(?P<id>\d+)_(?P<file>(text|link)\.html)",  # Canvas, written on its page
    r"(?P<student>anon[^_/]*)(_LATE)?_(?P<id>\w+?)_(?P<number>\d+)_(?P<file>[^/]+)",  # Canvas, marked without names
    r"(?P<person>\d+-\d+ - (?P<student>.+?)) - (?P<date>[^/]*? [AP]M)( - (?P<file>[^/]+))?",
)
_KNOWN = [re.compile(pattern) for pattern in _PATTERNS]


class HandedIn(NamedTuple):
    """Whose it is, and the student's own name for it.

    attempt  which of several, "" where that is not told
    when     later is larger: Canvas's number alone, or Brightspace's date; () where neither is told
    person   the beginning of the name, which is another for each person; "" where `student` tells them apart
    """

    student: str
    file: str
    attempt: str = ""
    when: tuple[int, ...] = ()
    person: str = ""


def handed_in(name: str) -> HandedIn | None:
    """What a platform's name of a file or folder says; None if it is no such name."""
    for known in _KNOWN:
        if match := known.fullmatch(name):
            parts = match.groupdict()
            student = f"{parts['student']}_{parts['id']}" if parts.get("id") else parts["student"]
            when = (int(parts["number"]),) if parts.get("number") else _minute(parts.get("date") or "")
            return HandedIn(student, parts["file"] or name, parts.get("attempt") or "", when, parts.get("person") or "")
    return None


def owners(names: Iterable[str]) -> dict[str, str]:
    """Whose each file or folder of a class is: name -> student. What no platform has named is its own."""
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
    """What one student has handed in: name -> the student's own, earliest first; and why each other doesn't count."""
    known = {name: handed_in(name) or HandedIn(name, name) for name in names}
    last = max((each.attempt for each in known.values()), default="")
    own: dict[str, str] = {}
    why: dict[str, str] = {}
    for name, each in sorted(known.items(), key=lambda item: (item[1].when, item[0])):
        if each.attempt and each.attempt != last:
            why[name] = f"an earlier attempt than that of {last}"
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
    """Brightspace's date, Jan 15, 2026 230 PM, as year, month, day, hour, minute; () if it is none."""
    match = _DATE.fullmatch(date)
    if not match or match[1].lower() not in _MONTHS:
        return ()
    hour = int(match[4]) % 12 + 12 * (match[6] == "P")
    return int(match[3]), _MONTHS.index(match[1].lower()) + 1, int(match[2]), hour, int(match[5])
