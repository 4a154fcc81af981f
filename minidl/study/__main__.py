"""The study from the command line: `python -m minidl.study --preset quick --out studies/quick`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from minidl.cli.parser import BAD_INPUT, DONE, FAILED, Parser, complain
from minidl.cli.signals import StopNow, StopOnSignal
from minidl.data import load_mnist
from minidl.data.mnist import absolute
from minidl.study.cluster import connect
from minidl.study.execute import execute
from minidl.study.pool import LocalPool
from minidl.study.provenance import note_command
from minidl.study.runs import perform
from minidl.study.studies import PRESETS
from minidl.study.study import Plan, open_plan
from minidl.training.options import add_options
from minidl.training.run import Options

NAME = "minidl.study"

EXAMPLES = """examples:
  python -m minidl.study --preset quick --out studies/quick
      a small study on mnist5k, some minutes on two cores; open studies/quick/report.html
  python -m minidl.study --preset paper --out studies/paper --workers 8
      the paper's study on full MNIST. Interrupt it when you like: the same line goes on with it
  python -m minidl.study --preset paper --out studies/paper --cluster tcp://10.0.0.7:8786
      the same on a Dask cluster, with the same results
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line: what `--help` shows."""
    parser = Parser(
        prog=NAME,
        description="Compare optimizers, hybrids and their controls on three regimes of learning, each tuned on the "
        "same budget, and write a report.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--preset", choices=PRESETS, default="quick", help="which study (default: quick)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="its folder (default: studies/PRESET)")
    parser.add_argument("--dataset", metavar="NAME", help="as for minidl.train (default: the preset's)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes on this machine (default: one per core)")
    parser.add_argument("--cluster", metavar="tcp://...", help="address of a Dask scheduler, instead of processes here")
    add_options(parser, Options, only=["no_fast"])
    parser.add_argument("--report-only", action="store_true", help="make no runs: report on those that are there")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = make_parser().parse_args(words)
    out: Path = args.out or Path("studies") / args.preset
    with StopOnSignal() as stop, ExitStack() as stack:
        try:
            try:
                plan = prepare(args.preset, args.dataset, args.workers, out)
                where = None if args.report_only else choose_executor(args.cluster, args.workers, stack)
            except ValueError as error:
                return complain(error, BAD_INPUT, NAME)
            if where is not None:
                note_command(out, words)
                with stop.patient():
                    work = partial(perform, numpy_alone="no_fast" in args)
                    execute(plan, *where, stopped=lambda: bool(stop.signal), work=work)
            return stopped(stop.status, words) if stop.signal else report(plan, out)
        except OSError as error:  # a full disk, a cluster that is gone
            return complain(f"{error}. Finished runs are kept in {out}: the same line goes on with them", FAILED, NAME)
        except StopNow:
            stopped(stop.status, words)
            os._exit(stop.status)  # at once: without waiting for the runs that are under way


def prepare(preset: str, dataset: str | None, workers: int | None, out: Path) -> Plan:
    """The study as it stands in its folder. Raises ValueError for what can't be, before any run is made."""
    check(workers, out)
    study = PRESETS[preset]
    if dataset:
        study = replace(study, dataset=absolute(dataset))
    return open_plan(study, load_mnist(name=study.dataset), out)


def check(workers: int | None, out: Path) -> None:
    """Raise ValueError for numbers and folders that can't be, and where the report could not be written in the end."""
    if missing := [name for name in ("scipy", "jinja2") if importlib.util.find_spec(name) is None]:
        raise ValueError(f'the study needs {" and ".join(missing)}: pip install "minidl[study]"')
    if workers is not None and workers < 1:
        raise ValueError(f"--workers must be at least 1, got {workers}")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: give a folder")


def choose_executor(cluster: str | None, workers: int | None, stack: ExitStack) -> tuple[Executor, int]:
    """Where the runs are made, and how many at a time; it is shut down with the stack."""
    if cluster:
        return connect(cluster, stack)
    workers = workers or os.cpu_count() or 1
    return stack.enter_context(LocalPool(workers)), workers


def report(plan: Plan, out: Path) -> int:
    """Write the report; returns the exit status."""
    from minidl.study.report import write_report  # here: it takes a second, and the extra `study`

    crashed = plan.crashed()
    for error in sorted(set(crashed.values())):
        count = sum(e == error for e in crashed.values())
        print(f"minidl.study: {count} run{'s' * (count > 1)} crashed: {error}", file=sys.stderr)
    if crashed:
        print("the same line tries them again", file=sys.stderr)
    for path in write_report(plan, out):
        print(f"written: {path}")
    return FAILED if crashed else DONE


def stopped(status: int, words: Sequence[str]) -> int:
    """Say how to go on; returns the exit status."""
    print("stopped; all finished runs are kept. Go on with", file=sys.stderr)
    print(f"  python -m minidl.study {shlex.join(words)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
