"""A run's folder: config.json, metrics.jsonl, checkpoint.safetensors, summary.json and curves.png.

Every file appears whole or not at all, and the checkpoint is the first: from then on the folder alone is enough to
resume. What else is in the folder repeats it (see results.py), and is made again where it says something else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from minidl import __version__, fast
from minidl.backend import no_fast
from minidl.data.atomic import write_text
from minidl.evaluation import evaluate
from minidl.fast.gpu.products import tf32
from minidl.telling import counted
from minidl.training.checkpoint import CheckpointError, save_checkpoint
from minidl.training.config import Config, Job, Options, prepare
from minidl.training.divergence import check_weights
from minidl.training.folder import FILES, check_unused, make_new
from minidl.training.lock import Held, lock
from minidl.training.models import count_parameters, input_of
from minidl.training.observer import Observer, Step
from minidl.training.own import check_own, hashes, of_file, short
from minidl.training.restore import check_readable, check_same_data, load_run_checkpoint, must_fit, no_run, restore
from minidl.training.results import CHECKPOINT, disagreements, full_summary, identity, metrics_text

BITS = 2  # raised when the same run gives other bits than before: tests/golden.json has what they are, to rounding


class Run:
    """A Job with the folder that it writes to."""

    def __init__(self, job: Job, folder: Path, options: Options, held: Held | None = None) -> None:
        self.job, self.folder, self.options = job, folder, options
        self.versions = self.versions_now()  # of what the run was begun with
        self.parent: dict[str, Any] | None = None  # the run that it begins from (see continued.py)
        self.files = hashes(job.config.model, job.config.opt)  # {the user's own file: sha256}, if it has any
        self.id = ""  # stands in all its files, so that another run's file is known
        self.summary: dict[str, Any] | None = None  # what summary.json has, but the times, once the run is finished
        self.notes: list[str] = []  # what a user should know of the folder
        self.hold(held or Held(folder))

    # ---- begin, or resume ---------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        job: Job,
        folder: Path | None = None,
        options: Options | None = None,
        stack: ExitStack | None = None,
        parent: dict[str, Any] | None = None,
    ) -> Run:
        """Make the folder, with the first checkpoint. Raises ValueError where it holds a run already.

        parent  the run that the job begins from: {"run": folder, "epochs": ..., "steps": ...}
        stack   what keeps the folder locked (see `lock`); None: it is not locked
        """
        if folder is None:
            name = f"{short(job.config.model)}-{short(job.config.opt)}"
            folder = make_new(Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}")
        check_unused(folder)
        folder.mkdir(parents=True, exist_ok=True)
        locked = lock(folder, stack)
        check_unused(folder)  # again: what was begun and ended there in between is seen only now
        run = cls(job, folder, options or Options(), locked)
        run.parent, run.id = parent, identity(job, run.versions, parent)
        check_readable(run.state())
        run.sweep()
        run.save()
        run.write_config()
        return run

    @classmethod
    def resume(
        cls, folder: Path, options: dict[str, Any] | None = None, stack: ExitStack | None = None, **machine: Any
    ) -> Run:
        """Put a run back where its checkpoint stands.

        options  changes to the run's Options
        stack    what keeps the folder locked (see `lock`); None: it is not locked
        machine  where the data set and the user's own files are now, and the device to use: `dataset`, `model`, `opt`,
                 `device`; default: as before

        Raises CheckpointError where there is no checkpoint, or where the data set is not the one it was trained on;
        UserError where the user's file is not the one.
        """
        file = folder / CHECKPOINT
        if not folder.is_dir():
            raise CheckpointError(no_run(folder, CHECKPOINT))
        locked = lock(folder, stack)
        if not file.exists() and any(folder.glob(f"*/{CHECKPOINT}")):
            raise CheckpointError(no_run(folder, CHECKPOINT))
        if not file.exists():
            raise CheckpointError(f"{folder} has no {CHECKPOINT}: nothing was trained yet, so start the run anew")
        checkpoint = load_run_checkpoint(file)
        with must_fit(file):
            was = Config(**checkpoint.state["config"])
            config = replace(was, **machine)
            chosen = Options(**{**checkpoint.state["options"], **(options or {})})
        check_own(was, config, checkpoint.state.get("files", {}), folder)
        job = prepare(config)
        with must_fit(file):
            check_same_data(folder, checkpoint.state["data"], job.dataset)
            restore(job, checkpoint)
        run = cls(job, folder, chosen, locked)
        run.take_over(checkpoint.state)
        run.sweep()
        run.heal(checkpoint.state)
        return run

    def __repr__(self) -> str:
        return f"run {self.folder}: {counted(self.job.trainer.progress.epoch, 'epoch')} done, {self.job!r}"

    @property
    def needs(self) -> str:
        """What the command line needs to resume it, beside its folder."""
        return ""

    @property
    def finished(self) -> bool:
        """Whether all epochs are done and all files are written."""
        done = self.job.trainer.progress.epoch >= self.job.epochs
        return done and self.summary is not None and (self.folder / "curves.png").exists()

    @property
    def where(self) -> Path:
        """The folder, by the name that it has now."""
        return self.held.path() or self.folder

    @property
    def fast(self) -> str | None:
        """What compiled the loops that the run computes in; None where NumPy does, or a GPU."""
        with self.forms():
            return fast.version() if self.job.device == "cpu" else None

    @contextmanager
    def forms(self) -> Iterator[None]:
        """`with run.forms():` what computes is what the run was begun with: NumPy alone, rounded products on a GPU."""
        with ExitStack() as begun_with:
            if self.options.no_fast:
                begun_with.enter_context(no_fast())
            if self.job.config.tf32:
                begun_with.enter_context(tf32())
            yield

    def versions_now(self) -> dict[str, Any]:
        """What may give other bits when it changes."""
        return {"minidl": __version__, "bits": BITS, "numpy": np.__version__, "fast": self.fast}

    def moved(self) -> str:
        """A sentence, where what may give other bits has changed since the run was begun; else ""."""
        was, now = self.versions, self.versions_now()
        return "" if was == now else f"begun with {was}, this is {now}: the last digits may come out differently"

    @property
    def stamp(self) -> dict[str, Any]:
        """What its files say of their numbers: the run's id, which bits, what computes, and its parent, if any."""
        stamp = {"run": self.id, "bits": BITS, "fast": self.versions["fast"]}
        return stamp | ({"parent": self.parent} if self.parent else {})

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the run; and, to be read, what is done to a pixel, whose numbers the model itself has."""
        files = {"files": self.files} if self.files else {}
        return {**self.stamp, **asdict(self.job.config), **files, "pixels": input_of(self.job.model)}

    def take_over(self, state: dict[str, Any]) -> None:
        """Be the run that a checkpoint's state is of, with what it was begun with."""
        self.versions, self.id = {"fast": None, **state["versions"]}, state["run"]
        self.parent, self.summary = state.get("parent"), state.get("summary")
        if self.versions["fast"] is None and fast.version():  # begun with NumPy: so it goes on
            self.options = replace(self.options, no_fast=True)

    def sweep(self) -> None:
        """Remove what writers that were killed have left half done; while the folder is locked.

        Raises CheckpointError where a folder stands in the place of a file that will be written.
        """
        for name in FILES:
            if (path := self.folder / name).is_dir():
                raise CheckpointError(f"{path} is a folder, in the place of a file of the run: take it away")
            for part in self.folder.glob(f".{name}.*.part"):
                part.unlink(missing_ok=True)

    def hold(self, held: Held) -> None:
        """Write to the folder as this process holds it."""
        self.held = held
        self.notes += [held.note] if held.note else []

    def heal(self, state: dict[str, Any]) -> None:
        """Write again what does not say what the checkpoint does; `notes` has a sentence for each such file."""
        self.notes += [f"{what}: written anew from the checkpoint" for what in disagreements(self.folder, state)]
        self.write_config()
        if self.summary is None:
            (self.folder / "summary.json").unlink(missing_ok=True)
        else:
            self.write_summary()

    # ---- files --------------------------------------------------------------------------------------------------

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the folder."""
        write_text(self.folder / name, json.dumps(value, indent=2) + "\n", self.held.place)

    def write_config(self) -> None:
        """Write config.json, and metrics.jsonl with the epochs done so far."""
        self.write_json("config.json", {"minidl": __version__, **self.settings})
        self.write_metrics()

    def write_metrics(self) -> None:
        """Write metrics.jsonl: a line per epoch done."""
        lines = metrics_text(self.id, self.job.trainer.progress.metrics)
        write_text(self.folder / "metrics.jsonl", lines, self.held.place)

    def state(self) -> dict[str, Any]:
        """All that the checkpoint holds beside the model's and the optimizer's state, as JSON (see restore.py)."""
        job, trainer, data = self.job, self.job.trainer, self.job.dataset
        return {
            "run": self.id,
            "versions": self.versions,
            "config": asdict(job.config),
            "options": asdict(self.options),
            "data": {
                "name": data.name,
                "sha256": data.sha256,
                "class_names": list(data.class_names),
                "polarity": data.polarity,
                **({"known": data.known} if data.known else {}),
            },
            "files": self.files,
            "model": {"image_size": list(trainer.splits.image_size), "classes": trainer.splits.classes},
            "trainer": trainer.state(),
            "parent": self.parent,
            "summary": self.summary,
        }

    def save(self) -> None:
        """Write the checkpoint. Raises Diverged, and leaves the last one, where a weight is not a finite number."""
        job, trainer = self.job, self.job.trainer
        check_weights(job.model, trainer.progress.step, trainer.optimizer.lr)
        path, optimizer = self.folder / CHECKPOINT, trainer.optimizer.state_dict()
        save_checkpoint(path, job.model.state_dict(), optimizer, self.state(), self.held.place)

    def write_summary(self) -> dict[str, Any]:
        """Write summary.json, with its numbers in the checkpoint first."""
        if self.summary is None:
            self.summary = self._summarize()
            self.save()
        summary = full_summary(self.state())
        assert summary is not None
        self.write_json("summary.json", summary)
        return summary

    def _summarize(self) -> dict[str, Any]:
        """Evaluate the final weights on all splits, the test split for the only time."""
        job, trainer, config = self.job, self.job.trainer, self.job.config
        p, splits, event = trainer.progress, trainer.splits, trainer.optimizer.switch_event
        train_loss, train_accuracy = evaluate(job.model, splits.train)
        val_accuracy = evaluate(job.model, splits.val)[1] if len(splits.val) else None
        test_loss, test_accuracy = evaluate(job.model, splits.test)
        return {
            "dataset": job.dataset.name,
            "source": job.dataset.source,
            "device": job.device,
            "model": of_file(config.model),
            "parameters": count_parameters(job.model),
            "optimizer": of_file(config.opt),
            "seed": config.seed,
            "epochs": p.epoch,
            "steps": p.step,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "val_accuracy": val_accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "switch": event and {k: getattr(event, k) for k in ("step", "epoch", "lr", "condition")},
            **self.stamp,
        }


class Checkpoints(Observer):
    """Writes a run's checkpoint: after each epoch, with its metrics, and every so many steps as its options say."""

    def __init__(self, run: Run) -> None:
        self.run, self._saved = run, -1

    def after_step(self, step: Step) -> None:
        every = self.run.options.checkpoint_every
        if every and step.number % every == 0:
            self.save()

    def after_epoch(self, record: dict[str, Any]) -> None:
        self.run.save()
        self._saved = record["step"]
        self.run.write_metrics()

    def save(self) -> None:
        """Write it, unless that was done since the last step."""
        step = self.run.job.trainer.progress.step
        if step != self._saved:
            self.run.save()
            self._saved = step
