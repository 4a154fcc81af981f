"""What a teacher has beside the marks: a page of the class, a second grading explained, feedback, solutions."""

import csv
import json
import re
import sys
import zipfile

import pytest

from tests.browser import browser, console, contrast
from tests.commands import command, fails
from tests.submissions import reference, submission, with_bodies, write
from tutorials.assignments.assignment import HERE, NAMES, load, load_items
from tutorials.assignments.grade import _file_names, markdown, summary
from tutorials.assignments.gradescope import results
from tutorials.assignments.handout import solutions, to_write
from tutorials.assignments.marking import Mark, Report, grade
from tutorials.assignments.page import class_page
from tutorials.assignments.submission import read
from tutorials.assignments.table import table

GRADE, HANDOUT = "tutorials.assignments.grade", "tutorials.assignments.handout"
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can hold a program in")
FORGED = """x\n\n 100 / 100  Everything\n# A2: 100 of 100 marks\n\x1b[2J\u202e<script>alert(1)</script>
=cmd|' /C calc'!A1"""


@linux
def test_nothing_that_a_submission_says_passes_for_the_graders_word():
    """An exception's message, a value and a printed text that look like marks, a title, a command or a formula."""
    for body in (f"raise ValueError({FORGED!r})", f"print({FORGED!r})\nreturn {FORGED!r}"):
        report = grade(load("A2"), submission(with_bodies("A2", {"AdamW.decayed": body})))
        assert report.score == 90
        said = next(mark.feedback for mark in report.marks if not mark.score)
        for text in (said, summary(report), markdown(report), results(report)["output"]):
            assert not re.search(r"^ *100 / 100|^# A2: 100|^ *=cmd", text, re.MULTILINE), text
            assert not any(not c.isprintable() and c != "\n" for c in text)
            assert "\u202e" not in text
        assert all(line.startswith("    ") for line in markdown(report).splitlines() if "script" in line)


@linux
def test_feedback_says_what_a_student_needs():
    """The line, the input, what came, what was expected, the likeliest mistake, the lesson."""
    slip = {"moments": "m *= b1\nm += g\nv *= b2\nv += (1 - b2) * g**2"}
    report = grade(load("A2"), submission(with_bodies("A2", slip)))
    said = next(mark.feedback for mark in report.marks if not mark.score)
    assert "moments(g, scratch, m, v, 0.8, 0.95) in float32, g = [" in said
    assert re.search(r"expected -?[\d.]+ at index \(\d,\), got -?[\d.]+", said)
    assert "Add (1 - b1) g to m, not g." in said
    files = with_bodies("A2", slip)["optim/adam.py"].splitlines()
    first, last = map(int, re.search(r"Look at moments in optim/adam.py, lines (\d+) to (\d+)", said).groups())
    assert files[first - 1].startswith("def moments(")
    assert files[last - 1].strip() == "v += (1 - b2) * g**2"
    assert "See lesson 6: Adam, one line at a time." in said
    report = grade(load("A2"), submission(with_bodies("A2", {"AdamW.decayed": "return w.nothing"})))
    said = next(mark.feedback for mark in report.marks if not mark.score)
    assert re.search(r"AttributeError: .*nothing.* \(optim/adam.py, line \d+\)\n  return w.nothing\n", said)


@linux
def test_a_renamed_function_and_the_students_own_line_are_named():
    files = reference("A2")
    files["optim/adam.py"] = files["optim/adam.py"].replace("moments(", "my_moments(")
    files["optim/sgd.py"] = with_bodies("A2", {"SGD.rule": "self.w -= lr * g"})["optim/sgd.py"]
    marks = {mark.item.name: mark for mark in grade(load("A2"), submission(files)).marks}
    said = marks["moments: m and v"].feedback
    assert "has no attribute 'moments'\nThere is no def of moments: keep the names" in said
    said = marks["SGD with momentum"].feedback  # the error is raised in a file of the hand-out
    assert "SGD has no 'w' (optim/sgd.py, line " in said
    assert "  self.w -= lr * g" in said
    assert "No def" not in said


