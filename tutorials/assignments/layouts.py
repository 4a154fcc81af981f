"""The names that learning platforms give to what they export: whose a file or folder is, and what it was called.

Moodle       Ada Lovelace_123_assignsubmission_file_/adam.py     a folder for each student, and each kind of hand-in
             Ada Lovelace_123_assignsubmission_file_adam.py      the same, side by side
Canvas       lovelaceada_LATE_123_4567_adam-1.py                 all files side by side
Blackboard   SGD and Adam_s123_attempt_2026-01-15-14-30-22_adam.py, and a .txt for each attempt
Brightspace  12-34 - Ada Lovelace - Jan 15, 2026 230 PM - adam.py, or a folder without the file's name
"""

from __future__ import annotations

import re
from typing import NamedTuple

_PATTERNS = (
    r"(?P<student>.+_\d+)_assignsubmission_[a-z]+(_(?P<file>[^/]*))?",
    r".+_(?P<student>[^_/]+)_attempt_(?P<attempt>\d{4}(-\d\d){5})(_(?P<file>[^/]+)|\.txt)",
    r"(?P<student>[^_/]+)(_LATE)?_(?P<id>\d+)_\d+_(?P<file>[^/]+)",
    r"(?P<student>anon[^_/]*)(_LATE)?_(?P<id>\w+?)_\d+_(?P<file>[^/]+)",  # Canvas, marked without names
    r"\d+-\d+ - (?P<student>.+?) - (?P<date>[^/]*? [AP]M)( - (?P<file>[^/]+))?",
)
_KNOWN = [re.compile(pattern) for pattern in _PATTERNS]


class HandedIn(NamedTuple):
    """Whose it is, the student's own name for it, and which attempt of several, "" where that is not told."""

    student: str
    file: str
    attempt: str = ""


def handed_in(name: str) -> HandedIn | None:
    """What a platform's name of a file or folder says; None if it is no such name."""
    for known in _KNOWN:
        if match := known.fullmatch(name):
            parts = match.groupdict()
            student = f"{parts['student']}_{parts['id']}" if parts.get("id") else parts["student"]
            return HandedIn(student, parts["file"] or name, parts.get("attempt") or "")
    return None
