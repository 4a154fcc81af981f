"""The folder of a Trainer's run: the same files as those of `python -m minidl.train`.

Its settings describe the network, the optimizer and the data as far as JSON can. What it can't describe, a user's own
class or arrays, must be given when the run is loaded (load.py).
"""

from __future__ import annotations

import hashlib
import inspect
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minidl.backend import no_fast_now, to_numpy
from minidl.cli import closing
from minidl.data.splits import Origin, Splits
from minidl.module import Module, device_of
from minidl.optim import Optimizer
from minidl.program.course import check_here, folder_held
from minidl.program.describe import Unknown, describe_network, describe_optimizer
from minidl.telling import typed
from minidl.trainer import Trainer
from minidl.training.checkpoint import load_checkpoint, saved_checksum
from minidl.training.config import Job, Options
from minidl.training.folder import check_unused
from minidl.training.lock import Held
from minidl.training.own_file import bare
from minidl.training.restore import PYTHON
from minidl.training.results import CHECKPOINT
from minidl.training.run import Run


@dataclass(frozen=True)
class Settings:
    """The settings of a Trainer's run, as in its config.json; the names are those of the command line's Config."""

    dataset: str
    model: str  # the class's name
    opt: str
    epochs: int  # the total, set by the last `fit`
    batch_size: int
    seed: int
    device: str
    val_fraction: float | None
    split_seed: int | None
    counts: tuple[int, int] | None
    network: dict[str, Any] | None  # see describe.py; None: the class must be given
    optimizer: dict[str, Any] | None  # likewise
    asked: str = ""  # why the optimizer must be given
    file: str = ""  # where the network's class was defined, for the message that asks for it
    kind: str = PYTHON
    tf32: bool = False
    frozen: list[str] | None = None  # names of the frozen parameters; None: unknown
    trainer: str = ""  # the Trainer's class, if it is the user's own


class TrainerRun(Run):
    """A Trainer with the folder that it writes to."""

    job: Any
    saved_checksum: str | None = None  # of the checkpoint, as this process wrote or found it in the folder
    is_held = False  # whether this process holds the folder's lock

    def __init__(self, job: Job, *other: Any) -> None:
        super().__init__(job, *other)
        self.splits = job.trainer.splits  # those of the job's dataset

    def save(self) -> None:
        """As in Run; the settings take in what the program has changed in the Trainer, network and optimizer."""
        before = now = self.job.config
        if isinstance(before, Settings):  # and not a command-line run
            trainer = self.job.trainer
            now = replace(before, **described(trainer))
            if trainer.splits is not self.splits:
                origin: Any = origin_of(trainer.splits)
                now, self.splits = replace(now, **sources(origin)), trainer.splits
                self.job = replace(self.job, dataset=origin)
            self.job = replace(self.job, config=now)
        super().save()
        if now != before:
            self.write_config()

    def let_go(self) -> None:
        """Note that the lock was released."""
        self.is_held = False
        self.hold(Held(self.folder))

    def check_checksum(self) -> None:
        """Raise ValueError if another process or Trainer has continued the run since."""
        now = saved_checksum(self.folder / CHECKPOINT)
        if now is None:
            raise ValueError(f"the run's checkpoint in {self.folder} is gone: save('FOLDER') writes the run again")
        if now != self.saved_checksum:
            raise ValueError(
                f"another Trainer, here or in another program, has continued the run in {self.folder}: resume it with "
                f"minidl.load_run({str(self.folder)!r}), or save this state to another folder with save('FOLDER')"
            )

    def note_checksum(self) -> None:
        """Remember the checksum of the checkpoint in the folder."""
        self.saved_checksum = saved_checksum(self.folder / CHECKPOINT)

    @property
    def needs(self) -> str:
        c = self.job.config
        file = bare(c.file) or "FILE.py"
        words = [] if c.network else ["--model", f"{file}:{c.model}"]
        words += ["--opt", f"{file}:NAME"] if c.optimizer is None else []
        return f" {typed(*words)}" if words else ""

    def aim_at(self, epochs: int) -> None:
        """Set the total number of epochs."""
        self.job = replace(self.job, epochs=epochs, config=replace(self.job.config, epochs=epochs))
        self.summary = None
        self.save()
        (self.folder / "summary.json").unlink(missing_ok=True)
        self.write_config()

    def finish(self) -> None:
        """Write the results and the plot of the curves."""
        trainer = self.job.trainer
        if not trainer.progress.metrics or not len(trainer.splits.test):
            return  # no epoch, or no test split, as with arrays that are all trained on: no results
        summary = self.write_summary()
        closing.plot_curves(trainer.progress.metrics, summary, self.folder / "curves.png", self.held.place)


