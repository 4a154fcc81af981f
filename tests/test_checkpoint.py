"""The checkpoint file: what goes in comes out, and what is not a sound checkpoint is refused, never half believed."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minidl import weights
from minidl.training import checkpoint as module
from minidl.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from minidl.training.loader import UserError
from minidl.weights import WeightsError, load_weights
from tests.commands import ROOT, Child, at_place, difference, outcome, tiny_dataset, train

MODEL = {
    "0.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    "1.num_batches_tracked": np.array(7),
    "1.running_mean": np.array([np.float32(1e-42), -0.0], np.float32),
}
OPTIMIZER = {
    "vectors": {"m": np.linspace(0, 1, 5), "gammas": np.array([np.nan, 1e300])},
    "scalars": {"t": 3, "lr": 0.1},
}


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, MODEL, OPTIMIZER, {"trainer": {"loss": 0.1 + 0.2}, "config": {"model": "mlp"}})
    return path


def test_what_is_saved_is_loaded_bit_for_bit(file):
    loaded = load_checkpoint(file)
    for found, saved in ((loaded.model, MODEL), (loaded.optimizer["vectors"], OPTIMIZER["vectors"])):
        assert found.keys() == saved.keys()
        for name, array in saved.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
            assert found[name].tobytes() == array.tobytes()
    assert loaded.optimizer["scalars"] == OPTIMIZER["scalars"]
    assert loaded.state["trainer"]["loss"] == 0.1 + 0.2


def test_a_number_of_numpys_in_an_optimizers_state_is_stored_as_pythons(tmp_path):
    """A user's own state_dict may have counted with one: it ended in a traceback about JSON."""
    state = {"vectors": {}, "scalars": {"count": np.int64(3), "best": np.float32(0.5)}}
    save_checkpoint(tmp_path / "c", {}, state, {})
    assert load_checkpoint(tmp_path / "c").optimizer["scalars"] == {"count": 3, "best": 0.5}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"vectors": {}, "scalars": {"m": np.zeros(3)}}, r"type ndarray among its scalars, .* arrays belong in"),
        ({"m": np.zeros(3)}, r"state_dict\(\) must return \{\"vectors\": "),
        (None, r"state_dict\(\) must return \{\"vectors\": "),
    ],
)
def test_an_optimizers_state_that_can_not_be_stored(tmp_path, state, says):
    with pytest.raises(UserError, match=says):
        save_checkpoint(tmp_path / "c", {}, state, {})


def test_other_tools_see_the_weights_under_their_names(file):
    tensors = load_file(file)
    assert tensors["0.weight"].shape == (3, 2)
    assert set(tensors) == {*MODEL, "optimizer.m", "optimizer.gammas"}


def test_the_optimizers_vectors_have_a_prefix_of_their_own(tmp_path):
    """Where a weight begins with the usual one; files of before name none, and have the usual one."""
    model = {"optimizer.m": np.zeros(2), "_optimizer.m": np.ones(2), "m": np.full(2, 2.0)}
    save_checkpoint(tmp_path / "c", model, OPTIMIZER, {})
    assert set(load_file(tmp_path / "c")) == {*model, "__optimizer.m", "__optimizer.gammas"}
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded.model.keys() == model.keys()
    np.testing.assert_array_equal(loaded.optimizer["vectors"]["m"], OPTIMIZER["vectors"]["m"])
    assert set(loaded.state) == {"format", "optimizer"}


@pytest.mark.parametrize("prefix", [None, 5, "", "_", "m", "optimizer", "_" * 5000 + "optimizer.", ["optimizer."]])
def test_a_prefix_that_is_none_signed(tmp_path, prefix):
    save_checkpoint(tmp_path / "c", MODEL, OPTIMIZER, {"vectors": prefix})
    with pytest.raises(CheckpointError, match="vectors must be 'optimizer"):
        load_checkpoint(tmp_path / "c")
    with pytest.raises(WeightsError, match="vectors must be 'optimizer"):
        load_weights(tmp_path / "c")


def test_a_name_that_the_format_keeps_for_itself(tmp_path):
    """Once the file was written, and could never be read again."""
    with pytest.raises(ValueError, match="__metadata__"):
        save_checkpoint(tmp_path / "c", {"__metadata__": np.zeros(2)}, OPTIMIZER, {})
    assert not any(tmp_path.iterdir())


def test_weights_of_another_program_may_have_any_name(tmp_path):
    save_file({"optimizer.weight": np.ones(2)}, tmp_path / "c")
    assert set(load_weights(tmp_path / "c")) == {"optimizer.weight"}


def test_nothing_but_the_file_is_left(file):
    save_checkpoint(file, MODEL, OPTIMIZER, {})
    assert [f.name for f in file.parent.iterdir()] == [file.name]


def test_the_file_and_then_its_folder_are_flushed(tmp_path, monkeypatch):
    flushed = []
    fsync = module.os.fsync

    def watch(descriptor):
        flushed.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        fsync(descriptor)

    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not tell which file a descriptor belongs to")
    monkeypatch.setattr(module.os, "fsync", watch)
    save_checkpoint(tmp_path / "c", MODEL, OPTIMIZER, {})
    assert flushed[0].startswith(".c.")
    assert flushed[1:] == [tmp_path.name]


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path):
    module._flush_folder(tmp_path / "nowhere")


# ---- what is refused ----


