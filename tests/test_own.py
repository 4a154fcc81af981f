"""A network and an optimizer of your own on the command line: called as their parameters name, resumed bit for bit,
refused where their file has changed."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from minidl import Tensor, nn, no_grad
from minidl.data import write_idx
from minidl.optim import Adam
from minidl.optim.average import AveragedAdam
from minidl.pages import compare_table, read_run
from minidl.training.checkpoint import load_checkpoint
from minidl.training.config import Config, prepare
from minidl.training.loader import UserError, load
from minidl.training.own import own_lr, own_network, own_optimizer
from minidl.training.own_file import is_own
from tests.commands import ROOT, command, fails

MINE = """
import numpy as np

from minidl import nn
from minidl.optim import SGD, AfterSteps, Hybrid, Rule


class Net(nn.Module):
    def __init__(self, image_size, classes):
        height, width = image_size
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(height * width, 8, rng=1), nn.ReLU(), nn.Linear(8, classes, rng=2)
        )

    def forward(self, x):
        return self.layers(x)


class Lion(Rule):
    name, vectors = "lion", ("m",)

    def __init__(self, params=None, lr=1e-4, betas=(0.9, 0.99), **common):
        super().__init__(params, lr, **common)
        self.b1, self.b2 = betas

    def rule(self, g, p, lr, m):
        p[...] = -lr * np.sign(self.b1 * m + (1 - self.b1) * g)
        m[...] = self.b2 * m + (1 - self.b2) * g


