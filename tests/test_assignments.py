"""Hand-outs: made from the library, without a solution in them; and right answers get full marks, empty ones none."""

import gc
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.commands import ROOT, command, fails
from tests.submissions import reference, submission, with_bodies, write
from tutorials.assignments import handout
from tutorials.assignments.assignment import HERE, LESSONS, NAMES, AssignmentError, later, load, load_hidden, load_items
from tutorials.assignments.cut import bodies, cut, tree_of
from tutorials.assignments.marking import grade

HANDOUT = "tutorials.assignments.handout"
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can hold a program in")

SOURCE = '''\
class A:
    @property
    def head(
        self,
    ) -> int:
        """What it is."""
        # how it is done
        return 1  # solution

    def kept(self) -> int:
        return 2


    def gone(self) -> str:
        return "the same in words"


def bare(x: int = (1 +
                   2)) -> int:
    # a comment is part of the solution
    def inner() -> int:
        return x
    return inner()


END = 3
'''


def test_cut():
    assert (
        cut(SOURCE, ["A.head", "bare"], "A9", drop=["A.gone"])
        == '''\
class A:
    @property
    def head(
        self,
    ) -> int:
        """What it is."""
        raise NotImplementedError("A9: A.head is yours to write")

    def kept(self) -> int:
        return 2


def bare(x: int = (1 +
                   2)) -> int:
    raise NotImplementedError("A9: bare is yours to write")


END = 3
'''
    )
    with pytest.raises(KeyError, match="no_such"):
        cut(SOURCE, ["no_such"], "A9")


@pytest.mark.parametrize("name", NAMES)
def test_the_copies_in_the_repository_are_up_to_date(name):
    folder = load(name).folder / "handout"
    found = {p.relative_to(folder).as_posix(): p.read_text("utf-8") for p in folder.rglob("*.py")}
    wanted = handout.to_write(load(name))
    assert found.keys() == wanted.keys()
    for path, text in found.items():
        assert text == wanted[path], f"{path} has changed: run `python -m {HANDOUT} --update`"


@pytest.mark.parametrize("name", NAMES)
def test_no_solution_is_in_a_hand_out(name):
    """Not a line of what this or a later assignment cuts or drops, in any of the files, if it says anything."""
    assignment = load(name)
    everything = "\n".join(text for path, text in handout.handout(assignment).items() if path.endswith(".py"))
    lines = {line.strip() for line in everything.splitlines()}
    leaks = []
    for each in (assignment, *later(assignment)):
        for path, names in each.cuts.items():
            source = (each.base / path).read_text("utf-8")
            for function, body in bodies(source, [*names, *each.drop.get(path, ())]).items():
                leaks += [(function, line) for line in body if line in lines and len(line) > 25]
    assert leaks == SHARED.get(name, [])


# Lines that the rest of the library has as well; they give nothing away.
BESIDE = [  # conv2d and the poolings have a vjp as `linear` and other operations do
    ("conv2d", "def vjp_x(g: Array) -> Array:"),
    ("conv2d", "if b.shape != w.shape[:1]:"),
    ("max_pool2d", "def vjp(g: Array) -> Array:"),
    ("avg_pool2d", "def vjp(g: Array) -> Array:"),
]
SHARED = {
    "A1": [("conv2d", "def vjp_x(g: Array) -> Array:")],
    "A2": BESIDE,
    "A3": [
        ("ADAM", 'Given("b1", "how slowly m forgets", "betas[0]"),'),
        ("ADAM", 'Given("eps", "keeps the division finite"),'),
        ("ADAM", 'Line("m", "b1 * m_old + (1 - b1) * g", "mean of the gradient"),'),
        *BESIDE,
    ],
    "A4": BESIDE,
    "A5": [("train_once", "rng = np.random.default_rng(seed)")],
}


@pytest.mark.parametrize("name", NAMES)
def test_marks_add_up_and_the_readme_tells_them(name):
    items = load_items(load(name))
    assert sum(item.marks for item in items) == 100
    readme = (load(name).folder / "README.md").read_text()
    rows = re.findall(r"^\| (.+) \| (\d+) \|$", readme, re.MULTILINE)
    assert rows == [(item.name, str(item.marks)) for item in items]


