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

from minidl.backend import get_backend
from minidl.cli.command import command
from minidl.cli.parser import BAD_INPUT, DONE, FAILED, Parser, complain, place, shown
from minidl.cli.signals import StopNow, StopOnSignal
from minidl.data import load_mnist
from minidl.data.mnist import absolute
from minidl.study.check import check
from minidl.study.cluster import connect
from minidl.study.execute import execute, tell_crashed
from minidl.study.made import pins
from minidl.study.own import fit, with_own
from minidl.study.provenance import WRITTEN, begun_with, is_study, note_command
from minidl.study.runs import perform
from minidl.study.store import Store
from minidl.study.streams import AT_ONCE, local_pool
from minidl.study.studies import STUDIES
from minidl.study.study import Plan, open_plan
from minidl.telling import typed
from minidl.training.config import Options
from minidl.training.options import add_options

NAME = "minidl.study"

EXAMPLES = """examples:
  python -m minidl.study --preset quick --out studies/quick
      a small study on mnist5k, under four minutes on two cores; open studies/quick/report.html
  python -m minidl.study --preset quick --with mine.py --dataset FOLDER --out studies/mine
      the same with an optimizer and a network of your own, on your own data
  python -m minidl.study --preset paper --out studies/paper --workers 8
      the paper's study on full MNIST. Interrupt it at any time: the same command resumes it
  python -m minidl.study --preset paper --out studies/paper --cluster tcp://10.0.0.7:8786
      the same on a Dask cluster, same results; before starting its workers: eval "$(python -m minidl.study --pins)"
  python -m minidl.study --preset paper --device gpu --out studies/gpu
      the same on a GPU; its rows are never mixed with those of CPUs
  python -m minidl.study --check studies/paper --rows 20
      rerun 20 rows of a study and compare their bits
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line: what `--help` shows."""
    parser = Parser(
        prog=NAME,
        description="Compare optimizers, hybrids and their controls in several regimes, under-fit to over-fit,\neach "
        "tuned on the same budget, and write a report.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--preset", choices=STUDIES, default="quick", help="which study (default: quick)")
    parser.add_argument("--out", type=place, metavar="DIR", help="its folder (default: studies/PRESET)")
    parser.add_argument("--dataset", metavar="NAME", help="as for minidl.train (default: the preset's)")
    parser.add_argument(
        "--with", dest="own", metavar="FILE", help="a Python file with optimizers and networks of your own"
    )
    how_many = f"runs at a time (default: one per core; on a GPU {AT_ONCE})"
    parser.add_argument("--workers", type=int, metavar="N", help=how_many)
    parser.add_argument(
        "--device", default="cpu", metavar="D", help="cpu, or gpu: concurrent runs on one card (default: cpu)"
    )
    parser.add_argument("--cluster", metavar="tcp://...", help="address of a Dask scheduler, instead of processes here")
    add_options(parser, Options, only=["no_fast"])
    parser.add_argument("--report-only", action="store_true", help="start no runs: report on the existing ones")
    parser.add_argument("--pack", action="store_true", help="write all runs into one file, runs.jsonl.gz, and exit")
    parser.add_argument("--check", type=place, metavar="DIR", help="rerun rows of the study in DIR, compare their bits")
    parser.add_argument("--rows", type=int, metavar="N", help="how many rows --check draws at random (default: 20)")
    parser.add_argument("--draw", type=int, metavar="SEED", help="seed of that draw (default: a new one each time)")
    parser.add_argument("--pins", action="store_true", help="print the pins of the paper's study as shell commands")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    return command(NAME, lambda stop: study(words, stop))


def study(words: list[str], stop: StopOnSignal) -> int:
    """The command itself."""
    args = make_parser().parse_args(words)
    if args.pins:
        print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in pins().items()))
        return DONE
    out: Path = args.out or Path("studies") / args.preset
    with ExitStack() as stack:
        try:
            try:
                if args.check:
                    return check_rows(args)
                if args.rows is not None or args.draw is not None:
                    raise ValueError("--rows and --draw are for --check DIR, which reruns rows of a study")
                if (args.report_only or args.pack) and not out.is_dir():
                    raise ValueError(f"there is no study in {out}: --report-only and --pack need one that was started")
                plan = prepare(args, out)
                if args.pack:
                    return pack(plan)
                if args.report_only:
                    check_there(plan)
                where = None if args.report_only else choose_executor(args, plan, stack)
                if where is not None:
                    note_command(out, words)
                    with stop.patient("the runs in progress"):
                        work = partial(perform, numpy_alone="no_fast" in args, device=args.device)
                        execute(plan, *where, stopped=lambda: bool(stop.signal), work=work)
                return stopped(stop.status, words) if stop.signal else report(plan, out)
            except (ValueError, RuntimeError) as error:
                return complain(error, BAD_INPUT, NAME)
        except OSError as error:  # a full disk, a cluster that is gone
            return complain(f"{error}. Finished runs are kept in {out}: the same command resumes", FAILED, NAME)
        except StopNow:
            stopped(stop.status, words)
            os._exit(stop.status)  # at once: without waiting for the runs in progress


