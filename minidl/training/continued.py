"""A new run that starts where another ended: `--resume RUN --epochs N --out NEW`.

The new run has its own folder, where config.json and summary.json name the other run as its parent. N is the total
number of epochs, including the parent's. Settings that depend on the parent's length must be given again: a cosine
schedule that has ended has no learning rate for further steps.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from minidl.telling import typed
from minidl.training.checkpoint import CheckpointError
from minidl.training.config import Config, Options, prepare
from minidl.training.folder import check_unused
from minidl.training.history import Position
from minidl.training.options import flag
from minidl.training.own import takes_length
from minidl.training.own_file import check_own, of_file, same_name
from minidl.training.restore import check_same_data, load_run_checkpoint, must_fit, restore
from minidl.training.results import CHECKPOINT
from minidl.training.run import Run

LONG_AS_THE_RUN = ("cosine", "linear", "onecycle")  # schedules that end with the run
SCALED = ("gnmt", "blend")  # optimizers whose phases are fractions of its length


def begin_from(
    parent: Path, out: Path, epochs: int, asked: dict[str, Any], options: Options, stack: ExitStack | None = None
) -> Run:
    """A run in `out` that continues the finished run `parent` to `epochs` epochs.

    asked  the other options given: `dataset`, `device`, and `model` and `opt` if the user's own files have moved;
           `schedule`, `schedule_sgd` and `opt`, if the parent's depends on its length

    Raises CheckpointError or ValueError if that is not possible, before anything is written.
    """
    check_unused(out)
    if not (parent / CHECKPOINT).exists():
        raise CheckpointError(f"{parent} has no {CHECKPOINT}: give the folder of a finished run")
    checkpoint = load_run_checkpoint(parent / CHECKPOINT)
    with must_fit(parent / CHECKPOINT):
        config, done = Config(**checkpoint.state["config"]), checkpoint.state["trainer"]["epoch"]
        if done < (config.epochs or 0):
            raise CheckpointError(
                f"{parent} is at epoch {done} of {config.epochs}: finish it first with "
                f"--resume {typed(str(parent))}, without --out"
            )
    check_total(epochs, done, parent)
    _check_asked(config, asked, parent)
    new = replace(config, epochs=epochs, **asked)
    check_own(config, new, checkpoint.state.get("files", {}), parent)
    if "opt" not in asked and takes_length(config.opt):
        raise ValueError(
            f"{parent}: {of_file(config.opt)} is called with total_steps, which would be another number in a longer "
            f"run. If it may, give it again, with {typed('--opt', config.opt)}"
        )
    job = prepare(new)
    with must_fit(parent / CHECKPOINT):
        check_same_data(parent, checkpoint.state["data"], job.dataset)
        restore(job, checkpoint)
    return Run.create(job, out, options, stack, parent_of(parent, job.trainer.progress))


def check_total(epochs: int, done: int, parent: Path) -> None:
    """Raise ValueError unless the total is more than the epochs the parent has done."""
    if epochs <= done:
        raise ValueError(f"--epochs is the new run's total: it must be more than the {done} of {parent}, got {epochs}")


def parent_of(folder: Path, p: Position) -> dict[str, Any]:
    """A new run's record of its parent: the folder, and the position it starts from."""
    return {"run": str(folder.absolute()), "epochs": p.epoch, "steps": p.step}


def _check_asked(config: Config, asked: dict[str, Any], parent: Path) -> None:
    """Raise ValueError unless exactly the settings that depend on the run's length are given again."""
    wanted = {}
    for name in ("schedule", "schedule_sgd"):
        text = getattr(config, name)
        if text is not None and text.split(":")[0].strip() in LONG_AS_THE_RUN:
            wanted[name] = f"its {text} schedule has ended"
    if config.opt in SCALED:
        wanted["opt"] = f"the phases of {config.opt} are fractions of the run's length, and would move"
    for name, why in wanted.items():
        if name not in asked:
            value = config.opt if name == "opt" else "constant"
            raise ValueError(f"{parent}: {why}. Give it again, with {flag(name)} {value} for example")
    moved = [name for name in ("model", "opt") if same_name(getattr(config, name), asked.get(name, ""))]
    if "opt" in asked and asked["opt"] != config.opt and "opt" not in moved:
        raise ValueError(f"{parent} was trained with {config.opt}: --opt can't be changed")
    for name in asked:
        if name not in (*wanted, *moved, "dataset", "device"):
            raise ValueError(f"--resume takes everything from the checkpoint: leave out {flag(name)}")
