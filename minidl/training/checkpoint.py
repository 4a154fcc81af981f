"""A checkpoint is one safetensors file: the weights under their PyTorch names, the optimizer's vectors, and, as JSON
in the file's header, everything else that training needs to resume with the same bits.

The format holds only numbers and text: unlike a pickle, it can't run code when it is loaded. A checkpoint is written
to a temporary file and then renamed, so there is always a complete one on disk. safetensors checks only the length of
a file; a checksum over names, dtypes, shapes, bytes and text detects damage. The schema of the text is in restore.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from minidl.backend import Array
from minidl.data.atomic import atomic_file
from minidl.training.loader import UserError
from minidl.weights import CHECKSUM, HEADER, OPTIMIZER, PREFIX, as_bytes, checksum, free_prefix, prefix_of, read_tensors

FORMAT = 2  # incremented when the meaning of a file's content changes


class CheckpointError(ValueError):
    """A file that is not a checkpoint, is damaged, or was written by another version. The message names the file."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    model      the model's state dict: NumPy arrays under PyTorch's names
    optimizer  the optimizer's state dict: {"vectors": NumPy arrays by name, "scalars": JSON values by name}
    state      everything else: {"config": ..., "trainer": ..., ...}, JSON values
    sha256     the checksum of all that
    """

    model: dict[str, Array]
    optimizer: dict[str, Any]
    state: dict[str, Any]
    sha256: str


def save_checkpoint(
    path: str | os.PathLike[str],
    model: Mapping[str, Array],
    optimizer: Mapping[str, Any],
    state: Mapping[str, Any],
    place: int | None = None,
) -> None:
    """Write a checkpoint; an existing one is replaced atomically, or left alone if anything fails.

    place  a file descriptor of its folder, see `atomic_file`

    Raises OSError if the disk is full or the folder can't be written, UserError for a state that can't be stored.
    """
    if not isinstance(optimizer, Mapping) or not {"vectors", "scalars"} <= optimizer.keys():
        raise UserError(
            'the optimizer\'s state_dict() must return {"vectors": {name: array}, "scalars": {name: value}}'
        )
    prefix = free_prefix(model)
    tensors = {**model, **{prefix + name: vector for name, vector in optimizer["vectors"].items()}}
    other = {} if prefix == OPTIMIZER else {PREFIX: prefix}
    text = json.dumps({"format": FORMAT, **other, "optimizer": optimizer["scalars"], **state}, default=_number)
    with atomic_file(path, place) as file:
        file.write(as_bytes(text, tensors))
    _flush_folder(Path(path).parent, place)


def _number(value: Any) -> Any:
    """A NumPy number as Python's, which JSON can store."""
    if isinstance(value, np.generic):
        return value.item()
    raise UserError(
        f"the optimizer's state has a value of type {type(value).__name__} among its scalars, which may be numbers, "
        'strings, lists and dictionaries: arrays belong in its "vectors"'
    )


def _flush_folder(folder: Path, place: int | None = None) -> None:
    """Make the rename survive a power failure. Windows and some network drives can't: there the old file may return."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY) if place is None else place
        try:
            os.fsync(descriptor)
        finally:
            if place is None:
                os.close(descriptor)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint. Raises CheckpointError if it is missing, damaged, not a checkpoint, or of another format."""
    where = os.fspath(path)
    if not os.path.isfile(path):
        raise CheckpointError(f"there is no checkpoint {where}")
    try:
        header, tensors = read_tensors(path)
        state = _read_header(where, header)
        prefix = prefix_of(state)
        state.pop(PREFIX, None)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{where} can't be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is damaged or not a safetensors file: {error}") from error
    found, wanted = checksum(header[HEADER], tensors), header.get(CHECKSUM)
    if found != wanted:
        raise CheckpointError(
            f"{where} is damaged: the checksum of its content is {found[:12]}..., it should be {str(wanted)[:12]}..."
        )
    return Checkpoint(
        model={name: value for name, value in tensors.items() if not name.startswith(prefix)},
        optimizer={
            "vectors": {name[len(prefix) :]: v for name, v in tensors.items() if name.startswith(prefix)},
            "scalars": state.get("optimizer", {}),
        },
        state=state,
        sha256=found,
    )


def saved_checksum(path: str | os.PathLike[str]) -> str | None:
    """The checksum stored in a checkpoint, without reading the whole file; None if there is none."""
    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get(CHECKSUM)
    except (SafetensorError, OSError, ValueError, MemoryError):
        return None


def _read_header(where: str, header: Mapping[str, str]) -> dict[str, Any]:
    """Everything but the tensors, after a check that this is a minidl checkpoint."""
    if HEADER not in header:
        raise CheckpointError(f"{where} holds tensors but is not a minidl checkpoint: its header has no '{HEADER}'")
    state = json.loads(header[HEADER])
    written = state.get("format") if isinstance(state, dict) else None
    if written != FORMAT:
        raise CheckpointError(
            f"{where} has checkpoint format {written!r:.20}, this version reads {FORMAT}: use the version of minidl "
            "that wrote it (its weights alone: safetensors.numpy.load_file)"
        )
    return dict(state)
