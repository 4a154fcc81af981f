"""The training loop: batches through the model, gradients into the optimizer, the validation split after each epoch.

A Trainer knows at every moment exactly where it stands, so that a program can stop after any step, save that, and go
on later with the same bits. The order of the examples in epoch e is drawn from (seed, e) alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from minidl import ops
from minidl.backend import Array, backend_of, kernel_for, same_bits, to_numpy, xp_of
from minidl.data.batches import Examples, Splits, batches
from minidl.fast.gpu.graph import captured
from minidl.grad_mode import no_grad
from minidl.nn import Module
from minidl.optim import Optimizer
from minidl.rng import CounterRng
from minidl.tensor import Tensor


class Diverged(ArithmeticError):
    """The loss is no longer a finite number. The message names the step, the rate and the first layer affected."""


@dataclass
class Progress:
    """Where training stands. All of it goes into a checkpoint, as JSON."""

    epoch: int = 0  # whole epochs done
    batch: int = 0  # batches done of the current epoch
    step: int = 0  # optimizer steps in all
    loss_sum: float = 0.0  # over the examples seen in this epoch
    correct: int = 0
    seen: int = 0
    samples: int = 0  # examples trained on in all, and the seconds this took, evaluation not counted
    train_seconds: float = 0.0
    seconds: float = 0.0  # evaluation counted too
    metrics: list[dict[str, Any]] = field(default_factory=list)  # a record per epoch


class StepLosses(NamedTuple):
    """What there is to look at later of a step: nothing here waits for the device."""

    loss: Array  # 0-d
    correct: Array  # 0-d
    x: Tensor
    lr: float


class Observer(Protocol):
    """Somebody who looks on while a Trainer trains, such as minidl.trace's Recorder. It changes nothing."""

    def before_step(self, x: Tensor, labels: Array) -> None: ...
    def after_step(self, logits: Tensor, loss: Tensor) -> None: ...
    def after_epoch(self, record: dict[str, Any]) -> None: ...


PIXELS_AT_A_TIME = 1 << 19  # in evaluation: some 670 images of MNIST


