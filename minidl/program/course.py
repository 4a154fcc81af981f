"""Trainer.fit: train for more epochs, with a line per epoch and a progress bar; Ctrl-C stops it cleanly.

Ctrl-C stops between two steps. There the model, the optimizer and the Trainer's position are consistent, so they can
be saved, and resuming gives the same bits as a run that was never stopped.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from numbers import Integral
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from minidl.cli.display import Bar
from minidl.evaluation import threads_or_as_before
from minidl.optim.rule import Rule
from minidl.optim.schedule import Made
from minidl.telling import tell
from minidl.trainer import Trainer
from minidl.training.kept import Drawn
from minidl.training.lock import lock
from minidl.training.observer import Observer, Step
from minidl.training.run import Checkpoints
from minidl.training.slips import check_parameters

BLOWN_UP = 100  # times the loss of guessing: no learning rate that works gets there


@dataclass(eq=False)
class Fit:
    """A call of `fit` in progress."""

    thread: threading.Thread


# Not an attribute of the Trainer: a copy that an observer makes is not training, and may be trained on its own.
_training: WeakKeyDictionary[Trainer, Fit] = WeakKeyDictionary()
_lock = threading.Lock()  # for _training


def fit(
    trainer: Trainer,
    epochs: int,
    observers: Observer | Iterable[Observer],
    validate: bool,
    verbose: bool,
    threads: int | None,
) -> None:
    """See Trainer.fit."""
    if isinstance(epochs, bool) or not isinstance(epochs, Integral) or epochs < 0:
        got = "an array: the Trainer already has the data" if hasattr(epochs, "shape") else repr(epochs)
        raise ValueError(f"epochs must be a whole number, the number of further epochs, got {got}")
    if not isinstance(validate, (bool, np.bool_)):
        raise TypeError(f"validate must be True or False, not a {type(validate).__name__}: the validation data are "
                        "given to the Trainer, as split(data) or Splits(...)")  # fmt: skip
    total = trainer.progress.epoch + int(epochs)
    if not isinstance(observers, (Observer, Iterable)):
        raise TypeError(f"observers=[...] must be minidl.Observers, not a {type(observers).__name__}")
    observers = [observers] if isinstance(observers, Observer) else list(observers)
    _check_observers(observers)
    check_schedule(trainer, total)
    check_parameters(trainer.model, trainer.optimizer)  # again: a layer may have been replaced since
    with alone(trainer), threads_or_as_before(threads or trainer.threads), folder_held(trainer.run), trainer.forms():
        _train(trainer, total, observers, validate, verbose)


def _train(trainer: Trainer, total: int, observers: Sequence[Observer], validate: bool, verbose: bool) -> None:
    run, stop = trainer.run, StopOnCtrlC()
    kept: list[Observer] = [] if run is None else [Checkpoints(run), Drawn(trainer)]
    shown: list[Observer] = [Bar(trainer, total)] if verbose else []
    before = trainer.progress.epoch
    if run is not None:
        run.aim_at(total)
    try:
        with stop.listening(), np.errstate(over="ignore", invalid="ignore"):  # divergence gets a message of its own
            trainer.train_to(total, [*observers, *kept, *shown, stop], validate)
    except KeyboardInterrupt:  # the second Ctrl-C, an observer's, or the program's own handler's
        if run is not None and trainer.between_steps:
            run.save()
        raise
    if words := blown_up(trainer.progress.metrics[before:], trainer.splits.classes):
        tell(words)
    if run is not None:
        if trainer.progress.epoch < total:
            run.save()
        else:
            run.finish()
    if stop.asked:
        raise KeyboardInterrupt(_stopped(trainer, total))


def blown_up(metrics: Sequence[dict[str, Any]], classes: int) -> str:
    """A message if the loss stayed finite but became so large that training failed, else an empty string."""
    guessing = math.log(max(2, classes))
    worst = max(metrics, key=lambda record: record["train_loss"], default=None)
    if worst is None or worst["train_loss"] <= BLOWN_UP * guessing:
        return ""
    return (
        f"the training loss was {worst['train_loss']:.3g} in epoch {worst['epoch']}, while guessing gives "
        f"{guessing:.3g}: the learning rate, {worst['lr']:g}, or the initial weights are far too large"
    )


@contextmanager
def alone(trainer: Trainer) -> Iterator[None]:
    """Held while `fit` trains: a second one, in another thread or an observer, would mix its steps with these."""
    mine = Fit(threading.current_thread())
    try:
        with _lock:
            if (other := _training.setdefault(trainer, mine)) is not mine:
                raise RuntimeError(
                    f"fit: this Trainer is already training, in thread {other.thread.name}, and two at once would mix "
                    "their steps: wait until that fit has ended, or give each its own network and Trainer"
                )
        yield
    finally:  # also if a Ctrl-C came before the `yield`
        if _training.get(trainer) is mine:
            del _training[trainer]


def check_here(trainer: Trainer) -> None:
    """Raise RuntimeError if another thread is training: the Trainer may be in the middle of a step."""
    now = _training.get(trainer)
    if now is not None and now.thread is not threading.current_thread():
        raise RuntimeError(
            f"save: thread {now.thread.name} is training this Trainer, perhaps in the middle of a step: save after "
            "that fit, or in an observer of it: its after_step and after_epoch are called between two steps"
        )


@contextmanager
def folder_held(run: Any) -> Iterator[None]:
    """No other process writes to the run's folder in the block, or has since it was loaded. Without a run, a no-op."""
    if run is None or run.is_held:  # an observer saves while `fit` holds the folder
        yield
        return
    with ExitStack() as stack:
        stack.callback(run.let_go)
        run.hold(lock(run.folder, stack))
        run.check_checksum()
        run.sweep()
        run.is_held = True
        try:
            yield
        finally:
            run.note_checksum()


class StopOnCtrlC(Observer):
    """The first Ctrl-C asks to stop after the current step. The second raises Python's KeyboardInterrupt at once."""

    asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch Ctrl-C in the block. Outside the main thread, or if the program has its own handler, do nothing."""
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if not usual or threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def after_step(self, step: Step) -> bool:
        return self.asked

    def after_epoch(self, record: dict[str, Any]) -> bool:
        return self.asked


def _stopped(trainer: Trainer, total: int) -> str:
    p = trainer.progress
    left = total - p.epoch
    where = "" if trainer.run is None else f" Saved in {trainer.run.folder}."
    return f"stopped after step {p.step:,}.{where} To resume with the same bits: fit({left})"


def _check_observers(observers: Sequence[Any]) -> None:
    for each in observers:
        if isinstance(each, type) or not isinstance(each, Observer):
            what = f"the class {each.__name__} itself" if isinstance(each, type) else f"a {type(each).__name__}"
            raise TypeError(f"an observer is an object of a class of your own, class Mine(minidl.Observer), not {what}")


def check_schedule(trainer: Trainer, total: int) -> None:
    """Raise now, and not when it ends, for a schedule that ends before these epochs do."""
    optimizer, rule, p = trainer.optimizer, trainer.optimizer.active, trainer.progress
    to_the_end = isinstance(optimizer, Rule) or optimizer.switch_event is not None  # else another rule may follow
    if not to_the_end or not isinstance(rule.lr_or_schedule, Made):
        return
    last = rule.t + (total - p.epoch) * trainer.steps_per_epoch - p.batch - 1
    if last >= rule.t:
        rule.lr_or_schedule(last)
