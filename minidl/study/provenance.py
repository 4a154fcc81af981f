"""Where the numbers come from: versions, machines, commands, seeds and the data set's hash."""

from __future__ import annotations

import json
import os
import platform
import shlex
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from minidl.data.atomic import write_text
from minidl.data.proof import Damaged, read_json
from minidl.study.store import PACK
from minidl.study.study import Plan

FILE = "commands.json"
WRITTEN = ("report.html", "table.md", "results.csv", "times.csv", "figures")  # by the report, in the study's folder


def is_study(folder: Path) -> bool:
    """Whether a study was started there."""
    return any((folder / name).exists() for name in (FILE, PACK, "runs"))


def note_command(folder: Path, words: list[str]) -> None:
    """Add a command to the list of those run on the study in this folder."""
    commands = read_commands(folder)
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    commands.append({"command": f"python -m minidl.study {shlex.join(words)}".strip(), "started": now, **machine()})
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / FILE, json.dumps(commands, indent=2) + "\n")


def read_commands(folder: Path) -> list[dict[str, Any]]:
    """The commands so far; none if the list is missing or damaged."""
    try:
        commands = read_json(folder / FILE)
    except Damaged:
        return []
    known = commands if isinstance(commands, list) else []
    return [each for each in known if isinstance(each, dict) and isinstance(each.get("command"), str)]


def begun_with(folder: Path) -> str | None:
    """The --with file of the last command here; None if it had none."""
    words = shlex.split(str((read_commands(folder) or [{}])[-1].get("command", "")))
    return next((b for a, b in pairwise(words) if a == "--with"), None)


def machine() -> dict[str, Any]:
    """This machine, in a few words."""
    return {"machine": f"{platform.system()} {platform.machine()}, {_processor()}", "cores": os.cpu_count()}


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Its name. Linux has no names for ARM64 processors, only numbers of the maker and the kind."""
    try:
        lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
    except OSError:  # not Linux
        lines = []
    about = {name.strip(): value.strip() for name, _, value in lines}
    numbers = [f"{name} {about[name]}" for name in ("CPU implementer", "CPU part") if name in about]
    return about.get("model name") or ", ".join(numbers) or platform.processor() or "unknown processor"


def provenance(plan: Plan) -> dict[str, Any]:
    """Everything the report says about where its numbers come from."""
    known = {run.key: plan.store.get(run) for _, run in plan.wanted()}
    records = {key: record for key, record in known.items() if record}
    made = Counter(json.dumps(record["made"], sort_keys=True) for record in records.values())
    return {
        "commands": read_commands(plan.store.folder),
        "environments": [(json.loads(text), count) for text, count in made.most_common()],
        "runs": len(records),
        "missing": len(known) - len(records),
        "cpu_hours": sum(record["times"]["cpu_seconds"] for record in records.values()) / 3600,
        "seeds": plan.study.seeds,
        "tuning_seeds": plan.study.tuning_seeds,
        "dataset": plan.dataset.name,
        "images": len(plan.dataset.train_labels),
        "test_images": len(plan.dataset.test_labels),
        "sha256": plan.dataset.sha256,
    }
