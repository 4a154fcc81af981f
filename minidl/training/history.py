"""The position of a run, and its metrics, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, SupportsIndex, overload

from minidl.refuse import Named
from minidl.telling import counted


class History(Named, list[dict[str, Any]]):
    """A list of dictionaries, one for each epoch: epoch, step, train_loss, train_accuracy, val_loss, val_accuracy, lr,
    phase, seconds. Printed, it shows the results of the last one. The dictionaries are copies: add to them freely."""

    __slots__ = ()
    _otherwise = "history['val_loss'] lists a quantity after each epoch, to plot for example"

    def __init__(self, records: Iterable[dict[str, Any]] = ()) -> None:
        super().__init__(map(dict, records))

    def __repr__(self) -> str:
        if not self:
            return "no epoch yet"
        last = self[-1]
        words = [counted(len(self), "epoch"), f"training accuracy {last['train_accuracy']:.4f}"]
        known = [record for record in self if record.get("val_accuracy") is not None]
        if known:
            best = max(known, key=lambda record: record["val_accuracy"])
            words.append(f"validation accuracy {known[-1]['val_accuracy']:.4f}")
            words.append(f"the best {best['val_accuracy']:.4f} after epoch {best['epoch']}")
        return ", ".join(words)

    def of(self, name: str) -> list[Any]:
        """One quantity after each epoch: history.of("val_loss")."""
        for record in self:
            if name not in record:
                raise KeyError(f"an epoch's record has no {name!r}: {', '.join(record)}")
        return [record[name] for record in self]

    @overload  # type: ignore[override]
    def __getitem__(self, which: str) -> list[Any]: ...

    @overload
    def __getitem__(self, which: slice) -> list[dict[str, Any]]: ...

    @overload
    def __getitem__(self, which: SupportsIndex) -> dict[str, Any]: ...

    def __getitem__(self, which: Any) -> Any:
        """The record of one epoch, or of several; with a name, the same as `of`."""
        return self.of(which) if isinstance(which, str) else super().__getitem__(which)


@dataclass
class Position:
    """The position of training; only the Trainer writes it. All of it is saved in a checkpoint, as JSON."""

    epoch: int = 0  # finished epochs
    batch: int = 0  # finished batches of the current epoch
    step: int = 0  # optimizer steps in total
    loss_sum: float = 0.0  # over the examples seen in this epoch
    correct: int = 0
    seen: int = 0
    samples: int = 0  # training examples in total, and the seconds they took, without evaluation
    train_seconds: float = 0.0
    seconds: float = 0.0  # with evaluation
    metrics: list[dict[str, Any]] = field(default_factory=list)  # a record per epoch

    def __post_init__(self) -> None:
        self.metrics = [dict(record) for record in self.metrics]  # its own: a program may change those that it has

    def count_step(self, examples: int, seconds: float) -> None:
        """Count a finished step."""
        self.batch, self.step, self.samples = self.batch + 1, self.step + 1, self.samples + examples
        self.train_seconds, self.seconds = self.train_seconds + seconds, self.seconds + seconds

    def count_epoch(self, record: dict[str, Any]) -> None:
        """Count a finished epoch, with its record."""
        self.epoch, self.batch, self.loss_sum, self.correct, self.seen = self.epoch + 1, 0, 0.0, 0, 0
        self.metrics.append(dict(record))
