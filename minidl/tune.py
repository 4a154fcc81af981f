"""Find a hybrid switch for your own data: `python -m minidl.tune --model M --dataset D`.

Successive halving (Jamieson & Talwalkar 2016, Alg. 1): train many settings for a fraction of the run, keep the better
half, train those twice as long, and so on, until a few are trained for the whole run. Settings are ranked by the
validation split alone.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from signal import Signals
from typing import Any

import numpy as np
from tqdm import tqdm

from minidl import fast
from minidl.backend import DeviceError, no_fast
from minidl.cli.command import OutputLost, command, say
from minidl.cli.parser import BAD_INPUT, DONE, FAILED, Parser, complain, place
from minidl.cli.signals import StopNow, StopOnSignal
from minidl.data import Dataset, load_mnist
from minidl.data.batches import steps_per_epoch
from minidl.data.splits import sizes
from minidl.telling import counted, is_terminal, typed
from minidl.training.config import Config, Options, prepare
from minidl.training.divergence import Diverged
from minidl.training.kept import Drawn
from minidl.training.loader import UserError, load
from minidl.training.options import add_options, flag
from minidl.training.own import own_lr
from minidl.training.own_file import is_own, of_file, telling
from minidl.training.search import Rank, rank
from minidl.training.tried import Tried, default_file, search_id

KEEP = 2  # one in two enters the next round, which is twice as long
ROUNDS = 3  # not more: in a tenth of the run the largest learning rates look best, and slower settings are dropped

LR = (3e-4, 1e-3, 3e-3)  # Adam's
LR_SGD = (0.003, 0.01, 0.03, 0.1)
SWITCH_AT = (0.3, 0.6)  # fraction of the run trained with Adam
OWN_RATES = tuple(10.0 ** (i / 2) for i in range(-4, 4))  # for a user's optimizer: factors on its default
OPTIONS = ("dataset", "model", "val_fraction", "epochs", "batch_size", "seed", "device")


@dataclass(frozen=True)
class Setting:
    """A candidate: the learning rates of Adam and SGD, and the fraction of the run after which to switch.

    For a user's own optimizer, the learning rate alone.
    """

    lr: float
    lr_sgd: float | None = None
    switch_at: float | None = None

    def config(self, base: Config, dataset: Dataset, epochs: int) -> Config:
        """The run of `epochs` epochs with this setting."""
        if self.switch_at is None:
            return replace(base, epochs=epochs, lr=self.lr)
        n, _ = sizes(len(dataset.train_labels), base.val_fraction)
        step = max(1, round(self.switch_at * epochs * steps_per_epoch(n, base.batch_size)))
        return replace(base, epochs=epochs, lr=self.lr, lr_sgd=self.lr_sgd, switch=f"step:{step}")

    def __str__(self) -> str:
        if self.switch_at is None:
            return f"lr {self.lr:<7g}"
        return f"lr {self.lr:<7g} lr_sgd {self.lr_sgd:<6g} switch at {self.switch_at:.0%} of the run"


@dataclass(frozen=True)
class Score:
    """The result of a setting, on the validation split after the last epoch."""

    setting: Setting
    val_accuracy: float
    val_loss: float

    @property
    def rank(self) -> Rank:
        """For sorting, best first."""
        return rank(self.val_accuracy, self.val_loss)


def settings(opt: str = "hybrid") -> list[Setting]:
    """The grid for hybrid, or for a user's own optimizer."""
    if opt == "hybrid":
        return [Setting(*setting) for setting in product(LR, LR_SGD, SWITCH_AT)]
    lr = own_lr(load(opt))
    if lr is None:
        raise UserError(f"{of_file(opt)} has no parameter lr, so there is nothing to tune")
    return [Setting(float(f"{lr * factor:.2e}")) for factor in OWN_RATES]


