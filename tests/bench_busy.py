"""A step under contention with other programs: `python -m tests.bench --busy`.

minidl with its default threads, minidl with one thread and PyTorch with its default take turns, first alone and then
next to two busy processes per core, so that all face the same load. Alone, the default should lose no speed; under load
it should take at most 1.3 times as long as one thread does at that moment.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench_cases import median_and_range
from tests.bench_turns import Setting, Worker, measure, started

LIMIT = 1.3
COLUMNS = ("minidl", "minidl-one", "torch-fused")
BUSY = {  # what the other programs run forever
    "python": "while True: pass",
    "products": "import numpy as np\na = np.ones((512, 512), 'f4')\nwhile True: a @ a",
}


@contextmanager
def busy_processes(work: str, count: int) -> Iterator[None]:
    """This many processes that never idle, each with one thread."""
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    others = [subprocess.Popen([sys.executable, "-c", BUSY[work]], env=env) for _ in range(count)]
    try:
        yield
    finally:
        for process in others:
            process.kill()
            process.wait()


def both(setting: Setting, model: str, batch: int, work: str) -> dict[str, dict[str, list[float]]]:
    """Milliseconds per step of every column, alone and busy, round by round."""
    found: dict[str, dict[str, list[float]]] = {"alone": defaultdict(list), "busy": defaultdict(list)}

    def add(when: str, workers: list[Worker], **more: Any) -> None:
        speeds = measure(workers, model, "adam", batch, setting.rounds, setting.turn, **more)
        for column, values in speeds.items():
            found[when][column] += [batch / speed * 1e3 for speed in values]

    for _ in range(setting.restarts):
        with started(setting) as workers:
            add("alone", workers, patience=setting.patience)
            with busy_processes(work, 2 * (os.cpu_count() or 1)):
                add("busy", workers, busy=True)
    return found


def lines(model: str, found: dict[str, dict[str, list[float]]]) -> list[str]:
    """Two lines: alone and busy; medians, and ratios round by round."""
    text = []
    for when, ms in found.items():
        cells = "".join(f"{statistics.median(ms[c]):12.3f}" if c in ms else f"{'-':>12}" for c in (*COLUMNS, "before"))
        for other in ("minidl-one", "before"):
            over = [ours / theirs for ours, theirs in zip(ms["minidl"], ms.get(other, []), strict=False)]
            cells += f"{median_and_range(over) if over else '-':>24}"
        text.append(f"{model:15} {when:6}{cells}")
    return text


def busy(models: list[str], setting: Setting, batch: int, work: str, record: dict[str, Any], file: Path | None) -> None:
    print(f"\ntwo busy processes per core ({work}); ms per step, medians; the limit of default / one thread is {LIMIT}")
    names = "".join(f"{name:>12}" for name in ("default", "one thread", "PyTorch", "before"))
    print(f"{'':22}{names}{'default / one thread':>24}{'default / before':>24}", flush=True)
    results = {}
    for model in models:
        results[model] = both(setting, model, batch, work)
        print(*lines(model, results[model]), sep="\n", flush=True)
    if file:
        file.write_text(json.dumps({**record, "work": work, "ms": results}, indent=1) + "\n")
