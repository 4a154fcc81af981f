"""A right answer never gets 0 for its wrapping: archives, folders and names as students and upload pages make them."""

import bz2
import gzip
import io
import json
import lzma
import sys
import tarfile
import time
import warnings
import zipfile

import pytest

from tests.submissions import reference, write
from tutorials.assignments import archive
from tutorials.assignments.assignment import AssignmentError, load
from tutorials.assignments.gradescope import heading
from tutorials.assignments.handout import handout, to_write
from tutorials.assignments.marking import Report, grade
from tutorials.assignments.submission import read
from tutorials.assignments.text import as_utf8

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can hold a program in")
GRADE = "tutorials.assignments.grade"
A2 = load("A2")
RIGHT = {path: text.encode() for path, text in reference("A2").items()}
BARE = {path: text.encode() for path, text in to_write(A2).items()}
SGD, ADAM = RIGHT["optim/sgd.py"], RIGHT["optim/adam.py"]


Files = dict[str, bytes] | list[tuple[str, bytes]]  # a list may hold a name twice


def zipped(files: Files) -> bytes:
    """A zip, whose names are taken as they are."""
    data = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as target:
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, content in files.items() if isinstance(files, dict) else files:
            target.writestr(name, content)
    return data.getvalue()


def tarred(files: Files, mode: str = "w:gz") -> bytes:
    """A tar."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as target:
        for name, content in files.items() if isinstance(files, dict) else files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            target.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def notebook(code: bytes | str, *before: str) -> bytes:
    """A notebook of Jupyter's: a text, a magic, the cells before, and this code in two cells."""
    lines = (code if isinstance(code, str) else code.decode()).splitlines(keepends=True)
    half = next((i for i in range(len(lines) // 2, len(lines)) if lines[i][:1].isalpha()), 0)
    parts = [["%matplotlib inline\n", "!pip install numpy"], *before, lines[:half], lines[half:]]
    cells = [{"cell_type": "code", "source": part, "outputs": [], "metadata": {}} for part in parts]
    cells.insert(0, {"cell_type": "markdown", "source": "def no_code(:", "metadata": {}})  # type: ignore[dict-item]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


FLAT = {"sgd.py": SGD, "adam.py": ADAM}
WHOLE = {path: text.encode() for path, text in handout(A2).items()} | RIGHT
ENVIRONMENT = {f"aenv/lib/python3.11/m{i}/adam.py": b"1" for i in range(2500)} | {"aenv/pyvenv.cfg": b"home = /usr"}

# What is handed in: a folder's files, or one file of this name.
LAYOUTS: dict[str, dict[str, bytes] | tuple[str, bytes]] = {
    "a folder": RIGHT,
    "side by side": FLAT,
    "the whole hand-out": WHOLE,
    "folders in folders": {f"home/me/A2 Lovelace/A2/{path}": data for path, data in RIGHT.items()},
    "a zip": ("a.zip", zipped(RIGHT)),
    "a zip in capitals": ("A2.ZIP", zipped(RIGHT)),
    "a zip without a name": ("submission", zipped(RIGHT)),
    "a zip called rar": ("a.rar", zipped(RIGHT)),
    "a zip from PowerShell": ("a.zip", zipped({f"A2\\{p.replace('/', chr(92))}": d for p, d in RIGHT.items()})),
    "a zip from a Mac": ("a.zip", zipped({**{f"A2/{p}": d for p, d in RIGHT.items()}, "A2/.DS_Store": b"x",
                                          "__MACOSX/A2/optim/._sgd.py": b"x", "A2/optim/._adam.py": b"x"})),
    "a zip from VS Code": ("a.zip", zipped({**RIGHT, ".history/optim/adam_20240101.py": b"1", ".vscode/adam.py": b"2",
                                            "hw/.history/optim/adam.py": b"3", "__pycache__/adam.py": b"4"})),
    "a zip in a zip": ("a.zip", zipped({"A2.zip": zipped(RIGHT)})),
    "a zip in a folder": {"A2 (final).zip": zipped(RIGHT), "report.pdf": b"%PDF"},
    "a tar": ("a.tar", tarred(RIGHT, "w")),
    "a tar.gz": ("a.tar.gz", tarred(RIGHT)),
    "a tgz with ./ before": ("a.tgz", tarred({f"./{p}": d for p, d in RIGHT.items()})),
    "a tar.bz2": ("a.tar.bz2", tarred(RIGHT, "w:bz2")),
    "a tar.xz called zip.txt": ("a.zip.txt", tarred(RIGHT, "w:xz")),
    "each file in an archive": {"sgd.py.gz": gzip.compress(SGD), "adam.zip": zipped({"adam.py": ADAM})},
    "each file compressed": {"sgd.py.bz2": bz2.compress(SGD), "adam.py.xz": lzma.compress(ADAM)},
    "a browser's second copies": {"sgd (1).py": SGD, "adam(2).py": ADAM},
    "an empty upload beside the right one": {**FLAT, "optim/adam.py": b"", "optim/sgd.py": b"\n"},
    "a browser's second copies beside the bare ones": {**BARE, "sgd (1).py": SGD, "adam (1).py": ADAM},
    "Canvas's second copies": {"sgd-1.py": SGD, "adam-2.py": ADAM},
    "a Mac's copies": {"sgd copy.py": SGD, "adam 2.py": ADAM},
    "Windows' copies": {"sgd - Copy.py": SGD, "adam - Copy (2).py": ADAM},
    "a mail program's endings": {"sgd.py.txt": SGD, "adam.txt": ADAM},
    "capitals": {"Optim/SGD.py": SGD, "OPTIM/Adam.PY": ADAM},
    "named after the student": {"lovelace_sgd.py": SGD, "adam_final_v2.py": ADAM},
    "old versions of the course": {"A2_sgd.py": SGD, "A2-adam-final.py": ADAM, "test_adam.py": b"1"},
    "twice the same": {**RIGHT, **{f"copy/{p}": d.replace(b"\n", b"\r\n") for p, d in RIGHT.items()}},
    "twice, one of them bare": {**{f"A2/{p}": d for p, d in BARE.items()},
                                **{f"A2 - Copy/{p}": d for p, d in RIGHT.items()}},
    "a virtual environment": {**RIGHT, **ENVIRONMENT},
    "a virtual environment in a zip": ("a.zip", zipped({**ENVIRONMENT, ".venv/lib/optim/adam.py": b"1",
                                                        **{f"z/{p}": d for p, d in RIGHT.items()}})),
    "installed packages": {**RIGHT, "lib/site-packages/torch/optim/adam.py": b"1", "node_modules/x/adam.py": b"2"},
    "Windows' line ends": {p: d.replace(b"\n", b"\r\n") for p, d in RIGHT.items()},
    "an old Mac's line ends": {p: d.replace(b"\n", b"\r") for p, d in RIGHT.items()},
    "a byte order mark": {p: b"\xef\xbb\xbf" + d for p, d in RIGHT.items()},
    "UTF-16 of Windows' editor": {p: d.decode().encode("utf-16") for p, d in RIGHT.items()},
    "UTF-16 without a mark": {p: d.decode().encode("utf-16-le") for p, d in RIGHT.items()},
    "a code page without a word of it": {p: d + "# gelöst von Jürgen\n".encode("cp1252") for p, d in RIGHT.items()},
    "a code page that is named": {p: b"# -*- coding: cp1252 -*-\n# J\xfcrgen\n" + d for p, d in RIGHT.items()},
    "much printing": {p: d + b"\nprint('x' * 2_000_000)\n" for p, d in RIGHT.items()},
    "notebooks": {"sgd.ipynb": notebook(SGD), "optim/adam (1).ipynb": notebook(ADAM)},
    "notebooks of Colab": {f"{name}.ipynb": notebook(data, "import numpy as np", "pip install numpy", "%%bash\nls *.py",
                                                     "%%time\nn = 1", "?len\nfiles = !ls\nt = %time 1")
                           for name, data in (("sgd", SGD), ("adam", ADAM))},
    "notebooks that write modules": {f"{name}.ipynb": notebook("%%writefile x.py\n" + data.decode())
                                     for name, data in (("sgd", SGD), ("adam", ADAM))},
    "a notebook beside the module": {**RIGHT, "adam.ipynb": notebook("x = 1")},
    "other homework beside it": {**{f"A2/{p}": d for p, d in RIGHT.items()}, "A3/optim/sgd.py": b"1",
                                 "A1/minidl/tensor.py": b"2", "A2/timestamp.txt": b"2026-01-15"},
    "paths that lead elsewhere": ("a.zip", zipped({"../../optim/sgd.py": SGD, "C:\\Users\\ada\\optim\\adam.py": ADAM})),
    "names that differ in case": ("a.zip", zipped({"optim/ADAM.py": b"1", "optim/Sgd.py": b"2", **RIGHT})),
    "a name twice in a zip": ("a.zip", zipped([("adam.py", b"old"), *FLAT.items(), ("sgd.py", SGD)])),
    "a name twice in a tar": ("a.tar.gz", tarred([("optim/adam.py", b"old"), *RIGHT.items()])),
    "printing in a function": {p: d.replace(b"        b1, b2 = self.betas\n", b"        b1, b2 = self.betas\n        "
                                            b"print('step', self.t, g)\n") for p, d in RIGHT.items()},
}  # fmt: skip


def handed_in(layout, folder):
    """Where this layout lies."""
    folder.mkdir()
    if isinstance(layout, dict):
        return write(layout, folder)
    (folder / layout[0]).write_bytes(layout[1])
    return folder / layout[0]


@linux
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_wrapping_costs_nothing(name, tmp_path):
    report = grade(A2, read(handed_in(LAYOUTS[name], tmp_path / "student"), A2))
    assert report.score == 100, heading(report) + str([m.feedback for m in report.marks])


def said(layout, tmp_path) -> tuple[Report, str]:
    report = Report(A2, read(handed_in(layout, tmp_path / "student"), A2), [])
    return report, heading(report)


@pytest.mark.parametrize(("name", "rows"), [
    ("a virtual environment", ["not graded: aenv/: a virtual environment"]),
    ("a zip from VS Code", ["not graded: .history/: a hidden folder", "not graded: hw/.history/: a hidden folder",
                            "not graded: __pycache__/: compiled files"]),
    ("a zip from a Mac", ["not graded: __MACOSX/: macOS metadata"]),
    ("installed packages", ["not graded: lib/site-packages/: installed packages"]),
    ("a zip in a folder", ["not graded: one other file: not asked for (report.pdf)"]),
    ("a browser's second copies", ["from sgd (1).py", "from adam(2).py"]),
    ("twice, one of them bare", ["from A2 - Copy/optim/sgd.py",
                                 "not graded: A2/optim/sgd.py: optim/sgd.py was taken from A2 - Copy/optim/sgd.py"]),
    ("other homework beside it", ["A3/: another assignment", "A1/: another assignment"]),
    ("notebooks", ["from sgd.ipynb", "from optim/adam (1).ipynb"]),
    ("a notebook beside the module", ["not graded: adam.ipynb: optim/adam.py was taken from optim/adam.py"]),
    ("names that differ in case", ["optim/ADAM.py: optim/adam.py was taken from optim/adam.py"]),
    ("a name twice in a zip", ["adam.py, first copy: the archive has it twice: the last one counts"]),
    ("a name twice in a tar", ["optim/adam.py, first copy: the archive has it twice: the last one counts"]),
    ("old versions of the course", ["not asked for (test_adam.py)"]),
])  # fmt: skip
def test_what_is_not_graded_has_a_row_that_says_why(name, rows, tmp_path):
    _, text = said(LAYOUTS[name], tmp_path)
    for row in rows:
        assert row in text


@pytest.mark.parametrize(("layout", "why"), [
    ({"sgd.py": SGD, "notes.7z": b"7z\xbc\xaf\x27\x1c\x00\x00"}, "notes.7z: a 7z archive, which can't be opened here"),
    ({"sgd.py": SGD, "work.rar": b"Rar!\x1a\x07\x00"}, "work.rar: a rar archive"),
    ({"sgd.py": SGD, "work.zip": b"PK\x03\x04 torn"}, "work.zip: it can't be read as a zip archive"),
    ({"sgd.py": SGD, "work.zip": b"not at all"}, "work.zip: it can't be read as a zip archive"),
    ({"sgd.py": SGD, "adam.rs": b"{}"}, "it has adam.rs, sgd.py): hand it in under this name"),
    ({"sgd.py": SGD, "adam.ipynb": b"{}"}, "adam.ipynb can't be read as a notebook: hand in a .py file"),
    ({"sgd.py": SGD, "adam.ipynb": notebook("")}, "adam.ipynb is a notebook without code: hand in a .py file"),
    ({"sgd.py": SGD, "adam.py": b"\xef\xbb\xbf \r\n"}, "adam.py is empty: hand in the file with your code"),
    ({"sgd.py": SGD, "a/adam.py": b"a = 1", "b/adam.py": b"b = 1"}, "several files named adam.py (a/adam.py, b/"),
    ({"sgd.py": SGD, "adam.py": bytes(archive.LARGEST + 1)}, "more than 1,048,576 bytes"),
])  # fmt: skip
def test_a_file_that_cannot_be_graded_says_why(layout, why, tmp_path):
    report, text = said(layout, tmp_path)
    assert why in report.submission.problems["optim/adam.py"] + text
    assert report.submission.files == {"optim/sgd.py": SGD}


def test_a_file_is_never_taken_for_another(tmp_path):
    a1 = load("A1")
    right = {path: text.encode() for path, text in reference("A1").items()}
    del right["minidl/ops.py"]
    right["minidl/ops_conv.py"] = b"1"
    work = read(write(right, tmp_path / "student"), a1)
    assert work.files == {path: data for path, data in right.items() if path in a1.cuts}
    assert "there is no ops.py" in work.problems["minidl/ops.py"]


def test_a_single_file_may_have_any_name(tmp_path):
    (tmp_path / "Homework 4.py").write_text(reference("A4")["minidl/ops_conv.py"])
    assert list(read(tmp_path / "Homework 4.py", load("A4")).files) == ["minidl/ops_conv.py"]


def test_bombs_end_early(tmp_path):
    for name, data in (
        ("a.tar.gz", tarred({"adam.py": bytes(200 << 20)})),
        ("a.zip", zipped({f"{i}.zip": zipped({"x": bytes(archive.LARGEST_ARCHIVE + 1)}) for i in range(3)})),
        ("b.zip", zipped({"a.zip": zipped({"b.zip": zipped({"c.zip": zipped({"d.zip": zipped(FLAT)})})})})),
    ):
        (tmp_path / name).write_bytes(data)
    with pytest.raises(AssignmentError, match="decompresses to more than 64 MB"):
        read(tmp_path / "a.tar.gz", A2)
    assert read(tmp_path / "a.zip", A2).files == {}
    deep = read(tmp_path / "b.zip", A2)
    assert deep.files == {}
    assert "hand in the files themselves" in str(deep.skipped)


def test_bombs_of_names_end_early(tmp_path):
    """What a table of contents, a sparse file or a name costs is no more than what it is worth."""
    table = zipped({f"{i:05}" + "x" * 300: b"" for i in range(60_000)})  # 20 MB, which take ten times as much to read
    sparse = io.BytesIO()
    with tarfile.open(fileobj=sparse, mode="w", format=tarfile.PAX_FORMAT) as target:
        for i in range(100):  # holes of 60 MB each
            entry = tarfile.TarInfo(f"{i}.py")
            entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(60 << 20)}
            entry.size = 512
            target.addfile(entry, io.BytesIO(b"0\n".ljust(512, b"\0")))
    long = zipped({"-1" * 32_000 + f"{i}.py": b"" for i in range(200)} | {"a/" * 30_000 + "adam.py": b"", **FLAT})
    (tmp_path / "c.zip").write_bytes(table)
    with pytest.raises(AssignmentError, match="a central directory of more than 16 MB"):
        read(tmp_path / "c.zip", A2)
    for name, data, why in (
        ("a.zip", zipped({"in.zip": table}), "a central directory of more than 16 MB"),
        ("b.zip", zipped({"in.tar": sparse.getvalue()}), "a tar archive of more than 64 MB"),
        ("d.zip", long, "a path of more than 1,000 characters"),
    ):
        (tmp_path / name).write_bytes(data)
        begin = time.process_time()
        assert why in str(read(tmp_path / name, A2).skipped), name
        assert time.process_time() - begin < 3, name
    assert list(read(tmp_path / "d.zip", A2).files) == ["optim/sgd.py", "optim/adam.py"]


def test_links_in_a_folder_are_not_followed(tmp_path):
    write(dict.fromkeys(RIGHT, b"SECRET = 42"), tmp_path / "secret")
    student = write({"report.txt": b"x"}, tmp_path / "student")
    (student / "optim").symlink_to(tmp_path / "secret/optim")
    work = read(student, A2)
    assert work.files == {}
    assert work.skipped["optim/"] == "a link to a folder, which is not followed"


def test_links_in_a_tar_are_not_followed(tmp_path):
    secret = tmp_path / "secret.py"
    secret.write_text("SECRET = 42")
    with tarfile.open(tmp_path / "a.tar", "w") as target:
        for name, kind in (("sgd.py", tarfile.SYMTYPE), ("adam.py", tarfile.LNKTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, str(secret)
            target.addfile(entry)
    work = read(tmp_path / "a.tar", A2)
    assert work.files == {}
    assert all("is a link" in why for why in work.problems.values())


def test_encodings():
    text = "x = 'ü'\n"
    for encoding in ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"):
        assert as_utf8(text.encode(encoding)).decode("utf-8-sig") == text, encoding
    for untouched in (b"# coding: latin-1\nx = '\xfc'\n", b"\x00\x01\x02", b"", b"\xef\xbb\xbfx = 1\n"):
        assert as_utf8(untouched) == untouched
