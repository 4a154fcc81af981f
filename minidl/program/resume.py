"""A Trainer's run on the command line: `python -m minidl.train --resume RUN`, with --model FILE.py:Net where its class
is one of the user's own."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from minidl.program.course import check_schedule
from minidl.program.folder import TrainerRun
from minidl.program.load import load_run
from minidl.training.checkpoint import CheckpointError
from minidl.training.config import Options
from minidl.training.continued import check_total, parent_of
from minidl.training.folder import check_unused
from minidl.training.loader import load
from minidl.training.lock import lock
from minidl.training.options import flag
from minidl.training.restore import is_from_python, load_run_checkpoint
from minidl.training.results import CHECKPOINT
from minidl.training.run import Run


def is_trainers(folder: Path) -> bool:
    """Whether a Trainer wrote this run. False for what is no run, too: whoever reads it next says so."""
    try:
        return is_from_python(load_run_checkpoint(folder / CHECKPOINT).state["config"])
    except (CheckpointError, OSError):
        return False


def resume_from_python(
    folder: Path, out: Path | None, args: dict[str, Any], options: dict[str, Any], stack: ExitStack
) -> Run:
    """Put a Trainer's run back where its checkpoint stands; with `out` and `epochs`, a new run that begins there.

    args     `model` and `opt` in the user's files, `dataset`, `epochs`: all else comes from the checkpoint
    options  changes to the run's Options
    stack    keeps the folder locked

    Raises ValueError, with what to do.
    """
    if out is not None:
        check_unused(out)
    locked = lock(folder, stack) if out is None else None
    model, data, opt, epochs = (args.pop(name, None) for name in ("model", "dataset", "opt", "epochs"))
    if args or (epochs is None) != (out is None):
        given = ", ".join(map(flag, args)) or ("--epochs" if out is None else "--out")
        raise ValueError(
            f"--resume takes everything from the checkpoint: leave out {given}; --epochs N and --out NEW go together"
        )
    loaded = load_run(folder, model, data, optimizer=None if opt is None else load(opt))
    trainer = loaded.trainer
    run: TrainerRun = trainer.run
    run.options = Options(**{**asdict(run.options), **options})
    if locked is not None:
        run.hold(locked)
        run.sweep()
        run.heal(loaded.checkpoint.state)
        return run
    assert out is not None
    p = trainer.progress
    check_total(epochs, p.epoch, folder)
    check_schedule(trainer, epochs)
    job = replace(run.job, epochs=epochs, config=replace(run.job.config, epochs=epochs))
    trainer.run = TrainerRun.create(job, out, Options(**options), stack, parent_of(folder, p))
    return trainer.run
