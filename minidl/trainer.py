"""The training loop: batches through the model, gradients into the optimizer, the validation split after each epoch.

A Trainer always knows exactly where training stands, so a program can stop after any step, save, and resume later with
the same bits. The order of the examples in epoch e depends on (seed, e) alone. Everything else that happens during
training, from the progress bar to checkpoints, is done by observers.
"""

from __future__ import annotations

import importlib
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minidl import ops
from minidl.backend import Array, backend_of, read_together, same_bits, xp_of
from minidl.data import Dataset
from minidl.data.batches import batches, steps_per_epoch
from minidl.data.splits import Examples, Splits, splits_of
from minidl.evaluation import Result, evaluate, measure, predict, threads_or_as_before
from minidl.fast.gpu.graph import captured
from minidl.module import device_of, dtype_of
from minidl.nn import Module
from minidl.optim import Optimizer
from minidl.optim.optimizer import rate_to_show
from minidl.refuse import Named, refuse
from minidl.telling import counted
from minidl.tensor import Tensor
from minidl.training.divergence import LastGoodWeights, diverged
from minidl.training.history import History, Position
from minidl.training.kept import numbers, put_numbers, put_states, states
from minidl.training.observer import Observer, Step, after_epoch, after_step
from minidl.training.slips import MOVED_ON, check_settings, tell_resting, tell_slips


class StepLosses(NamedTuple):
    """The results of a step, to be read later. Nothing here waits for the device."""

    step: int  # its number
    loss: Array  # 0-d
    correct: Array  # 0-d
    x: Tensor
    lr: float


