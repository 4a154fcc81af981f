"""`--trace` and `python -m minidl.trace` as a user meets them: runs that end well, badly, or are resumed."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from minidl import trace
from minidl.__main__ import COMMANDS
from minidl.trace.__main__ import main as side_by_side
from minidl.training.checkpoint import load_checkpoint
from tests.commands import ROOT, checkpoint_bits, difference, fails, signal_at_call, tiny_dataset, train


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def arguments(data: Path, out: Path, page: Path | None, *more: object) -> list[object]:
    args = ["--dataset", data, "--epochs", 3, "--batch-size", 20, "--switch", "step:13", "--out", out, *more]
    return args if page is None else [*args, "--trace", page]


def run(tmp_path: Path, data: Path, name: str, *more: object, status: int = 0, page: bool = True, **how) -> str:
    """Train in tmp_path / name, with the page beside it."""
    where = tmp_path / f"{name}.html" if page else None
    found, output = train(*arguments(data, tmp_path / name, where, *more), log=tmp_path / f"{name}.log", **how)
    assert found == status, output
    assert "Traceback" not in output
    return output


def test_the_page_of_a_finished_run(data, tmp_path):
    output = run(tmp_path, data, "run")
    assert f"replay: {tmp_path / 'run.html'}" in output
    (recording,) = trace.read(tmp_path / "run.html")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert summary.pop("source") == f"folder {data}"
    summary["dataset"] = config["dataset"] = data.name  # the page may be shared: it names no folder of this machine
    assert recording["summary"] == summary
    assert recording["switch"]["event"] == summary["switch"]
    assert {k: v for k, v in config.items() if k != "minidl"} == recording["config"]
    assert recording["ending"] == ""
    assert [{**epoch, "run": config["run"]} for epoch in recording["epochs"]] == [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert {f.name for f in (tmp_path / "run").iterdir()} == {
        "config.json", "metrics.jsonl", "summary.json", "curves.png", "checkpoint.safetensors",
    }  # fmt: skip


def test_the_run_is_the_same_with_and_without(data, tmp_path):
    run(tmp_path, data, "watched", "--model", "goodfit")
    run(tmp_path, data, "plain", "--model", "goodfit", page=False)
    watched, plain = (
        checkpoint_bits(load_checkpoint(tmp_path / name / "checkpoint.safetensors")) for name in ("watched", "plain")
    )
    assert difference(watched, plain) == ""
    late = tmp_path / "late.html"
    status, output = train("--resume", tmp_path / "plain", "--trace", late, log=tmp_path / "late.log")
    assert (status, late.exists()) == (0, False)
    assert "there is no replay of this one" in output


def test_a_run_that_diverges_leaves_its_page(data, tmp_path):
    output = run(tmp_path, data, "run", "--lr", 1e30, status=1)
    assert "diverged at step" in output
    (recording,) = trace.read(tmp_path / "run.html")
    assert recording["ending"].startswith("training diverged at step")
    assert recording["summary"] is None
    assert recording["frames"]


def test_ctrl_c_leaves_the_page_and_resume_goes_on_with_it(data, tmp_path):
    run(tmp_path, data, "whole")
    stop = partial(signal_at_call, 17, "minidl.trainer:Trainer.train_step", signal.SIGINT)
    output = run(tmp_path, data, "run", sabotage=stop, status=128 + signal.SIGINT)
    (first,) = trace.read(tmp_path / "run.html")
    assert first["ending"] == "stopped after step 17"
    assert first["last"] == 17
    assert "--resume" in output
    status, output = train("--resume", tmp_path / "run", log=tmp_path / "again.log")  # the checkpoint knows of the page
    assert status == 0, output
    (resumed,), (whole,) = trace.read(tmp_path / "run.html"), trace.read(tmp_path / "whole.html")
    assert [f["step"] for f in resumed["frames"]] == [f["step"] for f in whole["frames"]]
    for name in ("first", "last", "phases", "ending", "title"):
        assert resumed[name] == whole[name]
    for name in ("loss", "lr"):
        np.testing.assert_array_equal(resumed[name], whole[name])
    for a, b in zip(resumed["frames"], whole["frames"], strict=True):
        for found, wanted in zip(a["terms"], b["terms"], strict=True):
            np.testing.assert_array_equal(found["value"], wanted["value"])
    assert resumed["history"] == whole["history"]


def test_a_run_resumed_after_the_last_step_of_an_epoch_tells_of_that_step_once(data, tmp_path):
    """What the condition says of it changes when the epoch is reported, which is after the run was stopped."""
    run(tmp_path, data, "whole", "--switch", "epoch:2")
    (whole,) = trace.read(tmp_path / "whole.html")
    stop = partial(signal_at_call, 2 * whole["steps_per_epoch"], "minidl.trainer:Trainer.train_step", signal.SIGINT)
    run(tmp_path, data, "run", "--switch", "epoch:2", sabotage=stop, status=128 + signal.SIGINT)
    assert train("--resume", tmp_path / "run", log=tmp_path / "again.log")[0] == 0
    (resumed,) = trace.read(tmp_path / "run.html")
    assert resumed["history"] == whole["history"]
    assert resumed["history"][-1]["words"] == "2 of 2 epochs finished"


def test_a_run_whose_data_have_moved_goes_on_with_its_page(data, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(data, here)
    stop = partial(signal_at_call, 5, "minidl.trainer:Trainer.train_step", signal.SIGINT)
    run(tmp_path, here, "run", sabotage=stop, status=128 + signal.SIGINT)
    here.rename(there)
    status, output = train("--resume", tmp_path / "run", "--dataset", there, log=tmp_path / "again.log")
    assert status == 0, output
    (recording,) = trace.read(tmp_path / "run.html")
    assert recording["first"] == 1
    assert [frame["step"] for frame in recording["frames"]][:6] == [1, 2, 3, 4, 5, 6]
    assert recording["config"]["dataset"] == "there"


def test_a_run_resumed_without_its_page_says_what_is_missing(data, tmp_path):
    stop = partial(signal_at_call, 5, "minidl.trainer:Trainer.train_step", signal.SIGINT)
    run(tmp_path, data, "run", page=False, sabotage=stop, status=128 + signal.SIGINT)
    page = tmp_path / "late.html"
    page.write_text("something else")
    assert "is not a replay page" in fails("--resume", tmp_path / "run", "--trace", page)
    assert page.read_text() == "something else"
    page.unlink()
    status, output = train("--resume", tmp_path / "run", "--trace", page, log=tmp_path / "log")
    assert status == 0, output
    (recording,) = trace.read(page)
    assert recording["first"] == 6
    assert recording["frames"][0]["step"] > 5
    assert re.search(r"replay: .*steps?, from step 6 on\): open it in a browser", output)
    assert any("Steps 1 to 5" in words for words in recording["left_out"])
    before = page.read_bytes()
    status, output = train("--resume", tmp_path / "run", log=tmp_path / "log2")  # finished: nothing to record
    assert status == 0, output
    assert page.read_bytes() == before


def test_a_file_that_is_no_sound_page_is_left_alone(data, tmp_path):
    """Neither a new run nor one that is resumed writes over it."""
    run(tmp_path, data, "run")
    page, whole = tmp_path / "run.html", (tmp_path / "run.html").read_bytes()
    at = whole.index(b'class="recording">') + 1000
    page.write_bytes(whole[:at] + b"A" * 8 + whole[at + 8 :])
    damaged = page.read_bytes()
    for args in (arguments(data, tmp_path / "new", page), ["--resume", tmp_path / "run"]):
        message = fails(*args)
        assert "damaged" in message
        assert "It is left alone: remove it, or give another name" in message
        assert page.read_bytes() == damaged
    page.write_bytes(whole)
    assert train(*arguments(data, tmp_path / "new", page), log=tmp_path / "log")[0] == 0  # an intact page is rewritten


def test_bad_places_are_said_before_training(data, tmp_path):
    (tmp_path / "folder.html").mkdir()
    for page, says in (
        (tmp_path / "nowhere" / "a.html", "there is no folder"),
        (tmp_path / "folder.html", "is a folder"),
        (tmp_path / "a.txt", "must end in .html"),
    ):
        message = fails(*arguments(data, tmp_path / "run", page))
        assert says in message
        assert message.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_two_runs_side_by_side(data, tmp_path, capsys):
    run(tmp_path, data, "hybrid")
    other = ["--dataset", data, "--opt", "adam", "--epochs", 2, "--out", tmp_path / "adam"]
    status, output = train(*other, "--trace", tmp_path / "adam.html", log=tmp_path / "log")
    assert status == 0, output
    pages = [str(tmp_path / "hybrid.html"), str(tmp_path / "adam.html")]
    both = tmp_path / "both.html"
    assert side_by_side([*pages, "--out", str(both)]) == 0
    assert "hybrid, seed 0 | mlp" in capsys.readouterr().out
    found = trace.read(both)
    assert [r["title"] for r in found] == [trace.read(p)[0]["title"] for p in pages]
    assert side_by_side([pages[0], str(tmp_path / "none.html"), "--out", str(both)]) == 2
    assert side_by_side([*pages, pages[0], "--out", str(both)]) == 2
    told = capsys.readouterr().err
    assert f"minidl.trace: error: there is no file {tmp_path / 'none.html'}\n" in told
    assert "3 runs were given, but at most two fit side by side" in told
    assert "two runs" in COMMANDS["trace"], "the list of commands promises no more"
    assert side_by_side([str(both), "--out", str(tmp_path / "again.html")]) == 0
    assert [r["title"] for r in trace.read(tmp_path / "again.html")] == [r["title"] for r in found]
    assert side_by_side([str(both), pages[0], "--out", str(tmp_path / "three.html")]) == 2
    told += capsys.readouterr().err
    assert side_by_side([pages[0], "--out", str(tmp_path / "updated.html")]) == 0
    assert trace.read(tmp_path / "updated.html")[0]["title"] == trace.read(pages[0])[0]["title"]
    assert side_by_side([*pages, "--out", str(tmp_path / "no" / "both.html")]) == 2
    assert trace.read(both)
    assert (told + capsys.readouterr().err).count("minidl.trace: error: ") == 4


def test_the_commands_of_the_lecturers_page_run(tmp_path):
    """As they stand in tutorials/pages/replay.md, only shorter: one epoch."""
    text = (ROOT / "tutorials" / "pages" / "replay.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        _, *words = shlex.split(line, comments=True)
        words += ["--epochs", "1"] if "minidl.train" in words else []
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, line
    assert len(trace.read(tmp_path / "two-runs.html")) == 2
    assert len(trace.read(tmp_path / "updated.html")) == 1
