"""CuPy's ElementwiseKernel without a GPU: the same text, compiled by the system's C compiler and run in a loop.

What a kernel computes is in its body, a few lines of C for one element; CuPy adds the loop over elements, and so does
this. So the bodies that a GPU will run are tested on any machine that has a C compiler. What this can't tell: whether
nvrtc takes them (tests/nvrtc.py asks it), and how fast they are.
"""

from __future__ import annotations

import ctypes
import math
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from tests.counting import Counting

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
C_TYPES = {
    "float32": "float", "float64": "double", "bool": "_Bool", "uint8": "unsigned char", "int8": "signed char",
    "int32": "int", "int64": "long long", "uint16": "unsigned short", "int16": "short",
    "uint32": "unsigned", "uint64": "unsigned long long",
}  # fmt: skip
PRELUDE = """
#include <tgmath.h>
#include <stdbool.h>
#include <stddef.h>
#define max(a, b) ((a) > (b) ? (a) : (b))
#define min(a, b) ((a) < (b) ? (a) : (b))
"""


class Parameter(NamedTuple):
    raw: bool
    type: str  # a dtype's name, or one letter that stands for one
    name: str


def parse(text: str) -> list[Parameter]:
    """`raw T x, int32 n` as parameters."""
    words = [part.split() for part in text.split(",") if part.strip()]
    return [Parameter(w[0] == "raw", w[-2], w[-1]) for w in words]


@cache
def compiled(source: str) -> Any:
    """The function `run` of a C source. Raises RuntimeError with the compiler's words."""
    assert COMPILER, "no C compiler: ask for COMPILER first"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.c").write_text(source)
        command = [COMPILER, "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-w", "kernel.c", "-o", "kernel.so", "-lm"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{result.stderr}\n{source}")
        return ctypes.CDLL(str(Path(folder) / "kernel.so")).run


class ElementwiseKernel:
    """See cupy.ElementwiseKernel. Called with its inputs, or with its outputs too; `size` where all are raw."""

    def __init__(
        self, machine: Counting, in_params: str, out_params: str, operation: str, name: str, **options: Any
    ) -> None:
        assert set(options) <= {"preamble", "options", "no_return", "reduce_dims"}, options
        assert re.fullmatch(r"[A-Za-z_]\w*", name), f"CuPy refuses the name {name}"
        self.machine, self.operation, self.preamble = machine, operation, options.get("preamble", "")
        self.text = in_params, out_params, operation, self.preamble
        self.inputs, self.outputs = parse(in_params), parse(out_params)
        assert "i" not in [p.name for p in self.inputs + self.outputs], "CuPy keeps the name i for itself"

    def __call__(self, *args: Any, size: int | None = None, block_size: int = 128) -> Any:
        parameters, given = self.inputs + self.outputs, list(map(self.machine.inside, args))
        if len(given) not in (len(self.inputs), len(parameters)):
            raise TypeError(f"wrong number of arguments: {len(given)} for {parameters}")
        looped = [a for p, a in zip(parameters, given, strict=False) if isinstance(a, np.ndarray) and not p.raw]
        if (size is None) == (not looped):
            raise ValueError("give size if and only if all arrays are raw")
        types = self._types(parameters, given)
        shape = (size,) if size is not None else np.broadcast_shapes(*(a.shape for a in looped))
        for p in self.outputs[max(0, len(given) - len(self.inputs)) :]:
            if p.raw:
                raise ValueError("a raw output must be given")
            given.append(np.empty(shape, types[p.type]))
        self.machine.traffic.launches += 1
        self._note(parameters, given, types)
        self._run(parameters, given, types, shape)
        outs = [self.machine.outside(a) for a in given[len(self.inputs) :]]
        return outs[0] if len(outs) == 1 else tuple(outs)

    def _types(self, parameters: list[Parameter], given: list[Any]) -> dict[str, np.dtype[Any]]:
        """What each letter stands for: the dtype of the arrays that have it, which must be one."""
        types = {p.type: np.dtype(p.type) for p in parameters if len(p.type) > 1}
        for p, a in zip(parameters, given, strict=False):
            if isinstance(a, np.ndarray):
                if types.setdefault(p.type, a.dtype) != a.dtype:
                    raise TypeError(f"Type is mismatched. {p.name} {a.dtype} {types[p.type]}")
            elif p in self.outputs:
                raise TypeError("Output arguments type must be cupy.ndarray")
        return types

    def _note(self, parameters: list[Parameter], given: list[Any], types: dict[str, np.dtype[Any]]) -> None:
        """Let the device know what ran: all that decides the text which CuPy would hand to NVIDIA's compiler."""
        kinds = tuple(
            (types[p.type].name, a.ndim if p.raw else 1, a.flags.c_contiguous or not p.raw)
            if isinstance(a, np.ndarray)
            else (types[p.type].name,)
            for p, a in zip(parameters, given, strict=True)
        )
        letters = tuple(sorted((name, t.name) for name, t in types.items() if len(name) == 1))
        self.machine.kernels_run.add((*self.text, kinds, letters))

    def _run(self, parameters: list[Parameter], given: list[Any], types: Any, shape: tuple[int, ...]) -> None:
        load, store, signature, values, back = [], [], [], [], []
        for k, (p, a) in enumerate(zip(parameters, given, strict=True)):
            c, is_output = C_TYPES[types[p.type].name], k >= len(self.inputs)
            if not isinstance(a, np.ndarray):
                signature.append(f"const {c} {p.name}")
                values.append(np.ctypeslib.as_ctypes_type(types[p.type])(types[p.type].type(a).item()))
                continue
            if is_output and not p.raw and a.shape != shape:
                raise ValueError("Out shape is mismatched")
            whole = np.ascontiguousarray(a if p.raw else np.broadcast_to(a, shape)).reshape(-1)
            if is_output and not np.shares_memory(whole, a):
                back.append((a, whole))
            const = "" if is_output else "const "
            signature.append(f"{const}{c} *{p.name if p.raw else 'all_' + p.name}")
            values.append(ctypes.c_void_p(whole.ctypes.data))
            values[-1].keep = whole
            if not p.raw:
                load.append(f"{const}{c} {p.name} = all_{p.name}[i];")
                store += [f"all_{p.name}[i] = {p.name};"] if is_output else []
        letters = [f"typedef {C_TYPES[t.name]} {name};" for name, t in types.items() if len(name) == 1]
        loop = "\n".join([*load, f"do {{ {self.operation} }} while (0);", *store])
        source = "\n".join([
            PRELUDE, *letters, self.preamble.replace("__device__", "static"),
            f"void run(ptrdiff_t size, {', '.join(signature)}) {{",
            f"for (ptrdiff_t i = 0; i < size; i++) {{\n{loop}\n}}\n}}",
        ])  # fmt: skip
        compiled(source)(ctypes.c_ssize_t(math.prod(shape)), *values)
        for a, whole in back:
            a[...] = whole.reshape(a.shape)
