"""NVIDIA's compiler on every kernel, without a GPU: `python -m tests.nvrtc`.

nvrtc makes machine code for a GPU on any machine. The text that it gets here is the one that CuPy would give it: the
bodies are collected from the counting device while it computes, and CuPy's own generator puts its loop around them.
What this can't tell is whether they compute the right thing: that is tests/counting_kernels.py's part.

    python -m pip install cupy-cuda12x nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12
    python -m tests.nvrtc            # exit status 1 where a kernel does not compile

It reaches into CuPy's inner parts, which may have other names in another version (written for 14.2).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from minidl import backend
from tests import device_checks as checks
from tests.counting import Counting

ARCHITECTURES = ("75", "90")  # Turing, as Colab's T4, and Hopper
NDARRAY, INDEXER, SCALAR = 1, 2, 3  # CuPy's kinds of arguments


def collect() -> list[Any]:
    """Every kernel that operations and optimizers run in the tests: its text, and its arguments' types and ranks."""
    device = Counting("nvrtc", backend.GPU_KERNELS)
    backend.register(device.backend)
    for dtype in checks.TOLERANCE:
        for name in checks.OPS:
            checks.check_op(name, "nvrtc", dtype)
        for name in checks.RULES:
            checks.check_rule(name, "nvrtc", dtype)
    return sorted(device.kernels_run)


def source(inputs: str, outputs: str, operation: str, preamble: str, kinds: Any, letters: Any) -> str:
    """The CUDA C that CuPy makes of a kernel."""
    import cupy
    from cupy._core import _carray, _kernel, _scalar, core

    params = _kernel._get_param_info(inputs, True) + _kernel._get_param_info(outputs, False)
    params += _kernel._get_param_info("CIndexer _ind", False)

    def info(dtype: str, ndim: int | None = None, contiguous: bool = True) -> Any:
        if ndim is None:
            return _kernel._ArgInfo(SCALAR, _scalar.CScalar, np.dtype(dtype), 0, True, True)
        return _kernel._ArgInfo(NDARRAY, cupy.ndarray, np.dtype(dtype), ndim, contiguous, True)

    infos = (*(info(*kind) for kind in kinds), _kernel._ArgInfo(INDEXER, _carray.Indexer, None, 1, True, True))
    types = _kernel._TypeMap(tuple((letter, np.dtype(dtype)) for letter, dtype in letters))
    code = _kernel._get_elementwise_kernel_code(infos, types, params, operation, "minidl", preamble, "", "", ())
    return "".join(f"#include <{header}>\n" for header in core._cupy_header_list) + code


def compile_all() -> int:
    """Compile every kernel for each architecture; returns how many failed."""
    import nvidia.cuda_runtime
    from cupy._core import core
    from cupy.cuda import compiler

    include = Path(next(iter(nvidia.cuda_runtime.__path__))) / "include"
    options = (*core.assemble_cupy_compiler_options(()), f"-I{include}", "--device-as-default-execution-space")
    failed, kernels = 0, collect()
    for architecture in ARCHITECTURES:
        for kernel in kernels:
            try:
                program = compiler._NVRTCProgram(source(*kernel), "minidl.cu", method="cubin")
                code, _ = program.compile((*options, f"-arch=sm_{architecture}"))
                assert code
            except compiler.CompileException as error:
                failed += 1
                print(f"sm_{architecture}: {error}\n{source(*kernel)}", file=sys.stderr)
    texts = len({kernel[:4] for kernel in kernels})
    print(
        f"{texts} kernels, {len(kernels)} with their types, for sm_{' and sm_'.join(ARCHITECTURES)}: {failed} failed "
        f"(nvrtc {'.'.join(map(str, compiler._get_nvrtc_version()))})"
    )
    return failed


if __name__ == "__main__":
    sys.exit(1 if compile_all() else 0)
