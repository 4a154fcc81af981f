"""All settings that determine a run, and how data, model, optimizer and Trainer are built from them.

The same Config gives the same run: it is saved in `config.json` and in every checkpoint. What a run writes and prints
is set by its Options. Each command-line option is declared here, once.
"""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from minidl.backend import get_backend
from minidl.data import Dataset, load_mnist
from minidl.data.batches import steps_per_epoch
from minidl.data.mnist import absolute
from minidl.data.splits import split
from minidl.module import Module, device_of
from minidl.optim import Optimizer, parse_switch
from minidl.optim.phases import MEASURED
from minidl.trainer import Trainer
from minidl.training.build import NAMES as OPTIMIZERS
from minidl.training.build import build
from minidl.training.models import MODELS, build_model, standardize
from minidl.training.options import at_least, check_options, documented, option, positive, share
from minidl.training.own_file import absolute_name, is_own
from minidl.training.presets import decided, model_defaults

# ---- what can be chosen ----


def _rate_or_word(text: str) -> float | str:
    if text in MEASURED:
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"give a number, projected or matched, not {text!r}") from None


def _positive_or_word(rate: Any) -> str | None:
    return None if rate in MEASURED else positive(rate)


def _two_numbers(text: str) -> tuple[float, float]:
    try:
        b1, b2 = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"give two numbers, as in 0.9,0.999, not {text!r}") from None
    return b1, b2


DATA, OPT, SWITCH, RUN = "data and model", "optimizer", "hybrid switch", "run"


@dataclass(frozen=True)
class Config:
    """What to train, on what, and how. None means: the default that suits the model and the data set."""

    dataset: str = option(
        "auto",
        "auto, mnist, mnist5k (5,000 digits that come with the package), fashion-mnist, kmnist, qmnist, emnist-letters "
        "(or -digits, -balanced, -byclass, -bymerge, -mnist), or a folder with four IDX files; auto is the full MNIST "
        "if it is on this machine or can be downloaded, else mnist5k",
        group=DATA, metavar="NAME",
    )  # fmt: skip
    model: str = option(
        "mlp", " ".join(MODELS) + ", or your own network, as in mine.py:Net", group=DATA, metavar="NAME"
    )
    val_fraction: float = option(
        0.1,
        "fraction of the training images set aside for validation; 0, not for minidl.tune: train on all of them, "
        "without validation",
        group=DATA, metavar="F", check=share,
    )  # fmt: skip
    opt: str = option(
        None,
        " ".join(OPTIMIZERS) + ", or your own optimizer, as in mine.py:Lion (default: hybrid; race: adam)",
        group=OPT, metavar="NAME",
    )  # fmt: skip
    lr: float | None = option(
        None, "learning rate (default: depends on the optimizer)", group=OPT, metavar="RATE", check=positive
    )
    betas: tuple[float, float] | None = option(
        None, "decay rates of Adam's two averages (default: 0.9,0.999; race: 0.7,0.9)", group=OPT, metavar="B1,B2",
        read=_two_numbers,
    )  # fmt: skip
    momentum: float | None = option(
        None, "momentum; for hybrid, of the SGD phase (default: depends on --opt)", group=OPT, metavar="MU"
    )
    weight_decay: float | None = option(None, "weight decay (default: 0; adamw: 0.01)", group=OPT, metavar="L")
    schedule: str | None = option(
        None,
        "learning-rate schedule: constant, cosine, linear (to zero over the run), exponential:gamma=0.9 (per epoch), "
        "step:every=1000,factor=0.1 or halving:start=600,every=100, each with an optional warmup=N; or onecycle, up "
        "and down again over the run, with constant momentum (default: constant; race: onecycle)",
        group=OPT, metavar="S",
    )  # fmt: skip
    clip_norm: float | None = option(
        None, "clip the gradient's norm to N (default: no limit; gnmt: 5)", group=OPT, metavar="N", check=positive
    )
    switch: str | None = option(
        None,
        "when to switch: step:1000, epoch:3, plateau:patience=2, gap:0.02, swats, swats:rtol=1e-3, ..., combined with "
        "| (or) and & (and); auto: the preset of this model and data set (default: auto; swats: swats)",
        group=SWITCH, metavar="WHEN",
    )  # fmt: skip
    lr_after: float | str | None = option(
        None,
        "learning rate after the switch, instead of --lr-sgd: a number, projected (as in SWATS), or matched (the first "
        "SGD step is as long as Adam's last) (default: preset)",
        group=SWITCH, metavar="RATE", read=_rate_or_word, check=_positive_or_word,
    )  # fmt: skip
    lr_sgd: float | None = option(
        None, "learning rate of the SGD phase of hybrid and gnmt", group=SWITCH, metavar="RATE", check=positive
    )
    schedule_sgd: str | None = option(
        None, "schedule of hybrid's SGD phase (default: --schedule, else preset)", group=SWITCH, metavar="S"
    )
    epochs: int | None = option(
        None, "passes over the training split (default: 10, on mnist5k 20; race: 1, on mnist5k 15)", group=RUN,
        metavar="N", check=at_least(1, most=10**6),
    )  # fmt: skip
    batch_size: int = option(
        None, "examples per step (default: 128; race: 256)", group=RUN, metavar="N", check=at_least(1)
    )
    seed: int = option(0, "same seed, same result", group=RUN, metavar="N", check=at_least(0, most=2**64 - 1))
    device: str = option("auto", "cpu, gpu or auto", group=RUN, metavar="D")
    tf32: bool = option(
        False,
        "on a GPU: float32 matrix products on the tensor cores, their factors rounded to 10 bits: faster, less exact",
        group=RUN,
    )

    def __post_init__(self) -> None:
        check_name("model", self.model, MODELS, "Net")
        for name in ("opt", "batch_size"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(model_defaults(self.model), name))
        check_name("optimizer", self.opt, OPTIMIZERS, "Lion")
        for name in ("model", "opt"):
            object.__setattr__(self, name, absolute_name(getattr(self, name)))
        check_options(self)
        if self.switch not in (None, "auto"):
            check_seen(str(self.switch), self.val_fraction)

    def default_epochs(self, dataset: str) -> int:
        """How many epochs to train if `--epochs` is not given: a small data set needs more passes."""
        usual = model_defaults(self.model)
        return self.epochs or (usual.epochs_5k if dataset == "mnist5k" else usual.epochs)


