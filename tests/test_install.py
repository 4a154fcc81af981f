"""What a user's folder holds never hides a part of minidl, however that is installed, and minidl hides nothing there.

minidl is built and installed here as a user does it: from a clone, with pip, into an environment of its own that sees
the libraries of this one. The programs are then started where the names collide.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from minidl.data import write_idx
from tutorials.assignments import handout
from tutorials.assignments.assignment import load

pytestmark = [
    pytest.mark.install,
    pytest.mark.skipif(sys.platform == "win32", reason="the environments are put together of links"),
]
ROOT = Path(__file__).parent.parent
HOUSE = ("minidl", "optim", "data", "tests", "tutorials", "pyproject.toml", "README.md", "LICENSE")
NO_SOURCE = shutil.ignore_patterns("__pycache__", "*.ipynb", "figures", ".*")

# What may lie in the folder in which a program is started. `who` tells a user's own module from minidl's.
COLLISIONS: dict[str, dict[str, str]] = {
    "folders of files": {"data/mine.csv": "1,2\n", "optim/notes.txt": "adam\n"},
    "folders of Python": {
        "data/__init__.py": "who = 'the user'",
        "optim/__init__.py": "who = 'the user'",
        "optim/adam.py": "who = 'the user'",
    },
    "files": {"data.py": "who = 'the user'", "optim.py": "who = 'the user'"},
    "tutorials/ and tests/": {
        "tutorials/first.py": "who = 'the user'",
        "tests/__init__.py": "",
        "tests/test_mine.py": "who = 'the user'",
    },
}
OLDER = ("optim/__init__.py", "data/idx.py", "minidl/old.py")  # what a build of the former layout left in build/lib
OTHER_MINIDL = {"minidl/notes.txt": "a folder of notes on minidl\n"}
ALL = {path: text for files in COLLISIONS.values() for path, text in files.items()}

IMPORTS = """
import sys
import minidl, minidl.train, minidl.predict, minidl.tune, minidl.teach.show
import minidl.study.__main__, minidl.trace.__main__
from minidl.optim import Adam
from minidl.data import load_mnist
assert Adam is minidl.optim.adam.Adam
print(*{m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "minidl"}, sep="\\n")
"""
LOADED = """
import sys
from minidl import load_run
from minidl.data import read_idx
for i, row in enumerate(load_run("run").predict(read_idx(sys.argv[1]))):
    print(f"[{i}]: {row.argmax()}")
"""
THEIRS = """
import importlib, os, pathlib
for name in ("data", "optim"):
    if any(pathlib.Path().glob(name + "*")):
        module = importlib.import_module(name)
        places = [module.__file__] if module.__file__ else list(module.__path__)
        assert os.path.dirname(os.path.abspath(places[0])).startswith(os.getcwd()), places
        assert module.__file__ is None or module.who == "the user", module
"""


def run(python: Path | str, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    environment = {**kept, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PIP_RETRIES": "1"}
    return subprocess.run([python, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def good(python: Path | str, *words: str | Path, cwd: Path) -> str:
    """What the command prints; it must end well."""
    result = run(python, *words, cwd=cwd)
    assert result.returncode == 0, f"{words} in {cwd}\n{result.stdout}{result.stderr}"
    return result.stdout


def pip(*words: str | Path, cwd: Path) -> None:
    result = run(sys.executable, "-m", "pip", *words, cwd=cwd)
    if result.returncode and "No matching distribution found for setuptools" in result.stderr:
        pytest.skip("pip can't fetch setuptools, with which minidl is built: no package index within reach")
    assert result.returncode == 0, result.stdout + result.stderr


def install(python: Path, *what: str, cwd: Path) -> None:
    pip("--python", python, "install", "--no-deps", *what, cwd=cwd)


def put(files: dict[str, str], folder: Path) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def clone(folder: Path) -> Path:
    """The files of this checkout, as a clone called `minidl` in the folder."""
    for name in HOUSE:
        source, target = ROOT / name, folder / "minidl" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=NO_SOURCE)
        else:
            shutil.copy(source, target)
    return folder / "minidl"


def environment(folder: Path) -> Path:
    """The Python of a new environment, with the libraries of this one but without its minidl."""
    venv.create(folder, with_pip=False, symlinks=True)
    (here,) = folder.glob("lib/python*/site-packages")
    for place in [Path(entry) for entry in sys.path if Path(entry).name == "site-packages"]:
        for source in place.iterdir():
            installed = "minidl" in source.name.lower() or source.suffix == ".pth"
            if not installed and not (here / source.name).exists():
                (here / source.name).symlink_to(source)
    return folder / "bin" / "python"


class Place:
    """One way to have minidl: the Python that has it, and where its clone lies."""

    def __init__(self, how: str, folder: Path) -> None:
        self.how = how
        self.clone = clone(folder / "content")
        self.python = environment(folder / "environment")
        put({f"build/lib/{path}": "who = 'an older build'" for path in OLDER}, self.clone)
        what = ["./minidl"] if how == "wheel" else ["-e", "./minidl"]
        install(self.python, *what, cwd=self.clone.parent)  # as on Colab: from the folder that holds the clone

    def files(self) -> set[str]:
        """What pip put into the environment: the wheel's files, in minidl-*.dist-info/ what it says of itself."""
        (record,) = self.python.parent.parent.glob("lib/python*/site-packages/minidl-*.dist-info/RECORD")
        names = {row[0] for row in csv.reader(record.read_text().splitlines())}
        return {name for name in names if not name.endswith(".pyc")}  # pip compiled them there


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place("editable", tmp_path_factory.mktemp("editable"))


@pytest.fixture(scope="session", params=["wheel", "editable"])
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)