@pytest.mark.parametrize("name", NAMES)
def test_every_item_names_its_functions_and_a_lesson(name):
    assignment = load(name)
    functions = {each for names in assignment.cuts.values() for each in names}
    lessons = (HERE.parent / "README.md").read_text("utf-8")
    for item in load_items(assignment):
        assert item.of, item.name
        assert functions.issuperset(item.of), item.name
        assert re.search(rf"\| {item.lesson} \| \[{re.escape(LESSONS[item.lesson])}", lessons), item.lesson
    assert functions.issuperset(load_hidden(assignment).parts)


@linux
@pytest.mark.parametrize("name", NAMES)
def test_the_reference_gets_full_marks_and_the_bare_hand_out_none(name):
    assignment = load(name)
    with ThreadPoolExecutor(2) as pool:
        right = list(pool.map(lambda seed: grade(assignment, submission(reference(name)), seed=seed), (2017, 1)))
    for report in right:
        assert report.score == report.most == 100, [m.feedback for m in report.marks]
    bare = grade(assignment, submission(handout.to_write(assignment)))
    assert bare.score == 0
    assert all("is yours to write" in mark.feedback for mark in bare.marks), [m.feedback for m in bare.marks]


@linux
@pytest.mark.parametrize(("name", "other"), [
    ("A1", {
        "matmul": """
            a, b = as_tensor(a), as_tensor(b)
            A, B = (a.data[None] if a.ndim == 1 else a.data), (b.data[:, None] if b.ndim == 1 else b.data)
            y = 0
            for k in reversed(range(A.shape[-1])):
                y = y + A[..., :, k : k + 1] * B[..., k : k + 1, :]
            if b.ndim == 1:
                y = y[..., 0]
            if a.ndim == 1:
                y = y[..., 0, :]
            def back(g):
                return g[None] if a.ndim == 1 else g[..., None] if b.ndim == 1 else g
            def to_a(g):
                g = back(g) @ B.swapaxes(-1, -2)
                return g[0] if a.ndim == 1 else g
            def to_b(g):
                g = A.swapaxes(-1, -2) @ back(g)
                return g[..., 0] if b.ndim == 1 else g
            return record("matmul", y, (a, to_a), (b, to_b))
        """,
        "sum": """
            x = as_tensor(x)
            dims = axes("sum", dim, x.ndim)
            y = x.data[::-1, ::-1].cumsum(0)[-1:]
            for d in (1, 2):
                y = y.cumsum(d).take([-1], d) if d in dims else y
            if 0 not in dims:
                return record("sum", x.data.sum(dims, keepdims=keepdim), (x, _spread(x, dims)))
            for d in (1, 2):
                y = y if d in dims else np.flip(y, d) if d == 1 else y
            y = y if keepdim else y.squeeze(dims)
            return record("sum", y, (x, _spread(x, dims)))
        """,
        "mean": "x = as_tensor(x)\ny = sum(x, dim, keepdim)\nreturn mul(y, np.asarray(y.size / x.size, x.dtype))",
        "sigmoid": """
            x = as_tensor(x)
            with np.errstate(over="ignore"):
                y = 1 / (1 + np.exp(-x.data))
            return record("sigmoid", y, (x, lambda g: g * (y - y * y)))
        """,
    }),
    ("A2", {
        "moments": "m[...] = m + (1 - b1) * (g - m)\nv[...] = (1 - b2) * (g * g) + v * b2",
        "Adam.rule": """
            b1, b2 = self.betas
            moments(g, p, m, v, b1, b2)
            p[...] = -(lr * m) / ((1 - b1**self.t) * ((v / (1 - b2**self.t)) ** 0.5 + self.eps))
        """,
    }),
    ("A4", {
        "conv2d": """
            x, w, b = as_tensor(x), as_tensor(weight), bias
            (kh, kw), (sh, sw), (ph, pw) = w.shape[2:], _pair(stride), _pair(padding)
            xp = xp_of(x.data)
            padded = _pad(x.data, (ph, pw))
            oh, ow = (padded.shape[2] - kh) // sh + 1, (padded.shape[3] - kw) // sw + 1
            def seen(u, v):
                return padded[:, :, u : u + sh * oh : sh, v : v + sw * ow : sw]
            y = 0
            for u in reversed(range(kh)):
                for v in range(kw):
                    y = y + xp.einsum("ncij,oc->noij", seen(u, v), w.data[:, :, u, v])
            def to_x(g):
                dx = xp.zeros_like(padded)
                for u in range(kh):
                    for v in range(kw):
                        dx[:, :, u : u + sh * oh : sh, v : v + sw * ow : sw] += xp.einsum(
                            "noij,oc->ncij", g, w.data[:, :, u, v])
                return _unpad(dx, (ph, pw))
            def to_w(g):
                dw = xp.zeros_like(w.data)
                for u in range(kh):
                    for v in range(kw):
                        dw[:, :, u, v] = xp.einsum("noij,ncij->oc", g, seen(u, v))
                return dw
            edges = [(x, to_x), (w, to_w)]
            if b is not None:
                b = as_tensor(b)
                y = y + b.data[:, None, None]
                edges.append((b, lambda g: g.sum(3).sum(2).sum(0)))
            return record("conv2d", y, *edges)
        """,
    }),
])  # fmt: skip
def test_a_right_answer_in_another_order_gets_full_marks(name, other):
    report = grade(load(name), submission(with_bodies(name, other)))
    assert report.score == 100, [m.feedback for m in report.marks if m.feedback]


