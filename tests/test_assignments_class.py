"""A class's work, however it was collected: by a learning platform, by hand, with links and with what is no work."""

import csv
import io
import sys

import pytest

from tests.commands import command
from tests.submissions import write
from tests.test_assignments_wrapping import A2, ADAM, RIGHT, SGD, tarred, zipped
from tutorials.assignments.adjust import read_adjustments
from tutorials.assignments.classroom import students
from tutorials.assignments.regrade import read_marks
from tutorials.assignments.table import cell

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can hold a program in")
GRADE = "tutorials.assignments.grade"

MOODLE = {
    "Ada Lovelace_101_assignsubmission_file_/optim/sgd.py": SGD,
    "Ada Lovelace_101_assignsubmission_file_/optim/adam.py": ADAM,
    "Ada Lovelace_101_assignsubmission_onlinetext_/onlinetext.html": b"<p>done</p>",
    "Bob Zuse_102_assignsubmission_file_/A2.zip": zipped(RIGHT),
    "Cy Ü_103_assignsubmission_file_/essay.pdf": b"%PDF",
}
CANVAS = {
    "lovelaceada_101_7001_sgd.py": SGD, "lovelaceada_101_7002_adam-1.py": ADAM,
    "zusebob_LATE_102_7003_A2.zip": zipped(RIGHT), "ücy_103_7004_essay.pdf": b"%PDF",
}  # fmt: skip
MOODLE_FLAT = {
    "Ada Lovelace_101_assignsubmission_file_sgd.py": SGD,
    "Ada Lovelace_101_assignsubmission_file_adam.py": ADAM,
    "Ada Lovelace_101_assignsubmission_onlinetext_onlinetext.html": b"<p>done</p>",
    "Bob Zuse_102_assignsubmission_file_A2.zip": zipped(RIGHT),
    "Cy Ü_103_assignsubmission_file_essay.pdf": b"%PDF",
}
CANVAS_ANONYMOUS = {
    "anon_A1b2C_7001_sgd.py": SGD, "anon_A1b2C_7002_adam-1.py": ADAM,
    "anon_LATE_Zz9_7003_A2.zip": zipped(RIGHT), "anon_q7_7004_essay.pdf": b"%PDF",
}  # fmt: skip
FIRST, LAST = "2026-01-14-09-00-00", "2026-01-15-14-30-22"
BLACKBOARD = {
    f"SGD_and Adam_ada1_attempt_{FIRST}_adam.py": b"old", f"SGD_and Adam_ada1_attempt_{FIRST}_sgd.py": b"old",
    f"SGD_and Adam_ada1_attempt_{LAST}_sgd.py": SGD, f"SGD_and Adam_ada1_attempt_{LAST}_adam.py": ADAM,
    f"SGD_and Adam_ada1_attempt_{LAST}.txt": b"Name: Ada", f"SGD_and Adam_bob2_attempt_{FIRST}.txt": b"Name: Bob",
    f"SGD_and Adam_bob2_attempt_{FIRST}_A2.zip": zipped(RIGHT),
    f"SGD_and Adam_cy3_attempt_{FIRST}_essay.pdf": b"%PDF",
}  # fmt: skip
BRIGHTSPACE = {
    "12-34 - Ada Lovelace - Jan 15, 2026 230 PM - sgd.py": SGD,
    "12-34 - Ada Lovelace - Jan 15, 2026 230 PM - adam.py": ADAM,
    "12-35 - Bob Zuse - Jan 15, 2026 1131 AM/A2.zip": zipped(RIGHT),
    "12-36 - Cy Ü - Jan 14, 2026 900 AM/essay.pdf": b"%PDF",
}
NBGRADER = {
    **{f"ada/A2/{p}": d for p, d in RIGHT.items()}, "ada/A3/optim/sgd.py": b"1", "ada/A2/timestamp.txt": b"2026",
    "bob/A2/A2.zip": zipped(RIGHT), "bob/A1/minidl/ops.py": b"1", "cy/A2/essay.pdf": b"%PDF",
}  # fmt: skip
NAMES = {
    "Moodle, side by side": (MOODLE_FLAT, ["Ada Lovelace_101", "Bob Zuse_102", "Cy Ü_103"]),
    "Canvas, without names": (CANVAS_ANONYMOUS, ["anon_A1b2C", "anon_Zz9", "anon_q7"]),
    "Blackboard": (BLACKBOARD, ["ada1", "bob2", "cy3"]),
    "Brightspace": (BRIGHTSPACE, ["Ada Lovelace", "Bob Zuse", "Cy Ü"]),
    "nbgrader": (NBGRADER, ["ada", "bob", "cy"]),
    "Moodle": (MOODLE, ["Ada Lovelace_101", "Bob Zuse_102", "Cy Ü_103"]),
    "Canvas": (CANVAS, ["lovelaceada_101", "zusebob_102", "ücy_103"]),
}