@linux
def test_a_page_for_the_class_names_nobody():
    right = submission(reference("A2"), "Ada Lovelace")
    slip = submission(with_bodies("A2", {"moments": "m *= b1\nm += g\nv *= b2\nv += (1 - b2) * g**2"}), "Bob")
    page = class_page([grade(load("A2"), each) for each in (right, slip, slip)])
    assert "3 submissions; mean 93.3 of 100 marks, median 90." in page
    assert "Add (1 - b1) g to m, not g. (2)" in page
    assert "33 %" in page
    assert "Lovelace" not in page
    assert "Bob" not in page


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_for_the_class_can_be_read(tmp_path, dark):
    """Contrast of at least 4.5 for words, and 3 for bars (WCAG AA), in light and dark."""
    item = load_items(load("A2"))[0]
    report = Report(load("A2"), submission({}, "x"), [Mark(item, item.marks, "")])
    (tmp_path / "class.html").write_text(class_page([report]), encoding="utf-8")
    with browser(dark=dark) as chrome:
        chrome.get((tmp_path / "class.html").as_uri())
        small, ground = (chrome.find_element("css selector", each) for each in ("small", "body"))
        paper = ground.value_of_css_property("background-color")
        paper = "rgb(255, 255, 255)" if "0)" in paper else paper  # transparent
        assert contrast(small.value_of_css_property("color"), paper) >= 4.5
        bar, full = (chrome.find_element("css selector", each) for each in (".bar", ".bar div"))
        colours = [each.value_of_css_property("background-color") for each in (bar, full)]
        assert contrast(*colours) >= 3
        assert full.value_of_css_property("print-color-adjust") == "exact"
        assert console(chrome) == []


def test_the_middle_of_an_even_class_lies_between_two():
    item = load_items(load("A2"))[0]
    reports = [Report(load("A2"), submission({}, "x"), [Mark(item, score, "")]) for score in (0, item.marks - 1)]
    middle = f"{(item.marks - 1) / 2:g}"
    assert f"2 submissions; mean {(item.marks - 1) / 2:.1f} of {item.marks} marks, median {middle}." in (
        class_page(reports)
    )


