"""Observers of a Trainer, such as a progress bar, checkpoints, a recording. A Trainer can have several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minidl.backend import Array
from minidl.telling import tell
from minidl.tensor import Tensor


@dataclass
class Step:
    """A training step, as passed to observers. Its content is valid only during the call: copy what you keep.

    number     1 for the first of a run
    x, labels  the batch: a Tensor (N, C, H, W), and an array (N,)
    loss       before the update, a scalar Tensor; None before the step
    logits     (N, classes); they and the weights' gradients are certain only in a step that an observer `wants`
    """

    number: int
    x: Tensor
    labels: Array
    loss: Tensor | None = None
    logits: Tensor | None = None


class Observer:
    """Called at every step and epoch. It may change a batch before its step, and nothing else. It asks to stop training
    by returning True.

    A subclass overrides the methods that it needs.
    """

    def __init_subclass__(cls, **named: Any) -> None:
        """Warn about a method named like Keras's on_epoch_end or fastai's before_fit, unless another method of the
        class calls it: the Trainer would not."""
        super().__init_subclass__(**named)
        methods = {name: method.__code__ for name, method in vars(cls).items() if hasattr(method, "__code__")}
        for name in methods:
            used = any(name in code.co_names for other, code in methods.items() if other != name)
            if name.startswith(("on_", "before_", "after_")) and not used and not hasattr(super(cls, cls), name):
                tell(f"a Trainer never calls {cls.__name__}.{name}: an observer has before_epoch(self), before_step("
                     "self, step), after_step(self, step), after_epoch(self, record) and close(self)")  # fmt: skip

    def wants(self, step: int) -> bool:
        """Whether this step must be computed operation by operation; on a GPU, other steps may run as one graph."""
        return False

    def before_epoch(self) -> None:
        """An epoch begins, or continues in a resumed run."""

    def before_step(self, step: Step) -> None:
        """A step begins. It uses step.x and step.labels as they are after this call, such as an augmented batch.

        What an observer keeps is not saved with a run. So draw random changes from a generator of this step, such as
        np.random.default_rng([0, step.number]): then a resumed run draws the same ones.
        """

    def after_step(self, step: Step) -> bool | None:
        """The step is done and counted."""

    def after_epoch(self, record: dict[str, Any]) -> bool | None:
        """The epoch is over; `record` is a copy of its line in metrics.jsonl."""

    def close(self) -> None:
        """Training has ended, normally or by an error."""


def after_step(observer: Observer, step: Step) -> bool:
    """Call an observer's after_step; returns whether it asks to stop."""
    return _asks(observer, "after_step", observer.after_step(step))


def after_epoch(observer: Observer, record: dict[str, Any]) -> bool:
    """Call an observer's after_epoch with a copy of the record; returns whether it asks to stop."""
    shown = dict(record)
    answer = observer.after_epoch(shown)
    same = [name for name in record if name in shown and shown[name] is record[name]]
    if changed := [str(name) for name in record | shown if name not in same]:
        tell(f"{type(observer).__name__}.after_epoch changed {changed} in its copy of the record, not in the metrics: "
             "keep your own values in the observer, as in self.values.append(value)")  # fmt: skip
    return _asks(observer, "after_epoch", answer)


def _asks(observer: Observer, method: str, answer: Any) -> bool:
    """Whether the answer is True. TypeError for another type, such as a loss or a record returned by habit."""
    if answer is None or isinstance(answer, bool) or (type(answer) is int and answer == 0):  # `waited and waited > 3`
        return bool(answer)
    if str(getattr(answer, "dtype", "")) == "bool" and answer.size == 1:  # a NumPy comparison
        return bool(answer)
    raise TypeError(
        f"{type(observer).__name__}.{method} returned a value of type {type(answer).__name__}: return True to stop the "
        "Trainer, False or nothing to continue"
    )
