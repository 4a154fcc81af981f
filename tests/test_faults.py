"""Faults found by damaging, exchanging and editing files, one by one; each stands for its kind (see mutate.py)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from minidl import Trainer, compare, load_run, nn, report, train, tune
from minidl.data import load_mnist, write_idx
from minidl.nn import Linear
from minidl.optim import SGD
from minidl.pages import read_run
from minidl.predict import describe
from minidl.predict import main as predict
from minidl.study import __main__ as study
from minidl.trace import __main__ as trace
from minidl.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from minidl.training.run import Run
from minidl.weights import WeightsError
from tests.commands import tiny_dataset


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Data, two finished runs, digits to classify."""
    folder = tmp_path_factory.mktemp("made")
    data = tiny_dataset(folder / "digits", 60)
    for name, seed in (("a", 0), ("b", 1)):
        args = ["--dataset", data, "--model", "linear", "--epochs", 1, "--batch-size", 30, "--no-fast", "--seed", seed]
        assert train.main([str(word) for word in [*args, "--out", folder / name]]) == 0
    write_idx(folder / "x.idx", load_mnist(name=str(data)).test_images[:3])
    return folder


@pytest.fixture
def run(made, tmp_path) -> Path:
    shutil.copytree(made / "a", tmp_path / "run")
    return tmp_path / "run"


def refused(capsys, main, *args, status: int = 2) -> str:
    assert main([str(word) for word in args]) == status
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert ": error: " in said
    return said


def both_refuse(capsys, made, run) -> str:
    """predict and --resume, in one line, and neither changes the checkpoint."""
    before = (run / "checkpoint.safetensors").read_bytes()
    said = refused(capsys, predict, run, made / "x.idx") + refused(capsys, train.main, "--resume", run)
    assert (run / "checkpoint.safetensors").read_bytes() == before
    return said


@pytest.mark.parametrize("dtype", ["I32", "U32", "BF16", "F16", "F8_E4M3", "F64"])
def test_another_dtype_in_the_header(made, run, capsys, dtype):
    """Once predict answered 3 at 100 % where it was 6."""
    file = run / "checkpoint.safetensors"
    data = file.read_bytes()
    for at in range(data.count(b'"dtype":"F32"')):
        parts = data.split(b'"dtype":"F32"')
        changed = b'"dtype":"F32"'.join(parts[: at + 1]) + f'"dtype":"{dtype}"'.encode()
        changed += b'"dtype":"F32"'.join(parts[at + 1 :])
        longer = len(changed) - len(data)
        file.write_bytes((int.from_bytes(data[:8], "little") + longer).to_bytes(8, "little") + changed[8:])
        assert "damaged" in both_refuse(capsys, made, run)


def signed_anew(run: Path, changes: dict) -> None:
    """The checkpoint with other content, its checksum right: weights by name, or places in its state by path."""
    c = load_checkpoint(run / "checkpoint.safetensors")
    state = json.loads(json.dumps(c.state))
    for path, value in changes.items():
        if path in c.model:
            c.model[path] = value
            continue
        *way, last = path.split(".")
        inside = state
        for key in way:
            inside = inside[key]
        inside[last] = value
    scalars = state.pop("optimizer")
    save_checkpoint(run / "checkpoint.safetensors", c.model, {**c.optimizer, "scalars": scalars}, state)


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(made, run, capsys, lost):
    """Once predict said "9 (nan%; next 8, nan%)"."""
    weights = load_checkpoint(run / "checkpoint.safetensors").model["1.weight"]
    weights[0, 0] = lost
    signed_anew(run, {"1.weight": weights})
    assert both_refuse(capsys, made, run).count("1 of the 320 weights '1.weight' are NaN or infinite") == 2


def test_weights_that_overflow(made, run, capsys):
    weights = load_checkpoint(run / "checkpoint.safetensors").model["1.weight"]
    signed_anew(run, {"1.weight": np.full_like(weights, 3e38)})
    assert "the network's output is not finite" in refused(capsys, predict, run, made / "x.idx")


def test_an_answer_where_there_is_one_class():
    assert describe(np.array([1.0])) == "0 (100.0%; there is no other class)"


