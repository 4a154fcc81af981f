"""Where a run may be written: to a folder that has neither a run nor a file that would be in the way."""

from __future__ import annotations

import os
from pathlib import Path

from minidl.telling import typed
from minidl.training.results import CHECKPOINT

FILES = (CHECKPOINT, "config.json", "metrics.jsonl", "summary.json", "curves.png")
REPORT = "report.html"  # with --report


def check_unused(folder: Path) -> None:
    """Raise ValueError if a run can't be written to `folder` without touching files that are there."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file: give a folder")
    there = [name for name in (*FILES, REPORT) if os.path.lexists(folder / name)]
    if {"config.json", CHECKPOINT} & set(there):
        raise ValueError(
            f"--out {folder} already holds a run: choose another folder, or resume it with "
            f"--resume {typed(str(folder))}"
        )
    if there:
        raise ValueError(f"{folder} holds a {there[0]} but no run: choose another folder, or remove the file")


def make_new(folder: Path) -> Path:
    """Make a folder of this name, with -2, -3, ... appended if other runs started in the same second."""
    numbered, n = folder, 1
    while True:
        try:
            numbered.mkdir(parents=True)
            return numbered
        except FileExistsError:
            if not numbered.exists():  # on Windows: the folder above is a file
                raise
            n += 1
            numbered = folder.with_name(f"{folder.name}-{n}")