@pytest.mark.parametrize("how", ["folder", "zip", "zip with a folder"])
@pytest.mark.parametrize("page", NAMES)
def test_exports_of_a_class(page, how, tmp_path):
    files, names = NAMES[page]
    if how == "folder":
        place = write(files, tmp_path / "class")
    else:
        prefix = "A2 all 2024/" if how != "zip" else ""
        (place := tmp_path / "class.zip").write_bytes(zipped({prefix + path: data for path, data in files.items()}))
    works = {name: reader() for name, reader in students(place, A2).items()}
    assert list(works) == names
    for work in list(works.values())[:2]:
        assert list(work.files.values()) == [SGD, ADAM]
    assert works[names[2]].files == {}
    assert "essay.pdf): hand it in under this name" in works[names[2]].problems["optim/sgd.py"]


def test_of_several_attempts_the_last_counts_and_a_row_says_so(tmp_path):
    (tmp_path / "class.zip").write_bytes(zipped(BLACKBOARD))
    for place in (write(BLACKBOARD, tmp_path / "class"), tmp_path / "class.zip"):
        rows = students(place, A2)["ada1"]().skipped
        assert rows[f"SGD_and Adam_ada1_attempt_{FIRST}_adam.py"] == f"an earlier attempt than the one of {LAST}"


OLD = ADAM + b"# old\n"
TWICE = {
    "Canvas": {"lee_1_20_sgd.py": SGD, "lee_1_21_adam.py": OLD, "lee_LATE_1_100_adam-1.py": ADAM},
    "Canvas, late": {"lee_LATE_1_9_A2.zip": zipped({"adam.py": OLD}), "lee_1_10_A2.zip": zipped(RIGHT)},
    "Canvas, archives": {"lee_1_9_A2.tar.gz": tarred({"adam.py": OLD}), "lee_1_10_A2-1.tar.gz": tarred(RIGHT)},
    "Brightspace": {
        "1-2 - lee_1 - Feb 9, 2026 1130 PM - adam.py": OLD,
        "1-2 - lee_1 - Feb 10, 2026 1215 AM - adam.py": ADAM,
        "1-2 - lee_1 - Jan 30, 2026 100 PM - sgd.py": SGD,
    },
    "Brightspace, folders": {
        "1-2 - lee_1 - February 9, 2026 1259 PM/sgd.py": SGD,
        "1-2 - lee_1 - February 9, 2026 1259 PM/adam.py": ADAM,
        "1-2 - lee_1 - February 9, 2026 300 AM/adam.py": OLD,
    },
}  # fmt: skip


@pytest.mark.parametrize("how", TWICE)
def test_what_came_last_counts_by_its_number_or_date_and_a_row_tells_of_the_other(how, tmp_path):
    (tmp_path / "class.zip").write_bytes(zipped(TWICE[how]))
    for place in (write(TWICE[how], tmp_path / "class"), tmp_path / "class.zip"):
        work = students(place, A2)["lee_1"]()
        assert list(work.files.values()) == [SGD, ADAM]
        assert "handed in before" in str(work.skipped) or "has it twice: the last one counts" in str(work.skipped)