class Trainer:
    """Trains a classifier.

    model       any Module from images (N, 1, H, W) to logits (N, classes)
    optimizer   over the model's parameters
    splits      training and validation examples (data.batches.split)
    batch_size  examples per step; the last batch of an epoch takes what is left
    seed        decides the order of the examples, together with the epoch's number
    read_every  steps between two looks at the losses. On the CPU a look is free; on a GPU each one waits for it
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        splits: Splits,
        batch_size: int = 128,
        seed: int = 0,
        read_every: int | None = None,
    ) -> None:
        self.model, self.optimizer, self.splits = model, optimizer, splits
        self.batch_size, self.seed = batch_size, seed
        on_cpu = backend_of(splits.train.images).name == "cpu"
        self.read_every = read_every or (1 if on_cpu else 50)
        self.progress = Progress()
        self.observer: Observer | None = None
        self._unread: list[StepLosses] = []  # the steps not yet looked at
        self._healthy = Healthy(optimizer) if self.read_every > 1 else None
        step = None if on_cpu else captured(lambda x, labels: self._forward(Tensor(x), labels)[1:], optimizer, model)
        self._captured = step  # on a GPU: a whole step in one launch, with the same bits

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.splits.train) / self.batch_size)

    @property
    def train_loss(self) -> float:
        """Mean loss over this epoch's examples so far, each at the moment when it was trained on."""
        return self.progress.loss_sum / max(1, self.progress.seen)

    @property
    def train_accuracy(self) -> float:
        """Share of this epoch's examples so far that were classified right just before they were trained on."""
        return self.progress.correct / max(1, self.progress.seen)

    # ---- one step, one epoch, all of them -----------------------------------------------------------------------

    @same_bits
    def train_step(self, x: Tensor, labels: Array) -> Tensor:
        """Forward, backward, update. Returns the loss before the update; the counts are read later."""
        if self._captured is not None and self.observer is None:
            lr = self.optimizer.lr
            loss, correct = self._captured(x.data, labels)
            self._note(StepLosses(loss.data, correct, x, lr))
            return loss
        if self.observer is not None:
            self.observer.before_step(x, labels)
        logits, loss, correct = self._forward(x, labels)
        self._note(StepLosses(loss.data, correct, x, self.optimizer.lr))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.observer is not None:
            self.observer.after_step(logits, loss)
        return loss

    def _note(self, losses: StepLosses) -> None:
        self._unread.append(losses)
        if len(self._unread) >= self.read_every:
            self._read(self.progress.step + 1)

    def _forward(self, x: Tensor, labels: Array) -> tuple[Tensor, Tensor, Array]:
        logits = self.model(x)
        loss = ops.cross_entropy(logits, labels)
        correct = ops.count_right(logits, labels)
        if self._healthy is not None:
            self._healthy.watch(loss.data)
        return logits, loss, correct

    def steps(self) -> Iterator[int]:
        """Train through the rest of this epoch; yields the step's number after every whole step.

        Raises Diverged where the loss is not finite.
        """
        p, train = self.progress, self.splits.train
        self.model.train()
        rng = np.random.default_rng([self.seed, 1, p.epoch])
        start = time.perf_counter()
        for x, labels in batches(train.images, train.labels, self.batch_size, rng, start=p.batch):
            self.train_step(x, labels)
            p.batch += 1
            p.step += 1
            p.samples += len(labels)
            elapsed = time.perf_counter() - start
            p.train_seconds += elapsed
            p.seconds += elapsed
            yield p.step
            start = time.perf_counter()
        self._read(p.step)

    def finish_epoch(self) -> dict[str, Any]:
        """Evaluate on the validation split, tell the optimizer, and return the epoch's record."""
        p, start = self.progress, time.perf_counter()
        val_loss, val_accuracy = evaluate(self.model, self.splits.val)
        if not math.isfinite(val_loss):
            x, _ = next(batches(self.splits.val.images, self.splits.val.labels, 500))
            raise self._diverged(p.step, f"the validation loss is {val_loss}", self.optimizer.lr, x)
        metrics = {
            "train_loss": self.train_loss,
            "train_accuracy": self.train_accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
        }
        record: dict[str, Any] = {"epoch": p.epoch + 1, "step": p.step, **metrics}
        record |= {"lr": self.optimizer.lr, "phase": self.optimizer.phase}
        p.seconds += time.perf_counter() - start
        record["seconds"] = round(p.seconds - sum(r["seconds"] for r in p.metrics), 3)
        p.epoch, p.batch, p.loss_sum, p.correct, p.seen = p.epoch + 1, 0, 0.0, 0, 0
        p.metrics.append(record)
        self.optimizer.report(p.epoch, **metrics)
        if self.observer is not None:
            self.observer.after_epoch(record)
        return record

    def fit(self, epochs: int) -> list[dict[str, Any]]:
        """Train until `epochs` epochs are done and return the record of each. For programs without a progress bar."""
        while self.progress.epoch < epochs:
            for _ in self.steps():
                pass
            self.finish_epoch()
        return self.progress.metrics

    # ---- losses -------------------------------------------------------------------------------------------------

    def _read(self, last: int) -> None:
        """Bring the losses of the steps up to `last` to the host, in one transfer, and check them."""
        if not self._unread:
            return
        looks, self._unread = self._unread, []
        p = self.progress
        numbers = read_together(xp_of(looks[0].loss), [look.loss for look in looks] + [look.correct for look in looks])
        losses, corrects = numbers[: len(looks)], numbers[len(looks) :]
        for i, (look, loss, correct) in enumerate(zip(looks, losses, corrects, strict=True)):
            if not math.isfinite(loss):
                if self._healthy is not None:
                    self._healthy.restore()
                raise self._diverged(last - len(looks) + i + 1, f"the loss is {loss}", look.lr, look.x)
            n = len(look.x.data)
            p.loss_sum += loss * n
            p.correct += int(correct)
            p.seen += n

    def check_weights(self) -> None:
        """Raise Diverged where a weight is not a finite number: the last step was too much, though its loss was not."""
        owned = [
            (f"{name} of layer {path}, {module!r}", value.data)
            for path, module in self.model.named_modules()
            for name, value in vars(module).items()
            if isinstance(value, Tensor)
        ]
        xp = xp_of(owned[0][1])
        finite = read_together(xp, [xp.isfinite(values).all() for _, values in owned])
        for (what, _), good in zip(owned, finite, strict=True):
            if not good:
                what += ", has a value that is not finite"
                raise self._diverged(self.progress.step, what, self.optimizer.lr)

    def _diverged(self, step: int, what: str, rate: float, x: Tensor | None = None) -> Diverged:
        where = ""
        if x is not None:
            where = f"; the first output that is not finite is that of {first_non_finite(self.model, x)}"
        return Diverged(f"training diverged at step {step}: {what}, the rate {rate:g}{where}. Try a smaller --lr")

    # ---- saving and going on ------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Where training stands, as JSON; the weights and the optimizer's vectors are not in it."""
        self._read(self.progress.step)
        return {
            **asdict(self.progress),
            "generators": {name: rng.state() for name, rng in _generators(self.model)},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Stand where `state()` was taken."""
        state = dict(state)
        states = state.pop("generators")
        self.progress = Progress(**state)
        for name, rng in _generators(self.model):
            rng.load_state(states[name])


class Healthy:
    """The weights that gave the last finite loss or the first other one, kept without a wait for the device.

    By the time that the losses are looked at, a NaN has spread to all weights. From these, first_non_finite still
    sees where it began.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        assert optimizer.flat is not None, "a Trainer's optimizer has the model's parameters"
        self.flat = optimizer.flat
        self.w: Array = self.flat.w.copy()
        self.good: Array = self.flat.xp.ones((), bool)  # whether all losses so far are finite

    def watch(self, loss: Array) -> None:
        """Before a step: keep the weights, unless an earlier loss was not finite."""
        xp, kernel = self.flat.xp, kernel_for(loss, "keep_if")
        if kernel is None or kernel(self.w, self.flat.w, self.good, loss) is NotImplemented:
            xp.copyto(self.w, self.flat.w, where=self.good)
            self.good &= xp.isfinite(loss)

    def restore(self) -> None:
        """Put these weights back into the model."""
        self.flat.w[...] = self.w


@same_bits
def evaluate(model: Module, examples: Examples, batch_size: int | None = None) -> tuple[float, float]:
    """Mean loss and accuracy (a fraction) of the model on examples it does not learn from. One look at the device.

    batch_size  examples at a time; None: more than in training if they are small, which saves a third of the time
    """
    if batch_size is None:
        batch_size = max(128, PIXELS_AT_A_TIME // max(1, math.prod(examples.images.shape[1:])))
    was_training = model.training
    model.eval()
    xp = xp_of(examples.labels)
    loss_sum = correct = xp.zeros(())
    with no_grad():
        for x, labels in batches(examples.images, examples.labels, batch_size):
            logits = model(x)
            loss_sum = loss_sum + ops.cross_entropy(logits, labels).data.astype(np.float64) * len(labels)
            correct = correct + (logits.data.argmax(1) == labels).sum()
    model.train(was_training)
    mean_loss, accuracy = read_together(xp, [loss_sum / len(examples), correct / len(examples)])
    return mean_loss, accuracy


def read_together(xp: Any, values: list[Any]) -> list[float]:
    """Some single numbers that lie on a device as Python's, with one wait for the device in all."""
    numbers: list[float] = to_numpy(xp.stack(values).astype(np.float64)).tolist()
    return numbers


def first_non_finite(model: Module, x: Tensor) -> str:
    """The first layer, in the order of computation, whose output for x has a NaN or an infinity in it, in words."""
    found: list[str] = []
    layers = [(name, layer) for name, layer in model.named_modules() if not list(layer.named_children())]

    def watch(name: str, layer: Module) -> None:
        forward = type(layer).forward

        def watched(x: Tensor) -> Tensor:
            y = forward(layer, x)
            if not found and not bool(xp_of(y.data).isfinite(y.data).all()):
                found.append(f"layer {name}, {layer!r}")
            return y

        layer.forward = watched  # type: ignore[method-assign]

    for name, layer in layers:
        watch(name, layer)
    try:
        with no_grad():
            model(x)
    finally:
        for _, layer in layers:
            del layer.forward
    return found[0] if found else "the loss"


def _generators(model: Module) -> Iterator[tuple[str, CounterRng]]:
    """The random generators that layers own (dropout's), by path."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, CounterRng):
                yield f"{path}.{name}", value
