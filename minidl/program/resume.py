"""Resume a Trainer's run on the command line: `python -m minidl.train --resume RUN`, with --model FILE.py:Net if its
class is user-defined."""

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
    """Whether a Trainer wrote this run. False also if it is not a run: the next reader reports that."""
    try:
        return is_from_python(load_run_checkpoint(folder / CHECKPOINT).state["config"])
    except (CheckpointError, OSError):
        return False


def resume_from_python(
    folder: Path, out: Path | None, args: dict[str, Any], options: dict[str, Any], stack: ExitStack
) -> Run:
    """Restore a Trainer's run from its checkpoint; with `out` and `epochs`, start a new run from there.

    args     `model` and `opt` in the user's files, `dataset`, `epochs`: everything else comes from the checkpoint
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
