"""When to switch, for a model on a data set: the table behind `--switch auto`.

The right moment depends on the regime. A model that can't fit the data has little to gain from SGD's bias towards
wide minima; one that over-fits has the most. Each row says where its numbers come from; `python -m minidl.tune`
derives a row for data of your own.
"""

from __future__ import annotations

from typing import NamedTuple

from optim.grammar import unknown


class Preset(NamedTuple):
    """One row. Rates and momentum as in Hybrid(first=Adam(lr), then=SGD(lr_sgd, momentum), switch, lr_after)."""

    switch: str
    lr: float  # Adam's
    lr_sgd: float  # SGD's
    momentum: float  # SGD's
    lr_after: float | str | None  # None: lr_sgd
    schedule_sgd: str | None  # of SGD's rate, over the rest of the run; None: constant
    source: str


_GUESS = "first guess, to be measured"

PRESETS: dict[tuple[str, str], Preset] = {
    # model       data set     switch                             lr    lr_sgd  mom. lr_after  source
    ("linear",   "mnist"):   Preset("epoch:2",                    1e-3, 0.05,   0.9, None, None, _GUESS),
    ("linear",   "mnist5k"): Preset("epoch:2",                    1e-3, 0.05,   0.9, None, None, _GUESS),
    ("mlp",      "mnist"):   Preset("plateau:patience=1 | epoch:3", 1e-3, 0.02, 0.9, None, None, _GUESS),
    ("mlp",      "mnist5k"): Preset("plateau:patience=1 | epoch:3", 1e-3, 0.02, 0.9, None, None, _GUESS),
    ("cnn",      "mnist"):   Preset("epoch:4", 1e-3, 0.03, 0.9, None, "cosine", _GUESS),
    ("cnn",      "mnist5k"): Preset("plateau:patience=1 | epoch:3", 1e-3, 0.02, 0.9, None, None, _GUESS),
    ("underfit", "mnist"):   Preset("epoch:3",                    1e-3, 0.05,   0.9, None, None, _GUESS),
    ("underfit", "mnist5k"): Preset("epoch:3",                    1e-3, 0.05,   0.9, None, None, _GUESS),
    ("goodfit",  "mnist"):   Preset("plateau:patience=1 | epoch:3", 1e-3, 0.02, 0.9, None, None, _GUESS),
    ("goodfit",  "mnist5k"): Preset("plateau:patience=1 | epoch:3", 1e-3, 0.02, 0.9, None, None, _GUESS),
    ("overfit",  "mnist"):   Preset("gap:0.01 | epoch:3",         1e-3, 0.02,   0.9, None, None, _GUESS),
    ("overfit",  "mnist5k"): Preset("gap:0.02 | epoch:3",         1e-3, 0.02,   0.9, None, None, _GUESS),
}  # fmt: skip


def preset(model: str, dataset: str) -> Preset:
    """The row of a model and a data set. Data that has no row of its own gets the model's row for full MNIST.

    Raises ValueError for an unknown model.
    """
    models = sorted({row[0] for row in PRESETS})
    if model not in models:
        raise ValueError(unknown("model", model, models))
    return PRESETS.get((model, dataset), PRESETS[model, "mnist"])
