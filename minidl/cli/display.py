"""What a training run prints: a progress bar in a terminal, and a line per epoch everywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from minidl.evaluation import evaluate
from minidl.optim.optimizer import rate_to_show
from minidl.teach.where import in_notebook
from minidl.telling import is_terminal, typed
from minidl.trainer import Trainer
from minidl.training.observer import Observer, Step
from minidl.training.run import Run


class Overwritten:
    """A file for a bar in a notebook: an output of the cell with the text written last. Of a stream, all that was ever
    written is saved, by papermill and nbconvert, and below another bar a line for each state."""

    encoding = "utf-8"  # tqdm asks

    def __init__(self) -> None:
        from IPython.display import DisplayHandle

        self.output: Any = DisplayHandle()  # type: ignore[no-untyped-call]
        self.output.display({"text/plain": ""}, raw=True)  # type: ignore[no-untyped-call]

    def write(self, text: str) -> None:
        self.output.update({"text/plain": text.strip("\r ")}, raw=True)

    def flush(self) -> None:
        """Nothing waits."""


class Bar(Observer):
    """A bar for the current epoch, a line for each finished one. A log file gets only the lines.

    trainer  whose progress is shown
    epochs   total number of epochs
    """

    def __init__(self, trainer: Trainer, epochs: int) -> None:
        from tqdm import tqdm  # here: programs that only read a run show no bar

        self.trainer, self.epochs = trainer, epochs
        self.optimizer, self.progress = trainer.optimizer, trainer.progress
        self.announced = self.optimizer.switch_event is not None
        where: dict[str, Any] = {"disable": not is_terminal(sys.stderr), "dynamic_ncols": True}
        if in_notebook():
            where = {"disable": False, "file": Overwritten(), "ncols": 100, "mininterval": 0.5, "position": 0}
        self.bar: Any = tqdm(total=trainer.steps_per_epoch, leave=False, unit="step", **where)

    def before_epoch(self) -> None:
        if not self.bar.disable:
            self.bar.set_description(f"epoch {self.progress.epoch + 1}/{self.epochs}", refresh=False)
            self.bar.set_postfix_str("", refresh=False)
            self.bar.reset()
            self.bar.update(self.progress.batch)

    def after_step(self, step: Step) -> None:
        if not self.bar.disable:
            now = f"loss {self.trainer.train_loss:.4f}, accuracy {self.trainer.train_accuracy:.4f}"
            self.bar.set_postfix_str(f"{now}, {self.optimizer.phase} {rate_to_show(self.optimizer):.3g}", refresh=False)
            self.bar.update()
        self.announce()

    def after_epoch(self, record: dict[str, Any]) -> None:
        r, val = record, ""
        if r["val_loss"] is not None:
            val = f"val loss {r['val_loss']:.4f} accuracy {r['val_accuracy']:.4f}"
        train = f"train loss {r['train_loss']:.4f} accuracy {r['train_accuracy']:.4f}"
        parts = (
            f"epoch {r['epoch']:>3}",
            train,
            val,
            self.more(),
            f"{r['phase']} {r['lr']:.3g}",
            f"{r['seconds']:.1f} s",
        )
        self.say(" | ".join(filter(None, parts)))
        self.announce()

    def more(self) -> str:
        """More to print about an epoch."""
        return ""

    def announce(self) -> None:
        """Announce the switch, once."""
        e = self.optimizer.switch_event
        if e is not None and not self.announced:
            self.announced = True
            self.say(f"switch to {self.optimizer.phase} after step {e.step:,}, rate {e.lr:.4g}: {e.condition}")

    def close(self) -> None:
        self.bar.close()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        write: Callable[[str], None] = self.bar.write if not self.bar.disable else print
        write(line)
        print(end="", flush=True)  # also without a console


class Display(Bar):
    """The progress of a command-line run."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.job.trainer, run.job.epochs)
        self.run = run

    def more(self) -> str:
        if not self.run.options.test_every_epoch:
            return ""
        return f"test accuracy {evaluate(self.trainer.model, self.trainer.splits.test)[1]:.4f}"


def resume_command(run: Run) -> str:
    """The command that resumes a run."""
    return f"python -m minidl.train --resume {typed(str(run.where))}{run.needs}"
