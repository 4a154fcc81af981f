"""Results on disk: a file per run, written whole or not at all and named by the run's hash, and packs of many runs.

So an interrupted study continues where it stopped, an edited one makes only the new runs, and two studies with runs in
common can share a folder. A pack is one compressed file with a line per run, small enough to be kept with the project:
put in a study's folder, it lets another machine continue. Every record is verified (data/proof.py): its checksum must
match, and the run that it describes must have the hash it is named by. A record that fails counts as missing, and its
run is made again.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from minidl.data.atomic import atomic_file, sweep_parts, write_text
from minidl.data.proof import Damaged, proven, read_json, signed
from minidl.data.schema import anything, listed, mapping, maybe, real, table, text, whole
from minidl.study.runs import Trial, own_code, trial_of

Record = dict[str, Any]  # what runs.perform returns
PACK = "runs.jsonl.gz"
LONGEST, MOST_DAMAGED = 1 << 24, 10_000  # characters in a line of it, and damaged lines, before reading stops
LARGEST = {"train_images": 10**8, "val_images": 10**8, "epochs": 10**5, "batch_size": 10**7, "looks": 10**5}
MOST_STEPS = 10**8

_LOSS = real(0)
_SHARE = real(0, 1)
_LOOK = table({"step": whole(1), "val_accuracy": _SHARE, "val_loss": _LOSS, "train_loss": real(), "lr": real(0)})
_RESULT = table(
    {
        "steps": whole(), "diverged": maybe(text()), "switch": maybe(table({"step": whole(), "lr": real()})),
        "val_accuracy": _SHARE, "val_loss": _LOSS, "weights": text(16), "curve": listed(_LOOK, longest=10_000),
    },
    optional={"train_accuracy": _SHARE, "train_loss": _LOSS, "test_accuracy": _SHARE, "test_loss": _LOSS},
)  # fmt: skip
_TIMES = table({"cpu_seconds": real(), "seconds": real(0), "curve": listed(real())})
_MADE = table(
    {"bits": whole(), "minidl": text(40), "sources": text(64), "commit": maybe(text(64)), "numpy": text(40)}
    | {"fast": maybe(text(40)), "python": text(40), "machine": text(200), "pins": mapping(text())},
    optional={"device": mapping(text())},
)
KINDS = {"run": anything, "result": _RESULT, "times": _TIMES, "made": _MADE}


class Store:
    """The folder of a study: `runs/` with the results, `crashed/` with the errors of runs that failed.

    damaged  a line for each rejected record, with the reason
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs, self.crashed = folder, folder / "runs", folder / "crashed"
        self.damaged: list[str] = []
        self._records: dict[str, Record] = {}
        for path in (self.runs, self.crashed):
            if path.is_dir():  # reading creates no folders
                sweep_parts(path)  # left by studies that were killed; a recent one may be another process's
        if (folder / PACK).exists() and not (folder / PACK).is_file():
            self.damaged.append(f"{folder / PACK} is not a regular file")
        elif (folder / PACK).exists():
            self._records.update(read_pack(folder / PACK, self.damaged))
        for file in sorted(self.runs.glob("[!.]*.json")):  # ._X.json is macOS's note on X.json
            if file.is_dir():
                raise ValueError(f"{file} is not a regular file: remove it, a run is to be stored there")
            try:
                self._records[file.stem] = checked(read_json(file), str(file), file.stem)
            except Damaged as error:
                self.damaged.append(str(error))

    def get(self, run: Trial) -> Record | None:
        """The record of a run; None if it has not been made."""
        return self._records.get(run.key)

    def all(self) -> dict[str, Record]:
        """All records, by key."""
        return dict(self._records)

    def put(self, run: Trial, record: Record) -> None:
        """Store the result of a run."""
        line = _text(signed(record))
        self.runs.mkdir(parents=True, exist_ok=True)
        write_text(self.runs / f"{run.key}.json", line)
        self._records[run.key] = checked(json.loads(line), run.key, run.key)  # as it will be read back
        (self.crashed / f"{run.key}.json").unlink(missing_ok=True)

    def pack(self, folder: Path | None = None) -> Path:
        """Write all records to the pack of a folder (default: this one; `runs/` is then no longer needed)."""
        path = (folder or self.folder) / PACK
        with atomic_file(path) as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as compressed:
            for _, record in sorted(self._records.items()):
                compressed.write(_text(signed(record)).encode())
        return path

    def put_error(self, run: Trial, error: str) -> None:
        """Record that a run failed, and its error."""
        self.crashed.mkdir(parents=True, exist_ok=True)
        write_text(self.crashed / f"{run.key}.json", _text({"run": asdict(run), "error": error}))

    def failed(self) -> set[str]:
        """The keys of the runs that failed at their last attempt."""
        return {file.stem for file in self.crashed.glob("[!.]*.json")} - self._records.keys()

    def error(self, run: Trial) -> str | None:
        """The error of a run's last attempt; None if it did not fail."""
        file = self.crashed / f"{run.key}.json"
        try:
            return str(read_json(file)["error"])
        except (Damaged, KeyError, TypeError):
            return "its error record is damaged" if file.exists() else None  # another process may have removed it


def checked(content: Any, where: str, key: str | None = None) -> Record:
    """A record that was read from `where`. Raises Damaged unless it is valid and, with a key, of that run."""
    record = proven(content, where, KINDS)
    try:
        run = trial_of(record["run"])
        _check_run(run, record["result"])
        found = run.key
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{where} does not fit this version of minidl: {error}") from None
    if key is not None and found != key:
        raise Damaged(f"{where} is misplaced: it describes run {found}")
    return record


def _check_run(run: Trial, result: dict[str, Any]) -> None:
    """Raise ValueError for what no study produces: absurd sizes, code without its hash, incomplete results."""
    for name, most in LARGEST.items():
        value = getattr(run, name)
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{name} is {str(value)[:20]}, more than {most:,} or not a whole number above 0")
    if run.epochs * run.train_images > MOST_STEPS * run.batch_size:
        raise ValueError(f"it would take more than {MOST_STEPS:,} steps")
    if set(own_code(run.network, dict(run.recipe))) != {text for text, _ in run.code}:
        raise ValueError("it names a user's file without its hash")
    if run.final and "test_accuracy" not in result:
        raise ValueError("a final run has no test accuracy")
    if result["diverged"] is None and not result["curve"]:
        raise ValueError("a completed run has no curve")


def read_pack(path: Path, damaged: list[str]) -> list[tuple[str, Record]]:
    """(key, record) of each valid line of a pack; a message for each of the others is added to `damaged`."""
    records = []
    if not path.stat().st_size:  # gzip would find no lines in it, and no error
        damaged.append(f"{path} is damaged: it is empty")
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(iter(partial(lines.readline, LONGEST), ""), 1):
                where = f"{path}, line {number}"
                if len(line) == LONGEST or len(damaged) > MOST_DAMAGED:
                    damaged.append(f"{where} is damaged, or one damaged line too many: nothing after it is read")
                    break
                try:
                    record = checked(json.loads(line), where)
                except (ValueError, RecursionError) as error:  # Damaged is a ValueError too
                    damaged.append(str(error) if isinstance(error, Damaged) else f"{where} is damaged: {error}")
                else:
                    records.append((trial_of(record["run"]).key, record))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        damaged.append(f"{path} is damaged: {error}")
    return records


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":")) + "\n"
