"""The grader's command line.

    python -m tutorials.assignments.grade A2 student/ --out results.json    one submission: a folder, .zip or .py file
    python -m tutorials.assignments.grade A2 class/ --csv marks.csv         a folder of submissions, in parallel
    python -m tutorials.assignments.grade A2 class/ --csv new.csv --regrade marks.csv     what has changed, and why
    python -m tutorials.assignments.grade A2 --zip autograder.zip           a bundle for Gradescope

Exit status: 0 graded (whatever the marks), 1 this machine can't sandbox a program, or the output can't be written,
2 bad input, 128 + n stopped by signal n.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NoReturn

from tutorials.assignments.adjust import adjust, read_adjustments
from tutorials.assignments.assignment import NAMES, Assignment, AssignmentError, load
from tutorials.assignments.classroom import students
from tutorials.assignments.gradescope import VISIBILITIES, heading, results, write_zip
from tutorials.assignments.heard import heard, tell
from tutorials.assignments.marking import SEED, Report, grade
from tutorials.assignments.page import class_page
from tutorials.assignments.process import stopping
from tutorials.assignments.regrade import changes, read_marks
from tutorials.assignments.said import line, plain
from tutorials.assignments.sandbox import Limits
from tutorials.assignments.session import Unprotected
from tutorials.assignments.submission import Submission, read
from tutorials.assignments.table import table

Marker = Callable[[Submission], Report]


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    return heard("tutorials.assignments.grade", lambda: _command(argv))


def _command(argv: list[str] | None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        if args.zip is None and args.submission is None:
            raise AssignmentError("name a submission, or --zip FILE")
        is_class = bool(args.csv or args.page or args.regrade or args.adjust)
        assignment = load(args.assignment)
        if args.zip:
            write_zip(assignment, args.zip)
            tell(f"{args.zip} is the autograder of {assignment.name} for Gradescope")
            return 0
        _keep_out(args.submission, args.out, args.csv, args.page)
        _check_places(args.csv, args.page, None if is_class else args.out)
        mark = partial(grade, assignment, seed=args.seed, unsafe=args.unsafe, limits=Limits(total_seconds=args.seconds))
        if is_class:
            return _grade_class(assignment, args, mark)
        report = mark(read(args.submission, assignment))
        if args.out:
            _write_results(args.out, report, args.visibility)
        tell(summary(report))
    except Unprotected as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    except (AssignmentError, OSError) as error:
        print(f"{parser.prog}: error: {line(str(error), 2000)}", file=sys.stderr)
        return 2
    return 0


def summary(report: Report) -> str:
    """A report for the terminal."""
    lines = [
        f"{report.assignment.name}, {report.assignment.title}: {line(report.submission.name)}",
        heading(report),
        "",
    ]
    if report.submission.ungraded:
        return plain("\n".join([lines[0], f"not graded: {line(report.submission.ungraded, 1000)}"]))
    for mark in report.marks:
        lines.append(f"{mark.score:4} / {mark.item.marks:<4} {mark.item.name}")
        lines += textwrap.indent(mark.feedback, " " * 12).splitlines()
    lines += ["-" * 12, f"{report.score:4} / {report.most:<4} in {report.seconds:.1f} s"]
    return plain("\n".join(lines))


def markdown(report: Report) -> str:
    """A report for the student, as Markdown. Text from the submission is in code blocks."""
    if report.submission.ungraded:
        return "\n".join(
            [f"# {report.assignment.name}: not graded", "", *_block(plain(report.submission.ungraded)), ""]
        )
    lines = [f"# {report.assignment.name}: {report.score} of {report.most} marks", "", *_block(heading(report))]
    for mark in report.marks:
        lines += ["", f"## {mark.item.name}: {mark.score} of {mark.item.marks}"]
        lines += ["", *_block(mark.feedback)] if mark.feedback else []
    return plain("\n".join(lines)) + "\n"


def _block(text: str) -> list[str]:
    """An indented code block: no line of the text can end it, or become a heading or a link."""
    return [f"    {each}" for each in text.splitlines()]


# ---- a whole class ----


def _grade_class(assignment: Assignment, args: argparse.Namespace, mark: Marker) -> int:
    """Grade every submission in a folder, `jobs` at a time: a row each in the CSV and, with --out, a results.json."""
    before = read_marks(args.regrade) if args.regrade else None
    readers = students(args.submission, assignment)
    adjustments, nobodys = read_adjustments(args.adjust, readers) if args.adjust else ({}, [])
    for name in nobodys:
        print(f"{args.adjust}: there is no submission {line(name)} here: its rows are ignored", file=sys.stderr)
    files = _file_names(readers)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)

    def one(name: str) -> Report:
        report = mark(readers[name]())
        adjust(report, adjustments)
        if args.out:
            _write_results(args.out / f"{files[name]}.json", report, args.visibility)
            _write(args.out / f"{files[name]}.md", markdown(report))
        return report

    reports = []
    stopping.clear()
    with ThreadPoolExecutor(args.jobs) as pool:
        try:
            for number, report in enumerate(pool.map(one, readers), 1):
                reports.append(report)
                tell(f"{number:4} of {len(readers)}  {_points(report)}  {line(report.submission.name)}")
        except BaseException:
            stopping.set()  # an infinite loop may have minutes left
            raise
    if args.csv:
        _write(args.csv, table(reports))
    graded = [report for report in reports if not report.submission.ungraded]
    mean = sum(report.score for report in graded) / max(len(graded), 1)
    many = f"{len(graded)} submission{'s' * (len(graded) != 1)}"
    tell(f"{args.csv or args.submission}: {many}, {mean:.1f} marks on average")
    if args.page:
        _write(args.page, class_page(reports))
        tell(f"{args.page}: the page for the class")
    if before is not None:
        lines = changes(before, reports)
        tell(plain("\n".join(["", "What has changed:", *lines] if lines else ["", "No mark has changed."])))
    return 0


def _file_names(names: Iterable[str]) -> dict[str, str]:
    """Each student's name as a file name, valid and unique on any system: a name in an archive may contain anything."""
    files: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plainly = (
            "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in name)[:100].lstrip("-.~ ") or "_"
        )
        tries = (plainly, *(f"{plainly}-{n}" for n in range(2, len(taken) + 3)))
        files[name] = next(each for each in tries if each.casefold() not in taken)
        taken.add(files[name].casefold())
    return files


