"""What lies where, in which order, how big: as the reading order, the contract on layers and tests/README.md say."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests import sizes

ROOT = Path(__file__).parent.parent
ORDER = sizes.ORDER.read_text("utf-8")
ENGINE = {
    "elsewhere", "arguments",
    "refuse", "telling", "no_gpu", "backend", "grad_mode", "rng", "numpy_functions", "in_place", "operators",
    "arrays", "tensor",
    "operands", "ops", "ops_nn", "ops_conv", "ops_more", "init", "listing", "values", "weights", "module", "nn_conv",
    "nn_more", "nn", "gradcheck", "evaluation", "trainer",
}  # fmt: skip
COMMANDS = {"train", "predict", "tune", "report", "compare"}
FOLDERS = {"fast", "training", "cli", "teach", "study", "trace", "program", "handwriting", "pages"}
BESIDE = {"optim", "data"}  # parts of the package that lie beside it


def named(name: str) -> bool:
    """Is this part of the source, and not what a program left behind?"""
    return not name.startswith((".", "__")) and name not in ("build", "dist", "runs", "studies", "minidl.egg-info")


def test_beside_the_engine_there_are_only_commands_and_folders():
    files = {path.stem for path in (ROOT / "minidl").glob("*.py") if named(path.name)}
    assert files == ENGINE | COMMANDS, "a file of neither kind belongs into one of minidl's folders"
    assert {path.name for path in (ROOT / "minidl").iterdir() if path.is_dir() and named(path.name)} == FOLDERS


def test_nothing_else_lies_at_the_top():
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a clone")
    allowed = {"README.md", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"}
    allowed |= {"minidl", "optim", "data", "tests", "tutorials"}
    assert {path.split("/")[0] for path in listed.splitlines() if named(path)} <= allowed


def test_the_contract_on_layers_places_every_part():
    """What it leaves out, import-linter would not look at."""
    text = (ROOT / "pyproject.toml").read_text()
    layers = re.findall(r"^layers = (\[.*?^\])", text, re.MULTILINE | re.DOTALL)[0]
    placed = [name.strip() for layer in ast.literal_eval(layers) for name in re.split("[|:]", layer)]
    assert sorted(placed) == sorted(ENGINE | COMMANDS | FOLDERS | BESIDE | {"__main__"})


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_is_thin(command):
    """Its `main`, and what it asks of the folders below."""
    tree = ast.parse((ROOT / "minidl" / f"{command}.py").read_text())
    assert "main" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert sizes.size(f"minidl/{command}.py") < 260


def test_only_backend_imports_cupy():
    for path in [*(ROOT / "minidl").rglob("*.py"), *(ROOT / "optim").rglob("*.py"), *(ROOT / "data").rglob("*.py")]:
        if path != ROOT / "minidl" / "backend.py":
            assert not re.search(r"^ *(import|from) cupy\b", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("page", [sizes.README, sizes.ORDER], ids=lambda page: page.name)
def test_sizes_are_stated_as_they_are(page):
    text = page.read_text("utf-8")
    stated, now = sizes.numbers(text), sizes.numbers(sizes.update(text))
    assert stated
    for said, is_now in zip(stated, now, strict=True):
        assert said == pytest.approx(is_now, rel=0.05, abs=5), "python -m tests.sizes --update"


def test_a_line_of_code():
    source = '"""Two\nlines."""\n\nimport os  # a comment\n# another\n\n\ndef f(\n    x,\n):\n    """Doc."""\n'
    source += '    return """a\nb"""\n'
    assert sizes.lines_of_code(source) == 6


@pytest.mark.parametrize("package", ["optim/__init__.py", "data/__init__.py"])
def test_there_is_one_reading_order(package):
    """The modules that a package's docstring names stand in the table of the reading order in the same order."""
    table = [Path(link).stem for link in sizes.links(sizes.ROW.sub(r"\1", ORDER)) if link.endswith(".py")]
    order = (ast.get_docstring(ast.parse((ROOT / package).read_text())) or "").lower().partition("reading order")[2]
    words = [word for word in re.findall(r"\w+", order) if word in table]
    places = [table.index(word) for word in dict.fromkeys(words)]
    assert len(places) >= 5
    assert places == sorted(places)


def test_the_map_of_the_tests_names_each_file():
    text = (ROOT / "tests" / "README.md").read_text()
    files = {path.name for path in (ROOT / "tests").iterdir() if path.suffix in (".py", ".txt")}
    assert set(re.findall(r"`([\w.]+\.(?:py|txt))`", text)) == files