def test_of_equal_classes_the_first_is_the_answer():
    """As NumPy's argmax has it, and so accuracy and the confusion matrix."""
    assert describe(np.array([0.2, 0.4, 0.4])) == "1 (40.0%; next 2, 40.0%)"


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.int32, np.float64])
def test_weights_of_another_dtype_signed(made, run, capsys, dtype):
    weights = load_checkpoint(run / "checkpoint.safetensors").model["1.weight"]
    signed_anew(run, {"1.weight": weights.astype(dtype)})
    assert f"are {np.dtype(dtype)}, this model's are float32" in both_refuse(capsys, made, run)


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("options.trace", -1, "--trace must be a string, got -1"),
        ("options.threads", 1.5, "--threads must be a whole number, got 1.5"),
        ("options.threads", 10**20, "--threads must be at most 4,096"),
        ("config.dataset", None, "--dataset must be a string, got None"),
        ("config.epochs", 10**18, "--epochs must be at most 1,000,000"),
        ("trainer.metrics", None, "trainer.metrics must be a list, not None"),
        ("trainer.metrics", [], "its metrics do not have one record per epoch"),
        ("trainer.step", -1, "trainer.step must be a whole number"),
        ("trainer.loss_sum", "x", "trainer.loss_sum must be a number, not 'x'"),
        ("model.classes", 10_000_000, "model.classes must be a whole number from 1 to 65,536, not 10000000"),
        ("model.image_size", [10**6, 10**6], "model.image_size[0] must be a whole number"),
        ("model.image_size", [60_000, 60_000], "larger than this version supports"),
        ("model.image_size", [28, 2_800], "are too few for images of 28x2800"),
        ("optimizer.current.t", "x", "optimizer.current.t must be a whole number"),
        ("run", None, "run must be a text"),
    ],
)
def test_a_state_of_wrong_kinds_or_sizes_signed(run, capsys, place, value, says):
    signed_anew(run, {place: value})
    said = refused(capsys, train.main, "--resume", run)
    assert "does not fit this version of minidl" in said
    assert says in said


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "config.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "another run's", "edited"])
def test_files_that_repeat_the_checkpoint(made, run, capsys, name, damage):
    """The checkpoint wins, and it is said; once a finished run said that the results are in summary.json, whatever it
    held."""
    file, whole = run / name, (run / name).read_bytes()
    at = whole.index(b"accuracy" if name != "config.json" else b'"seed"') + 10
    damaged = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "flipped": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
        "another run's": (made / "b" / name).read_bytes(),
        "edited": whole.replace(b'"seed": 0', b'"seed": 7').replace(b'accuracy": 0.', b'accuracy": 0.1'),
    }[damage]
    file.write_bytes(damaged)
    results = read_run(run, 0)
    assert len(results.notes) == 1
    assert str(file) in results.notes[0]
    assert results.summary == json.loads((made / "a" / "summary.json").read_text())
    assert train.main(["--resume", str(run)]) == 0
    said = capsys.readouterr().out
    assert f"note: {file} " in said
    assert "rewritten from the checkpoint" in said
    assert file.read_bytes() == whole
    assert read_run(run, 0).notes == []


def test_what_is_missing_is_called_missing(run, capsys):
    (run / "metrics.jsonl").unlink()
    assert read_run(run, 0).notes == [f"{run / 'metrics.jsonl'} is missing: taken from the checkpoint"]
    assert train.main(["--resume", str(run)]) == 0
    assert f"note: {run / 'metrics.jsonl'} is missing: rewritten from the checkpoint" in capsys.readouterr().out


def test_a_run_cut_off_before_its_second_file_is_not_called_damaged(tmp_path, capsys, monkeypatch):
    """As on a disk that was full: there is the checkpoint, and nothing else."""
    out = tmp_path / "run"

    def refuse(self):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Run, "write_config", refuse)
        assert train.main(["--dataset", "mnist5k", "--model", "linear", "--epochs", "1", "--out", str(out)]) == 1
    assert [path.name for path in out.iterdir()] == ["checkpoint.safetensors"]
    assert train.main(["--resume", str(out)]) == 0
    assert "rewritten" not in capsys.readouterr().out


def test_a_checkpoint_of_another_run_is_known(made, run, capsys):
    shutil.copy(made / "b" / "checkpoint.safetensors", run)
    assert predict([str(run), str(made / "x.idx")]) == 0
    assert "is of run" in capsys.readouterr().err
    assert train.main(["--resume", str(run)]) == 0
    said = capsys.readouterr().out
    assert said.count("rewritten from the checkpoint") == 3
    assert json.loads((run / "summary.json").read_text())["seed"] == 1