class Trainer(Named):
    """Trains a classifier:  Trainer(net, Adam(net.parameters()), split(load_mnist("mnist5k"))).fit(5)

    model       any Module from images (N, C, H, W) to logits (N, classes); C is 1 for images (N, H, W)
    optimizer   over the model's parameters
    data        Splits; a Dataset, a tenth of its training images for validation; Examples or (images, labels), with
                no validation
    batch_size  examples per step; the last batch of an epoch may be smaller
    seed        decides the order of the examples, together with the epoch's number
    folder      of the run: settings, metrics, checkpoints and, with a test split, results and curves, as
                `python -m minidl.train` writes them. It must not hold a run yet: to resume one, `load_run(folder)`.
                None: nothing is written
    read_every  read the losses every so many steps; None: every step on the CPU, every 50 on a GPU, where reading waits
    threads     to compute with; None: one per core. The number does not change a bit of any result
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        data: Splits | Dataset | Examples | tuple[Any, Any],
        batch_size: int = 128,
        seed: int = 0,
        folder: str | os.PathLike[str] | None = None,
        *,
        read_every: int | None = None,
        threads: int | None = None,
        **other: Any,
    ) -> None:
        refuse("Trainer", other)
        check_settings(model, optimizer, batch_size, seed, threads)
        self.splits = splits = splits_of(data, seed, device_of(model))
        self.model, self.optimizer, self.threads = model, optimizer, threads
        self.batch_size, self.seed = int(batch_size), int(seed)
        tell_slips(model, optimizer, splits)
        on_cpu = backend_of(splits.train.images).name == "cpu"
        self.read_every = read_every or (1 if on_cpu else 50)
        self.progress = Position()
        self._unread: list[StepLosses] = []  # steps whose losses have not been read
        self._sums = 0.0, 0, 0  # the epoch's sums before the current step
        self._last_good = LastGoodWeights(optimizer) if self.read_every > 1 else None
        self._captured = None  # on a GPU: a whole step in one launch, with the same bits
        if not on_cpu and type(self).train_step is Trainer.train_step:
            self._captured = captured(lambda x, labels: self._forward(Tensor(x), labels)[1:], optimizer, model)
        self._built = numbers(model)  # a checkpoint holds those that have changed since
        self.between_steps = True  # model, optimizer and progress are consistent: safe to save
        self.run: Any = None  # what writes the folder (program/folder.py)
        if folder is not None:
            program_above().begin(self, folder)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, including the last, smaller one."""
        return steps_per_epoch(len(self.splits.train), self.batch_size)

    @property
    def train_loss(self) -> float:
        """Mean loss over this epoch's examples so far, each just before it was trained on."""
        return self.progress.loss_sum / max(1, self.progress.seen)

    @property
    def train_accuracy(self) -> float:
        """Fraction of this epoch's examples so far that were classified correctly just before they were trained on."""
        return self.progress.correct / max(1, self.progress.seen)

    # ---- all epochs, one epoch, one step ------------------------------------------------------------------------

    def fit(
        self,
        epochs: int,
        observers: Observer | Iterable[Observer] = (),
        validate: bool = True,
        *,
        verbose: bool = True,
        threads: int | None = None,
        **other: Any,
    ) -> History:
        """Train `epochs` more epochs. Returns the record of each epoch so far, including those of earlier calls.

        observers  called in this order, see training/observer.py; a Recorder of minidl.trace is one
        validate   evaluate on the validation split after each epoch; if False, or if that is empty, val_loss and
                   val_accuracy are None
        verbose    print a line per epoch and show a progress bar, as `python -m minidl.train` does
        threads    as for the Trainer, for this call

        Ctrl-C stops between two steps, saves if there is a folder, and raises KeyboardInterrupt; `fit` with the
        remaining epochs resumes with the same bits. A second Ctrl-C stops at once. Raises Diverged if the loss is not
        finite, and RuntimeError if another `fit` of this Trainer is running.
        """
        refuse("fit", other)
        program_above().fit(self, epochs, observers, validate, verbose, threads)
        return self.metrics

    @property
    def metrics(self) -> History:
        """The record of each epoch so far: epoch, step, train_loss, train_accuracy, val_loss, val_accuracy, lr, ..."""
        return History(self.progress.metrics)

    def evaluate(self, examples: Examples | tuple[Any, Any] | None = None, batch_size: int | None = None) -> Result:
        """Loss and accuracy on Examples or a pair (images, labels); None: on the test split. See minidl.evaluate."""
        with threads_or_as_before(self.threads):
            return evaluate(self.model, self.splits.test if examples is None else examples, batch_size)

    def predict(self, images: Any) -> Array:
        """The probability of each class (N, classes) for images (N, H, W) or (N, C, H, W). See minidl.predict."""
        with threads_or_as_before(self.threads):
            return predict(self.model, images, image_size=self.splits.image_size)

    def save(self, folder: str | os.PathLike[str] | None = None) -> Path:
        """Write all that `load_run(folder)` needs to resume; returns the folder.

        folder  a new one; None: the Trainer's own. model.save(path) writes the weights alone

        If the weights have changed since `fit`, the folder's results are removed; fit(0) measures them again. While
        `fit` runs, its observers may save; in another thread this raises RuntimeError.
        """
        return Path(program_above().save(self, folder))

    def train_to(self, epochs: int, observers: Sequence[Observer] = (), validate: bool = True) -> list[dict[str, Any]]:
        """Train until `epochs` epochs are done in all, or an observer asks to stop; like `fit`, but it shows nothing.

        observers, validate  as for `fit`

        Raises Diverged if the loss is not finite.
        """
        with ExitStack() as stack, self.forms():
            for observer in observers:
                stack.callback(observer.close)
            while self.progress.epoch < epochs:
                for observer in observers:
                    observer.before_epoch()
                for step in self._steps(observers):
                    wishes = [after_step(observer, step) for observer in observers]
                    if any(wishes):
                        return self.metrics
                record = self.finish_epoch(validate)
                wishes = [after_epoch(observer, record) for observer in observers]
                if any(wishes):
                    break
        return self.metrics

    def steps(self) -> Iterator[int]:
        """Take the remaining steps of this epoch one at a time; yields the number of each step after taking it."""
        steps = self._steps(())
        while True:
            with self.forms():  # not in between, where the caller computes
                step = next(steps, None)
            if step is None:
                return
            yield step.number

    def _steps(self, observers: Sequence[Observer]) -> Iterator[Step]:
        p, train, dtype = self.progress, self.splits.train, dtype_of(self.model)
        epoch, begun = p.epoch, p.batch
        self.model.train()  # a user's own train() may return None
        training = self.model.training
        rng = np.random.default_rng([self.seed, 1, p.epoch])
        start = time.perf_counter()
        for n, (x, labels) in enumerate(batches(train.images, train.labels, self.batch_size, rng, begun, dtype), begun):
            if self.progress is not p or (p.epoch, p.batch) != (epoch, n):
                raise RuntimeError(MOVED_ON)
            if training and not self.model.training:
                training = tell_resting(p.step)
            step = Step(p.step + 1, x, labels)
            for observer in observers:
                observer.before_step(step)
            self.between_steps = False
            self._take(step, observers)
            p.count_step(len(step.labels), time.perf_counter() - start)
            self.between_steps = True
            yield step
            start = time.perf_counter()
        self._read()

    def _take(self, step: Step, observers: Sequence[Observer]) -> None:
        """Take one step. A step that fails is not counted, and may be taken again."""
        p = self.progress
        self._sums = p.loss_sum, p.correct, p.seen
        try:
            if self._captured is None or any(observer.wants(step.number) for observer in observers):
                step.logits, step.loss = self.train_step(step.x, step.labels)
            else:
                step.loss = self._step_in_one_piece(step.x, step.labels)
        except BaseException:
            self._unread = [each for each in self._unread if each.step <= p.step]
            p.loss_sum, p.correct, p.seen = self._sums
            raise

    def forms(self) -> AbstractContextManager[None]:
        """`with trainer.forms():` compute as the Trainer's run, if any, was started, fast or not: see Run.forms."""
        return nullcontext() if self.run is None else self.run.forms()

    @same_bits
    def train_step(self, x: Tensor, labels: Array) -> tuple[Tensor, Tensor]:
        """Forward, backward, update on x (N, C, H, W), labels (N,). Returns logits and loss from before the update."""
        logits, loss, correct = self._forward(x, labels)
        self._note(loss, correct, x, self.optimizer.lr)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return logits, loss

    def _step_in_one_piece(self, x: Tensor, labels: Array) -> Tensor:
        """train_step with the same bits, for callers that do not need the logits. Returns the loss."""
        assert self._captured is not None
        lr = self.optimizer.lr
        loss, correct = self._captured(x.data, labels)
        self._note(loss, correct, x, lr)
        return loss

    def _forward(self, x: Tensor, labels: Array) -> tuple[Tensor, Tensor, Array]:
        """The logits, their loss, and how many are correct."""
        logits = self.model(x)
        loss = ops.cross_entropy(logits, labels)
        if self._last_good is not None:
            self._last_good.watch(loss.data)
        return logits, loss, ops.count_right(logits, labels)

    def finish_epoch(self, validate: bool = True) -> dict[str, Any]:
        """Evaluate on the validation split (unless validate=False), report it to the optimizer, return the record."""
        p, start = self.progress, time.perf_counter()
        if not p.batch:
            raise RuntimeError("finish_epoch: no step of this epoch has been taken: steps() takes them")
        val_loss, val_accuracy = self._validation() if validate and len(self.splits.val) else (None, None)
        metrics = {
            "train_loss": self.train_loss,
            "train_accuracy": self.train_accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
        }
        record: dict[str, Any] = {"epoch": p.epoch + 1, "step": p.step, **metrics}
        record |= {"lr": rate_to_show(self.optimizer), "phase": self.optimizer.phase}
        p.seconds += time.perf_counter() - start
        record["seconds"] = round(p.seconds - sum(r["seconds"] for r in p.metrics), 3)
        p.count_epoch(record)
        self.optimizer.report(p.epoch, **{name: value for name, value in metrics.items() if value is not None})
        return record

    def _validation(self) -> tuple[float, float]:
        val = self.splits.val
        with self.forms():
            loss, accuracy = measure(self.model, val)
        if not math.isfinite(loss):
            x, _ = next(batches(val.images, val.labels, 500, dtype=dtype_of(self.model)))
            rate = rate_to_show(self.optimizer)
            raise diverged(self.progress.step, f"the validation loss is {loss}", rate, self.model, x)
        return loss, accuracy

    # ---- losses -------------------------------------------------------------------------------------------------

    def _note(self, loss: Tensor, correct: Array, x: Tensor, lr: float) -> None:
        """Read the losses now or later. On the CPU this is before the update, while the weights are still good."""
        self._unread.append(StepLosses(self.progress.step + 1, loss.data, correct, x, lr))
        if len(self._unread) >= self.read_every:
            self._read()

    def _read(self) -> None:
        """Copy the unread losses to the host, in one transfer, and check them."""
        steps, self._unread = self._unread, []
        if not steps:
            return
        p, xp = self.progress, xp_of(steps[0].loss)
        found = read_together(xp, [step.loss for step in steps] + [step.correct for step in steps])
        for step, loss, correct in zip(steps, found[: len(steps)], found[len(steps) :], strict=True):
            if not math.isfinite(loss):
                if self._last_good is not None:
                    self._last_good.restore()
                raise diverged(step.step, f"the loss is {loss}", step.lr, self.model, step.x)
            if step.step > p.step:
                self._sums = p.loss_sum, p.correct, p.seen
            p.loss_sum += loss * len(step.x.data)
            p.correct, p.seen = p.correct + int(correct), p.seen + len(step.x.data)

    def __repr__(self) -> str:
        p = self.progress
        done = f"{counted(p.epoch, 'epoch')} ({counted(p.step, 'step')}) done"
        return f"Trainer of {type(self.model).__name__} by {self.optimizer.phase}, {done}, on {self.splits!r}"

    # ---- saving and resuming ------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Where training stands, as JSON, without the weights and the optimizer's vectors."""
        self._read()
        now = numbers(self.model)
        changed = {name: now[name] for name in now if name not in self._built or now[name] != self._built[name]}
        found = {**vars(replace(self.progress)), "generators": states(self.model)}
        return found | ({"numbers": changed} if changed else {})

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to what `state()` returned."""
        state = dict(state)
        generators, changed = state.pop("generators"), state.pop("numbers", {})
        self.progress = Position(**state)
        put_states(self.model, generators)
        put_numbers(self.model, changed)
        self._built = {name: value for name, value in self._built.items() if name not in changed}


def program_above() -> Any:
    """The package that shows a Trainer's run and writes its folder. It is a higher layer, so it is imported by name."""
    return importlib.import_module("minidl.program")
