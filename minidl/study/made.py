"""The environment of a run: everything that may change the last bits of its result, and which code it was.

Pins restrict the libraries to AVX2 instructions, which nearly every processor of the last ten years has, so one
machine's rows can be checked on another. They are environment variables that a library reads when it is loaded:
`pinned` sets them for worker processes that start inside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

import minidl.data
import minidl.optim
from minidl import __version__, fast
from minidl.backend import get_backend
from minidl.fast.blas import kernels
from minidl.fast.gpu.launch import SOURCES
from minidl.training.run import BITS

_HASWELL = (  # LLVM's names for its features: given the name alone, numba keeps the features of this processor on
    "64bit cmov cx16 cx8 fxsr mmx sse sse2 sse3 ssse3 sse4.1 sse4.2 popcnt sahf crc32 pclmul aes avx avx2 bmi bmi2 "
    "fma f16c lzcnt movbe fsgsbase invpcid rdrnd xsave xsaveopt"
)
NAMES = ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
# What must agree for two runs to have the same bits:
SAME = ("bits", "minidl", "numpy", "fast", "machine", "pins", "device")
MIXED = (*SAME, "sources")  # and for two rows to be in one report


def pins() -> dict[str, str]:
    """The pins for AVX2, as environment variables."""
    wider = (name for name in __cpu_dispatch__ if "512" in name or name == "X86_V4")
    features = ",".join("+" + name for name in _HASWELL.split())
    return dict(zip(NAMES, ("Haswell", " ".join(wider), "haswell", features), strict=True))


def can_hold_pins() -> bool:
    """Whether this is an x86-64 processor with AVX2, and NumPy's BLAS is OpenBLAS."""
    return bool(platform.machine() in ("x86_64", "AMD64") and __cpu_features__.get("AVX2") and kernels() != "unknown")


@contextmanager
def pinned(wanted: bool = True) -> Iterator[None]:
    """Processes that start inside have the pins; with `wanted` False, or if this machine can't hold the pins, this
    process's own settings."""
    before = {name: os.environ.get(name) for name in NAMES}
    if wanted and can_hold_pins():
        os.environ.update(pins())
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def made(device: str = "cpu") -> dict[str, Any]:
    """This process's environment for runs on a device, which is named only if it is not the CPU."""
    found: dict[str, Any] = {
        "bits": BITS,
        "minidl": __version__,
        "sources": sources(),
        "commit": commit(),
        "numpy": np.__version__,
        "fast": fast.version(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "pins": {name: os.environ[name] for name in NAMES if name in os.environ} or {"none": kernels()},
    }
    return found if device == "cpu" else found | {"fast": None, "pins": {"none": device}, "device": _card(device)}


@cache
def _card(device: str) -> dict[str, str]:
    """A GPU, and everything about it that may change a run's last bits."""
    xp, folder = get_backend(device).xp, Path(fast.__file__).parent / "gpu"
    kernels = hashlib.sha256(b"".join((folder / name).read_bytes() for name in SOURCES)).hexdigest()[:16]
    if not hasattr(xp, "cuda"):  # the tests' device
        return {"name": device, "kernels": kernels}
    cuda = xp.cuda
    return {
        "name": device,
        "card": cuda.runtime.getDeviceProperties(cuda.Device().id)["name"].decode(),
        "cuda": str(cuda.runtime.runtimeGetVersion()),
        "cublas": str(cuda.cublas.getVersion(cuda.device.get_cublas_handle())),
        "cupy": xp.__version__,
        "nvmath": _version("nvmath-python"),
        "kernels": kernels,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def device_of(made: dict[str, Any]) -> str:
    """The device on which a run was made."""
    return str(made.get("device", {}).get("name", "cpu"))


def has_pins(made: dict[str, Any]) -> bool:
    """Whether a run was made with the pins."""
    return set(made["pins"]) == set(NAMES)


def unpinned(pins: dict[str, str]) -> str:
    """What takes the place of the pins: the kernels or device, or those of the variables that the user has set."""
    return pins.get("none") or " ".join(f"{name}={value}" for name, value in pins.items())


def to_be_made(with_pins: bool, numpy_alone: bool = False, device: str = "cpu") -> dict[str, Any]:
    """The environment of runs to come: of the worker processes or, on a GPU, of this one. A GPU needs no pins, and not
    every processor can hold them."""
    found = made(device)
    found |= {"pins": pins()} if with_pins and device == "cpu" and can_hold_pins() else {}
    return found | ({"fast": None} if numpy_alone else {})


def identity(made: dict[str, Any]) -> str:
    """The part of it that two runs must share to have the same bits, as text."""
    return json.dumps({name: made.get(name) for name in SAME}, sort_keys=True)


def differing(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """The differences that keep two runs out of one report, in words."""
    names = [name for name in MIXED if a.get(name) != b.get(name)]
    return [f"{name} {_short(name, a.get(name))} and {_short(name, b.get(name))}" for name in names]


def _short(name: str, value: Any) -> str:
    if name == "pins":
        return "restricted to AVX2" if has_pins({"pins": value}) else f"unrestricted ({unpinned(value)})"
    if name == "device":
        return "cpu" if value is None else ", ".join(f"{k} {v}" for k, v in sorted(value.items()))
    return str(value)[:24]


@cache
def sources() -> str:
    """A hash of the package's Python files, the same for a clone, a wheel and an editable install of one commit."""
    found = hashlib.sha256()
    roots = {"minidl": minidl, "minidl/data": minidl.data, "minidl/optim": minidl.optim}
    for name, package in roots.items():
        root = Path(package.__file__ or "").parent
        for file in sorted(root.rglob("*.py"), key=lambda f: f.relative_to(root).as_posix()):
            inside = file.relative_to(root).as_posix()
            if name == "minidl" and inside.startswith(("data/", "optim/")):  # a wheel has them inside
                continue
            found.update(f"{name}/{inside}\0".encode() + file.read_bytes() + b"\0")
    return found.hexdigest()[:16]


@cache
def commit() -> str | None:
    """The commit that the package was installed from, as pip recorded it (PEP 610), or a clean clone's; else None."""
    try:
        noted = json.loads(metadata.distribution("minidl").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        noted = {}
    if found := noted.get("vcs_info", {}).get("commit_id"):
        return str(found)
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        said = [_git(root, *words) for words in (("rev-parse", "HEAD"), ("status", "--porcelain"))]
    except (OSError, subprocess.SubprocessError):
        return None
    return None if said[1] else said[0]


def _git(root: Path, *words: str) -> str:
    found = subprocess.run(["git", *words], cwd=root, capture_output=True, check=True, timeout=10)
    return found.stdout.decode(errors="replace").strip()  # it may list files by names in any encoding
