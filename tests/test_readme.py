"""The code on README and on the pages runs, links lead somewhere, and README is as short as it is meant to be."""

import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from minidl import Tensor

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = ROOT / "tutorials" / "pages"
TEXTS = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "tutorials" / "README.md",
    *sorted(PAGES.glob("*.md")),
]
TEXTS += sorted((ROOT / "tutorials").glob("*/README.md")) + sorted(
    (ROOT / "tutorials" / "assignments").glob("*/README.md")
)
LINKS = {(page, link) for page in TEXTS for link in re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text("utf-8"))}


def code(page: Path, word: str) -> str:
    """The first block of Python code on a page that has this word."""
    return next(
        block for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL) if word in block
    )


def test_the_first_training_ends_as_readme_says():
    scope: dict = {}
    setup, loop, step = code(README, "backward").partition("for x, labels")
    exec(setup, scope)
    x, labels = next(iter(scope["batches"](*scope["data"].train, batch_size=64)))
    first = scope["ops"].cross_entropy(scope["net"](x), labels).item()
    exec(loop + step, scope)
    said = re.search(r"the loss has fallen from ([\d.]+) to\s+([\d.]+)", README.read_text())
    assert said
    assert scope["loss"].item() == pytest.approx(float(said[2]), abs=0.01)
    assert first == pytest.approx(float(said[1]), abs=0.05)
    assert first == pytest.approx(np.log(10), abs=0.1), "the loss of guessing among ten"
    assert re.search(r"`(switched to sgd after step \d+)`", README.read_text())[1] in scope["optimizer"].verdict()
    assert len(scope["data"].train.images) == 3600, "as many digits as README says"


def test_readme_is_short_and_says_what_has_not_run_on_a_gpu():
    text = README.read_text()
    assert 100 <= len(text.splitlines()) <= 130
    assert "not yet run on a real GPU" in text


def test_the_speeds_on_readme_are_on_the_page_of_speed():
    table = README.read_text("utf-8").split("PyTorch's MNIST example |\n")[1].split("\n\n")[0]
    told = set(re.findall(r"\d\.\d+", table))
    assert len(told) > 20
    assert told <= set(re.findall(r"\d\.\d+", (PAGES / "speed.md").read_text("utf-8")))


def test_the_training_step_learns():
    scope: dict = {}
    exec(code(PAGES / "switch.md", "train_step"), scope)
    rng = np.random.default_rng(0)
    x, labels = rng.random((32, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, 32)
    losses = [scope["train_step"](x, labels) for _ in range(60)]
    assert losses[-1] < 0.1 * losses[0]


def test_the_page_of_the_switch_has_every_condition():
    from minidl.optim.switch_text import _FORMS, parse_switch

    table = (PAGES / "switch.md").read_text("utf-8").split("| condition | met |")[1].split("\n\n")[0]
    told = {condition for row in re.findall(r"^\| (.*?) \|", table, re.MULTILINE) for condition in row.split("`")[1::2]}
    assert {condition.partition(":")[0] for condition in told} == {*_FORMS, "auto"}
    for condition in told - {"auto"}:
        parse_switch(condition)


def test_the_operation_of_ones_own():
    block = code(PAGES / "own-operation.md", "gradcheck")
    exec(block, {})
    with pytest.raises(AssertionError):
        exec(block.replace("g * 2 * x.data", "g * x.data"), {})


def test_the_update_rule_of_ones_own_finds_the_weights():
    block, said = code(PAGES / "own-rule.md", "Lion"), io.StringIO()
    with redirect_stdout(said):
        exec(block, {})
    assert said.getvalue().strip() == "[[ 1.  -2.   0.5]]"
    assert "# [[ 1.  -2.   0.5]]" in block


def test_lars_on_the_page_of_ones_own_rule():
    """Beside it in plain arrays, with weight decay and a tensor of more than one block."""
    exec(code(PAGES / "own-rule.md", "Lion"), scope := {})
    exec(code(PAGES / "own-rule.md", "LARS"), scope)
    rng = np.random.default_rng(0)
    params = [Tensor(rng.normal(size=n), requires_grad=True) for n in (5, 70_000, 3)]
    wanted, v = [p.data.copy() for p in params], [0.0, 0.0, 0.0]
    with pytest.raises(TypeError, match="max_norm"):  # its norms would be of gradients that are not clipped yet
        scope["LARS"](params, max_norm=1.0)
    optimizer = scope["LARS"](params, 0.5, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        for i, p in enumerate(params):
            p.grad, w = rng.normal(size=p.size), wanted[i]
            ratio = 0.001 * np.linalg.norm(w) / (np.linalg.norm(p.grad) + 0.1 * np.linalg.norm(w))
            v[i] = 0.9 * v[i] + 0.5 * ratio * (p.grad + 0.1 * w)
            wanted[i] = w - v[i]
        optimizer.step()
    for p, w in zip(params, wanted, strict=True):
        np.testing.assert_allclose(p.data, w, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("page", "link"), sorted(LINKS), ids=lambda part: Path(part).name)
def test_links_lead_somewhere(page, link):
    assert (page.parent / link).exists()


def test_every_page_is_on_the_list_of_pages():
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (PAGES / "README.md").read_text()))
    assert listed == {page.name for page in PAGES.glob("*.md")} - {"README.md"}


