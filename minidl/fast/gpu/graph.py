"""A whole training step as one CUDA graph.

A step of a small network is some thirty kernels of a few microseconds each, and Python takes longer to launch one of
them than the GPU to run it: the GPU waits. A CUDA graph is a recording of such a sequence. Recorded once ("captured";
nothing runs meanwhile), it is launched as a whole, again and again, with one call.

A replay is exactly what was recorded: the same kernels on the same addresses. So

- the batch is copied to where the recorded step reads it;
- what Python computes for each step (learning rates, bias corrections, the index of the step for dropout) is written
  on a slip, which is copied to the device before each launch (slip.py);
- the step allocates its intermediate results from a memory pool of its own;
- there is one graph for each shape of batch and each form of the optimizer's rule, so a new one after a switch.

The first steps of a kind run eagerly, which compiles and checks the kernels. Captured or not, a step gives the same
bits. What can't be captured (a custom layer that reads values from the GPU, a rule without a formula, or with its own
update()) trains eagerly.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from threading import RLock
from typing import Any

import numpy as np

from minidl.backend import Array, no_crossing, reference_only_now, xp_of
from minidl.fast.gpu.launch import kernels_for
from minidl.fast.gpu.products import Handle, cublas, own_handle, product, using_tf32
from minidl.fast.gpu.slip import LENGTH, Slip, number, recording
from minidl.module import Module, watchers
from minidl.tensor import Tensor, record

WARM_UP = 2  # steps of a kind that run eagerly
ROWS, ROW = 1024, 8 * LENGTH  # slips in a ring on the host, and bytes of a slip, which is reused only after its step
RESULTS = 4096  # steps whose results share one allocation
RELAXED = 2  # cudaStreamCaptureModeRelaxed: other threads, and allocations, are not checked
HOST_TO_DEVICE = 1  # cudaMemcpyHostToDevice
CAPTURING = RLock()  # one capture at a time in a process, and no graph is destroyed meanwhile


def captured(loss_of: Callable[..., Any], optimizer: Any, model: Module | None = None) -> Callable[..., Any]:
    """A training step, as one launch where it runs on a GPU.

    loss_of    a function of two arrays (a batch's images and its labels) that returns the loss, a Tensor; or a tuple
               of the loss and scalars as 0-d arrays. It is called while a step is recorded, not at each step: Python
               numbers that it uses keep the value that they had then
    optimizer  takes the step
    model      the Module inside loss_of: counters that its layers keep in Python then advance at each step

        step = captured(lambda x, y: ops.cross_entropy(model(Tensor(x)), y), optimizer, model)
        loss = step(x, y)        # zero_grad, forward, backward, the optimizer's step

    On the CPU, and where it can't be captured, the step runs eagerly.
    """
    return Captured(loss_of, optimizer, model)


class Captured:
    """See `captured`. `why` is the reason why steps are not captured, or None."""

    def __init__(self, loss_of: Callable[..., Any], optimizer: Any, model: Module | None) -> None:
        self.loss_of, self.optimizer = loss_of, optimizer
        self.xp = xp_of(optimizer.flat.w)
        self.why: str | None = None
        if not hasattr(self.xp, "cuda"):
            self.why = "the parameters are not on a GPU"
        elif cublas() is None:
            self.why = "nvmath-python is not installed"
        self.graphs: dict[Any, Graph] = {}
        self.warm: dict[Any, int] = {}
        self.modules = [] if model is None else [module for _, module in model.named_modules()]
        kinds = (bool, float, tuple)
        self.settings = [(vars(m), name) for m in self.modules for name, v in vars(m).items() if isinstance(v, kinds)]

    def __call__(self, *inputs: Array) -> Any:
        """One training step. Returns what loss_of returned, its numbers on the device."""
        key = None if self.why is not None or reference_only_now() or watchers.get() else self._kind(inputs)
        if key is None:
            return self.as_usual(*inputs)
        graph = self.graphs.get(key)
        if graph is None:
            self.warm[key] = self.warm.get(key, 0) + 1
            if self.warm[key] <= WARM_UP or not self._capture(key, inputs):
                return self.as_usual(*inputs)
            graph = self.graphs[key]
        return graph.launch(inputs)

    def as_usual(self, *inputs: Array) -> Any:
        """The step without a graph."""
        results = self._gradients(*inputs)
        self.optimizer.step()
        return results

    def _gradients(self, *inputs: Array) -> Any:
        self.optimizer.zero_grad()
        results = self.loss_of(*inputs)
        (results[0] if isinstance(results, tuple) else results).backward()
        return results

    def _kind(self, inputs: tuple[Array, ...]) -> Any:
        """Everything that determines which kernels a step runs; None where it must run eagerly."""
        rule = self.optimizer.kind()
        if rule is None or not all(type(a) is self.xp.ndarray and a.nbytes % 4 == 0 for a in inputs):
            return None
        shapes = tuple([(a.shape, a.dtype) for a in inputs])
        settings = tuple([values.get(name) for values, name in self.settings])
        return shapes, rule, settings, tuple([module.training for module in self.modules]), using_tf32()

    def _capture(self, key: Any, inputs: tuple[Array, ...]) -> bool:
        """Record the step for inputs of this kind. Returns False, with a warning, where that fails."""
        before = [_counted(module) for module in self.modules]
        try:
            self.graphs[key] = Graph(self, inputs)
            after = [_counted(module) for module in self.modules]
            self.graphs[key].counts = _differences(self.modules, before, after)
        except Exception as error:  # whatever CUDA can't record of a custom layer still runs eagerly
            self.why = " ".join(str(error).split())[:200]
            self.graphs.pop(key, None)
            warnings.warn(
                f"training steps are not captured, so they are slower: {self.why}", RuntimeWarning, stacklevel=3
            )
        for module, values in zip(self.modules, before, strict=True):
            for name, value in values.items():
                if isinstance(value, np.ndarray):
                    getattr(module, name)[...] = value
                elif isinstance(value, np.random.Generator):
                    getattr(module, name).bit_generator.state = value.bit_generator.state
                else:
                    setattr(module, name, value)
        return self.why is None


class Graph:
    """One captured step: the graph, and the memory that it reads and writes."""

    def __init__(self, step: Captured, inputs: tuple[Array, ...]) -> None:
        self.step, xp = step, step.xp
        self.xp, self.turn = xp, 0
        self.counts: list[tuple[Module, str, Any]] = []
        self.inputs = [xp.empty(a.shape, a.dtype) for a in inputs]
        self.slip = Slip(xp.zeros(LENGTH, np.uint64))
        self.memory = xp.cuda.alloc_pinned_memory(ROWS * ROW)  # slips on the host
        self.given: list[Any] = []  # the batch of the current launch
        self.event: Any = None  # recorded half a ring of slips ago
        self.pool, self.handle = xp.cuda.MemoryPool(), Handle(xp)
        self.results: Any = xp.empty((0, 1), np.uint64)
        self.row = 0
        stream = xp.cuda.Stream(non_blocking=True)
        memory = xp.cuda.using_allocator(self.pool.malloc)
        with own_handle(self.handle), stream:
            product(xp.ones((2, 2), np.float32), xp.ones((2, 2), np.float32))  # cuBLAS initializes at its first use
        with CAPTURING, recording(self.slip), own_handle(self.handle), no_crossing(), no_collection(), memory, stream:
            stream.begin_capture(RELAXED)
            try:
                self._record()
            except BaseException:
                _abandon(stream)
                raise
            self.graph = stream.end_capture()

    def __del__(self) -> None:
        if not sys.is_finalizing():
            with CAPTURING:
                vars(self).clear()

    def _record(self) -> None:
        kernels = kernels_for(self.xp, np.dtype(np.float32))
        x, y = self.inputs
        at = self.slip.place(lambda: [self.given[0].data.ptr, self.given[1].data.ptr], "Q", 2)
        n, m = x.nbytes // 4, y.nbytes // 4
        kernels("fetch", n + m, x, y, at, n, m)
        results = self.step._gradients(*self.inputs)
        self.step.optimizer.update()
        self.is_tuple = isinstance(results, tuple)
        parts = results if self.is_tuple else (results,)
        arrays = [part.data if isinstance(part, Tensor) else part for part in parts]
        to, _ = number(self._next_place)
        for k, array in enumerate(arrays):
            if array.shape or array.itemsize not in (4, 8):
                raise ValueError(f"a captured step must return scalars, got an array of shape {array.shape}")
            kernels("deliver", 1, to, array, array.itemsize, 8 * k)
        self.kept = arrays  # the memory that the graph writes must not be reused
        self.kinds = [(array.dtype, isinstance(part, Tensor)) for array, part in zip(arrays, parts, strict=True)]

    def _next_place(self) -> int:
        """The address for the results of the next launch: a new one for each step."""
        self.row += 1
        if self.row >= len(self.results):
            self.results, self.row = self.xp.empty((RESULTS, len(self.kinds)), np.uint64), 0
        return int(self.results.data.ptr) + self.row * 8 * len(self.kinds)

    def launch(self, inputs: tuple[Array, ...]) -> Any:
        """Train on this batch."""
        xp, optimizer, stream = self.xp, self.step.optimizer, self.xp.cuda.get_current_stream()
        self.given = [a if a.flags.c_contiguous else xp.ascontiguousarray(a) for a in inputs]
        optimizer.advance()
        for module, name, difference in self.counts:
            getattr(module, name)[...] += difference
        offset = self._free_row(stream)
        self.slip.write(self.memory, offset)
        words: Any = self.slip.words
        to, size = words.data.ptr, 8 * self.slip.used
        xp.cuda.runtime.memcpyAsync(to, self.memory.ptr + offset, size, HOST_TO_DEVICE, stream.ptr)
        self.graph.launch(stream)
        results = self._results()
        optimizer.settle()
        return results if self.is_tuple else results[0]

    def _free_row(self, stream: Any) -> int:
        """The offset in host memory of a slip that no step in flight still reads."""
        half, at = divmod(self.turn, ROWS // 2)
        if at == 0:
            if half:
                self.event.synchronize()
            self.event = self.xp.cuda.Event(disable_timing=True)
            self.event.record(stream)
        self.turn += 1
        return (self.turn - 1) % ROWS * ROW

    def _results(self) -> tuple[Any, ...]:
        start, results = self.row * 8 * len(self.kinds), []
        for k, (dtype, is_tensor) in enumerate(self.kinds):
            array = self.xp.ndarray((), dtype, self.results.data + (start + 8 * k))
            results.append(record("captured", array) if is_tensor else array)
        return tuple(results)


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause garbage collection: freeing something meanwhile, such as an older graph, would wait for the GPU."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _abandon(stream: Any) -> None:
    """End a capture that has failed."""
    with suppress(Exception):  # CUDA reports the failure again; the first error is being raised
        stream.end_capture()


def _counted(module: Module) -> dict[str, Any]:
    """A copy of a layer's Python state: numbers, strings, small arrays, NumPy generators."""
    kinds = (bool, int, float, str, tuple, np.ndarray, np.random.Generator)
    return {name: deepcopy(value) for name, value in vars(module).items() if isinstance(value, kinds)}


def _differences(modules: list[Module], before: list[Any], after: list[Any]) -> list[tuple[Module, str, Any]]:
    """What each layer's counters gain in a step. Raises ValueError for any other change."""
    found = []
    for module, old, new in zip(modules, before, after, strict=True):
        for name in old.keys() | new.keys():
            values: list[Any] = [old.get(name), new.get(name)]
            a: Any
            b: Any
            a, b = [v.bit_generator.state if isinstance(v, np.random.Generator) else v for v in values]
            if a is b or (isinstance(a, np.ndarray) and np.array_equal(a, b)) or (type(a) is type(b) and a == b):
                continue
            if not isinstance(a, np.ndarray) or a.dtype.kind not in "iu" or not isinstance(b, np.ndarray):
                raise ValueError(f"{type(module).__name__} changes its attribute {name!r} in each step")
            found.append((module, name, b - a))
    return found
