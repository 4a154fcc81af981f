"""Restoring a run from a checkpoint: the schema of its state, and how model, optimizer and Trainer are restored.

The checksum verifies that a file is intact; the schema here, that this version can use its content. So a value of a
wrong type, or a size of 10^12, is a one-line error when the file is read, not an exception deep inside an hour later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from minidl.backend import Array
from minidl.data import Dataset
from minidl.data.dataset import LONGEST_NAME
from minidl.data.schema import Kind, anything, either, flag, listed, mapping, maybe, real, table, text, whole
from minidl.nn import Module
from minidl.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from minidl.training.config import Config, Job
from minidl.training.own_file import is_own

PYTHON = "python"  # the kind of settings that a Trainer writes, instead of Config: see program/folder.py
LARGEST = 1 << 16  # largest height and width of an image, and number of classes
MOST_PIXELS = 1 << 24
NUMBER = real()  # losses and learning rates: a sum of losses may exceed float32

EVENT = table({"step": whole(), "epoch": whole(), "lr": NUMBER, "condition": text()})  # a switch
RECORD: dict[str, Kind] = {  # a line of metrics.jsonl
    "epoch": whole(1), "step": whole(1), "train_loss": NUMBER, "train_accuracy": real(0, 1), "val_loss": maybe(NUMBER),
    "val_accuracy": maybe(real(0, 1)), "lr": NUMBER, "phase": text(100), "seconds": NUMBER,
}  # fmt: skip
SUMMARY: dict[str, Kind] = {  # summary.json, without the times
    "dataset": text(), "source": text(), "device": text(100), "model": text(), "parameters": whole(),
    "optimizer": text(), "seed": whole(0, 2**64), "epochs": whole(1), "steps": whole(1), "train_loss": NUMBER,
    "train_accuracy": real(0, 1), "val_accuracy": maybe(real(0, 1)), "test_loss": NUMBER, "test_accuracy": real(0, 1),
    "switch": maybe(EVENT), "run": text(100), "bits": whole(), "fast": maybe(text(100)),
}  # fmt: skip
PARENT = table({"run": text(), "epochs": whole(), "steps": whole()})
GENERATOR = either(
    table({"key": listed(whole(0, 2**64), 2, 2), "step": whole(0, 2**62)}),
    table({"bit_generator": text(100), "state": mapping(whole(0, 2**128)), "has_uint32": whole(), "uinteger": whole()}),
)
TRAINER: dict[str, Kind] = {
    "epoch": whole(), "batch": whole(), "step": whole(), "loss_sum": NUMBER, "correct": whole(), "seen": whole(),
    "samples": whole(), "train_seconds": NUMBER, "seconds": NUMBER, "metrics": listed(table(RECORD)),
    "generators": mapping(GENERATOR),
}  # fmt: skip
_PROGRESS = table({"step": whole(), "epoch": whole()}, {"reports": listed(mapping(real(finite=False)))})
_RULE: dict[str, Kind] = {
    "rule": text(100), "t": whole(), "rate": maybe(real(0, 1e40)), "scale": NUMBER, "decay_scale": NUMBER,
    "own_t": maybe(listed(whole())), "projection": table({}, {"lam": NUMBER}), "progress": _PROGRESS,
    "switch": maybe(EVENT), "length_ratio": maybe(NUMBER),
}  # fmt: skip
OPTIMIZER = table({"rule": text(100)}, {**_RULE, "current": table({"rule": text(100)}, _RULE, anything)}, anything)
SETTINGS = table(  # what a Trainer writes instead of Config
    {
        "dataset": text(), "model": text(), "opt": text(), "epochs": whole(), "batch_size": whole(1),
        "seed": whole(0, 2**128), "device": text(100), "val_fraction": maybe(real(0, 1)),
        "split_seed": maybe(whole(0, 2**128)), "counts": maybe(listed(whole(), 2, 2)),
        "network": maybe(mapping(anything)), "optimizer": maybe(mapping(anything)),
    },
    {"asked": text(), "file": text(), "kind": text(100), "tf32": flag,
     "frozen": maybe(listed(text())), "trainer": text()},
)  # fmt: skip
STATE = table(
    {
        "format": whole(),
        "run": text(100),
        "versions": table(
            {"minidl": text(100), "bits": whole(), "numpy": text(100)},
            {"fast": maybe(text(100)), "processor": maybe(text(100))},
        ),
        "config": mapping(anything),  # Config and Options check their own values
        "options": mapping(anything),
        "data": table(
            {"name": text(), "sha256": text(64)},
            {"class_names": listed(text(LONGEST_NAME)), "polarity": text(100), "known": text(100)},
        ),
        "model": table({"image_size": listed(whole(1, LARGEST), 2, 2), "classes": whole(1, LARGEST)}),
        "trainer": table(TRAINER, {"numbers": mapping(anything)}),
        "optimizer": mapping(anything),
    },
    {"files": mapping(text(64)), "parent": maybe(PARENT), "summary": maybe(table(SUMMARY, {"parent": PARENT}))},
    others=anything,
)


def load_run_checkpoint(file: Path) -> Checkpoint:
    """Load the checkpoint of a run, and check its state. Raises CheckpointError."""
    if not file.is_file():
        raise CheckpointError(no_run(file.parent, file.name))
    checkpoint = load_checkpoint(file)
    state = checkpoint.state
    with must_fit(file):
        STATE(state, "")
        ours = is_from_python(state["config"])  # then program/load.py builds the network and the optimizer
        if ours:
            SETTINGS(state["config"], "config")
        config = None if ours else Config(**state["config"])
        if config is not None and not is_own(config.opt):
            OPTIMIZER(state["optimizer"], "optimizer")
        if len(state["trainer"]["metrics"]) != state["trainer"]["epoch"]:
            raise ValueError("its metrics do not have one record per epoch")
        (height, width), numbers = state["model"]["image_size"], sum(array.size for array in checkpoint.model.values())
        if height * width > MOST_PIXELS:
            raise ValueError(f"images of {height:,}x{width:,} are larger than this version supports")
        own = config is None or is_own(config.model)
        if not own and max(height * width, state["model"]["classes"]) > max(numbers, 4096):
            raise ValueError(f"its {numbers:,} weights are too few for images of {height}x{width}, or for its classes")
    return checkpoint


def is_from_python(config: Mapping[str, Any]) -> bool:
    """Whether these settings are a Trainer's, not the command line's Config."""
    return bool(config.get("kind") == PYTHON)


def no_run(folder: Path, checkpoint: str) -> str:
    """The message for a folder without a checkpoint of this name, with the folder that may be meant."""
    if folder.is_file():
        meant = f": give its folder, {folder.parent}" if (folder.parent / checkpoint).is_file() else ""
        return f"{folder} is a file, not a run folder{meant}"
    if not folder.is_dir():
        return f"there is no run folder {folder}: give the folder that a run printed after `written to`"
    runs = sorted((file.parent for file in folder.glob(f"*/{checkpoint}")), key=lambda run: run.stat().st_mtime)
    meant = f"the folder of one of its runs, such as {runs[-1]}" if runs else "the folder of a run"
    return f"{folder} has no {checkpoint}: give {meant}"


def check_readable(state: Mapping[str, Any]) -> None:
    """Raise ValueError if a run's state could not be read back, before the first step and not after the last."""
    try:
        STATE({"format": 0, "optimizer": {}, **state}, "")
    except ValueError as error:
        raise ValueError(f"this run could not be read back from its checkpoint: {error}") from None