@pytest.mark.parametrize("name", NAMES)
def test_public_tests_pass_with_the_reference_and_not_without(name, tmp_path):
    """In the hand-out's folder: its own copy of the library comes first, whether minidl is installed or not."""

    def run():
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [sys.executable, "-W", "error", "test_public.py"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100,
        )  # fmt: skip

    handout.write(handout.handout(load(name)), tmp_path)
    bare = run()
    assert (bare.returncode, bare.stderr) == (1, "")
    assert re.search(r"^0 of \d+ pass$", bare.stdout, re.MULTILINE), bare.stdout
    write(reference(name), tmp_path)
    right = run()
    assert (right.returncode, right.stderr) == (0, "")
    assert "to do" not in right.stdout


def test_public_tests_see_an_edit_in_a_notebook(tmp_path):
    """With IPython's %run or an import, whose modules stay as they were first imported."""
    handout.write(handout.handout(load("A2")), tmp_path)
    write(
        {
            "edit.py": """
import builtins
import shutil

import test_public
from public import run

builtins.__IPYTHON__ = True  # as IPython sets it
run(vars(test_public))
shutil.copytree("solution", ".", dirs_exist_ok=True)
run(vars(test_public))
"""
        },
        tmp_path,
    )
    write(reference("A2"), tmp_path / "solution")
    done = subprocess.run([sys.executable, "edit.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^\d of 6 pass$", done.stdout, re.MULTILINE) == ["0 of 6 pass", "6 of 6 pass"]


def test_a_hand_out_goes_only_into_an_empty_place(tmp_path):
    work = tmp_path / "work" / "optim" / "adam.py"
    work.parent.mkdir(parents=True)
    work.write_text("a night's work")
    with pytest.raises(AssignmentError, match="is not empty"):
        handout.write(handout.handout(load("A2")), tmp_path / "work")
    assert [p.name for p in (tmp_path / "work").rglob("*")] == ["optim", "adam.py"]
    assert work.read_text() == "a night's work"
    message = fails("A2", tmp_path / "work", module=HANDOUT)
    assert "never overwrites" in message
    assert "choose one of A1" in fails("A7", tmp_path / "new", module=HANDOUT)
    assert "is not empty" in fails("A2", work, module=HANDOUT), "a file is no folder"
    result = command("A2", tmp_path / "new", module=HANDOUT)
    assert result.returncode == 0, result.stderr
    assert "optim/sgd.py, optim/adam.py" in result.stdout


def test_the_grader_itself_never_loads_the_library():
    """So nothing of a solution is in the process whose answers count, and a bundle for Gradescope needs only NumPy."""
    code = "import sys, tutorials.assignments.grade\nfrom tutorials.assignments.assignment import *\n"
    code += "for name in NAMES: load_items(load(name))\n"
    code += "print({m.split('.')[0] for m in sys.modules} & {'minidl', 'matplotlib', 'tqdm'})"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert result.stdout == "set()\n", result.stderr


def test_threads_that_grade_at_once_may_all_parse():
    """Where a collection of garbage lets another thread go on, Python 3.11's parser ended in a SystemError."""
    source, failed, end = (ROOT / "optim" / "switch.py").read_text("utf-8"), [], time.monotonic() + 3
    seen, often, interval = lambda *_: [None for _ in range(50)], gc.get_threshold(), sys.getswitchinterval()

    def parse():
        while time.monotonic() < end:
            try:
                tree_of(source)
            except SystemError as error:
                failed.append(error)

    threads = [threading.Thread(target=parse) for _ in range(4)]
    gc.callbacks.append(seen)
    gc.set_threshold(50)
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*often)
        gc.callbacks.remove(seen)
    assert not failed