def prepare(args: argparse.Namespace, out: Path) -> Plan:
    """Open the study in its folder. Raises ValueError for impossible arguments, before any run."""
    check_arguments(args.workers, out)
    args.device = get_backend(args.device).name
    if args.cluster and args.device != "cpu":
        raise ValueError(f"--device {args.device} is a card of this machine, a --cluster has its own: give only one")
    study = STUDIES[args.preset]
    if args.dataset:
        study = replace(study, dataset=absolute(args.dataset))
    dataset = load_mnist(name=study.dataset)
    if args.report_only and not args.own and (own := begun_with(out)):
        raise ValueError(f"the study in {out} was started --with {own}: give that here too")
    if args.own:
        study = with_own(study, args.own, dataset)
    elif args.dataset:
        study = replace(study, regimes=fit(study.regimes, dataset, []))
    plan = open_plan(study, dataset, out, numpy_alone="no_fast" in args, device=args.device)
    if args.own:
        brought = [c.key for c in study.contestants if c.block == "own"]
        brought += [regime.name for regime in study.regimes if regime.network]
        print(f"{NAME}: {args.own} adds {', '.join(brought)}", file=sys.stderr)
    for line in plan.store.damaged[:5]:
        print(shown(f"{NAME}: {line}; it will be run again"), file=sys.stderr)
    if more := plan.store.damaged[5:]:
        print(f"{NAME}: and {len(more)} more", file=sys.stderr)
    return plan


def check_there(plan: Plan) -> None:
    """Print how many runs are missing. Raises ValueError, before a report is replaced, if all are another study's."""
    wanted, there = {run.key for _, run in plan.wanted()}, plan.store.all().keys()
    if there and not wanted & there:
        raise ValueError(
            f"none of the {len(there):,} runs in {plan.store.folder} belongs to this study: its images, its --with "
            "file or its preset have changed. Restore those, or make the runs: omit --report-only"
        )
    if missing := len(wanted - there - plan.store.failed()):
        print(f"{NAME}: runs known to be needed and not made yet: {missing:,}", file=sys.stderr)


def check_arguments(workers: int | None, out: Path) -> None:
    """Raise ValueError for impossible numbers and folders, and if the report could not be written at the end."""
    if missing := [name for name in ("jinja2", "matplotlib") if importlib.util.find_spec(name) is None]:
        raise ValueError(f'the study needs {" and ".join(missing)}: pip install "minidl[study]"')
    if workers is not None and not 1 <= workers <= 4096:
        raise ValueError(f"--workers must be at least 1 and at most 4,096, got {workers:.0f}")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: give a folder")
    if not is_study(out) and (there := [name for name in WRITTEN if os.path.lexists(out / name)]):
        raise ValueError(f"--out {out} holds a {there[0]} that is not from a study: choose another folder or remove it")


def choose_executor(args: argparse.Namespace, plan: Plan, stack: ExitStack) -> tuple[Executor, int]:
    """The executor that makes the runs, and how many at a time; the stack shuts it down."""
    if args.cluster:
        return connect(args.cluster, stack)
    pool, workers = local_pool(args.device, args.workers, plan.study.pinned)
    return stack.enter_context(pool), workers


def check_rows(args: argparse.Namespace) -> int:
    """Rerun rows of a study; returns the exit status: FAILED if one has other bits."""
    if not args.check.is_dir():
        raise ValueError(f"--check {args.check} is not a folder: give the folder of a study")
    rows = 20 if args.rows is None else args.rows
    if rows < 1:
        raise ValueError(f"--rows must be at least 1, got {rows}")
    dataset = absolute(args.dataset) if args.dataset else None
    store = Store(args.check)
    for line in store.damaged[:5]:
        print(shown(f"{NAME}: {line}"), file=sys.stderr)
    own = Path(args.own).expanduser().absolute() if args.own else None
    alike = check(store, rows, dataset, args.workers, args.draw, own=own)
    return DONE if alike and not store.damaged else FAILED


def pack(plan: Plan) -> int:
    """Write the pack; returns the exit status."""
    path = plan.store.pack()
    print(f"written: {path}, {len(plan.store.all()):,} runs, {path.stat().st_size:,} bytes")
    return DONE


def report(plan: Plan, out: Path) -> int:
    """Write the report; returns the exit status."""
    from minidl.study.report import write_report  # here: it takes a second to import and needs the extra `study`

    plan.given_up |= plan.store.failed()  # the report leaves them out, as the study did
    crashed = tell_crashed(plan)
    for path in write_report(plan, out):
        print(f"written: {path}")
    return FAILED if crashed else DONE


def stopped(status: int, words: Sequence[str]) -> int:
    """Print how to continue; returns the exit status."""
    print("stopped; all finished runs are kept. Continue with", file=sys.stderr)
    print(f"  python -m minidl.study {typed(*words)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
