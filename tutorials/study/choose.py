"""Presets and learning rates chosen by the study's validation images: `python -m tutorials.study.choose studies/paper`.

Two of its networks are models of the command line, on the same data: good-fit MLP is `mlp`, good-fit CNN is `cnn`. For
each that is done, this prints the row for PRESETS and the learning rates for DEFAULTS (minidl/training/presets.py).
Each contestant has the setting that its tuning chose; the hybrid is the one with the best mean validation accuracy of
the final runs. The test split is not used. Afterwards run `python -m tests.compare` to update the table of all
optimizers (tutorials/pages/optimizers.md). Only defaults change: runs with explicit settings keep their bits.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minidl.data import load_mnist
from minidl.study import Study
from minidl.study.analysis import Block, Entry, analyse
from minidl.study.study import open_plan
from minidl.training.presets import DEFAULTS, PRESETS, Preset
from tutorials.study.command import command

MODELS = {"good-fit MLP": "mlp", "good-fit CNN": "cnn"}
HYBRIDS = ("hybrid", "hybrid-20", "hybrid-40", "hybrid-80", "hybrid-plateau", "hybrid-cosine")  # what a Preset can say
OPTIONS = {"sgd": "momentum"} | {key: key for key in ("adam", "adamw", "rmsprop", "swats", "gnmt", "blend")}


def choices(study: Study, folder: Path, models: Mapping[str, str] = MODELS) -> list[str]:
    """Lines that say what is chosen. Raises ValueError if none of these regimes is done in the folder."""
    blocks = analyse(open_plan(study, load_mnist(name=study.dataset), folder))
    done = [block for block in blocks if block.complete and block.regime.name in models]
    if not done:
        raise ValueError(f"in {folder}, none of these is done: {', '.join(models)}")
    return [line for block in done for line in _of(block, models[block.regime.name])]


def validated(entry: Entry) -> float:
    """Mean validation accuracy of the final runs."""
    values = [float(result["val_accuracy"]) for result in entry.results()]
    return sum(values) / len(values)


def preset(block: Block) -> Preset:
    """The row of PRESETS: the hybrid that is best on the validation images."""
    key = max((k for k in HYBRIDS if k in block.entries), key=lambda k: validated(block.entries[k]))
    found = _setting(block.entries[key])
    source = f"the study's {block.regime.name}, {len(block.entries[key].finals)} seeds"
    schedule = None if found.get("schedule_sgd") in (None, "constant") else found["schedule_sgd"]
    switch = found.get("at") or found["switch"]  # a moment, or a condition
    return Preset(switch, found["lr"], found["lr_sgd"], found["momentum"], None, schedule, source)


def _setting(entry: Entry) -> dict[str, Any]:
    return entry.contestant.recipe(entry.tuned.winner)


def _of(block: Block, model: str) -> list[str]:
    lines = [f"{block.regime.name}, for --model {model}, by the mean validation accuracy of the final runs:"]
    ranked = sorted(block.entries.items(), key=lambda item: -validated(item[1]))
    for key, entry in ranked:
        settings = ", ".join(f"{k}={v:g}" for k, v in _setting(entry).items() if isinstance(v, float))
        lines.append(f"  {100 * validated(entry):6.2f} %  {key:15} {settings}")
    if any(key in block.entries for key in HYBRIDS):
        lines.append(f'  PRESETS["{model}", "mnist"] = {preset(block)}')
        lines.append(f"    now {PRESETS[model, 'mnist']}")
    for key, option in OPTIONS.items():
        if key in block.entries:
            new = {k: v for k, v in _setting(block.entries[key]).items() if k in ("lr", "lr_sgd", "momentum")}
            lines.append(f'  DEFAULTS["{option}"]: {new}, now {DEFAULTS[option]}')
    return lines


if __name__ == "__main__":
    sys.exit(command("choose", __doc__, choices))
