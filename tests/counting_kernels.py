"""CuPy's RawModule without a GPU: the same CUDA source, compiled by the system's C compiler.

A GPU runs the threads of a block at once; here they are run in turns. A kernel in which threads wait for each other
(SYNC) has a stack for each thread of a block, and a thread that waits hands over to the next; it is kept for the
thread of the next block, and handed over by longjmp, because each swapcontext asks the system for the signals. So what
a GPU will run is tested on any machine that has a C compiler. What this can't tell: whether NVIDIA's compiler takes it
(tests/nvrtc.py asks it), what happens where threads really run at once, and how fast it is.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl.fast.gpu.launch import CUDA, MACRO, signatures

if TYPE_CHECKING:
    from tests.counting import Counting

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
LAUNCHING = threading.Lock()  # a library knows one grid at a time
C_TYPES = {"int": ctypes.c_int, "u64": ctypes.c_uint64, "double": ctypes.c_double}
PRELUDE = """
#include <tgmath.h>
#include <stddef.h>
#include <setjmp.h>
#include <ucontext.h>
#define KERNEL static void
#define SHARED static
#define SYNC turn_over();
#define ALIGN __attribute__((aligned(16)))
#define UNROLL
#define HIGH(a, b) ((unsigned long long)(((unsigned __int128)(a) * (b)) >> 64))
typedef struct { unsigned x, y, z; } dim3;
static dim3 threadIdx, blockIdx, blockDim, gridDim;
enum { THREADS = 1024, STACK = 1 << 15 };
static ucontext_t threads[THREADS];
static jmp_buf home, places[THREADS];
static char stacks[THREADS][STACK];
static int now, begun[THREADS], ended[THREADS];
static void (*body)(void);
static void turn_over(void) { if (!_setjmp(places[now])) _longjmp(home, 1); }
static void whole(void) { for (;;) body(), ended[now] = 1, turn_over(); }
static void go_on(int t) {
    if (_setjmp(home)) return;
    if (begun[t]) _longjmp(places[t], 1);
    getcontext(&threads[t]);
    threads[t].uc_stack.ss_sp = stacks[t];
    threads[t].uc_stack.ss_size = STACK;
    makecontext(&threads[t], whole, 0);
    begun[t] = 1;
    setcontext(&threads[t]);
}
static void place(int t) { now = t; threadIdx.x = t % blockDim.x; threadIdx.y = t / blockDim.x; }
static void each_block(int waits) {
    const int count = blockDim.x * blockDim.y;
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
        if (!waits) {
            for (int t = 0; t < count; t++) place(t), body();
            continue;
        }
        for (int t = 0; t < count; t++) ended[t] = 0;
        for (int left = count; left > 0;)
            for (int t = 0; t < count; t++)
                if (!ended[t]) { place(t), go_on(t); left -= ended[t]; }
    }
}
"""


@cache
def compiled(source: str) -> Any:
    """The library of a C source. Raises RuntimeError with the compiler's words."""
    assert COMPILER, "no C compiler: ask for COMPILER first"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.c").write_text(source)
        options = ["-O1", "-fPIC", "-shared", "-ffp-contract=off", "-w"]
        options += ["-U_FORTIFY_SOURCE"]  # it forbids the longjmp
        command = [COMPILER, *options, "kernel.c", "-o", "kernel.so", "-lm"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{result.stderr}\n{source}")
        return ctypes.CDLL(str(Path(folder) / "kernel.so"))


def with_wrappers(source: str) -> str:
    """The source for a C compiler, and for each kernel a function that runs all its threads."""
    parts = [source.replace(CUDA, PRELUDE)]
    texts = {text.split("(")[0]: text.split("\n#define")[0] for text in re.split(r"^KERNEL ", source, flags=re.M)[1:]}
    makers = {name for macro, _ in MACRO.findall(source) for name in re.findall(rf"^{macro}\((\w+),", source, re.M)}
    for name, arguments in signatures(source).items():
        names = [argument.replace("*", " ").split()[-1] for argument in arguments]
        kinds = [argument[: argument.rindex(n)] for argument, n in zip(arguments, names, strict=True)]
        waits = int(name in makers or bool(re.search(r"\b(SUM_ROWS|ALL_PARTS|TREE|SYNC)\b", texts[name])))
        parts += [f"static {kind} of_{name}__{n};" for kind, n in zip(kinds, names, strict=True)]
        parts += [
            f"static void one_{name}(void) {{ {name}({', '.join(f'of_{name}__{n}' for n in names)}); }}",
            f"void run_{name}(int gx, int gy, int bx, int by, {', '.join(arguments)}) {{",
            *(f"    of_{name}__{n} = {n};" for n in names),
            "    gridDim.x = gx; gridDim.y = gy; blockDim.x = bx; blockDim.y = by;",
            f"    threadIdx.x = threadIdx.y = 0; body = one_{name}; each_block({waits});\n}}",
        ]
    return "\n".join(parts)


class RawModule:
    """See cupy.RawModule: the kernels of a CUDA source."""

    def __init__(self, machine: Counting, code: str, options: tuple[str, ...] = ()) -> None:
        self.machine, self.code = machine, code
        assert CUDA in code, "tests run what launch.py compiles"
        self.library = compiled(with_wrappers(code))
        self.machine.modules.add(code)
        self.signatures = signatures(code)

    def get_function(self, name: str) -> Any:
        """The kernel of this name: called with grid, block and its arguments."""
        kinds = [None if "*" in argument else argument.split()[0] for argument in self.signatures[name]]
        function = getattr(self.library, f"run_{name}")

        def launch(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
            assert len(args) == len(kinds), name
            gx, gy, bx, by = (*grid, 1)[:2] + (*block, 1)[:2]
            assert 0 < bx * by <= 1024, f"{name}: a block has at most 1024 threads, not {block}"
            assert 0 < gx < 2**31, f"{name}: {grid}"
            assert 0 < gy < 2**16, f"{name}: {grid}"
            self.machine.traffic.launches += 1
            values = [self._value(name, kind, arg) for kind, arg in zip(kinds, args, strict=True)]
            with LAUNCHING:
                function(*map(ctypes.c_int, (gx, gy, bx, by)), *values)

        return launch

    def _value(self, name: str, kind: str | None, arg: Any) -> Any:
        if kind is not None:
            assert isinstance(arg, np.generic), f"{name}: CuPy takes the size of {arg!r} from its NumPy type"
            return C_TYPES[kind](arg.item())
        if isinstance(arg, np.uint64) and arg == 0:
            return ctypes.c_void_p(None)
        values = self.machine.inside(arg)
        assert isinstance(values, np.ndarray), f"{name}: {arg!r} is no array"
        assert values.flags.c_contiguous, f"{name}: an array of shape {values.shape} is not contiguous"
        return ctypes.c_void_p(values.ctypes.data)