def test_half_the_marks_are_not_right():
    """A teacher's own word may give some of an item's marks: the mistake is still one of the class."""
    item = load_items(load("A2"))[0]
    marks = [Mark(item, item.marks, ""), Mark(item, item.marks // 2, "Your teacher: half", "forgot the rate")]
    page = class_page([Report(load("A2"), submission({}, "x"), [mark]) for mark in marks])
    assert '<td class="n">50 %</td>' in page
    assert "forgot the rate (1)" in page


def test_a_class_of_which_nothing_can_be_opened_has_no_page(tmp_path):
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "ada.zip").write_bytes(b"")
    message = fails("A2", tmp_path / "class", "--page", tmp_path / "class.html", module=GRADE)
    assert "no submission was graded" in message


def test_the_page_holds_nothing_of_a_submissions():
    item = load_items(load("A2"))[0]
    report = Report(load("A2"), submission({}, "x"), [Mark(item, 0, f"ValueError: {FORGED}")])
    page = class_page([report])
    assert "script" not in page
    assert "a wrong number, or an error (1)" in page


@linux
def test_a_second_grading_is_explained(tmp_path):
    group, old, new = tmp_path / "class", tmp_path / "old.csv", tmp_path / "new.csv"
    for name in ("ada", "bob"):
        write(reference("A2"), group / name)
    write(with_bodies("A2", {"AdamW.decayed": "return g"}), group / "cy")
    assert command("A2", group, "--csv", old, module=GRADE).returncode == 0
    rows = list(csv.DictReader(old.read_text().splitlines()))
    rows[0]["score"], rows[0]["Nesterov momentum"] = "92", "0"  # as an older grader might have said
    with old.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows([*rows, {**rows[0], "submission": "dee"}])
    write(reference("A2"), group / "cy")
    result = command("A2", group, "--csv", new, "--regrade", old, "--page", tmp_path / "class.html", module=GRADE)
    assert (result.returncode, result.stderr) == (0, "")
    changed = result.stdout.partition("What has changed:\n")[2].splitlines()
    assert changed == [
        "ada: 92 -> 100 (same files, different grader)", "    Nesterov momentum: 0 -> 8",
        "cy: 90 -> 100 (different files)", "    AdamW: decay apart from the gradient: 0 -> 10",
        "dee: 92, no longer there",
    ]  # fmt: skip
    assert "3 submissions" in (tmp_path / "class.html").read_text()
    assert "is not a table of marks" in fails(
        "A2", group, "--csv", new, "--regrade", group / "ada/optim/sgd.py", module=GRADE
    )
    rows = "submission,item,marks,reason\nada,Nesterov momentum,4,handed in late\n"
    (tmp_path / "own.csv").write_text(rows)
    result = command("A2", group, "--regrade", new, "--adjust", tmp_path / "own.csv", module=GRADE)
    assert (result.returncode, result.stderr) == (0, "")
    assert "ada: 100 -> 96 (same files, different grader)" in result.stdout
    assert "Nesterov momentum: 8 -> 4: Your teacher: 4 marks, not 8: handed in late" in result.stdout
    (tmp_path / "own.csv").write_text(rows + "adaa,Nesterov momentum,4,handed in late\n")
    result = command("A2", group, "--adjust", tmp_path / "own.csv", module=GRADE)
    assert result.returncode == 0
    assert result.stderr == f"{tmp_path / 'own.csv'}: there is no submission adaa here: its rows are ignored\n"
    (group / "dan.zip").write_bytes(b"PK no")
    for old in (new, new):
        result = command("A2", group, "--csv", new, "--regrade", old, module=GRADE)
    assert "No mark has changed." in result.stdout, "what is not graded stays so"
    assert "3 submissions, 100.0 marks" in result.stdout
    (tmp_path / "own.csv").write_text(rows + "dan.zip,Nesterov momentum,8,shown to me\n")
    assert command("A2", group, "--csv", new, "--adjust", tmp_path / "own.csv", module=GRADE).returncode == 0
    (row,) = (row for row in csv.DictReader(new.read_text().splitlines()) if row["submission"] == "dan.zip")
    assert (row["score"], row["Nesterov momentum"]) == ("8", "8")
    assert "can't be read as a zip" in row["not graded"]
    for wrong, said in (
        ("Nestorov", "which is not an item"),
        ("Nesterov momentum,9,x", "has 8 marks"),
        ("x,,", "line 2"),
    ):
        old = "Nesterov momentum,4,handed in late" if "," in wrong else "Nesterov momentum"
        (tmp_path / "own.csv").write_text(rows.replace(old, wrong))
        assert said in fails("A2", group, "--adjust", tmp_path / "own.csv", module=GRADE)


@linux
def test_a_name_is_one_line(tmp_path):
    write({"a.txt": "x"}, tmp_path / "class" / "x\n   9 of 9   100 / 100  ada")
    result = command("A2", tmp_path / "class", "--csv", tmp_path / "marks.csv", module=GRADE)
    assert not re.search(r"^ *9 of 9", result.stdout, re.MULTILINE)
    assert len((tmp_path / "marks.csv").read_text().splitlines()) == 2
    result = command("A2", tmp_path / "class" / "x\n   9 of 9   100 / 100  ada", module=GRADE)
    assert not re.search(r"^ *9 of 9", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_solutions_are_made_from_the_library_on_request(name, tmp_path):
    result = command(name, tmp_path / "s", "--solutions", module=HANDOUT)
    assert result.returncode == 0, result.stderr
    written = {p.relative_to(tmp_path / "s").as_posix(): p.read_text("utf-8") for p in (tmp_path / "s").rglob("*.py")}
    assert written == solutions(load(name))
    assert "is yours to write" not in "".join(written.values())
    assert written.keys() == to_write(load(name)).keys()


def test_the_guides_commands_are_commands(tmp_path):
    """Every command of the guide is one that the programs understand, and every table of marks is that of the items."""
    guide = (HERE / "README.md").read_text("utf-8")
    commands = re.findall(r"^python -m (tutorials\.assignments\.\w+) (.*?)(?: +#.*)?$", guide, re.MULTILINE)
    assert len(commands) >= 6
    for module, arguments in commands:
        known = command("--help", module=module).stdout
        for option in re.findall(r"--[\w-]+", arguments):
            assert option in known, f"{module} {arguments}"
    for name in NAMES:
        assert f"[{name}]({name}/README.md)" in guide


def test_json_stays_json():
    item = load_items(load("A2"))[0]
    report = Report(load("A2"), submission({}, "x"), [Mark(item, 0, FORGED)])
    assert json.loads(json.dumps(results(report)))["tests"][0]["score"] == 0


def test_feedback_is_one_file_for_each_on_any_system():
    names = ["Ada", "ada", "a/b", "a_b", "x" * 200 + "1", "x" * 200 + "2", "..", "-rf", "~", "a\nb\x1b[2J", "CON:", ""]
    files = list(_file_names(names).values())
    assert len({file.casefold() for file in files}) == len(names)
    assert files[:4] == ["Ada", "ada-2", "a_b", "a_b-2"]
    for file in files:
        assert re.fullmatch(r"[\w\[][^/\\:\n\x1b]{0,110}", file), file


@linux
def test_names_of_files_forge_nothing(tmp_path):
    """A zip's names may hold line ends, and what drives a terminal, a page or a spreadsheet."""
    forged = "x\n 100 / 100  Everything\x1b[2J\u202e<b>=cmd|' /C calc'!A1/"
    with zipfile.ZipFile(tmp_path / "ada.zip", "w") as target:
        for path, text in with_bodies("A2", {"moments": "pass"}).items():
            target.writestr(forged + path, text)
        target.writestr(forged + "notes.txt", "")
    report = grade(load("A2"), read(tmp_path / "ada.zip", load("A2")))
    assert report.score == 90
    for text in (summary(report), markdown(report), table([report]), *(m.feedback for m in report.marks)):
        assert not re.search(r"^ *100 / 100 ", text, re.MULTILINE)
        assert "\x1b" not in text + json.dumps(results(report), ensure_ascii=False)
    assert "\u202e" not in table([report]) + markdown(report)
