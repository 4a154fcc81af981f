"""Messages for a GPU that can't be used: why, and what to do."""

from __future__ import annotations

import sys
from glob import glob

FIRST_CUPY = 14  # older ones give results other dtypes than NumPy 2 does
INSTALL = 'pip install "cupy-cuda12x[ctk]" (or cupy-cuda13x; `nvidia-smi` shows which CUDA the driver can run)'


def two_wheels() -> str:
    """The message if several packages with a `cupy` are installed, one for each CUDA version; else ""."""
    # glob skips a folder without permission, as import does.
    folders = {name for place in sys.path for name in glob("cupy*.dist-info", root_dir=place or ".")}
    names = {folder.split("-")[0].lower().replace("_", "-") for folder in folders}
    wheels = sorted(name for name in names if name == "cupy" or name.startswith(("cupy-cuda", "cupy-rocm")))
    if len(wheels) < 2:
        return ""
    return (
        f"device 'gpu': {' and '.join(wheels)} are both installed and overwrite each other's files. "
        f"pip uninstall {' '.join(wheels)}, then {INSTALL}"
    )


def no_cupy(error: ImportError) -> str:
    """CuPy can't be imported."""
    why = "is not installed" if isinstance(error, ModuleNotFoundError) else f"can't be imported ({_line(error)})"
    return f"device 'gpu' needs CuPy, which {why}: {INSTALL}"


def old_cupy(version: str) -> str:
    """CuPy is older than FIRST_CUPY."""
    return f"device 'gpu' needs CuPy {FIRST_CUPY} or later, this is {version}: {INSTALL}"


def no_device(error: Exception | None) -> str:
    """CuPy is installed but finds no GPU: with CUDA's error, or because there are 0."""
    reason = "no device" if error is None else _line(error)
    if "InsufficientDriver" in reason:
        return (
            "device 'gpu': there is no NVIDIA driver here, or it is older than CuPy's CUDA. If `nvidia-smi` lists your "
            f"GPU, update the driver or use the CUDA version that it shows: {INSTALL}. Else use --device cpu"
        )
    return f"device 'gpu': CuPy finds no NVIDIA GPU on this machine ({reason}). Use --device cpu"


def no_use(error: Exception) -> str:
    """There is a GPU, but a first product on it failed."""
    if isinstance(error, MemoryError):
        return "device 'gpu': all its memory is in use. `nvidia-smi` lists what uses it; or use --device cpu"
    return (
        f"device 'gpu': there is a GPU, but CuPy can't compute on it ({_line(error)}). CUDA's libraries may be "
        f"missing or of a different version than CuPy's: {INSTALL}"
    )


def _line(error: Exception) -> str:
    """The message of an error, in one line of readable length."""
    words = " ".join(word for word in str(error).split() if set(word) != {"="})
    return words if len(words) < 160 else words[:160] + "..."
