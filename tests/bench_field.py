"""The networks of tests/field.py, beside PyTorch: `python -m tests.bench --field`.

Each trains with Adam at the batch that its source names. A line says what a step takes in each column, and how much
faster minidl is than PyTorch's best mode on this network. The last lines are for all networks together.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from tests.bench_cases import Case, means, median_and_range
from tests.bench_turns import TORCH, Setting, best_torch, compare, ratios

BEST = "PyTorch's best / minidl"
WIDTH = 26


def over(speeds: dict[str, list[float]]) -> dict[str, list[float]]:
    """How much faster minidl is, round by round: than PyTorch's best mode, and than each other column."""
    if "minidl" not in speeds:
        return {}
    best = best_torch(speeds)
    found = {BEST: ratios(speeds, best)} if best else {}
    peers = [column for column in speeds if column != "minidl" and column not in TORCH]
    return found | {f"{column} / minidl": ratios(speeds, column) for column in peers}


def compared(columns: list[str]) -> list[str]:
    """The ratios of a table with these columns."""
    peers = [f"{column} / minidl" for column in columns if column != "minidl" and column not in TORCH]
    return [BEST] * any(column in TORCH for column in columns) + peers


def heading(columns: list[str]) -> str:
    cells = "".join(f"{column:>15}" for column in columns) + "".join(f"{name:>{WIDTH}}" for name in compared(columns))
    return f"{'ms a step (median)':20}{'batch':>6}{cells}"


def line(case: Case, speeds: dict[str, list[float]], columns: list[str]) -> str:
    times = {column: case.batch / statistics.median(values) * 1e3 for column, values in speeds.items()}
    cells = "".join(f"{times[column]:15.3f}" if column in times else f"{'-':>15}" for column in columns)
    found = over(speeds)
    for name in compared(columns):
        cells += f"{median_and_range(found[name]) if name in found else '-':>{WIDTH}}"
    return f"{case.network.name:20}{case.batch:>6}{cells}"


def field(todo: list[Case], setting: Setting, record: dict[str, Any], file: Path | None) -> None:
    """Print the table, and write every round's milliseconds to the file, line by line."""
    columns = list(setting.columns)
    results: list[dict[str, Any]] = []
    found = []
    print(heading(columns), flush=True)
    for case in todo:
        speeds = compare(setting, f"field:{case.network.name}", "adam", case.batch)
        print(line(case, speeds, columns), flush=True)
        found.append((case, over(speeds)))
        ms = {column: [case.batch / speed * 1e3 for speed in values] for column, values in speeds.items()}
        results.append({"network": case.network.name, "batch": case.batch, "classes": case.classes, "ms": ms})
        if file:
            file.write_text(json.dumps({**record, "results": results}, indent=1) + "\n")
    print("", *means(found), sep="\n")
