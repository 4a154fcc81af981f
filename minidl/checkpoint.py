"""A checkpoint is one safetensors file: the weights under their PyTorch names, the optimizer's vectors, and, as JSON
in the file's header, everything else that training needs to go on with the same bits.

The format holds numbers and text only: loading one can't run code, unlike a pickle. It is written beside the old
checkpoint and takes its name when it is complete, so that there is a whole one on the disk at every moment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from data.atomic import atomic_file
from minidl.backend import Array

FORMAT = 1  # raised when the meaning of a file's content changes
OPTIMIZER = "optimizer."  # prefix of the optimizer's vectors; all other tensors are the model's


class CheckpointError(ValueError):
    """A file that is no checkpoint, is damaged, or was written by another version. The message names it."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    model      the model's state dict: NumPy arrays under PyTorch's names
    optimizer  the optimizer's state dict: {"vectors": NumPy arrays by name, "scalars": JSON values by name}
    state      everything else: {"config": ..., "trainer": ..., ...}, JSON values
    """

    model: dict[str, Array]
    optimizer: dict[str, Any]
    state: dict[str, Any]


def save_checkpoint(
    path: str | os.PathLike[str], model: Mapping[str, Array], optimizer: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Write a checkpoint; the one that stood there is replaced in one step, or left alone if anything fails.

    Raises OSError where the disk is full or the folder can't be written.
    """
    tensors = {**model, **{OPTIMIZER + name: vector for name, vector in optimizer["vectors"].items()}}
    contiguous = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in tensors.items()}
    header = {"minidl": json.dumps({"format": FORMAT, "optimizer": optimizer["scalars"], **state})}
    with atomic_file(path) as file:
        file.write(save(contiguous, metadata=header))


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint. Raises CheckpointError where it is missing, damaged, no checkpoint, or of another format."""
    if not Path(path).is_file():
        raise CheckpointError(f"there is no checkpoint {os.fspath(path)}")
    try:
        with safe_open(path, framework="np") as file:
            header = (file.metadata() or {}).get("minidl")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        state = json.loads(header) if header else None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{os.fspath(path)} is damaged or no safetensors file: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{os.fspath(path)} holds tensors but is no minidl checkpoint: its header has no 'minidl'"
        )
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{os.fspath(path)} has checkpoint format {state.get('format')}, this version reads {FORMAT}: "
            "use the version of minidl that wrote it"
        )
    return Checkpoint(
        model={name: value for name, value in tensors.items() if not name.startswith(OPTIMIZER)},
        optimizer={
            "vectors": {name[len(OPTIMIZER) :]: v for name, v in tensors.items() if name.startswith(OPTIMIZER)},
            "scalars": state.get("optimizer", {}),
        },
        state=state,
    )
