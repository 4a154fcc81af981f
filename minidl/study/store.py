"""Results on disk: a file per run, named by the run's hash, which appears whole or not at all.

So an interrupted study goes on where it stopped, an edited one makes only the runs that are new, and two studies that
have runs in common can share a folder.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minidl.data.atomic import sweep_parts, write_text
from minidl.study.runs import Trial

Record = dict[str, Any]  # what runs.perform returns


class Store:
    """The folder of a study: `runs/` with the results, `crashed/` with the errors of runs that failed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs, self.crashed = folder, folder / "runs", folder / "crashed"
        for path in (self.runs, self.crashed):
            path.mkdir(parents=True, exist_ok=True)
            sweep_parts(path)  # left by studies that were killed; a young one may be another process's
        self._records: dict[str, Record] = {}
        self.damaged = 0
        for file in self.runs.glob("*.json"):
            self._read(file)

    def _read(self, file: Path) -> None:
        try:
            record = json.loads(file.read_text())
            if set(record) != {"run", "result", "times", "made"}:
                raise ValueError("not a record")
        except ValueError:  # a damaged file counts as missing: the run is made again, and replaces it
            self.damaged += 1
        else:
            self._records[file.stem] = record

    def get(self, run: Trial) -> Record | None:
        return self._records.get(run.key)

    def put(self, run: Trial, record: Record) -> None:
        """Keep the result of a run."""
        text = _text(record)
        write_text(self.runs / f"{run.key}.json", text)
        self._records[run.key] = json.loads(text)  # as it will be read back: tuples are lists, and so on
        (self.crashed / f"{run.key}.json").unlink(missing_ok=True)

    def put_error(self, run: Trial, error: str) -> None:
        """Note that a run failed, and how."""
        write_text(self.crashed / f"{run.key}.json", _text({"run": asdict(run), "error": error}))

    def error(self, run: Trial) -> str | None:
        """How a run failed when it was last tried; None if it did not."""
        try:
            return str(json.loads((self.crashed / f"{run.key}.json").read_text())["error"])
        except FileNotFoundError:
            return None


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False) + "\n"
