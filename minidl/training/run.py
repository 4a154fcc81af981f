"""A run's folder: config.json, metrics.jsonl, checkpoint.safetensors, summary.json and curves.png.

Every file is written atomically, the checkpoint first: from then on the folder alone is enough to resume. The other
files repeat its content (see results.py), and are rewritten if they disagree with it.
"""

from __future__ import annotations

import json
import platform
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
from minidl.fast.blas import kernels
from minidl.fast.gpu.products import tf32
from minidl.optim.optimizer import rate_to_show
from minidl.telling import counted
from minidl.training.checkpoint import CheckpointError, save_checkpoint
from minidl.training.config import Config, Job, Options, prepare
from minidl.training.divergence import check_weights
from minidl.training.folder import FILES, check_unused, make_new
from minidl.training.lock import Held, lock
from minidl.training.models import count_parameters, input_of
from minidl.training.observer import Observer, Step
from minidl.training.own_file import check_own, hashes, of_file, short
from minidl.training.restore import check_readable, check_same_data, load_run_checkpoint, must_fit, no_run, restore
from minidl.training.results import CHECKPOINT, disagreements, full_summary, identity, metrics_text

BITS = 2  # incremented when the same run gives other bits than before: tests/golden.json has them, to rounding


class Run:
    """A Job with the folder that it writes to."""

    def __init__(self, job: Job, folder: Path, options: Options, held: Held | None = None) -> None:
        self.job, self.folder, self.options = job, folder, options
        self.versions = self.versions_now()  # those that the run was started with
        self.parent: dict[str, Any] | None = None  # the run that it starts from (see continued.py)
        self.files = hashes(job.config.model, job.config.opt)  # {user's own file: sha256}, if any
        self.id = ""  # in all its files, to recognize those of another run
        self.summary: dict[str, Any] | None = None  # summary.json without the times, once the run is finished
        self.notes: list[str] = []  # what the user should know about the folder
        self.hold(held or Held(folder))

    # ---- start, or resume ---------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        job: Job,
        folder: Path | None = None,
        options: Options | None = None,
        stack: ExitStack | None = None,
        parent: dict[str, Any] | None = None,
    ) -> Run:
        """Make the folder, with the first checkpoint. Raises ValueError if it already holds a run.

        parent  the run that the job starts from: {"run": folder, "epochs": ..., "steps": ...}
        stack   keeps the folder locked (see `lock`); None: it is not locked
        """
        if folder is None:
            name = f"{short(job.config.model)}-{short(job.config.opt)}"
            folder = make_new(Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}")
        check_unused(folder)
        folder.mkdir(parents=True, exist_ok=True)
        locked = lock(folder, stack)
        check_unused(folder)  # again: another run may have started and ended there before we got the lock
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
        """Restore a run from its checkpoint.

        options  changes to the run's Options
        stack    keeps the folder locked (see `lock`); None: it is not locked
        machine  where the data set and the user's own files are now, and the device to use: `dataset`, `model`, `opt`,
                 `device`; default: as before

        Raises CheckpointError if there is no checkpoint, or the data set is not the one it was trained on; UserError if
        a user's own file has changed.
        """
        file = folder / CHECKPOINT
        if not folder.is_dir():
            raise CheckpointError(no_run(folder, CHECKPOINT))
        locked = lock(folder, stack)
        if not file.exists() and any(folder.glob(f"*/{CHECKPOINT}")):
            raise CheckpointError(no_run(folder, CHECKPOINT))
        if not file.exists():
            raise CheckpointError(f"{folder} has no {CHECKPOINT}: nothing was trained yet, so start the run again")
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
        """What the command line needs to resume it, besides its folder."""
        return ""

    @property
    def finished(self) -> bool:
        """Whether all epochs are done and all files are written."""
        done = self.job.trainer.progress.epoch >= self.job.epochs
        return done and self.summary is not None and (self.folder / "curves.png").exists()

    @property
    def where(self) -> Path:
        """The folder, by its current name."""
        return self.held.path() or self.folder

    @property
    def fast(self) -> str | None:
        """What compiled the loops that the run uses; None if it uses NumPy alone, or a GPU."""
        with self.forms():
            return fast.version() if self.job.device == "cpu" else None

    @contextmanager
    def forms(self) -> Iterator[None]:
        """`with run.forms():` compute as the run was started: with NumPy alone, or with rounded products on a GPU."""
        with ExitStack() as begun_with:
            if self.options.no_fast:
                begun_with.enter_context(no_fast())
            if self.job.config.tf32:
                begun_with.enter_context(tf32())
            yield

    def versions_now(self) -> dict[str, Any]:
        """The versions that may change the bits of the result, and the kind of processor."""
        fast_now, processor = self.fast, None
        if self.job.device == "cpu":
            processor = " ".join([platform.machine(), kernels(), *([fast.compiled_for()] if fast_now else [])])
        return {"minidl": __version__, "bits": BITS, "numpy": np.__version__, "fast": fast_now, "processor": processor}

    def moved(self) -> str:
        """A warning if these have changed since the run was started; else ""."""
        was, now = self.versions, self.versions_now()
        same = all(was.get(name, value) == value for name, value in now.items())  # older runs don't name a processor
        return "" if same else f"started with {was}, this is {now}: the last digits may differ"

    @property
    def stamp(self) -> dict[str, Any]:
        """The origin of its files' numbers: the run's id, the bits, the compiled loops, and its parent, if any."""
        stamp = {"run": self.id, "bits": BITS, "fast": self.versions["fast"]}
        return stamp | ({"parent": self.parent} if self.parent else {})

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that determines the run, and, for readers, the preprocessing of a pixel, which the model holds."""
        files = {"files": self.files} if self.files else {}
        return {**self.stamp, **asdict(self.job.config), **files, "pixels": input_of(self.job.model)}

    def take_over(self, state: dict[str, Any]) -> None:
        """Become the run of a checkpoint's state, with the versions it was started with."""
        self.versions, self.id = {"fast": None, **state["versions"]}, state["run"]
        self.parent, self.summary = state.get("parent"), state.get("summary")
        if self.versions["fast"] is None and fast.version():  # started with NumPy, so it continues with NumPy
            self.options = replace(self.options, no_fast=True)

    def sweep(self) -> None:
        """Remove partial files left by killed processes; call it while the folder is locked.

        Raises CheckpointError if there is a folder with the name of a file that will be written.
        """
        for name in FILES:
            if (path := self.folder / name).is_dir():
                raise CheckpointError(f"{path} is a folder, where a file of the run belongs: move it away")
            for part in self.folder.glob(f".{name}.*.part"):
                part.unlink(missing_ok=True)

    def hold(self, held: Held) -> None:
        """Write to the folder through this lock."""
        self.held = held
        self.notes += [held.note] if held.note else []

    def heal(self, state: dict[str, Any]) -> None:
        """Rewrite the files that disagree with the checkpoint, with a sentence for each in `notes`."""
        self.notes += [f"{what}: rewritten from the checkpoint" for what in disagreements(self.folder, state)]
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
        """Write config.json, and metrics.jsonl with the finished epochs."""
        self.write_json("config.json", {"minidl": __version__, **self.settings})
        self.write_metrics()

    def write_metrics(self) -> None:
        """Write metrics.jsonl: a line per finished epoch."""
        lines = metrics_text(self.id, self.job.trainer.progress.metrics)
        write_text(self.folder / "metrics.jsonl", lines, self.held.place)

    def state(self) -> dict[str, Any]:
        """What the checkpoint holds besides the model's and the optimizer's state, as JSON (see restore.py)."""
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
        """Write the checkpoint. If a weight is not finite, raises Diverged and keeps the last checkpoint."""
        job, trainer = self.job, self.job.trainer
        check_weights(job.model, trainer.progress.step, rate_to_show(trainer.optimizer))
        path, optimizer = self.folder / CHECKPOINT, trainer.optimizer.state_dict()
        save_checkpoint(path, job.model.state_dict(), optimizer, self.state(), self.held.place)

    def write_summary(self) -> dict[str, Any]:
        """Write summary.json, after saving its numbers in the checkpoint."""
        if self.summary is None:
            self.summary = self._summarize()
            self.save()
        summary = full_summary(self.state())
        assert summary is not None
        self.write_json("summary.json", summary)
        return summary

    def _summarize(self) -> dict[str, Any]:
        """Evaluate the final weights on all splits: without --test-every-epoch, the only use of the test split."""
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
            "switch": event and event._asdict(),
            **self.stamp,
        }


class Checkpoints(Observer):
    """Writes a run's checkpoint after each epoch, with its metrics, and every `checkpoint_every` steps."""

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
        """Write it, unless it was written after this step already."""
        step = self.run.job.trainer.progress.step
        if step != self._saved:
            self.run.save()
            self._saved = step