def half_lion(params, lr=1e-3, total_steps=0):
    return Hybrid(params, first=Lion(lr=lr), then=SGD(lr=0.05), switch=AfterSteps(total_steps // 2))


class Breaks(Net):
    def forward(self, x):
        return self.layers(x) if len(x) == 2 else x.rashape(3)
"""
NAN = """
import numpy as np
from minidl.optim import Rule

class Root(Rule):
    name = "root"
    def rule(self, g, p, lr):
        with np.errstate(invalid="ignore"):
            p[...] = -lr * np.sqrt(-np.abs(g) - 1)

class Rests(Rule):
    name = "rests"
    def rule(self, g, p, lr):
        p[...] = 0
"""
TURNS = """
from minidl.optim import SGD

class Turns(SGD):
    name = "turns"

    def state_dict(self):
        state = super().state_dict()
        state["scalars"]["switch"] = self.t > 3
        return state
"""
RUN = ("--dataset", "mnist5k", "--epochs", "2", "--batch-size", "400")


def succeeds(*args):
    result = command(*args)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def mine(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


def test_names():
    assert [is_own(name) for name in ("mlp", "mine.py:Net", "mine.py", "a/b.py:C", "mine:Net")] == [0, 1, 1, 1, 0]


def lion_by_hand(w, grads, lr, b1, b2):
    """Chen et al. 2023, algorithm 2, in float64 and without decay."""
    m = np.zeros_like(w)
    for g in grads:
        w = w - lr * np.sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g
    return w


def test_an_own_rule_gets_what_its_parameters_name(mine):
    layer = nn.Linear(3, 2, bias=False, rng=0)
    params, start = list(layer.parameters()), layer.weight.numpy().astype(np.float64)
    made = own_optimizer(
        load(f"{mine}:Lion"), params, total_steps=9, steps_per_epoch=3, lr=0.5, betas=(0.5, 0.25), clip_norm=None
    )
    rng = np.random.default_rng(0)
    grads = [rng.normal(size=(2, 3)).astype(np.float32) for _ in range(4)]
    for g in grads:
        params[0].grad = g.copy()
        made.step()
    assert np.allclose(layer.weight.numpy(), lion_by_hand(start, grads, 0.5, 0.5, 0.25), atol=1e-6)
    assert own_lr(load(f"{mine}:Lion")) == 1e-4
    clipped = own_optimizer(
        load(f"{mine}:Lion"), params, total_steps=8, steps_per_epoch=2, lr=0.1, clip_norm=3.0, weight_decay=0.2,
        schedule="linear",
    )  # fmt: skip
    assert (clipped.max_norm, clipped.weight_decay) == (3.0, 0.2)
    assert clipped.lr == pytest.approx(0.1)
    for _ in range(4):
        params[0].grad = grads[0].copy()
        clipped.step()
    assert clipped.lr == pytest.approx(0.05)  # half of the way to zero


def test_an_own_function_gets_the_length_of_the_run(mine):
    layer = nn.Linear(3, 2, rng=0)
    made = own_optimizer(load(f"{mine}:half_lion"), layer.parameters(), total_steps=8, steps_per_epoch=2)
    for _ in range(4):
        assert made.phase == "lion"
        for p in layer.parameters():
            p.grad = np.ones_like(p.data)
        made.step()
    assert (made.phase, made.switch_event.step) == ("sgd", 4)


def test_networks_are_called_with_what_they_name():
    got = {}

    def both(image_size, classes):
        got["both"] = image_size, classes
        return nn.Sequential(nn.Flatten(), nn.Linear(6, classes, rng=0))

    def one(classes, units=5):
        got["one"] = classes, units
        return nn.Sequential(nn.Flatten(), nn.Linear(6, units, rng=0), nn.Linear(units, classes, rng=0))

    def none():
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5, rng=0), nn.Linear(6, 4, rng=0))

    for make in (both, one, none):
        model = own_network(make, (2, 3), 4)
        assert all(module.training for _, module in model.named_modules())  # as it was
    assert got == {"both": ((2, 3), 4), "one": (4, 5)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda units: None, "requires units, which is not passed"),
        (lambda: None, r"returns nothing \(None\): it must be a Module"),
        (lambda: nn.Flatten(), "has no parameters to train"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 3)),
            r"returns \(2, 3\) for images .* the data has 4 classes",
        ),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(7, 4)), r"can't take images of shape \(2, 1, 2, 3\)"),
        (Adam, "is an optimizer, not a network"),
        (lambda: 5, "returns an int: it must be a Module"),
        (lambda: Odd(layers=[nn.Linear(6, 4)]), "layers is a list with a Linear in it"),
        (lambda: Odd(layers={"a": nn.Linear(6, 4)}), "layers is a dict with a Linear in it"),
        (lambda: Odd(parameters=5), "parameters is an int, but Module has a method of this name"),
        (lambda: Odd(after=lambda y: Tensor(np.maximum(y.data, 0))), "does not depend on the weights"),
        (lambda: Odd(after=Tensor.detach), "does not depend on the weights"),
    ],
)
def test_a_network_that_does_not_fit(make, message):
    with pytest.raises(UserError, match=message):
        own_network(make, (2, 3), 4)


class Odd(nn.Module):
    """A network with other attributes, or with something done `after` it."""

    def __init__(self, **attributes):
        super().__init__()
        self.hidden, self.after = nn.Linear(6, 4), lambda y: y
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.after(self.hidden(x.reshape(len(x), -1)))


class Careful(Odd):
    """Has no gradient where none is wanted: in eval mode."""

    def forward(self, x):
        y = super().forward(x)
        return y if self.training else y.detach()


def test_what_is_done_in_eval_mode_alone_does_no_harm():
    assert isinstance(own_network(Careful, (2, 3), 4), Careful)
    with no_grad():
        assert isinstance(own_network(Odd, (2, 3), 4), Odd)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (nn.Linear, {}, "is a network, not an optimizer"),
        (lambda params: None, {}, r"returns nothing \(None\)"),
        (lambda params, lr=1: Adam(nn.Linear(2, 2).parameters()), {}, "does not have the network's parameters"),
        (lambda params, lr=1: None, {"momentum": 0.9}, "--momentum does not apply to .* it takes --lr"),
        (lambda params, lr=1: None, {"clip_norm": 1.0}, "--clip-norm does not apply"),
        (lambda params: None, {"schedule": "cosine"}, "--schedule does not apply"),
        (lambda params, lr=1: None, {"switch": "epoch:1"}, "--switch does not apply"),
        (lambda params, units: None, {}, "requires units"),
    ],
)
def test_an_optimizer_that_does_not_fit(make, options, message):
    with pytest.raises(UserError, match=message):
        own_optimizer(make, nn.Linear(3, 2).parameters(), total_steps=1, steps_per_epoch=1, **options)


# ---- the commands ----


@pytest.mark.parametrize(
    ("option", "says"), [("--opt", "Steps needs a formula, or rule"), ("--model", "Layers has no forward")]
)
def test_a_class_that_lacks_its_method_is_told_in_a_line(tmp_path, option, says):
    (tmp_path / "torch_like.py").write_text(
        "from minidl import nn\nfrom minidl.optim import Rule\n"
        "class Steps(Rule):\n    name = 'steps'\n    def step(self):\n        pass\n"
        "class Layers(nn.Module):\n    def __init__(self):\n        self.a = nn.Linear(784, 10)\n"
    )
    name = f"{tmp_path / 'torch_like.py'}:{says.split()[0]}"
    assert says in fails(option, name, "--dataset", "mnist5k")


def test_a_run_of_ones_own_goes_on_with_the_same_bits(mine, tmp_path):
    own = ("--model", f"{mine}:Net", "--opt", f"{mine}:half_lion")
    whole = tmp_path / "whole"
    out = succeeds(*own, *RUN, "--out", whole)
    assert "model: mine.py:Net, 6,370 weights" in out
    assert "switch to sgd after step 9" in out
    config = json.loads((whole / "config.json").read_text())
    assert config["model"] == f"{mine}:Net"
    assert list(config["files"]) == [str(mine)]
    summary = json.loads((whole / "summary.json").read_text())
    assert (summary["model"], summary["optimizer"]) == ("mine.py:Net", "mine.py:half_lion")
    # half_lion switches at half of the run's length, so a longer run is another one; Lion knows no length
    begun = tmp_path / "begun"
    lion = ("--model", f"{mine}:Net", "--opt", f"{mine}:Lion", "--lr", "0.001")
    succeeds(*lion, *RUN, "--out", whole / "2")
    succeeds(*lion, *RUN[:2], "--epochs", "1", *RUN[4:], "--out", begun)
    moved = tmp_path / "elsewhere" / "mine.py"
    moved.parent.mkdir()
    mine.rename(moved)
    message = fails("--resume", begun, "--epochs", "2", "--out", tmp_path / "more")
    assert "which is gone" in message
    now = ("--model", f"{moved}:Net", "--opt", f"{moved}:Lion")
    succeeds("--resume", begun, "--epochs", "2", "--out", tmp_path / "more", *now)
    first, second = (load_checkpoint(f / "checkpoint.safetensors") for f in (whole / "2", tmp_path / "more"))
    assert all(np.array_equal(first.model[name], second.model[name]) for name in first.model)
    assert np.array_equal(first.optimizer["vectors"]["m"], second.optimizer["vectors"]["m"])


def test_the_seed_draws_the_weights(tmp_path):
    """Layers that are given no rng: the same seed gives the same run, another one another."""
    file = tmp_path / "net.py"
    file.write_text(MINE.replace(", rng=1", "").replace(", rng=2", ""))
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        succeeds("--model", f"{file}:Net", "--opt", "adam", *RUN, "--seed", seed, "--out", tmp_path / name)
    a, b, c = (load_checkpoint(tmp_path / name / "checkpoint.safetensors").model for name in "abc")
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["layers.1.weight"], c["layers.1.weight"])


def test_a_changed_file_is_refused(mine, tmp_path):
    run = tmp_path / "r"
    succeeds("--model", f"{mine}:Net", *RUN, "--out", run)
    (run / "summary.json").unlink()  # so that there is something left to do
    succeeds("--resume", run)
    mine.write_text(MINE + "\nraise SystemExit('this is never run')\n")
    assert re.search(r"mine.py has changed since .* was trained with it", fails("--resume", run))
    digit = tmp_path / "x.idx"
    write_idx(digit, np.zeros((1, 28, 28), np.uint8))
    mine.write_text(MINE + "\n# a remark\n")
    told = command(run, digit, module="minidl.predict")
    assert re.match(r"note: .*mine.py has changed since .* was trained with it", told.stderr)
    moved = mine.rename(tmp_path / "moved.py")
    for args, module in (
        ([run, digit], "minidl.predict"),
        ([run], "minidl.report"),
        (["--resume", run], "minidl.train"),
    ):
        assert (
            "which is gone: put that file back, or say where it is now with --model FILE.py:Net (in Python, "
            "load_run(folder, model=Net))"
        ) in fails(*args, module=module)
    moved.write_text(MINE)
    told = command(run, digit, "--model", f"{moved}:Net", module="minidl.predict")
    assert (told.returncode, told.stderr) == (0, "")
    mine.write_text(MINE)
    assert "--model can't be changed" in fails("--resume", run, "--model", f"{mine}:Breaks")
    assert "leave out --model" in fails("--resume", run, "--model", "cnn")


def test_the_folder_has_the_class_s_name(mine, tmp_path):
    words = ["--model", "mine.py:Net", "--opt", "mine.py:Lion", *RUN]
    there = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "minidl.train", *words], cwd=tmp_path, env=there, check=True)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-Net-Lion")


def test_errors_inside_the_file_are_told_with_their_line(mine, tmp_path):
    message = fails("--model", f"{mine}:Breaks", *RUN, "--out", tmp_path / "r", status=1)
    line = MINE.splitlines().index("        return self.layers(x) if len(x) == 2 else x.rashape(3)") + 1
    assert f"mine.py, line {line}: AttributeError" in message
    (tmp_path / "nan.py").write_text(NAN)
    message = fails("--opt", tmp_path / "nan.py:Root", *RUN, "--out", tmp_path / "n", status=1)
    assert "Root.rule made a first step of NaN from a finite gradient" in message
    assert "did you mean 'Net'?" in fails("--model", f"{mine}:Nett", *RUN)
    assert "as in mine.py:Net" in fails("--model", "mien", *RUN)
    assert "as in mine.py:Lion" in fails("--opt", "lion", *RUN)


def test_a_warning_is_a_note_without_a_line_of_the_library(tmp_path):
    (tmp_path / "nan.py").write_text(NAN)
    args = ("--opt", tmp_path / "nan.py:Rests", *RUN, "--out", tmp_path / "r")
    result = subprocess.run(
        [sys.executable, "-m", "minidl.train", *map(str, args)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    (said,) = [each for each in result.stderr.splitlines() if "first step of zeros" in each]
    assert said.startswith("minidl.train: note: Rests.rule made a first step of zeros")
    assert "train_to" not in result.stderr


def test_that_an_average_is_not_what_is_evaluated_is_told():
    """A study evaluates it; train, tune and a Trainer do not, and said nothing."""
    params = [Tensor(np.ones(3, np.float32), requires_grad=True)]
    with pytest.warns(UserWarning, match=r"^AveragedAdam averages its weights, but validation, results"):
        own_optimizer(AveragedAdam, params, total_steps=8, steps_per_epoch=4, lr=0.1)


@pytest.mark.parametrize(
    ("default", "rate"),
    [("=np.float32(0.5)", 0.5), ("=None", 0.25), ("=cosine(0.125, 100)", 0.125), ("", 0.001), ("=2", 2.0)],
)
def test_an_own_rate_that_is_no_plain_number_is_kept(tmp_path, default, rate):
    """Once each of these was called with 0.001."""
    (tmp_path / "own.py").write_text(
        "import numpy as np\nfrom minidl.optim import SGD\nfrom minidl.optim.schedule import cosine\n\n"
        f"def mine(params, lr{default}):\n    return SGD(params, lr=0.25 if lr is None else lr)\n"
    )
    for given, wanted in ((None, rate), (0.75, 0.75)):
        job = prepare(Config(dataset="mnist5k", model="linear", opt=f"{tmp_path / 'own.py'}:mine", lr=given))
        assert job.trainer.optimizer.lr == pytest.approx(wanted)


def test_tune_finds_the_rate_of_an_own_optimizer(mine, tmp_path):
    result = command("--model", f"{mine}:Net", "--opt", f"{mine}:Lion", *RUN, module="minidl.tune")
    assert result.returncode == 0, result.stderr
    said = re.search(r"--opt (\S+) --lr (\S+)", result.stdout)
    assert said
    assert (said[1], float(said[2]) in (0.00316, 0.001, 0.000316)) == (f"{mine}:Lion", True)
    assert "not for adam" in fails("--opt", "adam", *RUN, module="minidl.tune")
    (tmp_path / "own.py").write_text("from minidl.optim import SGD\ndef mine(params): return SGD(params, lr=1)\n")
    assert "has no parameter lr" in fails("--opt", tmp_path / "own.py:mine", *RUN, module="minidl.tune")


def test_a_run_whose_optimizer_keeps_a_switch_of_its_own_kind(tmp_path):
    """Its state may hold anything under that name: report and compare show a switch_event alone."""
    (tmp_path / "turns.py").write_text(TURNS)
    out = tmp_path / "r"
    succeeds("--opt", tmp_path / "turns.py:Turns", "--model", "linear", *RUN, "--out", out, "--report")
    assert json.loads((out / "summary.json").read_text())["switch"] is None
    assert "linear" in compare_table([read_run(out, 0)])


def test_a_table_with_a_rate_for_each_step_lasts_to_the_end(tmp_path):
    """The record after the last step asked for the rate of a step to come: the run failed, and its resume too."""
    (tmp_path / "table.py").write_text(
        "import numpy as np\nfrom minidl.optim import SGD\n"
        "def table(params, lr=0.1, total_steps=0):\n"
        "    rates = np.linspace(lr, lr / 10, total_steps)\n"
        "    return SGD(params, lr=lambda k: rates[k])\n"
    )
    succeeds("--opt", tmp_path / "table.py:table", "--model", "linear", *RUN, "--out", tmp_path / "r")
    rates = [json.loads(line)["lr"] for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert np.allclose(rates, [np.linspace(0.1, 0.01, 18)[9], 0.01])  # the next step's, and the last step's


def test_a_replay_of_ones_own(mine, tmp_path):
    page = tmp_path / "replay.html"
    own = ("--model", f"{mine}:Net", "--opt", f"{mine}:Lion")
    succeeds(*own, *RUN, "--out", tmp_path / "r", "--trace", page)
    from minidl.trace import read

    (recording,) = read(page)
    assert recording["title"] == "Net on mnist5k, Lion, seed 0"
    assert str(tmp_path) not in str(recording)  # a page for a class has no path of its teacher's machine
    assert [recording["config"][name] for name in ("model", "opt")] == [f"{mine.name}:Net", f"{mine.name}:Lion"]
    assert list(recording["config"]["files"]) == [mine.name]
