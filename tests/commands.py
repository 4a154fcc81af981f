"""Running the programs as a user would, and hurting them: real processes, real signals, real files.

A process that imports everything anew takes most of a second, and the tests start a thousand. So they are forked from
a server that has done the imports; what runs in them is what the command line runs. Some files start Python itself.
"""

import importlib
import json
import math
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from minidl.data import load_mnist, write_idx
from minidl.training.checkpoint import Checkpoint, load_checkpoint

ROOT = Path(__file__).parent.parent
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows as hard
_method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(_method)
_fast = [] if os.environ.get("MINIDL_NO_FAST") else ["minidl.fast.loops.kernels"]  # what is not installed is left out
CONTEXT.set_forkserver_preload(
    ["tests.commands", "minidl.train", "minidl.predict", "matplotlib.figure", "matplotlib.backends.backend_agg", *_fast]
)


def _environment() -> dict[str, str]:
    """The environment's variables but pytest's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


ENVIRONMENT = _environment()  # in which the server of processes starts


def command(*args: object, module: str = "minidl.train", timeout: int = 300) -> subprocess.CompletedProcess[str]:
    """Run one of the programs, warnings counted as errors, and wait for its end.

    It is forked, unless the test has changed the environment: some variables are read while a module is imported.
    """
    argv = [*map(str, args)]
    if _method != "forkserver" or _environment() != ENVIRONMENT:
        line = [sys.executable, "-W", "error", "-m", module, *argv]
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder, "stdout"), Path(folder, "stderr")]
        process = CONTEXT.Process(target=_as_main, args=(module, argv, *logs))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(argv, timeout, *(log.read_bytes() for log in logs))
        return subprocess.CompletedProcess(argv, process.exitcode, *(log.read_text() for log in logs))


def _as_main(module: str, argv: list[str], *logs: Path) -> None:
    """What `python -W error -m module` does once it stands, in a process that has all modules."""
    _begin(ROOT, *logs)
    warnings.simplefilter("error")
    sys.argv = [module, *argv]
    sys.modules.pop(module, None)  # it becomes __main__
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _begin(cwd: Path, stdout: Path, stderr: Path) -> None:
    """Where a forked process is, and where it prints."""
    for descriptor, log in enumerate((stdout, stderr), start=1):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.chdir(cwd)
    tqdm.set_lock(threading.RLock())  # its own, shared by processes, would count as leaked where SIGKILL ends this one


def fails(*args: object, status: int = 2, module: str = "minidl.train") -> str:
    """Run a command that must fail, with a short message on stderr and no traceback; returns the message."""
    result = command(*args, module=module)
    assert result.returncode == status, result.stdout + result.stderr
    message = result.stderr
    assert message.startswith(f"{module}: error: ")
    assert "Traceback" not in message, message
    return message


def tiny_dataset(path: Path, images: int = 200, every: int = 2) -> Path:
    """A folder with a few real digits, 0 to 3, at half their resolution: 10x8. With every=1 they are 20x16."""
    digits = load_mnist(name="mnist5k")
    path.mkdir(parents=True, exist_ok=True)
    for part, pixels, labels, n in (
        ("train", digits.train_images, digits.train_labels, images),
        ("t10k", digits.test_images, digits.test_labels, 60),
    ):
        few = np.flatnonzero(labels < 4)[:n]
        write_idx(path / f"{part}-images-idx3-ubyte", pixels[few, 4:24:every, 6:22:every])
        write_idx(path / f"{part}-labels-idx1-ubyte", labels[few].astype(np.uint8))
    return path


# ---- processes ----


class Child:
    """`minidl.train` in a process of its own. `sabotage` is called in it first."""

    def __init__(self, *args: object, log: Path, sabotage: Callable[[], None] | None = None, cwd: Path = ROOT) -> None:
        self.log = log
        self.process = CONTEXT.Process(target=_main, args=([str(a) for a in args], log, sabotage, cwd))
        self.process.start()

    def wait(self, timeout: float = 120) -> int:
        """The exit status; -n where signal n killed it."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"no end after {timeout} s: {self.output}")
        return self.process.exitcode

    def kill_after(self, seconds: float) -> bool:
        """Send SIGKILL at that time from now, if it still runs; says whether it hit."""
        self.process.join(seconds)
        self.process.kill()
        return self.wait() == -KILL

    @property
    def output(self) -> str:
        """What it has printed so far, to stdout and stderr."""
        return self.log.read_text() if self.log.exists() else ""