def rounds(candidates: int, epochs: int) -> list[tuple[int, int]]:
    """(number of settings, number of epochs) of each round; the last trains for all the epochs."""
    n = min(ROUNDS, 1 + int(math.log(epochs, KEEP)))  # a short run has fewer rounds, of at least one epoch
    return [(candidates // KEEP**i, epochs // KEEP ** (n - 1 - i)) for i in range(n)]


def search(
    base: Config, dataset: Dataset, epochs: int, tried: Tried | None = None
) -> Iterator[tuple[int, list[Score]]]:
    """Yield (epochs, results best first) after each round.

    tried  saves the results, and has those of an earlier search
    """
    alive = settings(base.opt)
    for count, length in rounds(len(alive), epochs):
        alive = alive[:count]
        results = sorted(
            (
                found_or_tried(setting, base, dataset, length, tried)
                for setting in tqdm(alive, disable=not is_terminal(sys.stderr), leave=False)
            ),
            key=lambda result: result.rank,
        )
        yield length, results
        alive = [result.setting for result in results]


def found_or_tried(setting: Setting, base: Config, dataset: Dataset, epochs: int, tried: Tried | None) -> Score:
    """The saved score of a setting; if there is none, train it and save the score."""
    known = None if tried is None else tried.get(asdict(setting), epochs)
    if known is not None:
        return Score(setting, *known)
    score = try_out(setting, base, dataset, epochs)
    if tried is not None:
        tried.put(asdict(setting), epochs, score.val_accuracy, score.val_loss)
    return score


def try_out(setting: Setting, base: Config, dataset: Dataset, epochs: int) -> Score:
    """Train one setting. If it diverges, it ranks last."""
    job = prepare(setting.config(base, dataset, epochs), dataset)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            last = job.trainer.train_to(epochs, [Drawn(job.trainer)])[-1]
    except Diverged:
        return Score(setting, 0.0, float("inf"))
    return Score(setting, last["val_accuracy"], last["val_loss"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command("minidl.tune", lambda stop: tune(argv, stop))


def tune(argv: Sequence[str] | None, stop: StopOnSignal) -> int:
    """The command itself."""
    parser = Parser(
        prog="minidl.tune",
        description="Find a hybrid switch for a model and a data set, the best of a grid on the validation split: the "
        "learning rates of Adam and SGD, and when to switch; or the learning rate of your own optimizer, "
        "--opt mine.py:Lion. Prints the command for minidl.train. Results are saved: after an interruption, the same "
        "command resumes the search.",
        epilog="example: python -m minidl.tune --model cnn --dataset path/to/folder",
        allow_abbrev=False,
    )
    add_options(parser, Config, Options, only=[*OPTIONS, "no_fast"])
    own = "hybrid, or your own optimizer, as in mine.py:Lion (default: hybrid)"
    parser.add_argument("--opt", default=argparse.SUPPRESS, metavar="NAME", help=own)
    parser.add_argument(
        "--out", type=place, metavar="FILE", help="where to save results (default: runs/tune-MODEL-DATASET-HASH.json)"
    )
    args: dict[str, Any] = vars(parser.parse_args(argv))
    out = args.pop("out")
    with ExitStack() as stack:
        if args.pop("no_fast", False):
            stack.enter_context(no_fast())
        return set_up_and_search(args, out, stop)


def set_up_and_search(args: dict[str, Any], out: Path | None, stop: StopOnSignal) -> int:
    """Run the command, with errors as messages; returns the exit status."""
    try:
        base = Config(**{"opt": "hybrid", **args})
        if base.opt != "hybrid" and not is_own(base.opt):
            raise ValueError(f"tune works for hybrid or your own optimizer, not for {base.opt}")
        if not base.val_fraction:
            raise ValueError("the search needs a validation split: give a --val-fraction above 0")
        dataset = load_mnist(name=base.dataset)
        epochs = base.default_epochs(dataset.name)
        prepare(base, dataset)  # bad input is found here, before the search
        settings(base.opt)
        tried = keep(base, dataset, epochs, out)
    except (ValueError, DeviceError) as error:
        return complain(error, BAD_INPUT, "minidl.tune")
    try:
        with telling(base.model, base.opt):
            search_and_print(base, dataset, epochs, tried)
    except UserError as error:
        return complain(error, FAILED, "minidl.tune")
    except OSError as error:
        return complain(f"{error}: earlier results are saved; the same command resumes", FAILED, "minidl.tune")
    except (StopNow, OutputLost) as error:
        if tried is not None and len(tried):
            why = error.words if isinstance(error, OutputLost) else f"stopped by {Signals(stop.signal).name}"
            kept = f"{len(tried)} results are saved in {tried.file}"
            say(error, f"minidl.tune: {why}; {kept}: the same command resumes")
            error.told = True
        raise
    return DONE


def keep(base: Config, dataset: Dataset, epochs: int, out: Path | None) -> Tried | None:
    """Where results are saved; None if the default file can't be written. Raises ValueError for a bad `out`."""
    identity = search_id(base, dataset, epochs, fast.version())
    file = out or default_file(base, dataset, identity)
    try:
        tried = Tried(file, identity, named=out is not None)
    except OSError as error:
        if out is not None:
            raise ValueError(f"--out {out} can't be written: {error.strerror}") from None
        print(f"note: results are not saved, because {file} can't be written: {error.strerror}")
        return None
    if tried.note:
        print(f"note: {tried.note}")
    if len(tried):
        print(f"resuming from {file}: {len(tried)} results are saved there")
    return tried


def search_and_print(base: Config, dataset: Dataset, epochs: int, tried: Tried | None) -> None:
    """Search, and print the results."""
    print(f"fast: {fast.version() or f'no ({fast.why_not()})'}")
    if dataset.note:
        print(f"note: {dataset.note}")
    planned = rounds(len(settings(base.opt)), epochs)
    plan = ", then ".join(f"{n} for {counted(length, 'epoch')}" for n, length in planned)
    print(f"{of_file(base.model)} on {dataset.name} ({dataset.source}): settings to try: {plan}", flush=True)
    lasted = 0  # the most epochs after which some setting had not diverged
    for length, results in search(base, dataset, epochs, tried):
        lasted = lasted if math.isinf(results[0].val_loss) else length
        print(f"after {counted(length, 'epoch')}, the best of {len(results)}:")
        for r in results[:3]:
            print(f"  {r.setting}: val accuracy {r.val_accuracy:.4f}, loss {r.val_loss:.4f}", flush=True)
    best = results[0].setting
    if not lasted:
        raise UserError(f"every setting of {of_file(base.opt)} diverged, even the smallest learning rate")
    if lasted < epochs:
        raise UserError(
            f"the {len(results)} settings that were best after {counted(lasted, 'epoch')} diverged later, and the "
            f"others were not trained that long: give --epochs {lasted}, or train with smaller rates than these"
        )
    for note in at_an_end(best, settings(base.opt)):
        print(f"note: {note}")
    config = best.config(base, dataset, epochs)
    words = ["--model", base.model, "--dataset", base.dataset, "--epochs", str(epochs), "--opt", base.opt]
    words += ["--lr", f"{best.lr:g}"]
    if best.switch_at is not None:
        words += ["--lr-sgd", f"{best.lr_sgd:g}", "--switch", str(config.switch)]
    print(f"use\n  python -m minidl.train {typed(*words, *flags(base))}")


def at_an_end(best: Setting, tried: Sequence[Setting]) -> Iterator[str]:
    """A sentence for each learning rate of the best setting at an end of the grid: a better one may lie beyond."""
    for name in ("lr", "lr_sgd"):
        rate, rates = getattr(best, name), {getattr(setting, name) for setting in tried} - {None}
        for end, words in ((min, ("smallest", "smaller")), (max, ("largest", "larger"))):
            if rates and rate == end(rates):
                yield f"{flag(name)} {rate:g} is the {words[0]} value tried: a {words[1]} one may be better still"


def flags(base: Config) -> list[str]:
    """The other options that differ from their defaults: the rates and the switch step found hold only with them."""
    default, found = Config(), []
    for name in ("batch_size", "val_fraction", "seed", "device"):
        if (value := getattr(base, name)) != getattr(default, name):
            found += [flag(name), str(value)]
    return found


if __name__ == "__main__":
    sys.exit(main())
