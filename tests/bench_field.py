"""The networks of tests/field.py compared with PyTorch: `python -m tests.bench --field`.

Each trains with Adam at the batch size of its source. A line shows the time of a step in each column, and how much
faster minidl is than PyTorch's best mode on this network. The last lines summarize all networks.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from tests.bench_cases import Case, means, median_and_range
from tests.bench_turns import TORCH, Setting, best_torch, compare, ratios
from tests.field import BY_NAME

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


def kept(file: Path | None, record: dict[str, Any], todo: list[Case], columns: list[str]) -> list[dict[str, Any]]:
    """The results in the file for other networks, if measured on this processor, with these columns."""
    if file is None or not file.exists():
        return []
    found = json.loads(file.read_text())
    same = all(found.get(key) == record.get(key) for key in ("processor", "kernels", "avx2"))
    if not same or any(set(result["ms"]) - set(columns) for result in found["results"]):
        raise SystemExit(f"{file}: was measured on another processor or with other columns; choose another --json")
    now = {(case.network.name, case.batch) for case in todo}
    return [result for result in found["results"] if (result["network"], result["batch"]) not in now]


def speeds_of(result: dict[str, Any]) -> dict[str, list[float]]:
    """Samples per second, round by round, from the file's milliseconds."""
    return {column: [result["batch"] / ms * 1e3 for ms in values] for column, values in result["ms"].items()}


def field(todo: list[Case], setting: Setting, record: dict[str, Any], file: Path | None) -> None:
    """Print the table, and write every round's milliseconds to the file, line by line.

    An existing file is continued: its networks come first in the table, and count in the means.
    """
    columns = list(setting.columns)
    results = kept(file, record, todo, columns)
    found = []
    print(heading(columns), flush=True)
    for result in results:
        case, speeds = Case(BY_NAME[result["network"]], result["batch"], result["classes"]), speeds_of(result)
        print(line(case, speeds, columns), flush=True)
        found.append((case, over(speeds)))
    for case in todo:
        speeds = compare(setting, f"field:{case.network.name}", "adam", case.batch)
        print(line(case, speeds, columns), flush=True)
        found.append((case, over(speeds)))
        ms = {column: [case.batch / speed * 1e3 for speed in values] for column, values in speeds.items()}
        results.append({"network": case.network.name, "batch": case.batch, "classes": case.classes, "ms": ms})
        if file:
            file.write_text(json.dumps({**record, "results": results}, indent=1) + "\n")
    print("", *means(found), sep="\n")
