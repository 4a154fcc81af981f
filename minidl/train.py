"""Train a model from the command line: `python -m minidl.train --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from minidl import fast
from minidl.backend import DeviceError
from minidl.cli import closing
from minidl.cli.command import OutputLost, command, say
from minidl.cli.display import Display, resume_command
from minidl.cli.parser import BAD_INPUT, DONE, FAILED, Parser, complain, place, shown
from minidl.cli.signals import StopNow, StopOnSignal
from minidl.data.atomic import write_text
from minidl.data.outputs import check_output
from minidl.fast.malloc import tune_allocator
from minidl.fast.threads import use_threads
from minidl.optim.schedule import ScheduleEnded
from minidl.pages import facts_of_run, report_page
from minidl.program.course import blown_up
from minidl.program.resume import is_trainers, resume_from_python
from minidl.telling import counted
from minidl.trace import PageError, check_replaceable, traced
from minidl.training.config import Config, Options, prepare
from minidl.training.continued import begin_from
from minidl.training.divergence import Diverged
from minidl.training.folder import REPORT, check_unused
from minidl.training.kept import Drawn
from minidl.training.loader import UserError
from minidl.training.models import count_parameters
from minidl.training.observer import Observer
from minidl.training.options import add_options, flag
from minidl.training.own_file import is_own, of_file, telling
from minidl.training.run import Checkpoints, Run

EXAMPLES = """examples:
  python -m minidl.train --opt hybrid
      train an MLP with Adam first, then SGD, with the switch preset for this model and data set
  python -m minidl.train --model cnn --dataset mnist --epochs 8 --seed 1
      a convolutional network on the full MNIST, which is downloaded if it is not on this machine
  python -m minidl.train --model race --val-fraction 0
      99 % after one epoch: a network, Adam settings and a one-cycle schedule that go together; trains on all images
  python -m minidl.train --opt hybrid --switch "plateau:patience=2 | epoch:6" --lr-after 0.05
      switch when the validation loss stops falling, or after 6 epochs, whichever comes first
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line: what `--help` shows."""
    parser = Parser(
        prog="minidl.train",
        description="Train a neural network on MNIST or on your own IDX files, and write a run folder\n"
        "with its configuration, metrics, curves, summary and checkpoint.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # options not given stay unset: Config holds the defaults
        allow_abbrev=False,
    )
    add_options(parser, Config, Options)
    folder = parser.add_argument_group("run folder")
    folder.add_argument("--out", type=place, metavar="DIR", help="run folder (default: runs/<time>-<model>-<opt>)")
    folder.add_argument(
        "--resume",
        type=place,
        metavar="RUN",
        help="continue the run in this folder with the settings in its checkpoint. These may change: --device, options "
        "that do not change the result, such as --threads, and --dataset, --model and --opt if the same data or your "
        "own files have moved. With --epochs N --out NEW: start a new run where this one ended, N epochs in total",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""

    def work(stop: StopOnSignal) -> int:
        tune_allocator()
        with ExitStack() as stack:
            return set_up_and_train(vars(make_parser().parse_args(argv)), stop, stack)

    return command("minidl.train", work)


def set_up_and_train(args: dict[str, Any], stop: StopOnSignal, stack: ExitStack) -> int:
    """Run the command, with errors as messages; returns the exit status."""
    try:
        run = set_up(args, stack)
    except (ValueError, DeviceError) as error:  # DataError, CheckpointError and SwitchError are ValueErrors
        return complain(error, BAD_INPUT)
    except MemoryError as error:
        return complain(out_of_memory(error), FAILED)
    except OSError as error:
        return complain(f"the run folder can't be written: {error}", FAILED)
    try:
        with (
            np.errstate(over="ignore", invalid="ignore"),  # a non-finite loss gets our own message
            use_threads(run.options.threads),
            traced(run) as recorder,
            telling(run.job.config.model, run.job.config.opt),
        ):
            return train(run, stop, recorder)
    except StopNow as now:
        say(now, f"stopped at once; resume from the last checkpoint with\n  {resume_command(run)}")
        now.told = True
        raise
    except PageError as error:
        return complain(error, FAILED)
    except UserError as error:
        return complain(f"{error}\nThe last checkpoint is in {run.where}", FAILED)
    except ScheduleEnded as error:
        return complain(f"{error}. The last checkpoint is in {run.where}", FAILED)
    except Diverged as error:
        return complain(f"{error}. The last good checkpoint is in {run.where}", FAILED)
    except MemoryError as error:
        return complain(f"{out_of_memory(error)}. The last checkpoint is in {run.where}", FAILED)
    except OSError as error:
        return complain(lost_place(run, error), FAILED)


def set_up(args: dict[str, Any], stack: ExitStack) -> Run:
    """The Run that the command line asks for; its folder is locked, and its forms active, until `stack` is closed."""
    options = {f.name: args.pop(f.name) for f in fields(Options) if f.name in args}
    chosen = Options(**options)  # complains about a bad value
    if chosen.trace is not None:
        check_replaceable(chosen.trace)
    out, resume = args.pop("out", None), args.pop("resume", None)
    if resume is not None and is_trainers(resume):
        run = resume_from_python(resume, out, args, options, stack)
        p = run.job.trainer.progress
        print(f"resuming {resume} after step {p.step} ({p.epoch} of {run.job.epochs} epochs done)")
    elif resume is not None and out is not None and "epochs" in args:
        run = begin_from(resume, out, args.pop("epochs"), args, chosen, stack)
        print(f"starting from {resume}, {run.job.trainer.progress.epoch} of {run.job.epochs} epochs done")
    elif resume is not None:
        machine: dict[str, Any] = {name: args.pop(name) for name in ("dataset", "device") if name in args}
        machine |= {name: args.pop(name) for name in ("model", "opt") if is_own(args.get(name, ""))}  # moved files
        if args or out:
            given = ", ".join(map(flag, [*args, *(["out"] if out else [])]))
            both = set(args) == {"epochs"} and not out
            hint = "add --out NEW for a new run that starts where it ended" if both else f"leave out {given}"
            raise ValueError(f"--resume takes everything from the checkpoint: {hint}")
        run = Run.resume(resume, options, stack, **machine)
        p = run.job.trainer.progress
        if run.options.trace is not None:
            check_replaceable(run.options.trace)
        if run.options.report:
            check_output(run.folder / REPORT, "report")
        print(f"resuming {resume} after step {p.step} ({p.epoch} of {run.job.epochs} epochs done)")
        if moved := run.moved():
            print(f"note: {moved}")
    else:
        assert set(args) <= {f.name for f in fields(Config)}
        if {"lr_after", "lr_sgd"} <= args.keys():
            raise ValueError("--lr-after and --lr-sgd both set the learning rate of the SGD phase: give one of them")
        if out is not None:
            check_unused(out)  # before a download of minutes
        run = Run.create(prepare(Config(**args)), out, chosen, stack)
    stack.enter_context(run.forms())
    describe(run)
    return run


def describe(run: Run) -> None:
    """Print what is about to be trained, and on which data."""
    job, steps = run.job, run.job.trainer.steps_per_epoch
    data, splits = job.dataset, job.trainer.splits
    if job.device == "cpu":
        print(f"fast: {run.fast or f'no ({fast.why_not()})'}")
    rounds = "--tf32 is for GPUs: it has no effect on the CPU" if job.config.tf32 and job.device == "cpu" else ""
    for note in filter(None, (data.note, rounds, *run.notes)):
        print(shown(f"note: {note}"))
    others = f"{len(splits.val):,} validation and " if len(splits.val) else "no validation and "
    images = f"{len(splits.train):,} training, {others}{len(splits.test):,} test images"
    classes = f"{splits.classes} class{'es' * (splits.classes != 1)}"
    print(shown(f"data: {data.name} ({data.source}): {images}, {classes}"))
    print(
        f"model: {of_file(job.config.model)}, {count_parameters(job.model):,} weights, on {job.device}; "
        f"{of_file(job.config.opt)}, {counted(job.epochs, 'epoch')} of {counted(steps, 'step')}",
        flush=True,
    )


def train(run: Run, stop: StopOnSignal, watching: Sequence[Observer] = ()) -> int:
    """Train to the end, or until a signal asks to stop; returns the exit status."""
    trainer, checkpoints = run.job.trainer, Checkpoints(run)
    if run.finished and not (run.options.report and not (run.folder / REPORT).exists()):
        print(f"{run.where} is finished: all {run.job.epochs} epochs are done; the results are in summary.json")
        if run.options.trace is not None and not Path(run.options.trace).exists():
            print("note: --trace records a run while it trains, so there is no replay of this one")
        return DONE
    with stop.patient():
        try:
            trainer.train_to(run.job.epochs, [*watching, checkpoints, Drawn(trainer), Display(run), stop])
        except OutputLost as lost:
            checkpoints.save()
            say(lost, f"minidl.train: {lost.words}: stopped after step {trainer.progress.step}; {resume_command(run)}")
            lost.told = True
            raise
        if stop.signal:
            checkpoints.save()
            print(f"stopped after step {trainer.progress.step}; resume with\n  {resume_command(run)}", flush=True)
            return stop.status
    summary = run.write_summary()
    try:
        closing.plot_curves(trainer.progress.metrics, summary, run.folder / "curves.png", run.held.place)
    except (ImportError, ValueError) as error:  # matplotlib, or the backend that MPLBACKEND names, does not work here
        print(f"warning: the curves could not be plotted: {' '.join(str(error).split())[:200]}", file=sys.stderr)
    print(shown(closing.closing_table(summary, run.where, trainer.optimizer.verdict())))
    if words := blown_up(trainer.progress.metrics, trainer.splits.classes):
        print(f"note: {words}")
    if run.options.report:
        write_text(run.folder / REPORT, report_page(facts_of_run(run)), run.held.place)
        print(f"{'report':>12}  {run.where / REPORT}")
    return DONE


def lost_place(run: Run, error: OSError) -> str:
    """What to do if the run's files can't be written."""
    if run.held.path() is None:
        return f"{run.folder} was removed during training, with its checkpoint: there is nothing left to resume"
    held = getattr(error, "winerror", None) in (5, 32)  # on Windows, by a program that shows the file
    remedy = "close the programs that have files there open" if held else "free some space"
    return (
        f"writing to {run.where} failed: {error}. The last checkpoint there is intact; {remedy}, then\n"
        f"  {resume_command(run)}"
    )


def out_of_memory(error: MemoryError) -> str:
    """What to do if an array does not fit in memory. CuPy's error is a MemoryError too."""
    words = " ".join(str(error).split())
    return (
        f"out of memory{words and f' ({words})'}. Try a smaller --batch-size or --model; on a GPU, "
        "`nvidia-smi` lists the programs that use its memory"
    )


if __name__ == "__main__":
    sys.exit(main())
