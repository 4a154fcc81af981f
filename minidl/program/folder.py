"""The folder of a run that a Trainer makes: the same files as those of `python -m minidl.train`.

Its settings say what the network, the optimizer and the data are, as far as words can. What they can't say, a class or
arrays of the user's own, is asked for by name when the run is loaded (load.py).
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
from minidl.data.batches import Origin, Splits
from minidl.module import Module, device_of
from minidl.optim import Optimizer
from minidl.program.course import check_here, folder_held
from minidl.program.describe import Unknown, describe_network, describe_optimizer
from minidl.trainer import Trainer
from minidl.training.checkpoint import load_checkpoint, saved_checksum
from minidl.training.config import Job, Options
from minidl.training.folder import check_unused
from minidl.training.lock import Held
from minidl.training.restore import PYTHON
from minidl.training.results import CHECKPOINT
from minidl.training.run import Run


@dataclass(frozen=True)
class Settings:
    """What decides a Trainer's run, as its config.json has it; the names are those of the command line's Config."""

    dataset: str
    model: str  # the class's name
    opt: str
    epochs: int  # the total that the last `fit` asked for
    batch_size: int
    seed: int
    device: str
    val_fraction: float | None
    split_seed: int | None
    counts: tuple[int, int] | None
    network: dict[str, Any] | None  # see describe.py; None: the class is needed
    optimizer: dict[str, Any] | None  # the same
    asked: str = ""  # why the optimizer has to be given
    file: str = ""  # where the network's class was, for the message that asks for it
    kind: str = PYTHON
    tf32: bool = False
    frozen: list[str] | None = None  # the parameters that training leaves, by name; None: nothing is known of them


class TrainerRun(Run):
    """A Trainer with the folder that it writes to."""

    job: Any
    saved_checksum: str | None = None  # of the checkpoint, as this process left it in the folder or found it
    is_held = False  # whether this process has the folder's lock

    def __init__(self, job: Job, *other: Any) -> None:
        super().__init__(job, *other)
        self.splits = job.trainer.splits  # those that the job's dataset is of

    def save(self) -> None:
        """As Run's. What the program has set since on the Trainer, network and optimizer is part of the settings."""
        before = now = self.job.config
        if isinstance(before, Settings):  # and not a run of the command line
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
        """The lock is gone."""
        self.is_held = False
        self.hold(Held(self.folder))

    def check_checksum(self) -> None:
        """Raise ValueError where another process, or another Trainer, has gone on with the run since."""
        now = saved_checksum(self.folder / CHECKPOINT)
        if now is None:
            raise ValueError(f"the run's checkpoint in {self.folder} is gone: save('FOLDER') writes the run anew")
        if now != self.saved_checksum:
            raise ValueError(
                f"{self.folder} was trained on by another program since it was loaded here: go on from there with "
                f"minidl.load_run({str(self.folder)!r}), or save('FOLDER') keeps this state in another folder"
            )

    def note_checksum(self) -> None:
        """Remember the checkpoint that is in the folder."""
        self.saved_checksum = saved_checksum(self.folder / CHECKPOINT)

    @property
    def needs(self) -> str:
        c = self.job.config
        file = Path(c.file).name or "FILE.py"
        model = "" if c.network else f" --model {file}:{c.model}"
        return model + (f" --opt {file}:NAME" if c.optimizer is None else "")

    def aim_at(self, epochs: int) -> None:
        """So many epochs in all are wanted now."""
        self.job = replace(self.job, epochs=epochs, config=replace(self.job.config, epochs=epochs))
        self.summary = None
        self.save()
        (self.folder / "summary.json").unlink(missing_ok=True)
        self.write_config()

    def finish(self) -> None:
        """Write the results and the picture."""
        trainer = self.job.trainer
        if not trainer.progress.metrics or not len(trainer.splits.test):
            return  # arrays of the program's own, all of them trained on: there is nothing to report on
        summary = self.write_summary()
        closing.plot_curves(trainer.progress.metrics, summary, self.folder / "curves.png", self.held.place)


def begin(trainer: Trainer, folder: Any) -> None:
    """Make the folder of a new run. Raises ValueError where it holds one already."""
    path = Path(folder)
    if (path / "config.json").exists() or (path / CHECKPOINT).exists():
        raise ValueError(
            f"{path} holds a run already: go on with minidl.load_run({str(path)!r}), or choose another folder"
        )
    check_unused(path)
    origin = origin_of(trainer.splits)
    epochs, device = trainer.progress.epoch, device_of(trainer.model)
    settings = Settings(epochs=epochs, device=device, **sources(origin), **described(trainer))
    job = Job(settings, origin, 0, trainer)  # type: ignore[arg-type]
    with ExitStack() as stack:  # nobody else begins a run there meanwhile
        options = Options(threads=trainer.threads, no_fast=no_fast_now())
        trainer.run = TrainerRun.create(job, path.absolute(), options, stack)  # wherever the program goes meanwhile
        trainer.run.note_checksum()
    trainer.run.let_go()


def save(trainer: Trainer, folder: Any = None) -> Path:
    """See Trainer.save."""
    check_here(trainer)
    if folder is None and trainer.run is None:
        raise ValueError(
            "name a folder: trainer.save('runs/mine'). For the weights alone, model.save('net.safetensors')"
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
            run.aim_at(max(begun, run.job.epochs))  # trained on without `fit`
        else:
            run.save()
            run.write_metrics()
    return Path(run.folder)


def _as_finished(run: TrainerRun) -> bool:
    """Whether the network still is what the results are of: as it was saved with them."""
    saved, now = load_checkpoint(run.folder / CHECKPOINT).model, run.job.model.state_dict()
    alike = saved.keys() == now.keys() and all(saved[name].tobytes() == now[name].tobytes() for name in now)
    return alike and run.summary is not None and run.summary["steps"] == run.job.trainer.progress.step


def sources(origin: Origin) -> dict[str, Any]:
    """The settings that say what the data are."""
    return {
        "dataset": origin.name,
        "val_fraction": origin.val_fraction,
        "split_seed": origin.seed,
        "counts": origin.counts,
    }


def described(trainer: Trainer) -> dict[str, Any]:
    """The settings that a program may change between two calls of `fit`: a weight decay, a layer that is frozen, the
    size of the batches, another optimizer."""
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
    }


def name_of(optimizer: Optimizer) -> str:
    """What `--opt` would call it."""
    return str(getattr(optimizer, "name", type(optimizer).__name__.lower()))


def file_of(model: Module) -> str:
    """The file that the network's class is in, "" where there is none, as in a notebook."""
    try:
        file = inspect.getfile(type(model))
    except (TypeError, OSError):
        return ""
    return file if Path(file).is_file() else ""


def origin_of(splits: Splits) -> Origin:
    """Where they come from; of arrays of the program's own the hash of all of them, which says later whether they are
    the same."""
    if splits.origin is not None:
        return splits.origin
    digest = hashlib.sha256()
    for part in (splits.train, splits.val, splits.test):
        for array in (part.images, part.labels):
            host = np.ascontiguousarray(to_numpy(array))
            digest.update(f"{host.dtype.str}{host.shape}".encode())
            digest.update(host.tobytes())
    return Origin("arrays", "arrays of the program", digest.hexdigest())
