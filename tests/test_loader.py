"""Users' files: found, run, hashed, sent to worker processes, and told about where something is wrong."""

import hashlib
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from minidl.training.loader import UserCode, UserError, load

ROOT = Path(__file__).parent.parent
NETS = """
import dataclasses

@dataclasses.dataclass
class Wide:
    units: int = 3

def double(x):
    return 2 * x

def fails(x):
    y = x
    return y / 0

SIZE = 3
"""


def write(path, text=NETS):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_class_and_a_function(tmp_path, monkeypatch):
    file = write(tmp_path / "nets.py")
    wide, double = load(f"{file}:Wide"), load(f"{file}:double")
    assert (wide(5).units, double(4)) == (5, 8)
    assert wide.sha256 == hashlib.sha256(NETS.encode()).hexdigest()  # on Windows, too
    assert (wide.path, wide.name, str(wide)) == (str(file), "Wide", f"{file}:Wide")
    assert wide.thing is load(f"{file}:Wide").thing
    monkeypatch.chdir(tmp_path)
    assert load("nets.py:Wide") == wide  # the path is absolute
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nets.py"]  # no __pycache__


@pytest.mark.parametrize(
    "name", ["my-nets v2.py", "json.py", "minidl.py", "data.py", "class.py", "é%2E.x.py", "1.py", "conftest.py"]
)
def test_the_name_of_the_file_does_not_matter(tmp_path, name):
    import json

    file = write(tmp_path / name)
    assert load(f"{file}:double")(3) == 6
    assert sys.modules["json"] is json
    assert pickle.loads(pickle.dumps(load(f"{file}:Wide")(7))).units == 7


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
def test_a_folder_whose_name_is_not_utf8(tmp_path):
    """As an archive from an older Windows may leave it."""
    file = write(tmp_path / os.fsdecode(b"J\xf6rg") / "nets.py")
    assert load(f"{file}:double")(3) == 6
    assert pickle.loads(pickle.dumps(load(f"{file}:Wide")(7))).units == 7
    with pytest.raises(UserError, match="line 13: ZeroDivisionError"):
        load(f"{file}:fails")(1)


def test_two_files_of_one_name(tmp_path):
    a, b = write(tmp_path / "a" / "f.py", "def f(): return 'a'"), write(tmp_path / "b" / "f.py", "def f(): return 'b'")
    assert [load(f"{a}:f")(), load(f"{b}:f")(), load(f"{a}:f")()] == ["a", "b", "a"]


def test_a_file_is_run_once_until_it_changes(tmp_path):
    count = tmp_path / "count"
    text = f"with open({str(count)!r}, 'a') as file: file.write('.')\ndef f(): return {{}}\n"
    file = write(tmp_path / "f.py", text.format(1))
    old = load(f"{file}:f")
    assert [old(), load(f"{file}:f")()] == [1, 1]
    assert count.read_text() == "."
    write(file, text.format(2))
    assert load(f"{file}:f")() == 2
    with pytest.raises(UserError, match=r"f\.py has changed since it was first loaded"):
        old()


def work(code, instance):
    return os.getpid(), code(instance.units), type(instance) is load(str(code).replace(":double", ":Wide")).thing


def test_a_spawned_worker_finds_it(tmp_path):
    """By path and name: nothing of it was imported there, and its folder is on nobody's path."""
    file = write(tmp_path / "my nets.py")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pid, value, same = pool.submit(work, load(f"{file}:double"), load(f"{file}:Wide")(21)).result()
        assert (pid != os.getpid(), value, same) == (True, 42, True)
        assert pool.submit(load(f"{file}:double").thing, 5).result() == 10  # the function itself
        write(file, NETS + "\n")
        changed = UserCode(str(file), "double", hashlib.sha256(NETS.encode()).hexdigest())
        with pytest.raises(UserError, match="has changed"):
            pool.submit(changed, 1).result()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nets.py:Wid", r"nets.py has no 'Wid': did you mean 'Wide'\?"),
        ("nets.py:zzz", r"nets.py has no 'zzz': it defines Wide, double, fails"),
        ("nets.py:SIZE", "'SIZE' in nets.py is neither a class nor a function, but of type int"),
        ("nets.py", r"nets.py is a file: name something in it, as in nets.py:Wide"),
        ("nest.py:Wide", r"there is no file nest.py: did you mean .*nets.py\?"),
        ("other.py:Wide", "there is no file other.py in /.*"),
        ("s.py:Wide", "there is no file s.py in /.*"),  # what it shares with nets.py is the ending
        ("/nowhere/x.py:Wide", "there is no file /nowhere/x.py$"),
        ("nowhere/x.py:Wide", "there is no file nowhere/x.py"),
        ("folder:Wide", "folder is a folder: give a Python file in it"),
        ("Wide", "give a file and a name in it, as in nets.py:Wide, not 'Wide'"),
        ("nets.py:a b", "give a file and a name in it"),
        ("image.py:Wide", "image.py is not a Python file: it is not in UTF-8"),
    ],
)
def test_what_is_not_there(tmp_path, monkeypatch, text, message):
    write(tmp_path / "nets.py")
    (tmp_path / "folder").mkdir()
    (tmp_path / "image.py").write_bytes(b"\xff\xd8\xff\x00")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load(text)


