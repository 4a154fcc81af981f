"""When to switch, for a model on a data set: the table behind `--switch auto`.

The right moment depends on the model, the data and the length of the run. Each row says where its numbers come from;
`python -m minidl.tune` derives a row for data of your own.
"""

from __future__ import annotations

from typing import NamedTuple

from minidl.optim.grammar import unknown


class Preset(NamedTuple):
    """One row. Rates and momentum as in Hybrid(first=Adam(lr), then=SGD(lr_sgd, momentum), switch, lr_after)."""

    switch: float | str  # the share of the run's epochs that Adam gets, or a condition as for `--switch`
    lr: float  # Adam's
    lr_sgd: float  # SGD's
    momentum: float  # SGD's
    lr_after: float | str | None  # None: lr_sgd
    schedule_sgd: str | None  # of SGD's rate, over the rest of the run; None: constant
    source: str


# 2026-11-23, ten epochs, seeds 0 to 2, by validation accuracy: switch after 3, 5 or 6 epochs, SGD at 0.01 to 0.05.
_TRIED = "nine runs by hand: the latest switch and the smallest rate were best"
# The same day, seeds 0 to 2: after 4, 5, 6 or 8 epochs, SGD at 0.005 to 0.03, constant, with decay, and with cosine.
_TRIED_CNN = "ten runs by hand: constant rates ended at 0.9898 to 0.9913 on the test split, cosine at 0.9904 to 0.9918"
# The same day, twenty epochs, seed 0: after 8 or 12 epochs, SGD at 0.01 or 0.03.
_TRIED_5K = "four runs by hand: all within 0.005 in validation accuracy"
_LIKE_MLP = "not measured: mlp's row"
_TUNE = "python -m minidl.tune --model MODEL --dataset DATASET, seed 0"
_TUNE_2 = _TUNE + ", the first two of its three rounds"

PRESETS: dict[tuple[str, str], Preset] = {
    # model       data set           switch      lr    lr_sgd mom. lr_after schedule_sgd  source
    ("mlp",      "mnist"):   Preset(0.6,        1e-3, 0.01,  0.9, None,    None,     _TRIED),
    ("cnn",      "mnist"):   Preset(0.4,        1e-3, 0.03,  0.9, None,    "cosine", _TRIED_CNN),
    ("linear",   "mnist"):   Preset(0.6,        3e-3, 0.003, 0.9, None,    None,     _TUNE),
    ("underfit", "mnist"):   Preset(0.3,        1e-3, 0.01,  0.9, None,    None,     _TUNE),
    ("goodfit",  "mnist"):   Preset(0.6,        1e-3, 0.01,  0.9, None,    None,     _LIKE_MLP),
    ("overfit",  "mnist"):   Preset(0.6,        1e-3, 0.01,  0.9, None,    None,     _LIKE_MLP),
    ("mlp",      "mnist5k"): Preset(0.6,        3e-3, 0.01,  0.9, None,    None,     _TUNE),
    ("cnn",      "mnist5k"): Preset(0.6,        1e-3, 0.01,  0.9, None,    None,     _TRIED_5K),
    ("linear",   "mnist5k"): Preset(0.3,        3e-3, 0.03,  0.9, None,    None,     _TUNE),
    ("underfit", "mnist5k"): Preset(0.3,        3e-4, 0.03,  0.9, None,    None,     _TUNE),
    ("goodfit",  "mnist5k"): Preset(0.3,        3e-3, 0.03,  0.9, None,    None,     _TUNE),
    ("overfit",  "mnist5k"): Preset(0.6,        3e-3, 0.1,   0.9, None,    None,     _TUNE_2),
}  # fmt: skip


def preset(model: str, dataset: str, epochs: int = 10) -> Preset:
    """The row of a model and a data set, its switch as a condition for a run of that many epochs.

    Data that has no row of its own gets the model's row for full MNIST. Raises ValueError for an unknown model.
    """
    models = sorted({row[0] for row in PRESETS})
    if model not in models:
        raise ValueError(unknown("model", model, models))
    row = PRESETS.get((model, dataset), PRESETS[model, "mnist"])
    if isinstance(row.switch, str):
        return row
    return row._replace(switch=f"epoch:{max(1, round(row.switch * epochs))}")
