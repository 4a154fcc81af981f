"""How `tests.bench` compares columns: live processes that take turns, and ratios within each round of turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.bench_workers import ENVIRONMENT, LOAD

ROOT = Path(__file__).resolve().parents[1]
TORCH = ("torch", "torch-fused", "torch-compile")
SETTLE = 0.1  # seconds between two turns: the threads of OpenBLAS and OpenMP keep spinning for a while
DISTURBED = 0.1  # of the machine's time, taken by other programs


class Setting(NamedTuple):
    """What is compared and for how long: each of `restarts` sets of processes runs `rounds` of `turn` seconds."""

    columns: dict[str, Path]  # each with the checkout whose minidl it imports
    rounds: int = 3
    restarts: int = 3
    turn: float = 0.3
    patience: float = 5  # seconds that a set of processes waits for a quiet machine, in total
    pythons: Mapping[str, str] = MappingProxyType({})  # a column's own Python


class Worker:
    """One column's live process."""

    def __init__(self, column: str, python: str = sys.executable, root: Path = ROOT) -> None:
        """root  the checkout whose minidl the process imports; this file's worker runs it"""
        self.column = column
        self.process = subprocess.Popen(
            [python, "-c", LOAD + "workers.serve(sys.argv[2])", str(ROOT / "tests" / "bench_workers.py"), column],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root,
            env=os.environ | ENVIRONMENT.get(column, {}),
        )  # fmt: skip

    def run(self, model: str, opt: str, batch: int, steps: int) -> float:
        """Seconds that the steps took. Raises RuntimeError where this column can't run the model.

        Sets `foreign` to the share of the machine that other programs took meanwhile.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        time.sleep(SETTLE)
        begin, busy = time.perf_counter(), busy_seconds()
        self.process.stdin.write(json.dumps({"model": model, "opt": opt, "batch": batch, "steps": steps}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        elapsed = (time.perf_counter() - begin) * (os.cpu_count() or 1)
        self.foreign = max(0.0, busy_seconds() - busy - answer["cpu"]) / elapsed
        return float(answer["seconds"])

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def busy_seconds() -> float:
    """CPU seconds that all programs together have used since boot; 0 where the system doesn't report them."""
    try:
        user, nice, system, _idle, _wait, *rest = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return 0.0
    return sum(map(int, (user, nice, system, *rest[:3]))) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(patience: float) -> float:
    """Sleep until other programs leave the machine idle, at most `patience` seconds; returns the seconds left."""
    cores, end = os.cpu_count() or 1, time.perf_counter() + patience
    while (left := end - time.perf_counter()) > 0:
        begin, busy = time.perf_counter(), busy_seconds()
        time.sleep(SETTLE)
        if busy_seconds() - busy <= DISTURBED * cores * (time.perf_counter() - begin):
            return left
    return 0.0


def warm_up(workers: list[Worker], model: str, opt: str, batch: int, turn_seconds: float) -> dict[Worker, int]:
    """The workers that can run this, each with the number of steps that fill a turn."""
    steps = {}
    for worker in workers:  # a first turn builds the model
        try:
            worker.run(model, opt, batch, 3)
            once = worker.run(model, opt, batch, 5) / 5
        except RuntimeError as error:
            print(f"  {worker.column} skipped: {error}", file=sys.stderr)
            continue
        steps[worker] = max(2, round(turn_seconds / once))
    return steps


def one_round(steps: dict[Worker, int], model: str, opt: str, batch: int, first: int) -> tuple[float, dict[str, float]]:
    """The largest share of the machine that other programs took in a turn, and every column's samples per second."""
    workers, foreign, speeds = list(steps), 0.0, {}
    for worker in workers[first:] + workers[:first]:
        n = steps[worker]
        speeds[worker.column] = n * batch / worker.run(model, opt, batch, n)
        foreign = max(foreign, worker.foreign)
    return foreign, speeds


def measure(
    workers: list[Worker],
    model: str,
    opt: str,
    batch: int,
    rounds: int,
    turn_seconds: float,
    patience: float = 0,
    busy: bool = False,
) -> dict[str, list[float]]:
    """Samples per second of every column that can run this, by round: the least disturbed of twice as many at most.

    busy  other programs run on purpose: the first round is a warm-up, and all others count
    """
    steps = warm_up(workers, model, opt, batch, turn_seconds)
    most, bound = (rounds + 1, -1.0) if busy else (2 * rounds, DISTURBED)
    found: list[tuple[float, dict[str, float]]] = []
    while steps and len(found) < most and sum(foreign <= bound for foreign, _ in found) < rounds:
        patience = wait_for_quiet(patience)
        found.append(one_round(steps, model, opt, batch, first=len(found) % len(steps)))  # the first one rotates
    chosen = found[1:] if busy else sorted(found, key=lambda round_: round_[0])[:rounds]
    if not busy and chosen and chosen[-1][0] > DISTURBED:
        share = f"{chosen[0][0]:.0%} to {chosen[-1][0]:.0%}"
        print(f"  {model}: other programs took {share} of the machine", file=sys.stderr)
    return {worker.column: [speeds[worker.column] for _, speeds in chosen] for worker in steps}


def ratios(speeds: dict[str, list[float]], over: str) -> list[float]:
    """minidl's speed over that column's, in each round."""
    return [ours / theirs for ours, theirs in zip(speeds["minidl"], speeds[over], strict=True)]


def best_torch(speeds: dict[str, list[float]]) -> str | None:
    """The PyTorch mode with the highest median."""
    modes = [c for c in TORCH if c in speeds]
    return max(modes, key=lambda c: statistics.median(speeds[c])) if modes else None


@contextmanager
def started(setting: Setting) -> Iterator[list[Worker]]:
    """A set of processes, which are closed at the end of the block."""
    workers = [
        Worker(column, setting.pythons.get(column, sys.executable), root) for column, root in setting.columns.items()
    ]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.close()


def compare(setting: Setting, model: str, opt: str, batch: int) -> dict[str, list[float]]:
    """Samples per second of every column that can run this, round by round, over all restarts."""
    speeds: dict[str, list[float]] = defaultdict(list)
    for _ in range(setting.restarts):
        with started(setting) as workers:
            once = measure(workers, model, opt, batch, setting.rounds, setting.turn, setting.patience)
        for column, values in once.items():
            speeds[column] += values
    complete = setting.restarts * setting.rounds
    return {column: values for column, values in speeds.items() if len(values) == complete}
