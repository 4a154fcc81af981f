"""Where a run may be written: to a folder that holds none yet, nor a file that would be in its way."""

from __future__ import annotations

import os
from pathlib import Path

from minidl.telling import typed
from minidl.training.results import CHECKPOINT

FILES = (CHECKPOINT, "config.json", "metrics.jsonl", "summary.json", "curves.png")
REPORT = "report.html"  # and this, where it is asked for


def check_unused(folder: Path) -> None:
    """Raise ValueError where a run could not be written to `folder` without touching another's files."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file: give a folder")
    there = [name for name in (*FILES, REPORT) if os.path.lexists(folder / name)]
    if {"config.json", CHECKPOINT} & set(there):
        raise ValueError(
            f"--out {folder} holds a run already: choose another folder, or go on with --resume {typed(str(folder))}"
        )
    if there:
        raise ValueError(f"{folder} holds a {there[0]} that is of no run: choose another folder, or remove it")


def make_new(folder: Path) -> Path:
    """Make a folder of this name, or with -2, -3, ... after it where others began a run in the same second."""
    numbered, n = folder, 1
    while True:
        try:
            numbered.mkdir(parents=True)
            return numbered
        except FileExistsError:
            n += 1
            numbered = folder.with_name(f"{folder.name}-{n}")
