"""NVIDIA's compiler on every kernel, without a GPU: `python -m tests.nvrtc`.

nvrtc makes machine code for a GPU on any machine. The sources are collected from the counting device while it computes:
they are the texts that CuPy would hand to the compiler. What this can't tell is whether they compute the right thing:
that is tests/counting_kernels.py's part.

    python -m pip install nvidia-cuda-nvrtc
    python -m tests.nvrtc            # exit status 1 where a source does not compile
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from minidl import backend
from minidl.fast.gpu.launch import signatures
from tests import device_checks as checks
from tests.counting import Counting

ARCHITECTURES = ("75", "90")  # Turing, as Colab's T4, and Hopper


def collect() -> list[str]:
    """The source of every kernel that operations and optimizers run in the tests."""
    device = Counting("nvrtc", backend.GPU_KERNELS)
    backend.register(device.backend)
    for dtype in checks.TOLERANCE:
        for name in checks.OPS:
            checks.check_op(name, "nvrtc", dtype)
        for name in checks.RULES:
            checks.check_rule(name, "nvrtc", dtype)
    return sorted(device.modules)


def library() -> Any:
    """nvrtc, from NVIDIA's package."""
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    found = sorted(file for folder in folders for file in folder.rglob("libnvrtc.so.*"))
    if not found:
        raise SystemExit("tests.nvrtc: error: nvrtc is not installed: python -m pip install nvidia-cuda-nvrtc")
    return ctypes.CDLL(str(found[0]))


def complaints(nvrtc: Any, source: str, architecture: str) -> str | None:
    """What the compiler says of a source; None where it has made machine code of it."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    made = nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"minidl.cu", 0, None, None)
    assert made == 0
    options = [f"-arch=sm_{architecture}".encode(), b"-std=c++17"]
    status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return log.value.decode() if status else None


def compile_all() -> int:
    """Compile every source for each architecture; returns how many failed."""
    nvrtc, failed, sources = library(), 0, collect()
    for architecture in ARCHITECTURES:
        for source in sources:
            said = complaints(nvrtc, source, architecture)
            if said is not None:
                failed += 1
                print(f"sm_{architecture}: {said}\n{source}", file=sys.stderr)
    version = ctypes.c_int(), ctypes.c_int()
    nvrtc.nvrtcVersion(*map(ctypes.byref, version))
    kernels = sum(len(signatures(re.sub(r"^.*?#define BLOCK", "", source, flags=re.DOTALL))) for source in sources)
    print(
        f"{len(sources)} sources with {kernels} kernels, for sm_{' and sm_'.join(ARCHITECTURES)}: {failed} failed "
        f"(nvrtc {version[0].value}.{version[1].value})"
    )
    return failed


if __name__ == "__main__":
    sys.exit(1 if compile_all() else 0)
