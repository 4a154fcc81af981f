"""A model's weights alone in a file, for another program, or for PyTorch.

The format is safetensors: named arrays, which can't run code when they are loaded. PyTorch reads it with

    torch_model.load_state_dict(safetensors.torch.load_file("net.safetensors"))

and writes one that minidl reads with safetensors.torch.save_file(torch_model.state_dict(), "net.safetensors").
Files that minidl writes, including a run's checkpoint, have a checksum in the header, by which damage is detected.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minidl.backend import Array
from minidl.telling import counted

HEADER, CHECKSUM = "minidl", "sha256"  # keys of the metadata: a text, and the checksum of text and tensors
DTYPES = {"BOOL", "F16", "F32", "F64", *(f"{kind}{bits}" for kind in "IU" for bits in (8, 16, 32, 64))}  # NumPy's
OPTIMIZER = "optimizer."  # prefix of the optimizer's vectors in a run's checkpoint, unless a weight has it
PREFIX = "vectors"  # the key of any other prefix, in a checkpoint's text


class WeightsError(ValueError):
    """A file that holds no weights, or can't be read. The message names it."""


def free_prefix(weights: Iterable[str]) -> str:
    """A prefix for the optimizer's vectors that the name of no weight starts with."""
    names, prefix = list(weights), OPTIMIZER
    while any(name.startswith(prefix) for name in names):
        prefix = "_" + prefix
    return prefix


def prefix_of(state: Any) -> str:
    """The prefix of the optimizer's vectors in a checkpoint with this text. Raises ValueError if it is not valid."""
    prefix = state.get(PREFIX, OPTIMIZER) if isinstance(state, dict) else OPTIMIZER
    if not isinstance(prefix, str) or prefix.lstrip("_") != OPTIMIZER or len(prefix) > 1000:
        raise ValueError(f"{PREFIX} must be {OPTIMIZER!r}, with or without leading underscores, not {prefix!r:.60}")
    return prefix


def checksum(text: str, tensors: Mapping[str, Array]) -> str:
    """SHA-256 of a text and of each tensor's name, dtype, shape and bytes."""
    hashed = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = tensors[name]
        hashed.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()


def as_bytes(text: str, tensors: Mapping[str, Array]) -> bytes:
    """A safetensors file with a text and the arrays by name, and the checksum of both."""
    from safetensors.numpy import save  # here: most programs save nothing

    if "__metadata__" in tensors:
        raise ValueError("'__metadata__' is reserved by safetensors: rename that attribute of the network")
    contiguous = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in tensors.items()}
    return save(contiguous, metadata={HEADER: text, CHECKSUM: checksum(text, contiguous)})


def save_weights(path: str | os.PathLike[str], weights: Mapping[str, Array]) -> None:
    """Write the arrays by name. An existing file is replaced atomically. Raises OSError if that fails."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into: create it first")
    part = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.part")  # 255 bytes at most
    try:
        part.write_bytes(as_bytes("weights", weights))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def shapes_in_words(tensors: Mapping[str, Array], most: int = 4) -> str:
    """What is in a file or a network, in words: "4 tensors (1.weight 128x784, 1.bias 128, ...)"."""
    some = [f"{name} {'x'.join(map(str, np.shape(tensors[name]))) or '1'}" for name in list(tensors)[:most]]
    more = ", ..." if len(tensors) > most else ""
    return f"{counted(len(tensors), 'tensor')} ({', '.join(some)}{more})" if tensors else "no tensor"


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Array]]:
    """The metadata and the arrays of a safetensors file. Raises ValueError, SafetensorError or OSError."""
    with open(path, "rb"):  # without permission, safetensors would say that there is no file
        pass
    try:
        return _read_tensors(path)
    except MemoryError:
        raise ValueError(f"it has {os.path.getsize(path):,} bytes, more than fits in memory") from None


def _read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Array]]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        names = list(file.keys())
        if strange := sorted({file.get_slice(name).get_dtype() for name in names} - DTYPES):
            raise WeightsError(
                f"{path} has tensors of dtype {strange[0]}, which NumPy lacks: write float32, with PyTorch "
                "save_file({name: t.float() for name, t in model.state_dict().items()}, path)"
            )
        return file.metadata() or {}, {name: file.get_tensor(name) for name in names}


def load_weights(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays in a file by name; for a run's checkpoint, or its folder, those of the model.

    Raises WeightsError if there is no such file, or if it is of another kind.
    """
    from safetensors import SafetensorError

    file = Path(path)
    if file.is_dir() and (file / "checkpoint.safetensors").is_file():
        file = file / "checkpoint.safetensors"
    if not file.is_file():
        raise WeightsError(f"there is no file {file}: give one that model.save(path) wrote")
    try:
        header, arrays = read_tensors(file)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{file} can't be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        hint = ""
        if file.suffix in (".pt", ".pth", ".bin"):
            hint = ". PyTorch writes one with safetensors.torch.save_file(model.state_dict(), path)"
        raise WeightsError(f"{file} is damaged or not a safetensors file: {error}{hint}") from error
    if (HEADER in header or CHECKSUM in header) and header.get(CHECKSUM) != checksum(header.get(HEADER, ""), arrays):
        raise WeightsError(f"{file} is damaged: its content does not match its checksum")
    if header.get(HEADER, "weights") == "weights":  # all of them, as in another program's file
        return arrays
    try:
        prefix = prefix_of(json.loads(header[HEADER]))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{file} is not a checkpoint of this version: {error}") from None
    return {name: value for name, value in arrays.items() if not name.startswith(prefix)}
