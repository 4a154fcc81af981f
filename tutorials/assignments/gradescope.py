"""For Gradescope: the results.json that it reads, and the zip that it runs.

https://gradescope-autograders.readthedocs.io/en/latest/specs/
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from tutorials.assignments.assignment import HERE, ROOT, Assignment
from tutorials.assignments.marking import Report
from tutorials.assignments.said import line, plain
from tutorials.assignments.sandbox import is_on

VISIBILITIES = ("hidden", "after_due_date", "after_published", "visible")
FORMATS = ("text", "html", "simple_format", "md", "ansi")
MOST_ROWS = 20  # for files that are not graded
_NUMBER, _TEXT = (int, float), (str,)
_TOP: dict[str, tuple[type, ...]] = {
    "score": _NUMBER, "execution_time": _NUMBER, "output": _TEXT, "output_format": _TEXT, "visibility": _TEXT,
    "stdout_visibility": _TEXT, "extra_data": (dict,), "tests": (list,), "leaderboard": (list,),
}  # fmt: skip
_TEST: dict[str, tuple[type, ...]] = {
    "score": _NUMBER, "max_score": _NUMBER, "status": _TEXT, "name": _TEXT, "number": _TEXT, "output": _TEXT,
    "output_format": _TEXT, "tags": (list,), "visibility": _TEXT,
}  # fmt: skip
_CHOICES = {
    "visibility": VISIBILITIES, "stdout_visibility": VISIBILITIES, "output_format": FORMATS,
    "status": ("passed", "failed"),
}  # fmt: skip


def results(report: Report, visibility: str = "visible") -> dict[str, Any]:
    """The results.json of a report. `visibility` says who sees the items, and when."""
    tests = [
        {
            "score": mark.score, "max_score": mark.item.marks, "status": "passed" if mark.score else "failed",
            "name": mark.item.name, "number": str(number), "output": plain(mark.feedback), "output_format": "text",
            "tags": [report.assignment.name], "visibility": visibility,
        }
        for number, mark in enumerate(report.marks, 1)
    ]  # fmt: skip
    return {
        "score": report.score,
        "execution_time": round(report.seconds, 3),
        "output": heading(report),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "extra_data": {
            "assignment": report.assignment.name,
            "sha256": report.submission.hashes,
            "protections": report.protections,
            "printed": report.printed,
        },
        "tests": tests,
    }


def heading(report: Report) -> str:
    """What was graded, what could not be graded, and what was skipped, with the reasons."""
    work, lines = report.submission, []
    for path, digest in work.hashes.items():
        if path not in report.broken:
            source = f", from {work.sources[path]}" if path in work.sources else ""
            lines.append(f"graded: {path}, sha256 {digest}{source}")
    lines += [f"not graded: {path}: {why}" for path, why in work.problems.items()]
    lines += [
        f"not graded: {path}, sha256 {work.hashes.get(path, '')}: the file can't be loaded: {why}"
        for path, why in report.broken.items()
    ]
    lines += [f"not graded: {path}: {why}" for path, why in list(work.skipped.items())[:MOST_ROWS]]
    if len(work.skipped) > MOST_ROWS:
        lines.append(f"not graded: {len(work.skipped) - MOST_ROWS} more, for similar reasons")
    if report.printed_bytes > len(report.printed.encode()):
        lines.append(
            f"printed: {report.printed_bytes:,} bytes, of which the first {len(report.printed):,} characters are kept: "
            "remove leftover prints"
        )
    on = [name for name, state in report.protections.items() if is_on(state)]
    lines += [f"sandboxed by: {', '.join(on)}"] if on else []
    lines += [f"{name} {state}" for name, state in report.protections.items() if "untested" in state]
    lines += [f"not sandboxed: {report.unprotected}"] if report.unprotected else []
    return plain("\n".join(line(each, 1000) for each in lines))


def problems(value: Any) -> list[str]:
    """What is wrong with a results.json according to Gradescope's list of fields; [] if nothing is."""
    if not isinstance(value, dict):
        return ["the results must be an object"]
    found = _wrong_fields(value, _TOP, "")
    if "score" not in value and not value.get("tests"):
        found.append("there is neither score nor tests")
    for i, test in enumerate(value.get("tests", [])):
        found += _wrong_fields(test, _TEST, f"tests[{i}].")
        if not 0 <= test.get("score", 0) <= test.get("max_score", float("inf")):
            found.append(f"tests[{i}].score is not between 0 and max_score")
    return found


def _wrong_fields(value: dict[str, Any], fields: dict[str, tuple[type, ...]], where: str) -> list[str]:
    found = [f"{where}{name} is not a field" for name in value if name not in fields]
    for name, types in fields.items():
        if name in value and (not isinstance(value[name], types) or isinstance(value[name], bool)):
            found.append(f"{where}{name} has the wrong type")
        elif name in value and name in _CHOICES and value[name] not in _CHOICES[name]:
            found.append(f"{where}{name} is {value[name]!r}, must be one of {', '.join(_CHOICES[name])}")
    return found


# ---- the bundle ----

# https://gradescope-autograders.readthedocs.io/en/latest/specs/: setup.sh runs once as root when the image is built,
# run_autograder for each submission.
_SETUP = """#!/usr/bin/env bash
# Python and NumPy. The user that a submission runs as can't read the grader's own files.
set -euo pipefail
apt-get update && apt-get install -y python3 python3-venv
python3 -m venv /opt/minidl && /opt/minidl/bin/python -m pip install "numpy>=2.0" "threadpoolctl>=3.5"
chmod -R go-rwx /autograder/source
"""
_RUN = """#!/usr/bin/env bash
set -euo pipefail
home=${{AUTOGRADER:-/autograder}} python=${{PYTHON:-/opt/minidl/bin/python}}
cd "$home/source"
exec "$python" -m tutorials.assignments.grade {name} "$home/submission" --out "$home/results/results.json"
"""


def write_zip(assignment: Assignment, path: Path) -> None:
    """Write the autograder bundle: upload it as it is. Raises FileExistsError rather than overwrite a file."""
    sources = [p for folder in ("minidl", "optim", "data") for p in (ROOT / folder).rglob("*.py")]
    sources += [p for p in HERE.rglob("*") if p.suffix in (".py", ".md") and "handout" not in p.relative_to(HERE).parts]
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (("setup.sh", _SETUP), ("run_autograder", _RUN.format(name=assignment.name))):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, text)
        for source in sorted(sources):
            archive.write(source, source.relative_to(ROOT).as_posix())