@dataclass(frozen=True)
class Options:
    """Settings that do not change the result, except that --no-fast rounds differently."""

    checkpoint_every: int | None = option(
        None, "write a checkpoint every STEPS steps too, not only after each epoch", group=RUN, metavar="STEPS",
        check=at_least(1, "step", most=10**9),
    )  # fmt: skip
    test_every_epoch: bool = option(
        False,
        "print the test accuracy after each epoch, for teaching only: choosing by it overfits to the test split",
        group=RUN,
    )
    threads: int | None = option(
        None,
        "at most this many threads, with the same bits; 1 leaves the other cores to other programs (default: the "
        "number of cores)",
        group=RUN, metavar="N", check=at_least(1, most=4096),
    )  # fmt: skip
    no_fast: bool = option(False, "use NumPy alone, even if the extra `fast` is installed", group=RUN)
    report: bool = option(
        False,
        "write report.html to the run folder at the end: curves, confusion matrix, mistakes (see minidl.report)",
        group=RUN,
    )
    trace: str | None = option(
        None,
        "record the run, and write a replay page, FILE.html, to step through it in a browser",
        group=RUN, metavar="FILE", read=lambda text: os.path.abspath(os.path.expanduser(text)),
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)


documented(Config)
documented(Options)

# What build takes besides the name: the options of these two groups.
OPTIMIZER_OPTIONS = [f.name for f in fields(Config) if f.metadata["group"] in (OPT, SWITCH) and f.name != "opt"]


# ---- what is made of it ----


@dataclass(frozen=True)
class Job:
    """A run ready to start: its complete config (see `pinned`), data set, number of epochs, and Trainer."""

    config: Config
    dataset: Dataset
    epochs: int
    trainer: Trainer

    def __repr__(self) -> str:
        return f"Job of {self.config.model} on {self.dataset!r} by {self.config.opt}, {self.epochs} epochs"

    @property
    def model(self) -> Module:
        return self.trainer.model

    @property
    def device(self) -> str:
        return device_of(self.model)


def prepare(config: Config, dataset: Dataset | None = None, model: Module | None = None) -> Job:
    """Load the data and build the network, unless given, and everything else.

    Raises ValueError (DataError, SwitchError, ...) or DeviceError, with a message for the user.
    """
    device = get_backend(config.device).name
    if dataset is None:
        config = replace(config, dataset=absolute(config.dataset))
        dataset = load_mnist(name=config.dataset)
    splits = split(dataset, config.val_fraction, config.seed, device)
    length = steps_per_epoch(len(splits.train), config.batch_size)
    config = pinned(config, dataset.name, device, length)
    if model is None:
        model = build_model(config.model, splits.image_size, splits.classes, config.seed)
        standardize(model, splits.train.images)
    model.to(device)
    epochs = config.default_epochs(dataset.name)
    optimizer = optimizer_of(config, model, epochs, length)
    return Job(config, dataset, epochs, Trainer(model, optimizer, splits, config.batch_size, config.seed))


def optimizer_of(config: Config, model: Module, epochs: int, steps_per_epoch: int) -> Optimizer:
    """The optimizer of a pinned config, for a model's weights."""
    options = {name: value for name in OPTIMIZER_OPTIONS if (value := getattr(config, name)) is not None}
    total = epochs * steps_per_epoch
    return build(config.opt, model.parameters(), total_steps=total, steps_per_epoch=steps_per_epoch, **options)


def pinned(config: Config, dataset: str, device: str, steps_per_epoch: int) -> Config:
    """The config with auto, presets and defaults replaced by their values, which may differ elsewhere or later."""
    epochs = config.default_epochs(dataset)
    given = {name: getattr(config, name) for name in OPTIMIZER_OPTIONS}
    options = decided(config.opt, given, config.model, dataset, epochs, steps_per_epoch)
    name = dataset if config.dataset == "auto" else config.dataset
    return replace(config, dataset=name, epochs=epochs, device=device, **options)


def check_seen(switch: str, val_fraction: float) -> None:
    """Raise ValueError for a switch condition that can't be parsed, or needs a validation split that is missing."""
    blind = [name for name in parse_switch(switch).metrics if name.startswith("val_")]
    if blind and not val_fraction:
        raise ValueError(
            f"--switch {switch} uses {blind[0]}, but --val-fraction 0 leaves no images for validation: "
            "choose another condition, or a fraction above 0"
        )


def check_name(kind: str, name: str, known: Iterable[str], example: str) -> None:
    """Raise ValueError for an unknown name, with the nearest known one. A user's file is not looked at yet."""
    known = list(known)
    if name not in known and not is_own(name):
        near: list[Any] = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        own = f", or your own, as in mine.py:{example}"
        raise ValueError(f"unknown {kind} {name!r}: {hint}choose one of {' '.join(known)}{own}")
