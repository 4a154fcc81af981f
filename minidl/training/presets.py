"""Defaults of options that are not given: of each optimizer, and when a hybrid switches.

The right moment to switch depends on the model, the data and the length of the run. Each row of PRESETS names the
source of its numbers; `python -m minidl.tune` finds them for your own data. `decided` fills in all defaults; nothing
else does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from minidl.optim.grammar import unknown
from minidl.training.loader import load
from minidl.training.own import own_lr
from minidl.training.own_file import is_own


class ModelDefaults(NamedTuple):
    """A model's default optimizer, batch size and epochs (more on mnist5k, which has fewer images)."""

    opt: str = "hybrid"
    batch_size: int = 128
    epochs: int = 10
    epochs_5k: int = 20


# tuomaso/train_mnist_fast; 15 epochs of mnist5k are as many steps
MODEL_DEFAULTS = {"race": ModelDefaults("adam", 256, 1, 15)}

# The defaults of each optimizer, for MNIST and batches of about 100. Those of hybrid are in PRESETS.
DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.1},
    "momentum": {"lr": 0.02, "momentum": 0.9},
    "nesterov": {"lr": 0.02, "momentum": 0.9},
    "adagrad": {"lr": 0.02},
    "rmsprop": {"lr": 1e-3, "momentum": 0.0},
    "adam": {"lr": 1e-3},
    "adamw": {"lr": 1e-3, "weight_decay": 0.01},
    "hybrid": {},
    "swats": {"lr": 1e-3},
    "gnmt": {"lr": 2e-4, "lr_sgd": 0.5, "clip_norm": 5.0},
    "blend": {"lr": 0.05, "momentum": 0.9},
}


# The same, for a model and an optimizer.
_CYCLE: dict[str, Any] = {"betas": (0.7, 0.9), "schedule": "onecycle"}
TAILORED = {("race", "adam"): {"lr": 0.01, **_CYCLE}}


class Preset(NamedTuple):
    """One row, with the arguments of Hybrid(first=Adam(lr), then=SGD(lr_sgd, momentum), switch, lr_after)."""

    switch: float | str  # the fraction of the run's epochs for Adam, or a condition as for `--switch`
    lr: float  # Adam's
    lr_sgd: float  # SGD's
    momentum: float  # SGD's
    lr_after: float | str | None  # None: lr_sgd
    schedule_sgd: str | None  # SGD's, over the remainder of the run; None: constant
    source: str
    schedule: str | None = None  # Adam's, over the whole run; None: constant
    betas: tuple[float, float] | None = None  # Adam's; None: its defaults


# `python -m tutorials.study.choose` prints these rows: the hybrids that were best on validation images.
_MLP = Preset(0.8, 1.85e-3, 0.0178, 0.9722, None, None, "the study's good-fit MLP, 20 seeds")
_STUDY_CNN = "the study's good-fit CNN, 20 seeds"
# 2026-11-23, twenty epochs, seed 0: after 8 or 12 epochs, SGD at 0.01 or 0.03.
_TRIED_5K = "four manual runs: all within 0.005 in validation accuracy"
# The same day, seed 0: after 0.5, 0.7 or 0.85 of the steps, SGD at 0.003, 0.01 or 0.03, linear to zero.
_TRIED_RACE = "nine manual runs: the latest switches were best, 0.9880 in validation accuracy; Adam to the end: 0.9883"
_LIKE_MLP = _MLP._replace(source="not measured: mlp's row")
_TUNE = "python -m minidl.tune --model MODEL --dataset DATASET, seed 0"
_TUNE_2 = _TUNE + ", the first two of its three rounds"