def test_weights_alone_prove_themselves(tmp_path):
    net = Linear(3, 2)
    net.save(tmp_path / "net.safetensors")
    whole = (tmp_path / "net.safetensors").read_bytes()
    for i in range(len(whole)):
        (tmp_path / "net.safetensors").write_bytes(whole[:i] + bytes([whole[i] ^ 2]) + whole[i + 1 :])
        other = Linear(3, 2)
        try:
            other.load(tmp_path / "net.safetensors")
        except (WeightsError, KeyError):
            continue
        for name, array in net.state_dict().items():
            np.testing.assert_array_equal(other.state_dict()[name], array)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--schedule-sgd", "consine"], "did you mean 'cosine'"),
        (["--opt", "adam", "--schedule", "step:every=x"], "expected a whole number"),
        (["--threads", "9" * 20], "--threads must be at most 4,096"),
        (["--switch", "(" * 3000], "3000 parentheses are too many"),
        (["--lr-after", "0.1", "--lr-sgd", "0.1"], "both set the learning rate of the SGD phase"),
        (["--model", "CNN"], "did you mean 'cnn'"),
        (["--opt", "ADAM"], "did you mean 'adam'"),
        (["--model", "x" * 5000], "xxx... (5,"),
    ],
)
def test_what_is_used_later_is_looked_at_first(made, tmp_path, capsys, args, says):
    """Before anything is written: once the whole phase of Adam ran, and then came a traceback."""
    base = ["--dataset", made / "digits", "--model", "linear", "--epochs", 1, "--no-fast", "--out", tmp_path / "new"]
    assert train.main([str(word) for word in [*base, *args]]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) <= 2
    assert not (tmp_path / "new").exists()


OWN = {  # of a Trainer's run: what is edited in its settings, and what is said
    "network": [5, [], {"layer": "Linear"}, {"layer": ["x"]}, {"x": 1}, "x"],
    "optimizer": [5, {"rule": "SGD"}, {"rule": {}}, {"x": 1}],
    "batch_size": [0, "x", 1.5, None], "seed": [-1, "x", None], "counts": [5, [1], ["x", "y"]],
    "split_seed": ["x", -1], "val_fraction": [2, "x"], "model": [None, 5], "epochs": [-1, None], "x": [1],
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_settings_of_a_trainers_run_of_wrong_kinds_signed(name, tmp_path):
    """Once KeyError and TypeError from deep inside."""
    arrays = (np.random.default_rng(1).random((8, 1, 2, 2), np.float32), np.arange(8) % 2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, rng=0))
    Trainer(net, SGD(net.parameters(), lr=0.1), arrays, batch_size=4, folder=tmp_path / "r").fit(1, verbose=False)
    whole = (tmp_path / "r" / "checkpoint.safetensors").read_bytes()
    for value in OWN[name]:
        (tmp_path / "r" / "checkpoint.safetensors").write_bytes(whole)
        signed_anew(tmp_path / "r", {f"config.{name}": value})
        with pytest.raises(CheckpointError) as error:
            load_run(tmp_path / "r", data=arrays).trainer  # noqa: B018 (it is made now)
        assert len(str(error.value).splitlines()) == 1
        assert "does not fit this version of minidl" in str(error.value)


STEERING = "a\x1b[31m\rb\x07c\u202ed\u2066e\x9bf"
STEERED = "a\\x1b[31m\\rb\\x07c\\u202ed\\u2066e\\x9bf"


@pytest.mark.parametrize("main", [train.main, predict, compare.main, report.main, tune.main, trace.main, study.main])
def test_no_name_steers_the_terminal(main, tmp_path, monkeypatch, capsys):
    """Typed, in each command's error; with an end of a line in it, it is one line still."""
    monkeypatch.chdir(tmp_path)
    words = {
        train.main: ["--resume", STEERING], predict: [STEERING, "x"], compare.main: [STEERING],
        report.main: [STEERING], tune.main: ["--model", STEERING], study.main: ["--check", STEERING],
        trace.main: [STEERING, "--out", "x.html"],
    }[main]  # fmt: skip
    said = refused(capsys, main, *words)
    assert STEERED in said or repr(STEERING)[1:-1] in said
    assert said.replace("\n", "").isprintable()
    refused(capsys, main, *(f"{word}\nb" if word == STEERING else word for word in words))
    with pytest.raises(SystemExit):
        main([f"--{STEERING}\nb"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said[:-1].isprintable()


def test_no_file_steers_the_terminal(made, run, tmp_path, monkeypatch, capsys):
    """What stands in a checkpoint, or is the name of a picture: in answers and notes."""
    data = load_checkpoint(run / "checkpoint.safetensors").state["data"]
    signed_anew(run, {"data": {**data, "class_names": [f"{k}{STEERING}\nx" for k in range(4)]}})
    shutil.copy(made / "x.idx", tmp_path / f"{STEERING}\nx.idx")
    shutil.copy(made / "b" / "config.json", run)
    assert predict([str(run), str(tmp_path / f"{STEERING}\nx.idx")]) == 0
    said = "".join(capsys.readouterr())
    assert said.count(STEERED) == 9  # three images: the file, and two classes
    assert said.replace("\n", "").isprintable()
    assert len(said.splitlines()) == 4  # with the note on config.json


@pytest.mark.parametrize(("word", "meant"), [("--epoch", "--epochs"), ("--modell", "--model"), ("--Seed", "--seed")])
def test_a_mistyped_option_gets_the_nearest_name(capsys, word, meant):
    with pytest.raises(SystemExit) as end:
        train.main([word, "1"])
    assert end.value.code == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err