def _main(argv: list[str], log: Path, sabotage: Callable[[], None] | None, cwd: Path) -> None:
    log.unlink(missing_ok=True)
    _begin(cwd, log, log)
    from minidl import train

    if sabotage:
        sabotage()
    sys.exit(train.main(argv))


def train(*args: object, log: Path, sabotage: Callable[[], None] | None = None, cwd: Path = ROOT) -> tuple[int, str]:
    """Run `minidl.train` in a Child to its end; returns its exit status and its output."""
    child = Child(*args, log=log, sabotage=sabotage, cwd=cwd)
    status = child.wait()
    return status, child.output


# ---- sabotage: to be handed to a Child ----


def at_call(n: int, owner: object, name: str, action: Callable[[], Any], after: bool = False) -> None:
    """Do `action` just before (or after) the n-th call of owner.name from now on."""
    original, calls = getattr(owner, name), [0]

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == n and not after:
            action()
        result = original(*args, **kwargs)
        if calls[0] == n and after:
            action()
        return result

    setattr(owner, name, wrapped)


def at_place(n: int, place: str, action: Callable[[], Any], after: bool = False) -> None:
    """`at_call` for a place that is named "module:name" or "module:Class.name"."""
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    at_call(n, owner, name, action, after)


def signal_at_call(n: int, place: str, number: int = KILL, after: bool = False, times: int = 1) -> None:
    """Send this process a signal at the n-th call of the place."""
    at_place(n, place, partial(_send, number, times), after)


def _send(number: int, times: int) -> None:
    for _ in range(times):
        os.kill(os.getpid(), number)
        time.sleep(0.01)  # the handler runs before the next line of Python


# ---- what a run leaves behind ----


def outcome(folder: Path) -> dict[str, Any]:
    """All that an exact resume must repeat bit for bit, as things that == compares; times left out."""
    checkpoint = load_checkpoint(folder / "checkpoint.safetensors")
    return {
        "files": sorted(f.name for f in folder.iterdir()),
        "checkpoint": checkpoint_bits(checkpoint),
        "metrics.jsonl": [without_times(json.loads(r)) for r in (folder / "metrics.jsonl").read_text().splitlines()],
        "summary.json": without_times(json.loads((folder / "summary.json").read_text())),
        "config.json": json.loads((folder / "config.json").read_text()),
    }


def checkpoint_bits(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint's arrays as bytes and its state, without the times."""
    state = checkpoint.state
    trainer = without_times(state["trainer"])
    trainer["metrics"] = [without_times(r) for r in trainer["metrics"]]
    return {
        "model": {k: v.tobytes() for k, v in checkpoint.model.items()},
        "vectors": {k: v.tobytes() for k, v in checkpoint.optimizer["vectors"].items()},
        "scalars": checkpoint.optimizer["scalars"],
        **{k: v for k, v in state.items() if k not in ("trainer", "options", "optimizer")},
        "trainer": trainer,
    }


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    """A record of metrics, a summary or a state without what a clock decides."""
    return {k: v for k, v in record.items() if k not in ("seconds", "train_seconds", "samples_per_second")}


def difference(found: Any, wanted: Any, path: str = "") -> str:
    """The first place where two nested outcomes differ, "" if they are equal. NaN equals NaN."""
    if isinstance(wanted, dict) and isinstance(found, dict) and found.keys() == wanted.keys():
        pairs = [(f"{path}/{k}", found[k], wanted[k]) for k in wanted]
    elif isinstance(wanted, list) and isinstance(found, list) and len(found) == len(wanted):
        pairs = [(f"{path}[{k}]", a, b) for k, (a, b) in enumerate(zip(found, wanted, strict=True))]
    else:
        both_nan = isinstance(found, float) and isinstance(wanted, float) and math.isnan(found) and math.isnan(wanted)
        return "" if found == wanted or both_nan else f"{path} is {found!r:.200}, should be {wanted!r:.200}"
    return next(filter(None, (difference(a, b, where) for where, a, b in pairs)), "")


def arguments(data: Path, out: Path) -> list[Any]:
    """A run that has all that is hard to resume: dropout, a schedule, a switch, a checkpoint after every step."""
    args = ["--dataset", data, "--model", "goodfit", "--epochs", 3, "--batch-size", 60, "--schedule", "cosine"]
    return [*args, "--switch", "step:4", "--checkpoint-every", 1, "--out", out]


def finished(args: list[Any], out: Path) -> Path:
    """The folder of a run that nothing disturbed, to compare with."""
    status, output = train(*args, log=out.with_suffix(".log"))
    assert status == 0, output
    return out
