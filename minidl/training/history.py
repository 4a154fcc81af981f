"""The record of a run, epoch by epoch."""

from __future__ import annotations

from typing import Any


class History(list[dict[str, Any]]):
    """A list of dictionaries, one for each epoch: epoch, step, train_loss, train_accuracy, val_loss, val_accuracy, lr,
    phase, seconds. Printed, it says how the last one ended."""

    def __repr__(self) -> str:
        if not self:
            return "no epoch yet"
        last = self[-1]
        words = [f"{len(self)} epoch{'s' * (len(self) != 1)}", f"training accuracy {last['train_accuracy']:.4f}"]
        known = [record for record in self if record.get("val_accuracy") is not None]
        if known:
            best = max(known, key=lambda record: record["val_accuracy"])
            words.append(f"validation accuracy {known[-1]['val_accuracy']:.4f}")
            words.append(f"the best {best['val_accuracy']:.4f} after epoch {best['epoch']}")
        return ", ".join(words)

    def of(self, name: str) -> list[Any]:
        """One quantity after each epoch: history.of("val_loss")."""
        return [record[name] for record in self]