def begin(trainer: Trainer, folder: Any) -> None:
    """Make the folder of a new run. Raises ValueError if it already holds one."""
    path = Path(folder)
    if (path / "config.json").exists() or (path / CHECKPOINT).exists():
        raise ValueError(
            f"{path} already holds a run: resume it with minidl.load_run({str(path)!r}), or choose another folder"
        )
    check_unused(path)
    origin = origin_of(trainer.splits)
    epochs, device = trainer.progress.epoch, device_of(trainer.model)
    settings = Settings(epochs=epochs, device=device, **sources(origin), **described(trainer))
    job = Job(settings, origin, 0, trainer)  # type: ignore[arg-type]
    with ExitStack() as stack:  # locked: no other process starts a run there meanwhile
        options = Options(threads=trainer.threads, no_fast=no_fast_now())
        trainer.run = TrainerRun.create(job, path.absolute(), options, stack)  # absolute: the program may call chdir
        trainer.run.note_checksum()
    trainer.run.let_go()


def save(trainer: Trainer, folder: Any = None) -> Path:
    """See Trainer.save."""
    check_here(trainer)
    if folder is None and trainer.run is None:
        raise ValueError(
            "give a folder: trainer.save('runs/mine'). For the weights alone, model.save('net.safetensors')"
        )
    if folder is not None and (trainer.run is None or Path(folder).absolute() != trainer.run.folder.absolute()):
        own = trainer.run
        begin(trainer, folder)
        there, trainer.run = trainer.run, own or trainer.run
        with folder_held(there):
            there.aim_at(trainer.progress.epoch)
            there.finish()
        return Path(there.folder)
    run, p = trainer.run, trainer.progress
    begun = p.epoch + (p.batch > 0)
    with folder_held(run):
        if begun > run.job.epochs or (run.summary is not None and not _as_finished(run)):
            run.aim_at(max(begun, run.job.epochs))  # trained further without `fit`
        else:
            run.save()
            run.write_metrics()
    return Path(run.folder)


def _as_finished(run: TrainerRun) -> bool:
    """Whether the network is still the one that the results are of, as saved with them."""
    saved, now = load_checkpoint(run.folder / CHECKPOINT).model, run.job.model.state_dict()
    alike = saved.keys() == now.keys() and all(saved[name].tobytes() == now[name].tobytes() for name in now)
    return alike and run.summary is not None and run.summary["steps"] == run.job.trainer.progress.step


def sources(origin: Origin) -> dict[str, Any]:
    """The settings that describe the data."""
    return {
        "dataset": origin.name,
        "val_fraction": origin.val_fraction,
        "split_seed": origin.seed,
        "counts": origin.counts,
    }


def described(trainer: Trainer) -> dict[str, Any]:
    """The settings that a program may change between two calls of `fit`: a weight decay, frozen layers, the batch size,
    the optimizer."""
    optimizer, asked = None, ""
    try:
        optimizer = describe_optimizer(trainer.optimizer)
    except Unknown as error:
        asked = str(error)
    network = describe_network(trainer.model)
    return {
        "model": type(trainer.model).__name__,
        "opt": name_of(trainer.optimizer),
        "batch_size": int(trainer.batch_size),
        "seed": int(trainer.seed),
        "network": network,
        "optimizer": optimizer,
        "asked": asked,
        "file": "" if network else file_of(trainer.model),
        "frozen": [name for name, p in trainer.model.named_parameters() if not p.requires_grad],
        "trainer": "" if type(trainer) is Trainer else type(trainer).__name__,
    }


def name_of(optimizer: Optimizer) -> str:
    """Its name as in `--opt`."""
    return str(getattr(optimizer, "name", type(optimizer).__name__.lower()))


def file_of(model: Module) -> str:
    """The file that defines the network's class; "" if there is none, as in a notebook."""
    try:
        file = inspect.getfile(type(model))
    except (TypeError, OSError):
        return ""
    return file if Path(file).is_file() else ""


def origin_of(splits: Splits) -> Origin:
    """Where they come from; for arrays of the program, a hash of all of them, to check later that they are the same."""
    if splits.origin is not None:
        return splits.origin
    digest = hashlib.sha256()
    for part in (splits.train, splits.val, splits.test):
        for array in (part.images, part.labels):
            host = np.ascontiguousarray(to_numpy(array))
            digest.update(f"{host.dtype.str}{host.shape}".encode())
            digest.update(host.tobytes())
    return Origin("arrays", "arrays of the program", digest.hexdigest())