def test_a_missing_file(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(CheckpointError, match="there is no checkpoint"):
            load_checkpoint(path)


def test_a_file_that_may_not_be_read_is_not_called_damaged(file, monkeypatch):
    """Whoever runs the tests, root too."""

    def refused(*args):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(weights, "open", refused, raising=False)
    with pytest.raises(CheckpointError, match=r"checkpoint.safetensors can't be read: Permission denied$"):
        load_checkpoint(file)
    with pytest.raises(WeightsError, match=r"checkpoint.safetensors can't be read: Permission denied$"):
        load_weights(file)


def test_every_truncation(file):
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(file)
    file.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(file)


def test_every_damaged_byte(file):
    whole = file.read_bytes()
    for i in range(len(whole)):
        file.write_bytes(whole[:i] + bytes([whole[i] ^ 0x04]) + whole[i + 1 :])
        with pytest.raises(CheckpointError):
            load_checkpoint(file)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x04\x95pickle", b"<!DOCTYPE html>" * 9, b"\xff" * 300])
def test_garbage(tmp_path, content):
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or not a safetensors file"):
        load_checkpoint(tmp_path / "c")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "not a minidl checkpoint"),
        ({"format": "pt"}, "not a minidl checkpoint"),
        ({"minidl": '{"format": 1}'}, "has checkpoint format 1, this version reads 2"),  # had no checksum of dtypes
        ({"minidl": '{"format": 3}'}, "has checkpoint format 3, this version reads 2"),
        ({"minidl": "[1]"}, "has checkpoint format None"),
        ({"minidl": "{"}, "damaged"),
        ({"minidl": "[" * 100_000}, "damaged"),
        ({"minidl": '{"format": 2}'}, "it should be None"),
    ],
)
def test_a_foreign_file(tmp_path, metadata, message):
    save_file(MODEL | {"0.weight": np.ones(2)}, tmp_path / "c", metadata=metadata)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "c")


# ---- a full disk ----


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("whole") / "r"
    status, output = train(*arguments(data, out), log=out.with_suffix(".log"))
    assert status == 0, output
    return outcome(out)


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 3 MB: room for this run, whose checkpoints have 0.7 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is refused here; the tests with RLIMIT_FSIZE stand in")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def arguments(data: Path, out: Path) -> list:
    args = ["--dataset", data, "--model", "mlp", "--epochs", 2, "--batch-size", 60, "--switch", "step:2"]
    return [*args, "--checkpoint-every", 1, "--out", out]


def fill(disk: Path) -> None:
    """Leave not a byte."""
    with open(disk / "filler", "ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


PLACES = {  # when the disk fills up, and what fails then
    "checkpoint": (4, "minidl.training.run:save_checkpoint"),
    "metrics.jsonl": (2, "minidl.training.run:Run.write_metrics"),
    "summary.json": (1, "minidl.training.run:Run.write_summary"),
    "curves.png": (1, "minidl.cli.closing:plot_curves"),
}


@pytest.mark.parametrize("what", PLACES)
def test_a_full_disk(data, whole, small_disk, tmp_path, what):
    n, place = PLACES[what]
    out = small_disk / "r"
    sabotage = partial(at_place, n, place, partial(fill, small_disk))
    child = Child(*arguments(data, out), log=tmp_path / "log", sabotage=sabotage)
    assert child.wait() == 1, child.output
    check_message(child.output, out, "No space left on device")
    (small_disk / "filler").unlink()
    check_goes_on(out, whole, tmp_path / "log")


@pytest.mark.parametrize("what", PLACES)
def test_a_file_size_limit(data, whole, tmp_path, what):
    """The same where nothing may be mounted: the system refuses to write beyond a limit."""
    pytest.importorskip("resource")
    n, place = PLACES[what]
    limit = 100_000 if what == "checkpoint" else 100
    script = (
        "import sys, resource; from functools import partial; from minidl import train; from tests import commands\n"
        f"limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, ({limit}, -1))\n"
        f"commands.at_place({n}, {place!r}, limit)\n"
        "sys.exit(train.main(sys.argv[1:]))"
    )
    out = tmp_path / "r"
    argv = [sys.executable, "-c", script, *map(str, arguments(data, out))]
    result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1, result.stderr
    check_message(result.stderr, out, "File too large")
    check_goes_on(out, whole, tmp_path / "log")


def check_message(output: str, out: Path, why: str) -> None:
    assert "Traceback" not in output
    assert "Exception ignored" not in output
    message = output[output.index("minidl.train: error: ") :].splitlines()
    assert len(message) == 2
    assert message[0].startswith(f"minidl.train: error: writing to {out} failed: ")
    assert why in message[0]
    assert message[1].strip() == f"python -m minidl.train --resume {out}"


def check_goes_on(out: Path, whole: dict, log: Path) -> None:
    """The last checkpoint is whole, nothing lies about, and the run ends as if nothing had happened."""
    load_checkpoint(out / "checkpoint.safetensors")
    assert not list(out.glob(".*"))
    for line in (out / "metrics.jsonl").read_text().splitlines():
        json.loads(line)
    status, output = train("--resume", out, log=log)
    assert status == 0, output
    assert not difference(outcome(out), whole)


def test_no_room_for_the_run_folder(data, small_disk, tmp_path):
    fill(small_disk)
    status, output = train(*arguments(data, small_disk / "r"), log=tmp_path / "log")
    assert status == 1
    assert output.startswith("minidl.train: error: the run folder can't be written: [Errno 28] No space left on device")
    assert len(output.splitlines()) == 1
    (small_disk / "filler").unlink()
    assert train(*arguments(data, small_disk / "r"), log=tmp_path / "log")[0] == 0