def test_no_two_pages_write_to_one_place():
    """Whoever follows one page after the other would be told that the folder holds another run."""
    found: dict[str, set[tuple[str, str]]] = {}
    for page in [README, *sorted(PAGES.glob("*.md"))]:
        for block in re.findall(r"```\w+\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            places = re.findall(r"-m (minidl\.(?:train|study)) .*?--out (\S+)", block)
            places += [("Trainer", place) for place in re.findall(r'folder="(\S+?)"', block)]
            places += re.findall(r"(run_study)\(.*?, \"(\S+?)\"", block)
            places += re.findall(r"-m (minidl\.(?:predict|trace|compare|report)) .*?(?:--page|--out) (\S+)", block)
            for writer, place in places:
                found.setdefault(place, set()).add((page.name, writer))
    assert {"runs/mine", "runs/cnn", "studies/mine", "draw.html"} <= set(found)
    for place, writers in found.items():
        if place.endswith(".html"):  # a command replaces its own pages, but no other's
            assert len({writer for _, writer in writers}) == 1, (place, writers)
        elif place != "studies/gpu":  # one study, on two pages
            assert len({page for page, _ in writers}) == 1, (place, writers)


def commands() -> dict[str, set[str]]:
    """Each program that a page has a command line for, with all options that such lines give it."""
    found: dict[str, set[str]] = {}
    for page in TEXTS:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                for module, rest in re.findall(r"python -m ((?:minidl|tutorials)[\w.]*)([^#&|]*)", line):
                    found.setdefault(module, set()).update(re.findall(r" (--[a-z-]+)", rest))
    return found


@pytest.mark.parametrize(("module", "options"), sorted(commands().items()))
def test_command_lines_on_the_pages_have_options_that_exist(module, options):
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    there = set(re.findall(r"--[a-z-]+", done.stdout))
    assert options <= there
    if module.startswith("minidl."):
        told = re.findall(r"--[a-z][a-z0-9-]+", " ".join(page.read_text("utf-8") for page in TEXTS))
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", done.stdout)) <= {*told, "--help", "--version"}


def test_the_study_is_continued_by_the_package_that_began_it():
    """pip takes no `#egg=` with extras any more, and in a clone Python would import the clone."""
    page = (ROOT / "tutorials" / "study" / "README.md").read_text("utf-8")
    wanted = Requirement(re.search(r'pip install "([^"]*git\+file[^"]*)"', page)[1].replace("$PWD", "/clone"))
    assert (wanted.name, wanted.extras) == ("minidl", {"study", "fast"})
    assert wanted.url.endswith("@" + re.search(r"at commit `(\w{40})`", page)[1])
    assert "PYTHONSAFEPATH=1 MINIDL_DATA=FOLDER python -m minidl.study --preset paper --out" in page


@pytest.mark.pytorch
def test_the_example_for_pytorch_switches():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    torch.manual_seed(0)
    scope: dict = {}
    exec(code(PAGES / "optimizers.md", "import wrap"), scope)
    assert scope["optimizer"].phase == "sgd"
    assert scope["optimizer"].lr < 0.05, "the scheduler went on"
