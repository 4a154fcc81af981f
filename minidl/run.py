"""A run's folder: config.json, metrics.jsonl, checkpoint.safetensors, summary.json and curves.png.

Every file but metrics.jsonl, which grows by a line per epoch, appears whole or not at all.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.atomic import atomic_file
from minidl import __version__
from minidl.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from minidl.config import Config, Job, prepare
from minidl.models import count_parameters
from minidl.trainer import evaluate

CHECKPOINT = "checkpoint.safetensors"


class Run:
    """A Job with the folder that it writes to."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.folder = job, folder

    # ---- begin, or go on ----------------------------------------------------------------------------------------

    @classmethod
    def create(cls, job: Job, folder: Path | None = None) -> Run:
        """Make the folder and write config.json. Raises ValueError where the folder holds a run already."""
        config = job.config
        if folder is None:
            folder = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{config.model}-{config.opt}"
            for n in range(2, 1000):  # two runs begun in one second
                if not folder.exists():
                    break
                folder = folder.with_name(f"{folder.name.removesuffix(f'-{n - 1}')}-{n}")
        check_unused(folder)
        folder.mkdir(parents=True, exist_ok=True)
        run = cls(job, folder)
        run.write_json("config.json", {"minidl": __version__, **asdict(config)})
        run.metrics_file.touch()
        return run

    @classmethod
    def resume(cls, folder: Path) -> Run:
        """Put a run back where its checkpoint stands.

        Raises CheckpointError where there is none, or where the data set is not the one it was trained on.
        """
        if not folder.is_dir():
            raise CheckpointError(f"there is no run folder {folder}: give the folder that a run printed as its --out")
        if not (folder / CHECKPOINT).exists():
            raise CheckpointError(f"{folder} has no {CHECKPOINT}: the run ended before its first one; start it anew")
        checkpoint = load_checkpoint(folder / CHECKPOINT)
        try:
            job = prepare(Config(**checkpoint.state["config"]))
            if job.dataset.sha256 != checkpoint.state["data"]["sha256"]:
                raise CheckpointError(
                    f"{folder} was trained on {checkpoint.state['data']['name']} "
                    f"({checkpoint.state['data']['sha256'][:12]}), found {job.dataset.name} "
                    f"({job.dataset.sha256[:12]}): put the same data in place"
                )
            job.model.load_state_dict(checkpoint.model)
            job.trainer.optimizer.load_state_dict(checkpoint.optimizer)
            job.trainer.load_state(checkpoint.state["trainer"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{folder / CHECKPOINT} does not fit this version of minidl: {error}") from error
        run = cls(job, folder)
        run.rewrite_metrics()  # epochs that were done after the checkpoint are done again
        return run

    # ---- files --------------------------------------------------------------------------------------------------

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the folder."""
        with atomic_file(self.folder / name) as file:
            file.write((json.dumps(value, indent=2) + "\n").encode())

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add an epoch's line to metrics.jsonl."""
        with open(self.metrics_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def rewrite_metrics(self) -> None:
        """Make metrics.jsonl hold just the epochs that the Trainer has done."""
        with atomic_file(self.metrics_file) as file:
            file.write("".join(json.dumps(r) + "\n" for r in self.job.trainer.progress.metrics).encode())

    def save(self) -> None:
        """Write the checkpoint."""
        job, trainer = self.job, self.job.trainer
        save_checkpoint(
            self.folder / CHECKPOINT,
            job.model.state_dict(),
            trainer.optimizer.state_dict(),
            {
                "minidl": __version__,
                "config": asdict(job.config),
                "data": {"name": job.dataset.name, "sha256": job.dataset.sha256},
                "model": {"image_size": list(trainer.splits.image_size), "classes": trainer.splits.classes},
                "trainer": trainer.state(),
            },
        )

    def write_summary(self) -> dict[str, Any]:
        """Evaluate the final weights on all three splits, the test split for the only time, and write summary.json."""
        job, trainer, config = self.job, self.job.trainer, self.job.config
        p, splits, event = trainer.progress, trainer.splits, trainer.optimizer.switch_event
        (train_loss, train_accuracy), (_, val_accuracy), (test_loss, test_accuracy) = (
            evaluate(job.model, part) for part in (splits.train, splits.val, splits.test)
        )
        summary = {
            "dataset": job.dataset.name,
            "source": job.dataset.source,
            "device": job.device,
            "model": config.model,
            "parameters": count_parameters(job.model),
            "optimizer": config.opt,
            "seed": config.seed,
            "epochs": p.epoch,
            "steps": p.step,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "val_accuracy": val_accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "switch": event and {k: getattr(event, k) for k in ("step", "epoch", "lr", "condition")},
            "seconds": round(p.seconds, 3),
            "samples_per_second": round(p.samples / p.train_seconds, 1) if p.train_seconds else 0.0,
        }
        self.write_json("summary.json", summary)
        return summary


def check_unused(folder: Path) -> None:
    """Raise ValueError where a run could not be written to `folder` without touching another's files."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file: give a folder")
    if (folder / "config.json").exists() or (folder / CHECKPOINT).exists():
        raise ValueError(f"--out {folder} holds a run already: choose another folder, or go on with --resume {folder}")
