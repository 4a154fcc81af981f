"""The curve of a run: evaluations on the validation split while it trains, and the training loss between them."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from minidl.backend import Array, read_together, xp_of
from minidl.evaluation import evaluate
from minidl.optim import Optimizer
from minidl.optim.optimizer import rate_to_show
from minidl.trainer import Trainer
from minidl.training.observer import Observer, Step


class Curve(Observer):
    """Evaluates on the validation split at evenly spaced steps; its clock excludes the time that this takes.

    every_look  False: evaluate at the last step only; train_loss there still covers just the last interval

    points      a dict per evaluation: step, val_accuracy, val_loss, train_loss (mean over the examples since the one
                before, each when it was trained on), lr;   seconds  of CPU time spent on training by then
    """

    def __init__(self, trainer: Trainer, steps: int, looks: int, every_look: bool) -> None:
        self.trainer = trainer
        self.due = {max(1, round(steps * (i + 1) / looks)) for i in range(looks)}
        self.evaluated = self.due if every_look else {steps}
        self.points: list[dict[str, float]] = []
        self.seconds: list[float] = []
        self._unread: list[tuple[Array, int]] = []  # loss and size of each batch of this interval
        self._evaluating = 0.0
        self._start = time.thread_time()

    def clock(self) -> float:
        """CPU seconds of this thread spent on training: on a shared machine, other processes do not count."""
        return round(time.thread_time() - self._start - self._evaluating, 4)

    def after_step(self, step: Step) -> None:
        assert step.loss is not None
        self._unread.append((step.loss.data, len(step.labels)))  # read together: on a GPU each read waits
        if step.number not in self.due:
            return
        seconds, began, trainer = self.clock(), time.thread_time(), self.trainer
        train_loss = self._train_loss()
        if step.number in self.evaluated:
            with as_evaluated(trainer.optimizer):
                loss, accuracy = evaluate(trainer.model, trainer.splits.val)
            look = {"step": step.number, "val_accuracy": accuracy, "val_loss": digits(loss)}
            self.points.append(look | {"train_loss": digits(train_loss), "lr": rate_to_show(trainer.optimizer)})
            self.seconds.append(seconds)
        self._evaluating += time.thread_time() - began

    def _train_loss(self) -> float:
        """Mean over the examples of this interval; starts the next one."""
        unread, self._unread = self._unread, []
        losses = read_together(xp_of(unread[0][0]), [loss for loss, _ in unread])
        return sum(loss * n for loss, (_, n) in zip(losses, unread, strict=True)) / sum(n for _, n in unread)


def as_evaluated(optimizer: Optimizer) -> AbstractContextManager[None]:
    """Inside, the model has the weights to evaluate: for an optimizer that averages them, the average."""
    averaged = getattr(optimizer, "averaged", None) or getattr(optimizer.active, "averaged", None)  # a Hybrid's phase
    return nullcontext() if averaged is None else averaged()


def digits(x: float) -> float:
    """x to six digits, or the largest float if it is not finite, because JSON has no infinity.

    Runs are compared bit for bit by the fingerprints of their weights, not by these numbers.
    """
    return float(f"{x:.6g}") if math.isfinite(x) else float(np.finfo(np.float64).max)
