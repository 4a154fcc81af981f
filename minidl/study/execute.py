"""Carrying a study out: round after round, what can be done next is done, until nothing is missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from minidl.data import load_mnist
from minidl.study.bars import Bars
from minidl.study.pool import LocalPool, carry_out
from minidl.study.runs import Trial, perform
from minidl.study.study import Plan, Study, open_plan


def run_study(study: Study, out: str | Path, executor: Executor | None = None, at_once: int | None = None) -> Plan:
    """Make what is still missing of a study in the folder `out`, and write its report there.

    executor  any concurrent.futures.Executor; None: a process per core of this machine
    at_once   how many runs to hand to it at a time (default: the number of cores)

    Raises ValueError for a data set that can't be had or is too small.
    """
    from minidl.study.report import write_report  # here: it needs the extra `study`

    plan, cores = open_plan(study, load_mnist(name=study.dataset), Path(out)), os.cpu_count() or 1
    with LocalPool(cores) if executor is None else nullcontext(executor) as pool:
        execute(plan, pool, at_once or cores)
    write_report(plan, Path(out))
    return plan


def execute(
    plan: Plan,
    executor: Executor,
    workers: int,
    stopped: Callable[[], bool] = lambda: False,
    work: Callable[[Trial], dict[str, Any]] = perform,
) -> None:
    """Make all runs that the study still needs, `workers` at a time. Each result is on disk as soon as it is known.

    A run that crashes is noted in the store, and tried again when the study is started again.
    """
    with Bars(plan, workers) as bars:

        def done(run: Trial, record: dict[str, Any]) -> None:
            plan.store.put(run, record)
            bars.run_done(run.key, record["times"]["seconds"])

        def failed(run: Trial, error: str) -> None:
            plan.store.put_error(run, error)
            plan.given_up.add(run.key)
            bars.run_crashed()

        while not stopped() and (runs := plan.missing()):
            bars.next_round()
            carry_out(runs, executor, workers, done, failed, stopped, work)
