"""A page for the class: the distribution of marks, the success of each item, and the most common mistakes. No names.

It shows nothing from a submission, only the grader's own words.
"""

from __future__ import annotations

from collections import Counter
from html import escape
from statistics import mean, median

from tutorials.assignments.assignment import LESSONS, AssignmentError
from tutorials.assignments.marking import Mark, Report

_KINDS = {
    "not written yet": "not written", "not handed in": "the file is missing", "not run: there": "the file is missing",
    "the file can't be loaded": "the file can't be loaded", "not run": "no time was left",
    "no answer after": "an infinite loop", "the program crashed": "a crash",
}  # fmt: skip
_STYLE = """
body { font: 17px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; width: 100% } td, th { padding: .3em .6em; text-align: left; vertical-align: top }
tr { border-bottom: 1px solid #ccc } .n { text-align: right; white-space: nowrap } ul { margin: 0; padding-left: 1.1em }
.bar { background: #dde3ee; width: 7em; print-color-adjust: exact } .bar div { background: #35618f; height: 1em }
td { overflow-wrap: break-word } small { color: #666; display: block }
@media (max-width: 600px) { .items .bar { display: none } body { font-size: 15px } td, th { padding: .3em } }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #ddd } .bar { background: #333 }
  .bar div { background: #8ab8ee } small { color: #aaa } }
"""


def class_page(reports: list[Report]) -> str:
    """The page, as self-contained HTML. Raises AssignmentError if no submission was graded."""
    graded = [report for report in reports if not report.submission.ungraded]
    if not graded:
        raise AssignmentError("no submission was graded: there is nothing to show")
    assignment, most = graded[0].assignment, graded[0].most
    scores = [report.score for report in graded]
    rows = [_bar(f"{low} to {low + 9}" if low < most else str(most), n, len(graded)) for low, n in _tens(scores, most)]
    items = [_item([report.marks[i] for report in graded]) for i in range(len(graded[0].marks))]
    many = f"{len(graded)} submission{'s' * (len(graded) != 1)}"
    title = escape(f"{assignment.name}, {assignment.title}")
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>{_STYLE}</style>
<h1>{title}</h1>
<p>{many}; mean {mean(scores):.1f} of {most} marks, median {median(scores):g}.</p>
<h2>Marks</h2>
<table>{"".join(rows)}</table>
<h2>Items</h2>
<table class="items"><tr><th>item</th><th>marks</th><th>right</th><th></th><th>most common mistakes</th></tr>
{"".join(items)}</table>
</html>
"""


def _tens(scores: list[int], most: int) -> list[tuple[int, int]]:
    """How many scores fall in each range of ten; full marks have a range of their own."""
    lows = [*range(0, most, 10), most]
    return [(low, sum(low <= s <= (low + 9 if low < most else low) for s in scores)) for low in reversed(lows)]


def _bar(label: str, n: int, of: int) -> str:
    bar = f'<div class="bar"><div style="width: {100 * n / of:.0f}%"></div></div>'
    return f'<tr><td>{escape(label)}</td><td class="n">{n}</td><td>{bar}</td></tr>'


def _item(marks: list[Mark]) -> str:
    item = marks[0].item
    wrong = [mark for mark in marks if mark.score < item.marks]  # partial marks from a teacher do not make it right
    right, kinds = len(marks) - len(wrong), Counter(map(kind, wrong))
    named = [f"<li>{escape(said)} ({n})</li>" for said, n in kinds.most_common(3) if said]
    lesson = f" <small>lesson {item.lesson}, {escape(LESSONS[item.lesson])}</small>" if item.lesson else ""
    bar = f'<div class="bar"><div style="width: {100 * right / len(marks):.0f}%"></div></div>'
    return (
        f'<tr><td>{escape(item.name)}{lesson}</td><td class="n">{item.marks}</td>'
        f'<td class="n">{100 * right / len(marks):.0f} %</td><td>{bar}</td><td><ul>{"".join(named)}</ul></td></tr>\n'
    )


def kind(mark: Mark) -> str:
    """Why an item has lost its marks, in the grader's words."""
    if mark.slip:
        return mark.slip
    for begin, said in _KINDS.items():
        if mark.feedback.startswith(begin):
            return said
    return "a wrong number, or an error"
