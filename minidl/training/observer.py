"""Observers of a Trainer: a progress bar, checkpoints, a recording; several at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minidl.backend import Array
from minidl.telling import tell
from minidl.tensor import Tensor


@dataclass
class Step:
    """A training step as observers are given it. What it holds is valid during the call only: copy what you keep.

    number     1 for the first of a run
    x, labels  the batch: a Tensor (N, C, H, W), and an array (N,)
    loss       before the update, a Tensor of one number; None before the step
    logits     (N, classes), for a step that an observer wants whole; the gradients of the weights are there then too
    """

    number: int
    x: Tensor
    labels: Array
    loss: Tensor | None = None
    logits: Tensor | None = None


class Observer:
    """Called at every step and epoch. It changes nothing but a batch before its step, and may ask to stop by returning
    True.

    A subclass writes the methods that it needs.
    """

    def __init_subclass__(cls, **named: Any) -> None:
        """A warning of a method that is called like Keras's on_epoch_end or fastai's before_fit, where no other method
        of the class calls it: nobody else would."""
        super().__init_subclass__(**named)
        methods = {name: method.__code__ for name, method in vars(cls).items() if hasattr(method, "__code__")}
        for name in methods:
            used = any(name in code.co_names for other, code in methods.items() if other != name)
            if name.startswith(("on_", "before_", "after_")) and not used and not hasattr(super(cls, cls), name):
                tell(f"a Trainer never calls {cls.__name__}.{name}: an observer has before_epoch(self), before_step("
                     "self, step), after_step(self, step), after_epoch(self, record) and close(self)")  # fmt: skip

    def wants(self, step: int) -> bool:
        """Whether this step is to be computed operation by operation; on a GPU the others may run in one piece."""
        return False

    def before_epoch(self) -> None:
        """An epoch begins, or continues in a resumed run."""

    def before_step(self, step: Step) -> None:
        """The step is about to be taken, on what step.x and step.labels are then, such as an augmented batch."""

    def after_step(self, step: Step) -> bool | None:
        """The step is taken and counted."""

    def after_epoch(self, record: dict[str, Any]) -> bool | None:
        """The epoch is over; `record` is a copy of its line of metrics.jsonl."""

    def close(self) -> None:
        """Training is over, at its end or by an error."""


def after_step(observer: Observer, step: Step) -> bool:
    """Tell an observer of a step. Whether it asks to stop."""
    return _asks(observer, "after_step", observer.after_step(step))


def after_epoch(observer: Observer, record: dict[str, Any]) -> bool:
    """Tell an observer of an epoch, by a copy of its record. Whether it asks to stop."""
    shown = dict(record)
    answer = observer.after_epoch(shown)
    same = [name for name in record if name in shown and shown[name] is record[name]]
    if changed := [str(name) for name in record | shown if name not in same]:
        tell(f"{type(observer).__name__}.after_epoch changed {changed} in its copy of the record, which the metrics do "
             "not show: keep values of your own in the observer, as in self.values.append(value)")  # fmt: skip
    return _asks(observer, "after_epoch", answer)


def _asks(observer: Observer, method: str, answer: Any) -> bool:
    """Whether the answer is True. A loss or a record that a method returns by habit is no wish to stop."""
    if answer is None or isinstance(answer, bool) or (type(answer) is int and answer == 0):  # `waited and waited > 3`
        return bool(answer)
    if str(getattr(answer, "dtype", "")) == "bool" and answer.size == 1:  # a comparison of NumPy's
        return bool(answer)
    raise TypeError(
        f"{type(observer).__name__}.{method} returned a value of type {type(answer).__name__}: True asks the Trainer "
        "to stop, False or nothing lets it go on"
    )
