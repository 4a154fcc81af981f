"""Ctrl-C, SIGTERM, SIGHUP: the first ends the run after the current step, the second at once, and nothing is lost."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from minidl.cli.signals import StopNow, StopOnSignal
from minidl.training.checkpoint import load_checkpoint
from tests.commands import ROOT, SIGNALS, difference, finished, outcome, signal_at_call, tiny_dataset, train

ALL = pytest.mark.parametrize("number", SIGNALS)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def arguments(data: Path, out: Path) -> list:
    args = ["--dataset", data, "--model", "goodfit", "--epochs", 2, "--batch-size", 60, "--switch", "step:4"]
    return [*args, "--out", out]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "r"
    return finished(arguments(data, out), out)


def step_saved(out: Path) -> int:
    return load_checkpoint(out / "checkpoint.safetensors").state["trainer"]["step"]


@ALL
def test_the_first_ends_after_the_step_with_a_checkpoint_and_the_line_that_resumes(data, whole, tmp_path, number):
    out, log = tmp_path / "a run", tmp_path / "log"  # a name that a shell would split
    send = partial(signal_at_call, 2, "minidl.trainer:ops.cross_entropy", number)  # in the middle of step 2
    status, output = train(*arguments(data, out), log=log, sabotage=send)
    assert status == 128 + number
    assert "stopping after this step (once more: at once)" in output
    assert output.endswith(f"stopped after step 2; resume with\n  python -m minidl.train --resume '{out}'\n")
    assert "Traceback" not in output
    assert step_saved(out) == 2
    assert train("--resume", out, log=log)[0] == 0
    assert not difference(outcome(out), outcome(whole))


@ALL
def test_the_second_ends_at_once(data, whole, tmp_path, number):
    out, log = tmp_path / "r", tmp_path / "log"
    send = partial(signal_at_call, 2, "minidl.trainer:ops.cross_entropy", number, times=2)
    status, output = train(*arguments(data, out), log=log, sabotage=send)
    assert status == 128 + number
    assert output.endswith(f"stopped at once; resume from the last checkpoint with\n  {resume(out)}\n")
    assert "Traceback" not in output
    assert step_saved(out) == 0
    assert train("--resume", out, log=log)[0] == 0
    assert not difference(outcome(out), outcome(whole))


def test_twice_while_a_checkpoint_is_written(data, tmp_path):
    """The file that was being written is gone, the one before it is whole."""
    out = tmp_path / "r"
    args = [*arguments(data, out), "--checkpoint-every", 1]
    send = partial(signal_at_call, 7, "os:fsync", signal.SIGINT, times=2)  # 1-4 begin the run, 5 and 6 are of step 1
    status, output = train(*args, log=tmp_path / "log", sabotage=send)
    assert status == 130, output
    assert step_saved(out) == 1
    assert not list(out.glob(".*"))


def test_in_the_last_step_of_an_epoch(data, whole, tmp_path):
    out, log = tmp_path / "r", tmp_path / "log"
    send = partial(signal_at_call, 1, "minidl.trainer:Trainer.finish_epoch", signal.SIGINT)
    status, output = train(*arguments(data, out), log=log, sabotage=send)
    assert status == 130
    assert "stopped after step 3; resume with" in output
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 1
    assert train("--resume", out, log=log)[0] == 0
    assert not difference(outcome(out), outcome(whole))


@ALL
def test_before_and_after_training_one_is_enough(data, whole, tmp_path, number):
    out, log = tmp_path / "r", tmp_path / "log"
    early = partial(signal_at_call, 1, "minidl.train:prepare", number)
    status, output = train(*arguments(data, out), log=log, sabotage=early)
    assert (status, output) == (128 + number, f"minidl.train: stopped by {signal.Signals(number).name}\n")
    assert not out.exists()
    late = partial(signal_at_call, 1, "minidl.cli.closing:plot_curves", number)
    status, output = train(*arguments(data, out), log=log, sabotage=late)
    assert status == 128 + number
    assert output.endswith(f"{resume(out)}\n")
    assert train("--resume", out, log=log)[0] == 0
    assert not difference(outcome(out), outcome(whole))


def resume(out: Path) -> str:
    return f"python -m minidl.train --resume {out}"


def test_the_real_command_in_its_own_session(data, tmp_path):
    """As a shell does it: Ctrl-C reaches the program from outside, while it trains."""
    args = [*map(str, arguments(data, tmp_path / "r")), "--epochs", "100000"]
    argv = [sys.executable, "-u", "-W", "error", "-m", "minidl.train", *args]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        assert any(line.startswith("epoch   2") for line in process.stdout)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopping after this step" in err
    assert "Traceback" not in err
    assert out.splitlines()[-2].startswith("stopped after step ")


IMPORTS = "import os, signal, sys; os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another thing there")
@pytest.mark.parametrize("module", ["minidl.train", "minidl.predict", "minidl.study", "minidl.trace", "minidl"])
def test_while_a_command_still_imports(module, tmp_path):
    """Ctrl-C as NumPy is imported; Python's own imports before minidl's first line are Python's."""
    (tmp_path / "numpy.py").write_text(IMPORTS)
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    argv = [sys.executable, "-m", module]
    done = subprocess.run(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "minidl: stopped by SIGINT\n")


def test_a_program_that_imports_minidl_keeps_its_ctrl_c(tmp_path):
    (tmp_path / "mine.py").write_text("import minidl, signal; assert signal.getsignal(2) is signal.default_int_handler")
    (tmp_path / "minidl_like").mkdir()
    for name in ("__init__", "__main__"):
        shutil.copy(tmp_path / "mine.py", tmp_path / "minidl_like" / f"{name}.py")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    for words in (["mine.py"], ["-m", "mine"], ["-m", "minidl_like"], ["-c", "import mine"]):
        subprocess.run([sys.executable, *words], cwd=tmp_path, env=env, check=True)


def test_a_signal_that_was_ignored_stays_ignored(data, tmp_path):
    """As SIGINT is for a job that a shell script put into the background."""
    send = partial(ignore_and_send, "minidl.trainer:Trainer.finish_epoch")
    assert train(*arguments(data, tmp_path / "r"), log=tmp_path / "log", sabotage=send)[0] == 0


def ignore_and_send(place: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal_at_call(1, place, signal.SIGINT)


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopOnSignal() as stop:
        assert signal.getsignal(signal.SIGINT) not in before
        with pytest.raises(StopNow):
            signal.raise_signal(signal.SIGTERM)
        assert stop.status == 143
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


def test_outside_the_main_thread_signals_are_left_alone():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with StopOnSignal():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_reader_that_goes_away(data, tmp_path):
    """`python -m minidl.train | head -n 1` is no full disk, and no traceback."""
    argv = [sys.executable, "-m", "minidl.train", *map(str, arguments(data, tmp_path / "r"))]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 128 + signal.SIGPIPE
        message = process.stderr.read()
    assert message.startswith("minidl.train: nobody reads the output any more: stopped")
    assert len(message.splitlines()) == 1
