"""What came out: the measures of each final run, and the tables `results.csv` and `times.csv`.

`results.csv` has a row per run, in an order that follows from the study and not from who was done first, and nothing
that a clock decides: the same study gives the same file, byte for byte. What the clock says is in `times.csv`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidl.data.atomic import write_text
from minidl.study.contestants import Contestant
from minidl.study.regimes import Regime
from minidl.study.statistics import area_under
from minidl.study.store import Record
from minidl.study.study import Plan

SETTINGS = ("lr", "lr_sgd", "lr_after", "factor", "at")
LEVELS = 4  # columns for times to levels


@dataclass(frozen=True)
class Result:
    """A final run, measured.

    reached  for each level of the regime: (step, CPU seconds) of the first look that found it, None if none did
    last     (step, CPU seconds) of the last look
    """

    seed: int
    record: Record
    measures: dict[str, float]
    reached: list[tuple[int, float] | None]
    last: tuple[int, float]

    @property
    def diverged(self) -> bool:
        return self.record["result"]["diverged"] is not None

    @property
    def switch(self) -> dict[str, Any] | None:
        """Step and rate of the switch or cut."""
        return self.record["result"]["switch"]


def measure(record: Record, regime: Regime) -> Result:
    """The measures of a final run."""
    result, times = record["result"], record["times"]
    steps = [look["step"] for look in result["curve"]]
    accuracies = [look["val_accuracy"] for look in result["curve"]]
    clock = times["curve"]
    reached: list[tuple[int, float] | None] = []
    for level in regime.levels:
        first = next((i for i, accuracy in enumerate(accuracies) if accuracy >= level), None)
        reached.append(None if first is None else (steps[first], clock[first]))
    measures = {name: result[name] for name in ("test_accuracy", "test_loss", "train_accuracy", "val_accuracy")}
    measures["gap"] = result["train_accuracy"] - result["test_accuracy"]
    measures["val_gap"] = result["train_accuracy"] - result["val_accuracy"]
    measures["area"] = area_under(steps, accuracies)
    measures["cpu_seconds"] = times["cpu_seconds"]
    last = (steps[-1], clock[-1]) if steps else (result["steps"], times["cpu_seconds"])
    return Result(record["run"]["seed"], record, measures, reached, last)


def final_results(plan: Plan, regime: Regime, contestant: Contestant) -> list[Result]:
    """The final runs of a contestant that are done, by seed."""
    runs = plan.final_runs(regime, contestant, plan.tuned(regime, contestant))
    return [measure(record, regime) for record in plan.records(runs)]


# ---- the tables ----


def write_tables(plan: Plan, folder: Path) -> None:
    """Write results.csv and times.csv for all runs that are done."""
    rows = list(_rows(plan))
    times = [
        {**{k: row[k] for k in ("regime", "contestant", "purpose", "seed", "run")}, **clock} for row, clock in rows
    ]
    _write_csv(folder / "results.csv", [row for row, _ in rows])
    _write_csv(folder / "times.csv", times)


def _rows(plan: Plan) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for regime in plan.study.regimes:
        for contestant in plan.study.contestants:
            for run in plan.known_runs(regime, contestant):
                record = plan.store.get(run)
                if record is not None:
                    yield _row(regime, contestant, run.key, record), _clock(regime, record)


def _row(regime: Regime, contestant: Contestant, key: str, record: Record) -> dict[str, Any]:
    run, result = record["run"], record["result"]
    recipe, switch, final = dict(run["recipe"]), result["switch"] or {}, run["final"]
    row: dict[str, Any] = {
        "regime": regime.name,
        "contestant": contestant.key,
        "purpose": "final" if final else "tuning",
    }
    row |= {"seed": run["seed"], "run": key, **{name: recipe.get(name) for name in SETTINGS}}
    row |= {"steps": result["steps"], "diverged": int(result["diverged"] is not None)}
    row |= {"switch_step": switch.get("step"), "switch_rate": switch.get("lr")}
    for part in ("train", "val", "test"):
        row |= {f"{part}_{what}": result.get(f"{part}_{what}") for what in ("accuracy", "loss")}
    measured = measure(record, regime) if final else None
    row |= {name: measured.measures[name] if measured else None for name in ("gap", "area")}
    for i in range(LEVELS):
        reached = measured.reached[i] if measured and i < len(measured.reached) else None
        row |= {f"level_{i + 1}": regime.levels[i] if i < len(regime.levels) else None}
        row |= {f"steps_to_level_{i + 1}": reached and reached[0]}
    return row


def _clock(regime: Regime, record: Record) -> dict[str, Any]:
    clock: dict[str, Any] = {"cpu_seconds": record["times"]["cpu_seconds"], "seconds": record["times"]["seconds"]}
    reached = measure(record, regime).reached if record["run"]["final"] else []
    for i in range(LEVELS):
        at = reached[i] if i < len(reached) else None
        clock[f"cpu_seconds_to_level_{i + 1}"] = at and at[1]
    return clock


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
