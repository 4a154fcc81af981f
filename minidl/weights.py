"""A model's weights alone in a file, for another program, or for PyTorch.

The file is safetensors: numbers under their names, which can't run code when they are loaded. PyTorch reads it with

    torch_model.load_state_dict(safetensors.torch.load_file("net.safetensors"))

and writes one that minidl reads with safetensors.torch.save_file(torch_model.state_dict(), "net.safetensors").
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from minidl.backend import Array

OPTIMIZER = "optimizer."  # in a run's checkpoint these are the optimizer's vectors; all others are weights


class WeightsError(ValueError):
    """A file that holds no weights, or can't be read. The message names it."""


def save_weights(path: str | os.PathLike[str], weights: Mapping[str, Array]) -> None:
    """Write the arrays by name. A file that stood there is replaced in one step. Raises OSError where that fails."""
    from safetensors.numpy import save  # here: most programs save nothing

    contiguous = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in weights.items()}
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        part.write_bytes(save(contiguous))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_weights(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays of a file by name; of a run's checkpoint, or its folder, those of the model.

    Raises WeightsError where there is no such file, or it is of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = Path(path)
    if file.is_dir() and (file / "checkpoint.safetensors").is_file():
        file = file / "checkpoint.safetensors"
    if not file.is_file():
        raise WeightsError(f"there is no file {file}: give one that model.save(path) wrote")
    try:
        arrays = load_file(file)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        hint = ""
        if file.suffix in (".pt", ".pth", ".bin"):
            hint = ". PyTorch writes one with safetensors.torch.save_file(model.state_dict(), path)"
        raise WeightsError(f"{file} is damaged or no safetensors file: {error}{hint}") from error
    return {name: value for name, value in arrays.items() if not name.startswith(OPTIMIZER)}
