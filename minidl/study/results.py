"""The CSV files `results.csv` and `times.csv`: a row per run.

The order of `results.csv` follows from the study, not from which run finished first, and nothing in it depends on a
clock: the same study gives the same file, byte for byte. Times are in `times.csv`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minidl.data.atomic import write_text
from minidl.study.made import device_of, has_pins, unpinned
from minidl.study.regimes import Regime
from minidl.study.store import Record
from minidl.study.study import MAPS, Plan, collapsed

SETTINGS = ("at", "lr", "lr_sgd", "lr_after", "momentum", "factor", "decay", "rtol")


def write_tables(plan: Plan, folder: Path) -> None:
    """Write results.csv and times.csv for all finished runs."""
    done = list(_done(plan))
    _write_csv(folder / "results.csv", [about | row for about, row, _ in done])
    times = ("cpu_seconds", "seconds")
    _write_csv(folder / "times.csv", [about | {name: took[name] for name in times} for about, _, took in done])


def rows(plan: Plan) -> list[dict[str, Any]]:
    """A dict for each finished run, with the columns of results.csv as numbers, for `pandas.DataFrame(rows(plan))`."""
    return [about | row for about, row, _ in _done(plan)]


def _done(plan: Plan) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """For each finished run: which it is, its row without that, and its times."""
    for regime in plan.study.regimes:
        groups = [(c.key, "tuning", plan.known_runs(regime, c)) for c in plan.study.taking_part(regime)]
        for kind in MAPS:
            groups.append((f"map {kind}", "map", [r for runs in plan.map_runs(regime, kind).values() for r in runs]))
        for key, purpose, runs in groups:
            for run in runs:
                if record := plan.store.get(run):
                    about = {"regime": regime.name, "contestant": key, "purpose": "final" if run.final else purpose}
                    yield about | {"seed": run.seed, "run": run.key}, _row(plan, regime, record), record["times"]


def _row(plan: Plan, regime: Regime, record: Record) -> dict[str, Any]:
    recipe, result, made = dict(record["run"]["recipe"]), record["result"], record["made"]
    switch = result["switch"] or {}
    tuned = (axis.name for contestant in plan.study.contestants for axis in contestant.axes)
    row: dict[str, Any] = {key: recipe.get(key) for key in (*SETTINGS, *tuned)}
    row |= {"steps": result["steps"], "diverged": int(result["diverged"] is not None)}
    row |= {
        "collapsed": int(collapsed(record, regime)),
        "switch_step": switch.get("step"),
        "switch_rate": switch.get("lr"),
    }
    for part in ("train", "val", "test"):
        row |= {f"{part}_{what}": result.get(f"{part}_{what}") for what in ("accuracy", "loss")}
    row |= {key: made[key] for key in ("bits", "sources", "commit", "numpy", "fast")}
    row |= {"device": device_of(made)}
    return row | {"pins": "AVX2" if has_pins(made) else unpinned(made["pins"]), "weights": result["weights"]}


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    if rows:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
    write_text(path, text.getvalue())


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