NAMESAKES = {
    "Blackboard": (
        {
            f"A_2_a_weber_attempt_{FIRST}_sgd.py": SGD, f"A_2_a_weber_attempt_{LAST}_adam.py": ADAM,
            f"A_2_b_weber_attempt_{LAST}_sgd.py": SGD, f"A_2_cy3_attempt_{LAST}_sgd.py": SGD,
        },
        {"a_weber": ["optim/adam.py"], "b_weber": ["optim/sgd.py"], "cy3": ["optim/sgd.py"]},
    ),
    "Brightspace": (
        {
            "7-2 - Ada Ü - Jan 9, 2026 900 AM/sgd.py": SGD, "7-2 - Ada Ü - Jan 8, 2026 900 AM/adam.py": ADAM,
            "8-2 - Ada Ü - Jan 10, 2026 900 AM/sgd.py": SGD, "9-2 - Bob - Jan 10, 2026 900 AM/sgd.py": SGD,
        },
        {"7-2 - Ada Ü": ["optim/sgd.py", "optim/adam.py"], "8-2 - Ada Ü": ["optim/sgd.py"], "Bob": ["optim/sgd.py"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("page", NAMESAKES)
def test_two_of_one_name_stay_two(page, tmp_path):
    files, expected = NAMESAKES[page]
    (tmp_path / "class.zip").write_bytes(zipped(files))
    for place in (write(files, tmp_path / "class"), tmp_path / "class.zip"):
        assert {name: list(reader().files) for name, reader in students(place, A2).items()} == expected


def test_what_was_written_on_canvas_is_its_students(tmp_path):
    works = students(write({"lee_1_text.html": b"sgd", "ada_2_9_sgd.py": SGD}, tmp_path), A2)
    assert list(works) == ["ada_2", "lee_1"]
    assert works["lee_1"]().files == {}


@pytest.mark.parametrize("prefix", ["", "A2 all/"])
def test_an_empty_folder_is_a_student_who_has_handed_in_nothing(prefix, tmp_path):
    files = {
        "": b"",
        "__MACOSX/": b"",
        ".git/": b"",
        "ada/": b"",
        "ada/A2.zip": zipped(RIGHT),
        "ada/none/": b"",
        "bob/": b"",
        "cy/adam.py": ADAM,
    }
    (tmp_path / "class.zip").write_bytes(zipped({prefix + path: data for path, data in files.items() if prefix + path}))
    works = {name: reader() for name, reader in students(tmp_path / "class.zip", A2).items()}
    assert {name: len(work.files) for name, work in works.items()} == {"ada": 2, "bob": 0, "cy": 1}
    assert "it has nothing" in works["bob"].problems["optim/sgd.py"]


def test_two_canvas_files_of_one_hand_in_stay_two(tmp_path):
    files = {"lee_1_1_part-1.zip": zipped({"sgd.py": SGD}), "lee_1_2_part-2.zip": zipped({"adam.py": ADAM})}
    assert list(students(write(files, tmp_path), A2)["lee_1"]().files.values()) == [SGD, ADAM]


def test_links_in_a_class_are_not_followed(tmp_path):
    secret = write(RIGHT, tmp_path / "secret")
    group = write({"ada/sgd.py": SGD}, tmp_path / "class")
    for name, target in (
        ("bob", secret), ("cy.py", secret / "optim/sgd.py"), ("dee", tmp_path / "nowhere"),
        ("eve_1_2_adam.py", secret / "optim/adam.py"), ("fay_1_assignsubmission_file_", secret),
    ):  # fmt: skip
        (group / name).symlink_to(target)
    works = {name: reader() for name, reader in students(group, A2).items()}
    assert [name for name, work in works.items() if work.files] == ["ada"]
    for name in ("bob", "cy.py", "dee"):
        assert "is a link, which is not followed" in works[name].ungraded
    for name in ("eve_1", "fay_1"):
        assert "a link, which is not followed" in str(works[name].skipped)


def test_what_one_hands_in_takes_nothing_from_the_others(tmp_path):
    """A class's archive with 300 MB of archives in it, of which one student's alone are too many."""
    bombs = {f"aa/{i}.zip": bytes(60 << 20) for i in range(5)}
    (tmp_path / "class.zip").write_bytes(zipped(bombs | {"zoe.zip": zipped(RIGHT), "grades.csv": b"zoe,1"}))
    works = {name: reader() for name, reader in students(tmp_path / "class.zip", A2).items()}
    assert works["zoe.zip"].files == RIGHT
    assert "it can't be read as a zip archive" in str(works["aa"].skipped)
    assert "archives of more than 256 MB in all" in str(works["aa"].skipped)
    assert works["grades.csv"].ungraded == "grades.csv is not a folder, an archive or a .py file"
    (tmp_path / "outer.zip").write_bytes(zipped({"all.zip": zipped({"ada.zip": zipped(RIGHT), "bob/sgd.py": SGD})}))
    works = {name: reader() for name, reader in students(tmp_path / "outer.zip", A2).items()}
    assert {name: list(work.files) for name, work in works.items()} == {
        "ada.zip": ["optim/sgd.py", "optim/adam.py"], "bob": ["optim/sgd.py"],
    }  # fmt: skip


@linux
def test_a_class_with_everything_in_it(tmp_path):
    group = write({f"a/{p}": d for p, d in RIGHT.items()} | {"notes.txt": b"?", ".DS_Store": b"x"}, tmp_path / "class")
    (group / "b.ZIP").write_bytes(zipped(RIGHT))
    (group / "c").write_bytes(tarred(RIGHT))
    (group / "d.rar").write_bytes(b"Rar!\x1a\x07\x00")
    (group / "=cmd|' calc'!A1").mkdir()
    (group / "ü").mkdir()
    result = command("A2", group, "--csv", tmp_path / "marks.csv", module=GRADE)
    assert (result.returncode, result.stderr) == (0, "")
    assert "5 submissions, 60.0 marks on average" in result.stdout
    text = (tmp_path / "marks.csv").read_text("utf-8")
    assert text[0] == "\ufeff", "Excel needs it where a name is not ASCII"
    rows = {row["submission"]: row for row in csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))}
    assert {name: row["score"] for name, row in rows.items()} == {
        "a": "100", "b.ZIP": "100", "c": "100", "d.rar": "", "notes.txt": "", "'=cmd|' calc'!A1": "0", "ü": "0",
    }  # fmt: skip
    assert "a rar archive" in rows["d.rar"]["not graded"]
    assert "is not a folder, an archive or a .py file" in rows["notes.txt"]["not graded"]


@pytest.mark.parametrize("code", ["ascii", "cp1252"])
def test_a_name_that_the_console_has_no_letters_for_costs_no_class(code, tmp_path, monkeypatch):
    """Once the whole class's marks were lost to a traceback, at the first such student."""
    monkeypatch.setenv("PYTHONIOENCODING", code)
    for name in ("ada", "Łukasz"):
        (tmp_path / "class" / name).mkdir(parents=True)
    result = command("A2", tmp_path / "class", "--csv", tmp_path / "marks.csv", module=GRADE)
    assert (result.returncode, result.stderr) == (0, "")
    assert "\\u0141ukasz" in result.stdout
    rows = csv.DictReader(io.StringIO((tmp_path / "marks.csv").read_text("utf-8-sig")))
    assert {row["submission"] for row in rows} == {"ada", "Łukasz"}


def test_no_cell_is_a_formula():
    for text in ("=1+1", "+1", "-1", "@x", "\t=1", " =1", "\r=1", "|x", "%x", "\n=1"):
        assert cell(text).startswith("'"), text
    for text in ("\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20x"):
        assert cell(text).startswith("'"), "a spreadsheet in Japanese takes the wide forms, too"
    assert cell("a;=1+1;b") == "a;'=1+1;b", "where lists have semicolons, this begins a cell"
    assert cell("a; @x") == "a; '@x"
    assert cell('a;"=1+1;"') == 'a;"\'=1+1;"', "doubled in the file, the quotation marks are an empty text before it"
    assert cell("a=1") == "a=1"
    assert cell(-1) == -1
    assert cell("a\nb\x1b[2J") == "a | b?[2J"


@pytest.mark.parametrize(("mark", "code"), [(";", "cp1252"), ("\t", "utf-16"), (",", "utf-8-sig"), (";", "utf-8")])
def test_tables_are_read_as_spreadsheets_save_them(mark, code, tmp_path):
    rows = [["submission", "item", "marks", "reason"], ["Jörg, M.", "a; b", "5", "Zur Hälfte"], ["", "", "", ""]]
    text = io.StringIO()
    csv.writer(text, delimiter=mark).writerows(rows)
    (tmp_path / "own.csv").write_bytes(text.getvalue().encode(code))
    found, nobodys = read_adjustments(tmp_path / "own.csv", ["Jörg, M."])
    assert (found, nobodys) == ({("Jörg, M.", "a; b"): (5, "Zur Hälfte")}, [])
    folder = "Jo\u0308rg, M."  # as a Mac may write it
    assert read_adjustments(tmp_path / "own.csv", [folder]) == ({(folder, "a; b"): (5, "Zur Hälfte")}, [])
    (tmp_path / "marks.csv").write_bytes(f"submission{mark}score{mark}sha256\r\nJörg{mark}7{mark}\r\n".encode(code))
    assert read_marks(tmp_path / "marks.csv")["Jörg"]["score"] == "7"