PRESETS: dict[tuple[str, str], Preset] = {
    # model      data set            switch lr       lr_sgd   mom.  lr_after schedule_sgd source
    ("mlp",      "mnist"):    _MLP,
    ("cnn",      "mnist"):    Preset(0.518, 4.39e-3, 0.00707, 0.974,  None, "cosine", _STUDY_CNN),
    ("linear",   "mnist"):    Preset(0.6,   3e-3,    0.003,   0.9,    None, None,     _TUNE),
    ("underfit", "mnist"):    Preset(0.3,   1e-3,    0.01,    0.9,    None, None,     _TUNE),
    ("goodfit",  "mnist"):    _LIKE_MLP,
    ("overfit",  "mnist"):    _LIKE_MLP,
    ("race",     "mnist"):    Preset(0.85,  0.01,    0.03,    0.9,    None, "linear", _TRIED_RACE, **_CYCLE),
    ("mlp",      "mnist5k"):  Preset(0.6,   3e-3,    0.01,    0.9,    None, None,     _TUNE),
    ("cnn",      "mnist5k"):  Preset(0.6,   1e-3,    0.01,    0.9,    None, None,     _TRIED_5K),
    ("linear",   "mnist5k"):  Preset(0.3,   3e-3,    0.03,    0.9,    None, None,     _TUNE),
    ("underfit", "mnist5k"):  Preset(0.3,   3e-4,    0.03,    0.9,    None, None,     _TUNE),
    ("goodfit",  "mnist5k"):  Preset(0.3,   3e-3,    0.03,    0.9,    None, None,     _TUNE),
    ("overfit",  "mnist5k"):  Preset(0.6,   3e-3,    0.1,     0.9,    None, None,     _TUNE_2),
}  # fmt: skip


def model_defaults(model: str) -> ModelDefaults:
    """The defaults of a model, which may be a user's own."""
    return MODEL_DEFAULTS.get(model, ModelDefaults())


def preset(model: str, dataset: str, epochs: int = 10, steps_per_epoch: int | None = None) -> Preset:
    """The row of a model and a data set, with its switch as a condition for a run of that many epochs.

    steps_per_epoch  if given, a run of one epoch switches within it

    Data without a row gets the model's row for full MNIST; a user's own network gets the rows of mlp.
    Raises ValueError for an unknown model.
    """
    model = "mlp" if is_own(model) else model
    models = sorted({row[0] for row in PRESETS})
    if model not in models:
        raise ValueError(unknown("model", model, models))
    row = PRESETS.get((model, dataset), PRESETS[model, "mnist"])
    if isinstance(row.switch, str):
        return row
    if epochs == 1 and steps_per_epoch:
        return row._replace(switch=f"step:{_before(row.switch, steps_per_epoch)}")
    return row._replace(switch=f"epoch:{_before(row.switch, epochs)}")


def _before(share: float, n: int) -> int:
    """This share of n epochs or steps: at least one, and one fewer than all, so that SGD runs too."""
    return max(1, min(round(share * n), n - 1))


def decided(
    opt: str,
    given: Mapping[str, Any],
    model: str = "mlp",
    dataset: str = "mnist",
    epochs: int = 10,
    steps_per_epoch: int | None = None,
) -> dict[str, Any]:
    """All options of an optimizer: those given that are not None, and the defaults of the others.

    model, dataset, epochs, steps_per_epoch  choose a hybrid's preset (see `preset`). Its switch "auto" is the preset's

    Raises ValueError for an unknown optimizer, or an unknown model for a hybrid.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if is_own(opt):
        lr = own_lr(load(opt), odd=None)  # None: it is called without lr, and uses its own
        return {**({} if lr is None else {"lr": lr}), **given}
    if opt not in DEFAULTS:
        raise ValueError(unknown("optimizer", opt, DEFAULTS))
    if opt != "hybrid":
        return {**DEFAULTS[opt], **TAILORED.get((model, opt), {}), **given}
    row = preset(model, dataset, epochs, steps_per_epoch)._asdict()
    del row["source"]
    if "lr_after" in given or "lr_sgd" in given:
        row["lr_after"] = None  # given one of the two, the preset's other does not apply
    if given.get("switch") == "auto":
        del given["switch"]
    row["schedule_sgd"] = given.get("schedule") or row["schedule_sgd"] or "constant"
    return row | given
