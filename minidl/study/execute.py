"""Carrying a study out: round after round, what can be done next is done, until nothing is missing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from minidl.study.pool import carry_out
from minidl.study.progress import Progress
from minidl.study.runs import Run
from minidl.study.study import Plan


def execute(plan: Plan, executor: Executor, workers: int, stopped: Callable[[], bool] = lambda: False) -> None:
    """Make all runs that the study still needs, `workers` at a time. Each result is on disk as soon as it is known.

    A run that crashes is noted in the store, and tried again when the study is started again.
    """
    with Progress(plan, workers) as progress:

        def done(run: Run, record: dict[str, Any]) -> None:
            plan.store.put(run, record)
            progress.run_done(run.key, record["times"]["seconds"])

        def failed(run: Run, error: str) -> None:
            plan.store.put_error(run, error)
            plan.given_up.add(run.key)
            progress.run_crashed()

        while not stopped() and (runs := plan.missing()):
            progress.next_round()
            carry_out(runs, executor, workers, done, failed, stopped)