def _points(report: Report) -> str:
    return "not graded" if report.submission.ungraded else f"{report.score:4} / {report.most}"


# ---- files ----


def _write_results(path: Path, report: Report, visibility: str) -> None:
    _write(path, json.dumps(results(report, visibility), indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    """Write all of the file or nothing: a reader never sees half a file, and concurrent writers do not collide.

    Like data.atomic, which this process does not import: it loads nothing of the library.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:  # if the disk is full, it names no file
        raise AssignmentError(f"{path} can't be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _keep_out(submission: Path, *outputs: Path | None) -> None:
    """Raise AssignmentError if an output is inside the submission."""
    for output in outputs:
        if output is not None and output.resolve().is_relative_to(submission.resolve()):
            raise AssignmentError(
                f"{output} is inside the submission: name a path outside it, so that no work is overwritten"
            )


def _check_places(*outputs: Path | None) -> None:
    """Check before grading that the outputs can be written."""
    for output in outputs:
        if output is None:
            continue
        if output.is_dir():
            raise AssignmentError(f"{output} is a folder: give a file")
        if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
            raise AssignmentError(f"{output} can't be written: {output.parent} does not exist or is read-only")


class _Parser(argparse.ArgumentParser):
    """A parser whose error messages are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tutorials.assignments.grade",
        description="Grade an assignment. The student's code runs in a separate process that can't read the hidden "
        "tests, write files, use the network or start programs, and that never holds a mark.",
    )
    add = parser.add_argument
    add("assignment", help=f"one of {', '.join(NAMES)}")
    add("submission", nargs="?", type=Path, help="a folder, an archive or a .py file; with --csv a class of these")
    add("--out", type=Path, help="write results.json here; with --csv a folder, for NAME.json and NAME.md of each")
    add("--csv", type=Path, help="grade a whole class and write its marks here")
    add("--page", type=Path, help="write an HTML page for the class here, without names")
    add(
        "--regrade",
        type=Path,
        metavar="OLD.csv",
        help="grade a class again and report what has changed since this table, and why",
    )
    add("--adjust", type=Path, metavar="CSV", help="marks to override: submission, item, marks, reason")
    add("--zip", type=Path, help="write the autograder bundle for Gradescope here")
    add("--jobs", type=_count, default=2 * (os.cpu_count() or 1), help="submissions at a time (default: two per core)")
    add("--seed", type=_seed, default=SEED, help="seed of the random inputs (default: %(default)s, the same for all)")
    add("--seconds", type=_seconds, default=Limits.total_seconds, help="time for a submission (default: %(default)g)")
    add("--visibility", choices=VISIBILITIES, default="visible", help="who sees the items (default: %(default)s)")
    add("--unsafe", action="store_true", help="grade even where submissions can't be sandboxed")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number of submissions, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, got {text}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds > 0, got {text}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