@contextmanager
def must_fit(file: Path) -> Iterator[None]:
    """Turn errors from anything missing or invalid in a checkpoint into a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, MemoryError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{file} does not fit this version of minidl: {what}") from error


def check_same_data(folder: Path, trained_on: dict[str, str], dataset: Dataset) -> None:
    """Raise CheckpointError if the data set is not the checkpoint's."""
    if dataset.sha256 != trained_on["sha256"]:
        raise CheckpointError(
            f"{folder} was trained on {trained_on['name']} (sha256 {trained_on['sha256'][:12]}...), but "
            f"{dataset.name} is now different data (sha256 {dataset.sha256[:12]}...): put the same files there, or "
            "give their folder with --dataset"
        )


def give_weights(model: Module, arrays: Mapping[str, Array]) -> None:
    """Load the weights of a checkpoint into a model: names, shapes and dtypes must match, and all must be finite.

    Raises ValueError. Module.load_state_dict, for other programs' files, is less strict: it converts dtypes.
    """
    for name, own in model.state_dict().items():
        array = arrays.get(name)
        if array is not None and array.dtype != own.dtype:
            raise ValueError(f"the weights '{name}' are {array.dtype}, this model's are {own.dtype}")
    try:
        model.load_state_dict(arrays)
    except KeyError as error:
        raise ValueError(error.args[0]) from error
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            lost = int((~np.isfinite(array)).sum())
            raise ValueError(f"{lost:,} of the {array.size:,} weights '{name}' are NaN or infinite")


def restore(job: Job, checkpoint: Checkpoint) -> None:
    """Restore model, optimizer and Trainer to the state of the checkpoint. Raises ValueError if they don't fit."""
    give_weights(job.model, checkpoint.model)
    restore_training(job, checkpoint)


def restore_training(job: Job, checkpoint: Checkpoint) -> None:
    """The same, but keep the model's weights, which were loaded before and may have been changed since."""
    job.trainer.optimizer.load_state_dict(checkpoint.optimizer)
    state = checkpoint.state["trainer"]
    if state["batch"] > job.trainer.steps_per_epoch:
        raise ValueError(f"it is at step {state['batch']:,} of an epoch of {job.trainer.steps_per_epoch:,} steps")
    job.trainer.load_state(state)
