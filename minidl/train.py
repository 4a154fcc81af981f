"""Train a model from the command line: `python -m minidl.train --help`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from minidl.backend import DeviceError
from minidl.cli import closing
from minidl.cli.display import Display, resume_command
from minidl.cli.parser import BAD_INPUT, DONE, FAILED, Parser, complain
from minidl.cli.signals import StopNow, StopOnSignal
from minidl.fast.malloc import tune_allocator
from minidl.fast.threads import use_threads
from minidl.trace import PageError, check_writable, traced
from minidl.trainer import Diverged
from minidl.training.build import NAMES as OPTIMIZERS
from minidl.training.config import Config, prepare
from minidl.training.models import MODELS, count_parameters
from minidl.training.run import Options, Run, check_unused, versions

EXAMPLES = """examples:
  python -m minidl.train --opt hybrid
      train an MLP, with Adam first and SGD after the switch that suits model and data
  python -m minidl.train --model cnn --dataset mnist --epochs 8 --seed 1
      a convolutional network on the full MNIST, which is fetched if it is not at hand
  python -m minidl.train --opt hybrid --switch 'plateau:patience=2 | epoch:6' --lr-after 0.05
      switch when the validation loss stops falling, or after 6 epochs, whichever comes first
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line: what `--help` shows."""
    parser = Parser(
        prog="minidl.train",
        description="Train a neural network on MNIST or on IDX files of your own, and write a folder with its "
        "configuration, metrics, curves, summary and checkpoint.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # what is not given is not set: Config holds the defaults
        allow_abbrev=False,
    )
    default = Config()
    data = parser.add_argument_group("data and model")
    data.add_argument(
        "--dataset",
        metavar="NAME",
        help="auto, mnist, mnist5k (5,000 digits that come with the package) or a folder with four IDX files; "
        "auto takes the full MNIST where it is at hand or can be fetched, else mnist5k (default: auto)",
    )
    data.add_argument("--model", metavar="NAME", help=f"{' '.join(MODELS)} (default: {default.model})")
    data.add_argument(
        "--val-fraction",
        type=float,
        metavar="F",
        help=f"share of the training images set aside for validation (default: {default.val_fraction})",
    )
    opt = parser.add_argument_group("optimizer")
    opt.add_argument("--opt", metavar="NAME", help=f"{' '.join(OPTIMIZERS)} (default: {default.opt})")
    opt.add_argument("--lr", type=float, metavar="RATE", help="learning rate (default: suits the optimizer)")
    opt.add_argument("--momentum", type=float, metavar="MU", help="momentum of the SGD phase (default: suits --opt)")
    opt.add_argument("--weight-decay", type=float, metavar="L", help="weight decay (default: 0; adamw: 0.01)")
    opt.add_argument(
        "--schedule",
        metavar="S",
        help="learning rate over the steps: constant, cosine, step:every=1000,factor=0.1 or "
        "halving:start=600,every=100; each takes warmup=N too (default: constant)",
    )
    opt.add_argument("--clip-norm", type=float, metavar="N", help="limit the gradient's norm to N (default: no limit)")
    hybrid = parser.add_argument_group("hybrid switch")
    hybrid.add_argument(
        "--switch",
        metavar="WHEN",
        help="auto, step:1000, epoch:3, plateau:patience=2, gap:0.02, swats, swats:rtol=1e-3, ...; joined with | (or) "
        "and & (and). auto takes the preset of this model and data set (default: auto)",
    )
    hybrid.add_argument(
        "--lr-after",
        type=_rate_or_word,
        metavar="RATE",
        help="instead of --lr-sgd: a number, projected (SWATS's), or matched (first SGD step as long as Adam's last; "
        "default: preset)",
    )
    hybrid.add_argument("--lr-sgd", type=float, metavar="RATE", help="rate of the SGD phase of hybrid and gnmt")
    hybrid.add_argument(
        "--schedule-sgd", metavar="S", help="schedule of hybrid's SGD phase (default: --schedule, else preset)"
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--epochs", type=int, metavar="N", help="passes over the training split (default: 10; mnist5k: 20)"
    )
    run.add_argument("--batch-size", type=int, metavar="N", help=f"examples per step (default: {default.batch_size})")
    run.add_argument("--seed", type=int, metavar="N", help="same seed, same result (default: 0)")
    run.add_argument("--device", metavar="D", help="cpu, gpu or auto (default: auto)")
    run.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="compute with N threads; on a machine that is busy with other things 1 can be many times faster, for "
        "threads that wait for each other wait for those too (default: the number of cores)",
    )
    run.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/<time>-<model>-<opt>)")
    run.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="STEPS",
        help="write a checkpoint every STEPS steps (default: each epoch)",
    )
    run.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with this run folder; all else comes from its checkpoint, but --dataset may say where the "
        "same data are now, and --device what to compute on",
    )
    run.add_argument(
        "--test-every-epoch",
        action="store_true",
        help="print the test accuracy after each epoch, for teaching: who chooses by it, overfits to the test split",
    )
    run.add_argument(
        "--trace",
        type=os.path.abspath,
        metavar="FILE",
        help="record the run and write a page, FILE.html, on which it can be stepped through in a browser",
    )
    return parser


def _rate_or_word(text: str) -> float | str:
    if text in ("projected", "matched"):
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"give a number, projected or matched, not {text!r}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    tune_allocator()
    with StopOnSignal() as stop, ExitStack() as held:
        try:
            return set_up_and_train(vars(make_parser().parse_args(argv)), stop, held)
        except StopNow:
            return stop.status
        except BrokenPipeError:  # whoever read our output is gone, as in `... | head`
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (Python flushes it at its end)
            return 128 + 13


def set_up_and_train(args: dict[str, Any], stop: StopOnSignal, held: ExitStack) -> int:
    """Run the command, errors told as messages; returns the exit status."""
    try:
        run = set_up(args, held)
    except (ValueError, DeviceError) as error:  # DataError, CheckpointError and SwitchError are ValueErrors
        return complain(error, BAD_INPUT)
    except MemoryError as error:
        return complain(out_of_memory(error), FAILED)
    except BrokenPipeError:
        raise
    except OSError as error:
        return complain(f"the run folder can't be written: {error}", FAILED)
    try:
        with (
            np.errstate(over="ignore", invalid="ignore"),  # a loss that is not finite gets a message of our own
            use_threads(run.options.threads),
            traced(run),
        ):
            return train(run, stop)
    except StopNow:
        print(f"stopped at once; go on from the last checkpoint with\n  {resume_command(run)}", file=sys.stderr)
        raise
    except PageError as error:
        return complain(error, FAILED)
    except Diverged as error:
        return complain(f"{error}. The last good checkpoint stays in {run.folder}", FAILED)
    except MemoryError as error:
        return complain(f"{out_of_memory(error)}. The last checkpoint stays in {run.folder}", FAILED)
    except BrokenPipeError:
        raise
    except OSError as error:
        return complain(
            f"writing to {run.folder} failed: {error}. The last checkpoint there is whole; make room, then\n"
            f"  {resume_command(run)}",
            FAILED,
        )


def set_up(args: dict[str, Any], held: ExitStack) -> Run:
    """From the command line to a Run, whose folder is locked until `held` is closed."""
    options = {f.name: args.pop(f.name) for f in fields(Options) if f.name in args}
    chosen = Options(**options)  # complains about a bad value
    if chosen.trace is not None:
        check_writable(chosen.trace)
    out, resume = args.pop("out", None), args.pop("resume", None)
    if resume is not None:
        machine = {name: args.pop(name) for name in ("dataset", "device") if name in args}
        if args or out:
            given = ", ".join("--" + name.replace("_", "-") for name in [*args, *(["out"] if out else [])])
            raise ValueError(f"--resume takes everything from the checkpoint: leave out {given}")
        run = Run.resume(resume, options, held, **machine)
        p = run.job.trainer.progress
        if run.options.trace is not None:
            check_writable(run.options.trace)
        print(f"resuming {resume} after step {p.step} ({p.epoch} of {run.job.epochs} epochs done)")
        if run.versions != versions():
            print(f"note: begun with {run.versions}, this is {versions()}: the last digits may come out differently")
    else:
        assert set(args) <= {f.name for f in fields(Config)}
        if out is not None:
            check_unused(out)  # before minutes go into a download
        run = Run.create(prepare(Config(**args)), out, chosen, held)
    describe(run)
    return run


def describe(run: Run) -> None:
    """Say what is about to be trained, on what."""
    job, trainer = run.job, run.job.trainer
    data, splits = job.dataset, job.trainer.splits
    if data.note:
        print(f"note: {data.note}")
    print(
        f"data: {data.name} ({data.source}): {len(splits.train):,} training, {len(splits.val):,} validation and "
        f"{len(splits.test):,} test images, {splits.classes} classes"
    )
    print(
        f"model: {job.config.model}, {count_parameters(job.model):,} weights, on {job.device}; "
        f"{job.config.opt}, {job.epochs} epochs of {trainer.steps_per_epoch} steps",
        flush=True,
    )


def train(run: Run, stop: StopOnSignal) -> int:
    """Train to the end, or until a signal asks to stop; returns the exit status."""
    trainer, every = run.job.trainer, run.options.checkpoint_every
    if run.finished:
        print(f"{run.folder} is finished: all {run.job.epochs} epochs are done, the results are in summary.json")
        return DONE
    with stop.patient(), Display(run) as display:
        while trainer.progress.epoch < run.job.epochs:
            display.begin_epoch()
            for step in trainer.steps():
                display.step()
                if stop.signal or (every and step % every == 0):
                    run.save()
                if stop.signal:
                    return display.stopped(stop.status)
            trainer.finish_epoch()
            run.save()
            run.write_metrics()
            display.end_epoch()
            if stop.signal:
                return display.stopped(stop.status)
    summary = run.write_summary()
    closing.plot_curves(trainer.progress.metrics, summary, run.folder / "curves.png")
    print(closing.closing_table(summary, run.folder, trainer.optimizer.verdict()))
    return DONE


def out_of_memory(error: MemoryError) -> str:
    """What to do where an array does not fit: the CPU's message, and CuPy's, which is a MemoryError too."""
    return (
        f"out of memory ({' '.join(str(error).split())}). Try a smaller --batch-size or --model; on a GPU, "
        "`nvidia-smi` lists the programs that use its memory"
    )


if __name__ == "__main__":
    sys.exit(main())