def sources() -> Iterator[str]:
    """Where each file of the three folders belongs in the one package."""
    for top, inside in (("minidl", "minidl"), ("optim", "minidl/optim"), ("data", "minidl/data")):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and not {"__pycache__"} & set(path.parts) and path.suffix != ".pyc":
                yield f"{inside}/{path.relative_to(ROOT / top).as_posix()}"


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    """Not what build/ held of an older version, and no package beside minidl that another one could overwrite."""
    assert {name for name in wheel.files() if not name.startswith("minidl-")} == set(sources())


def test_an_update_leaves_no_module_of_the_version_before(tmp_path):
    here, python = clone(tmp_path), environment(tmp_path / "environment")
    put({"minidl/leaving.py": "who = 'the version before'"}, here)
    install(python, ".", cwd=here)
    good(python, "-c", "import minidl.leaving", cwd=tmp_path / "environment")
    (here / "minidl" / "leaving.py").unlink()
    install(python, ".", cwd=here)
    result = run(python, "-c", "import minidl.leaving", cwd=tmp_path / "environment")
    assert "No module named 'minidl.leaving'" in result.stderr


@pytest.mark.parametrize("name", [*COLLISIONS, "minidl/ of files", "all"])
def test_an_installed_minidl_imports_its_own_parts_and_the_user_theirs(place, name, tmp_path):
    if name in COLLISIONS:
        put(COLLISIONS[name], tmp_path)
    elif place.how == "editable" and name == "minidl/ of files":
        pytest.skip("the one limit of an editable install: a folder minidl beside the program, as a clone is")
    else:
        put(OTHER_MINIDL if name == "minidl/ of files" or place.how == "wheel" else {}, tmp_path)
        put(ALL if name == "all" else {}, tmp_path)
    home = place.python.parent.parent if place.how == "wheel" else place.clone
    put({"script.py": IMPORTS + THEIRS}, tmp_path)
    files = good(place.python, "script.py", cwd=tmp_path).splitlines()
    assert len(files) > 80
    assert all(Path(file).is_relative_to(home) for file in files), files


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of a few small images, in a folder."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, n in (("train", 60), ("t10k", 20)):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 8, 8), dtype=np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(n, dtype=np.uint8) % 10)
    return folder


def programs(python: Path, images: Path, cwd: Path) -> None:
    """All of them do their work there."""
    common = ("--model", "linear", "--dataset", images, "--epochs", "1")
    good(python, "-m", "minidl.train", *common, "--opt", "hybrid", "--out", "run", "--trace", "a.html", cwd=cwd)
    assert "[19]: " in good(python, "-m", "minidl.predict", "run", images / "t10k-images-idx3-ubyte.gz", cwd=cwd)
    assert "--switch step:" in good(python, "-m", "minidl.tune", *common, "--batch-size", "20", cwd=cwd)
    good(python, "-m", "minidl.report", "run", "--out", "report.html", cwd=cwd)
    good(python, "-m", "minidl.compare", "run", "run", "--out", "compared.html", cwd=cwd)
    assert "[19]: " in good(python, "-c", LOADED, images / "t10k-images-idx3-ubyte.gz", cwd=cwd)
    good(python, "-m", "minidl.trace", "a.html", "a.html", "--out", "both.html", cwd=cwd)
    assert "--preset" in good(python, "-m", "minidl.study", "--help", cwd=cwd)


def test_programs_run_where_all_names_collide(place, images, tmp_path):
    put(ALL | (OTHER_MINIDL if place.how == "wheel" else {}), tmp_path)
    programs(place.python, images, tmp_path)


def test_programs_run_in_the_folder_that_holds_the_clone_and_in_the_clone(place, images):
    """As on Colab: `git clone URL minidl`, then `pip install ./minidl`, then the programs, there or in it."""
    if place.how == "wheel":  # the one limit of an editable install
        put(ALL, place.clone.parent)
        programs(place.python, images, place.clone.parent)
    programs(place.python, images, place.clone)


def test_a_lesson_finds_what_it_uses_of_the_clone(wheel):
    """In Jupyter a notebook runs in the lessons' folder, on Colab beside the clone; minidl is installed elsewhere."""
    cells = re.split(r"^# %%", (ROOT / "tutorials" / "11_on_a_gpu.py").read_text("utf-8"), flags=re.MULTILINE)
    first = next(cell for cell in cells if "from tests." in cell)
    for folder in (wheel.clone / "tutorials", wheel.clone.parent, wheel.clone):
        assert "GPU" in good(wheel.python, "-c", first, cwd=folder)


def test_a_clone_that_is_not_installed_runs_from_its_root(images, tmp_path):
    here, python = clone(tmp_path), environment(tmp_path / "environment")
    put({"data.py": "raise SystemExit('data.py')", "optim.py": "raise SystemExit('optim.py')"}, here)
    put(OTHER_MINIDL, here / "minidl")
    files = good(python, "-c", IMPORTS, cwd=here).splitlines()
    assert len(files) > 80
    assert all(Path(file).is_relative_to(here) for file in files), files
    programs(python, images, here)
    for name in ("optim", "data"):
        result = run(python, "-c", f"import {name}", cwd=here)
        assert f"ImportError: import minidl.{name}: " in result.stderr


def test_a_hand_out_uses_the_students_files_though_minidl_is_installed(place, tmp_path):
    handout.write(handout.handout(load("A2")), tmp_path)
    path = tmp_path / "optim" / "adam.py"
    assert "raise NotImplementedError" in path.read_text()
    where = "import minidl, minidl.optim.adam as adam; print(minidl.__file__, adam.__file__, sep='\\n')"
    files = good(place.python, "-c", where, cwd=tmp_path).splitlines()
    assert [Path(file) for file in files] == [tmp_path / "minidl" / "__init__.py", path]