def test_a_network_or_an_optimizer_made_already(tmp_path):
    """A network can be called, and so was called as if it were its class, and missed its x."""
    text = "from minidl import nn\nfrom minidl.optim import Adam\nnet = nn.Sequential(nn.Flatten())\nopt = Adam()\n"
    file = write(tmp_path / "made.py", text)
    for name, kind in (("net", "Sequential"), ("opt", "Adam")):
        with pytest.raises(UserError, match=f"but of type {kind}: write a function that returns it"):
            load(f"{file}:{name}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ndef f(:\n    pass", "f.py, line 2: invalid syntax"),
        ("\n\nimport nonsuch\n", "f.py, line 3: ModuleNotFoundError: No module named 'nonsuch'\n  import nonsuch"),
        ("def g():\n    return 1 / 0\ng()\n", "f.py, line 2: ZeroDivisionError: division by zero\n  return 1 / 0"),
        ("import json\njson.loads('{')\n", "f.py, line 2: JSONDecodeError: Expecting"),
        ("import sys\nsys.exit(3)\n", "f.py, line 2: it ends the program: 3\n  sys.exit(3)"),
        ("raise ValueError", "f.py, line 1: ValueError\n  raise ValueError"),
    ],
)
def test_a_file_that_fails(tmp_path, source, message):
    file = write(tmp_path / "f.py", source)
    for _ in range(2):  # it is not half there after the first time
        with pytest.raises(UserError) as caught:
            load(f"{file}:f")
        assert message in str(caught.value)
        assert str(caught.value).count("\n") <= 1


def test_a_call_that_fails(tmp_path):
    file = write(tmp_path / "nets.py")
    with pytest.raises(UserError, match=r"nets.py, line 13: ZeroDivisionError: division by zero\n  return y / 0"):
        load(f"{file}:fails")(1)
    with pytest.raises(UserError, match=r"nets.py:double: double\(\) missing 1"):
        load(f"{file}:double")()


def test_its_main_part_does_not_run(tmp_path):
    file = write(tmp_path / "f.py", "def f(): return __name__\nif __name__ == '__main__': raise SystemExit('main')\n")
    assert load(f"{file}:f")().endswith("f%2Epy")


def test_a_clone_that_is_not_installed(tmp_path):
    """From a folder with files that are called as parts of minidl are."""
    for name in ("data.py", "optim.py", "loader.py"):
        write(tmp_path / name)
    code = "from minidl.training.loader import load; import minidl.data; print(load('data.py:double')(4))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (result.stdout, result.stderr) == ("8\n", "")


def test_a_module_beside_the_file_is_found_and_no_other_files(tmp_path):
    for folder, width in (("one", 3), ("two", 5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sizes.py").write_text(f"width = {width}\n")
        (tmp_path / folder / "json.py").write_text("raise RuntimeError('the standard library goes first')\n")
        (tmp_path / folder / "nets.py").write_text(
            "import json\nfrom sizes import width\n\ndef net():\n    return width, json.dumps(width)\n"
        )
    before = list(sys.path)
    assert load(str(tmp_path / "one" / "nets.py:net"))() == (3, "3")
    assert load(str(tmp_path / "two" / "nets.py:net"))() == (5, "5")
    assert sys.path == before
    assert "sizes" not in sys.modules


def test_a_relative_import_and_arguments_are_told_what_to_write_instead(tmp_path):
    (tmp_path / "rel.py").write_text("from .sizes import width\n\ndef net():\n    return width\n")
    with pytest.raises(UserError, match=r"line 1: ImportError: this file is not in a package: .*from sizes import"):
        load(str(tmp_path / "rel.py:net"))
    with pytest.raises(UserError, match=r"def my_net\(\): return Net\(hidden=8\), and name that: .*nets.py:my_net"):
        load(str(tmp_path / "nets.py:Net(hidden=8)"))
