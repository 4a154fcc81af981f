"""A file with a search's results so far, so that a stopped search can resume: the same command finds the file again.

The file's name contains a hash of everything that determines the results, and its content a checksum (data/proof.py).
A damaged file is reported and replaced, but never one that the user has named.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from minidl.data import Dataset
from minidl.data.proof import Damaged, checksum, read_signed, write_signed
from minidl.data.schema import listed, mapping, maybe, real, table, text, whole
from minidl.training.config import Config
from minidl.training.own_file import of_file
from minidl.training.results import decides
from minidl.training.run import BITS

Key = tuple[tuple[str, float | None], ...]
_TRIED = table(
    {"setting": mapping(maybe(real())), "epochs": whole(1), "val_accuracy": real(0, 1), "val_loss": maybe(real())}
)
KINDS = {"search": text(64), "tried": listed(_TRIED)}


def search_id(base: Config, dataset: Dataset, epochs: int, fast: str | None) -> str:
    """A hash of everything that determines a search's results."""
    others = {"data": dataset.sha256, "epochs": epochs, "bits": BITS, "fast": fast}
    return checksum(decides(base) | others)[:16]


def default_file(base: Config, dataset: Dataset, search: str) -> Path:
    """The default file of a search, next to the runs."""
    model = of_file(base.model).replace(":", "-")
    return Path("runs") / f"tune-{model}-{Path(dataset.name).name}-{search[:8]}.json"


class Tried:
    """The finished results of a search, by setting and number of epochs.

    named  whether the user has named the file
    note   a warning if the existing file was damaged, or None

    Raises OSError if the file can't be written, and Damaged for a named file that does not hold this search.
    """

    def __init__(self, file: Path, search: str, named: bool = False) -> None:
        self.file, self.search = file, search
        self.note: str | None = None
        self._done: dict[tuple[Key, int], tuple[float, float]] = {}
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            try:
                content = read_signed(file, KINDS)
                if content["search"] != search:
                    raise Damaged(f"{file} is of another search, with other options, data or versions")
                self._take(content)
            except Damaged as error:
                if named:
                    raise Damaged(f"{error}. It is not overwritten: remove it, or give another --out") from None
                self.note = f"{error}: the search starts again"
        self._write()

    def __len__(self) -> int:
        return len(self._done)

    def get(self, setting: Mapping[str, float | None], epochs: int) -> tuple[float, float] | None:
        """(validation accuracy, validation loss) of a setting after this many epochs; None if it was not tried yet."""
        return self._done.get((_key(setting), epochs))

    def put(self, setting: Mapping[str, float | None], epochs: int, val_accuracy: float, val_loss: float) -> None:
        """Save a result, together with those that another process has saved since."""
        with suppress(Damaged):
            self._take(read_signed(self.file, KINDS, search=self.search))
        self._done[_key(setting), epochs] = val_accuracy, val_loss
        self._write()

    def _take(self, content: dict[str, Any]) -> None:
        for each in content["tried"]:
            loss = float("inf") if each["val_loss"] is None else each["val_loss"]
            self._done[_key(each["setting"]), each["epochs"]] = each["val_accuracy"], loss

    def _write(self) -> None:
        tried = [
            {
                "setting": dict(key),
                "epochs": epochs,
                "val_accuracy": accuracy,
                "val_loss": loss if loss < 1e300 else None,
            }
            for (key, epochs), (accuracy, loss) in self._done.items()
        ]
        write_signed(self.file, {"search": self.search, "tried": tried})


def _key(setting: Mapping[str, float | None]) -> Key:
    return tuple(sorted(setting.items()))
