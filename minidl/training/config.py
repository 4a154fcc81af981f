"""Everything that decides a run, in one place, and how it becomes data, a model, an optimizer and a Trainer.

A run is repeated by building the same Config again: it is what `config.json` and every checkpoint hold.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from minidl.backend import get_backend
from minidl.data import Dataset, load_mnist
from minidl.data.batches import split
from minidl.data.mnist import absolute
from minidl.nn import Module
from minidl.optim import parse_switch
from minidl.trainer import Trainer
from minidl.training.build import DEFAULT_LR, build
from minidl.training.build import NAMES as OPTIMIZERS
from minidl.training.models import MODELS, build_model
from minidl.training.presets import preset


@dataclass(frozen=True)
class Config:
    """What to train, on what, and how. None means: the default that suits the model and the data set.

    dataset       auto, mnist, mnist5k, or a folder with four IDX files
    model, opt    names, as `--model` and `--opt` take them
    epochs        passes over the training split
    batch_size    examples per step
    val_fraction  share of the training images set aside for validation
    seed          decides split, initial weights, order of examples and dropout
    device        cpu, gpu or auto
    lr, momentum, weight_decay, schedule, clip_norm   of the optimizer
    switch, lr_after, lr_sgd, schedule_sgd            of the hybrids: when to switch, and the rate after it
    """

    dataset: str = "auto"
    model: str = "mlp"
    opt: str = "hybrid"
    epochs: int | None = None
    batch_size: int = 128
    val_fraction: float = 0.1
    seed: int = 0
    device: str = "auto"
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    clip_norm: float | None = None
    switch: str | None = None
    lr_after: float | str | None = None
    lr_sgd: float | None = None
    schedule_sgd: str | None = None

    def __post_init__(self) -> None:
        check_name("model", self.model, MODELS)
        check_name("optimizer", self.opt, OPTIMIZERS)
        if self.switch not in (None, "auto"):
            parse_switch(self.switch)
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        for name in ("lr", "lr_sgd", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"--{name.replace('_', '-')} must be a positive number, got {value:g}")
        if self.seed < 0:
            raise ValueError(f"--seed must be 0 or more, got {self.seed}")
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"--val-fraction must be between 0 and 1, got {self.val_fraction:g}")

    def default_epochs(self, dataset: str) -> int:
        """How many epochs to train where `--epochs` is not given: a small data set needs more passes."""
        return self.epochs or (20 if dataset == "mnist5k" else 10)


@dataclass(frozen=True)
class Job:
    """A run ready to go: its config spelled out (see `pinned`), the data set it is on, its length, and the Trainer."""

    config: Config
    dataset: Dataset
    epochs: int
    trainer: Trainer

    @property
    def model(self) -> Module:
        return self.trainer.model

    @property
    def device(self) -> str:
        return next(iter(self.model.parameters())).device


def prepare(config: Config, dataset: Dataset | None = None) -> Job:
    """Load the data (unless given) and build everything.

    Raises ValueError (DataError, SwitchError, ...) or DeviceError, with a message for the user.
    """
    device = get_backend(config.device).name
    if dataset is None:
        config = replace(config, dataset=absolute(config.dataset))
        dataset = load_mnist(name=config.dataset)
    config = pinned(config, dataset.name, device)
    splits = split(dataset, config.val_fraction, config.seed, device)
    model = build_model(config.model, splits.image_size, splits.classes, config.seed).to(device)
    epochs = config.default_epochs(dataset.name)
    steps_per_epoch = math.ceil(len(splits.train) / config.batch_size)
    optimizer = build(
        config.opt,
        model.parameters(),
        total_steps=epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        model=config.model,
        dataset=dataset.name,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        switch=config.switch,
        lr_after=config.lr_after,
        lr_sgd=config.lr_sgd,
        schedule=config.schedule,
        schedule_sgd=config.schedule_sgd,
        max_norm=config.clip_norm,
    )
    return Job(config, dataset, epochs, Trainer(model, optimizer, splits, config.batch_size, config.seed))


def pinned(config: Config, dataset: str, device: str) -> Config:
    """The config with all that may mean something else tomorrow or elsewhere spelled out: auto, presets, defaults."""
    values: dict[str, Any] = {"epochs": config.default_epochs(dataset), "device": device}
    if config.dataset == "auto":
        values["dataset"] = dataset
    if config.opt != "hybrid":
        values["lr"] = DEFAULT_LR[config.opt] if config.lr is None else config.lr
        return replace(config, **values)
    row = preset(config.model, dataset, values["epochs"])._asdict()
    if config.lr_after is not None or config.lr_sgd is not None:
        row["lr_after"] = config.lr_after  # who gives one of the two does without the preset's other
    values |= {name: row[name] for name in ("lr", "lr_sgd", "momentum", "lr_after") if getattr(config, name) is None}
    if config.schedule_sgd is None:
        values["schedule_sgd"] = config.schedule or row["schedule_sgd"] or "constant"
    if config.switch in (None, "auto"):
        values["switch"] = row["switch"]
    return replace(config, **values)


def check_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise ValueError for an unknown name, with the nearest known one."""
    known = list(known)
    if name not in known:
        near: list[Any] = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown {kind} {name!r}: {hint}choose one of {' '.join(known)}")
