"""Running a study: round after round, all runs that can be made are made, until none is missing."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from minidl.backend import get_backend
from minidl.cli.parser import shown
from minidl.data import load_mnist
from minidl.study.bars import Bars
from minidl.study.made import differing
from minidl.study.own import with_own
from minidl.study.pool import carry_out, end_if_a_worker_is_starting
from minidl.study.runs import Trial, perform
from minidl.study.streams import local_pool
from minidl.study.study import Plan, Study, open_plan
from minidl.telling import counted


def run_study(
    study: Study,
    out: str | Path,
    executor: Executor | None = None,
    at_once: int | None = None,
    own: str | Path | None = None,
    device: str = "cpu",
) -> Plan:
    """Make the runs that a study in the folder `out` still lacks, and write its report there.

    executor  any concurrent.futures.Executor; None: a process per core of this machine. These run the calling
              script again, so guard this call with `if __name__ == "__main__":`
    at_once   how many runs to hand to it at a time (default: the number of cores)
    own       a file with optimizers and networks of your own; see own.py
    device    "gpu": the runs are made concurrently on the GPU of this machine, in this process; see streams.py

    Errors with which runs crashed are printed, and `plan.crashed()` has them. Raises ValueError for a data set that is
    not available or too small, and for errors in `own`; RuntimeError if no worker process can start.
    """
    from minidl.study.report import write_report  # here: it needs the extra `study`

    end_if_a_worker_is_starting()
    dataset, device = load_mnist(name=study.dataset), get_backend(device).name
    plan = open_plan(with_own(study, own, dataset) if own else study, dataset, Path(out), device=device)
    pool, places = (executor, os.cpu_count() or 1) if executor else local_pool(device, at_once, plan.study.pinned)
    with pool if executor is None else nullcontext():
        execute(plan, pool, at_once or places, work=partial(perform, device=device))
    tell_crashed(plan)
    write_report(plan, Path(out))
    return plan


def tell_crashed(plan: Plan) -> bool:
    """Print each error with which runs crashed to stderr; returns whether there is one."""
    crashed = Counter(plan.crashed().values())
    for error, count in sorted(crashed.items()):
        print(shown(f"minidl.study: {counted(count, 'run')} crashed: {error}"), file=sys.stderr)
    if crashed:
        print("the same command tries them again", file=sys.stderr)
    return bool(crashed)


def execute(
    plan: Plan,
    executor: Executor,
    workers: int,
    stopped: Callable[[], bool] = lambda: False,
    work: Callable[[Trial], dict[str, Any]] = perform,
) -> None:
    """Make all runs that the study still needs, `workers` at a time. Each result is on disk as soon as it is known.

    A run that crashes is recorded in the store, and tried again when the study is next started. Raises ValueError if
    the folder's runs were made with other versions or pins than the runs to come: one report can't mix them.
    """
    plan.check_alike()
    with Bars(plan, workers) as bars:

        def done(run: Trial, record: dict[str, Any]) -> None:
            if others := differing(record["made"], plan.made):
                return failed(run, f"it was made in another environment than the others: {'; '.join(others)}")
            plan.store.put(run, record)
            bars.run_done(run.key, record["times"]["seconds"])

        def failed(run: Trial, error: str) -> None:
            plan.store.put_error(run, error)
            plan.given_up.add(run.key)
            bars.run_crashed()

        while not stopped() and (runs := plan.missing()):
            bars.next_round()
            carry_out(runs, executor, workers, done, failed, stopped, work)
