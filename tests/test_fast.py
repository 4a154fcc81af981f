"""The CPU's kernels against the operations as they are written in ops*.py, in float64, and the promises they make."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from minidl import Tensor, nn, no_grad, ops, optim, reference_only
from minidl.backend import CPU, no_fast, same_bits
from minidl.fast import blas as fast_blas
from minidl.fast import linear
from minidl.fast import pool as fast_pool
from minidl.fast import threads as fast_threads
from minidl.tensor import record
from tests.other_blas import OtherBlas
from tests.test_same_bits import OLDER

sizes = st.integers(1, 7)


@pytest.fixture(autouse=True)
def _numpy() -> Iterator[None]:
    """The forms in NumPy: test_loops.py has the compiled ones."""
    with no_fast():
        yield


def value_and_gradients(fn: Any, arrays: list[Any]) -> list[Any]:
    """The output of fn and the gradients of its inputs, copied, for a fixed irregular gradient of the output."""
    tensors = [Tensor(a.copy(order="K"), requires_grad=True) for a in arrays]
    out = fn(*tensors)
    out.backward(np.cos(np.arange(out.size, dtype=out.dtype)).reshape(out.shape))
    return [out.data.copy(), *(t.grad.copy() for t in tensors)]


def same(fn: Any, *arrays: Any) -> None:
    """fn with kernels, in one part and in many, equals fn without them to 1e-12 of the largest value."""
    with reference_only():
        expected = value_and_gradients(fn, list(arrays))
    for got, want in zip(value_and_gradients(fn, list(arrays)), expected, strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * max(1.0, np.abs(want).max(initial=0.0)))


@pytest.fixture(params=["whole", "in parts"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Once as it comes, and once with everything split over two threads and cut into chunks of one image."""
    if request.param == "whole":
        yield
        return
    monkeypatch.setattr(fast_threads, "WORTH", 1)
    monkeypatch.setattr(linear, "WORTH", 1)
    monkeypatch.setattr(fast_threads, "CHUNK", 1)
    with fast_threads.use_threads(2):
        yield


def numbers(*shape: int, seed: int = 0, channels_last: bool = False) -> Any:
    """Small whole numbers, so that maxima tie and relu meets zeros."""
    a = np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float64)
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if channels_last else a


@pytest.mark.usefixtures("parts")
class TestEqualToReference:
    @given(n=sizes, inside=sizes, out=sizes, bias=st.booleans())
    def test_linear(self, n: int, inside: int, out: int, bias: bool) -> None:
        same(ops.linear, numbers(n, inside), numbers(out, inside, seed=1), *([numbers(out, seed=2)] * bias))

    @given(n=sizes, c=sizes, h=sizes, w=sizes, last=st.booleans())
    def test_relu(self, n: int, c: int, h: int, w: int, last: bool) -> None:
        same(ops.relu, numbers(n, c, h, w, channels_last=last))
        same(ops.relu, numbers(n, c))

    @given(
        n=sizes, c=st.sampled_from([1, 2, 3, 8, 17]), h=sizes, w=sizes, o=st.integers(1, 4), kh=st.integers(1, 3),
        kw=st.integers(1, 3), stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        padding=st.tuples(st.integers(0, 3), st.integers(0, 3)), bias=st.booleans(), last=st.booleans(),
    )  # fmt: skip
    def test_conv2d(self, n: int, c: int, h: int, w: int, o: int, kh: int, kw: int, stride: Any, padding: Any,
                    bias: bool, last: bool) -> None:  # fmt: skip
        kh, kw = min(kh, h), min(kw, w)
        x, filters = numbers(n, c, h, w, channels_last=last), numbers(o, c, kh, kw, seed=1)
        same(lambda x, w, b=None: ops.conv2d(x, w, b, stride, padding), x, filters, *([numbers(o, seed=2)] * bias))

    @given(n=sizes, c=st.sampled_from([1, 3, 16]), h=sizes, w=sizes, last=st.booleans(), seed=st.integers(0, 99))
    def test_max_pool2d_with_ties(self, n: int, c: int, h: int, w: int, last: bool, seed: int) -> None:
        same(lambda x: ops.max_pool2d(x, 2), numbers(n, c, 2 * h, 2 * w, seed=seed, channels_last=last))

    @given(
        n=sizes, c=st.sampled_from([1, 3, 8]), h=st.integers(3, 8), w=st.integers(3, 8), o=st.integers(1, 4),
        k=st.sampled_from([1, 2, 3, (2, 1)]), stride=st.integers(1, 2), padding=st.integers(0, 1), bias=st.booleans(),
        learns=st.booleans(),
    )  # fmt: skip
    def test_conv2d_relu_max_pool2d(self, n: int, c: int, h: int, w: int, o: int, k: Any, stride: int, padding: int,
                                    bias: bool, learns: bool) -> None:  # fmt: skip
        def f(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
            conv = nn.Conv2d(c, o, 3, stride, padding, bias=bias)
            conv.weight, conv.bias = w, b
            return nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(k))(x)

        x, filters, b = numbers(n, c, h, w), numbers(o, c, 3, 3, seed=1), [numbers(o, seed=2)] * bias
        height, width = ((size + 2 * padding - 3) // stride + 1 for size in (h, w))
        if min(height // (k if isinstance(k, int) else k[0]), width // (k if isinstance(k, int) else k[1])) < 1:
            return
        if learns:
            same(f, x, filters, *b)
        else:
            same(lambda w, b=None: f(Tensor(x), w, b), filters, *b)

    def test_a_whole_network_with_a_branch_and_a_shared_weight(self) -> None:
        def f(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
            h = ops.max_pool2d(ops.relu(ops.conv2d(x, w, padding=1)), 2)
            h = ops.conv2d(h, w, padding=1) + h
            return ops.linear(ops.linear(ops.flatten(h, 1), v).relu(), v[:3, :3])

        same(f, numbers(4, 2, 6, 6), numbers(2, 2, 3, 3, seed=1), numbers(3, 18, seed=2))


def test_kernels_really_run(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = Tensor(numbers(2, 3)), Tensor(numbers(4, 3))
    calls: list[str] = []
    monkeypatch.setitem(CPU.kernels, "linear", lambda *a: calls.append("kernel") or NotImplemented)
    ops.linear(x, w)
    with reference_only():
        ops.linear(x, w)
    assert calls == ["kernel"]


@pytest.mark.parametrize("name", ["conv2d", "matmul"])
def test_a_first_layer_on_arrays_has_its_kernel_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = (numbers(2, 1, 5, 5), numbers(4, 1, 3, 3)) if name == "conv2d" else (numbers(2, 3), numbers(3, 4))
    calls: list[str] = []
    monkeypatch.setitem(CPU.kernels, name, lambda *a: calls.append("kernel") or NotImplemented)
    weight = Tensor(w, requires_grad=True)
    y = ops.conv2d(x, weight, stride=2) if name == "conv2d" else x @ weight
    y.sum().backward()
    assert calls == ["kernel"]
    other = Tensor(w, requires_grad=True)
    y = ops.conv2d(Tensor(x), other, stride=2) if name == "conv2d" else Tensor(x) @ other
    y.sum().backward()
    np.testing.assert_array_equal(weight.grad, other.grad)


def test_unusual_inputs_run_on_the_reference() -> None:
    half = Tensor(np.ones((2, 3), np.float16))
    assert linear.linear(half, half) is NotImplemented
    assert ops.linear(half, half).dtype == np.float16
    assert linear.linear(half, Tensor(np.ones((2, 3), np.float32))) is NotImplemented
    assert fast_pool.max_pool2d(Tensor(numbers(1, 1, 5, 5)), 2) is NotImplemented
    assert ops.max_pool2d(Tensor(numbers(1, 1, 5, 5)), 3, 1).shape == (1, 1, 3, 3)
    strided = Tensor(numbers(6, 8)[::2, ::3], requires_grad=True)
    np.testing.assert_array_equal(ops.relu(strided).data, np.maximum(strided.data, 0))
    with pytest.raises(ValueError, match="linear"):
        ops.linear(Tensor(numbers(2, 3)), Tensor(numbers(2, 4)))
    with pytest.raises(ValueError, match="conv2d"):
        ops.conv2d(Tensor(numbers(1, 1, 2, 2)), Tensor(numbers(1, 1, 3, 3)))


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, rng=0), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 8, 3, padding=1, rng=1),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 49, 10, rng=2),
    )  # fmt: skip


def batch(i: int = 0, n: int = 64) -> tuple[Tensor, Any]:
    rng = np.random.default_rng(i)
    return Tensor(rng.random((n, 1, 28, 28), dtype=np.float32)), rng.integers(0, 10, n)


def train(steps: int = 5) -> list[Any]:
    model = small_cnn()
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for i in range(steps):
        x, y = batch(i)
        optimizer.zero_grad()
        ops.cross_entropy(model(x), y).backward()
        optimizer.step()
    return list(model.state_dict().values())


def test_same_seed_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    first = train()
    for _ in range(3):
        assert all((a == b).all() for a, b in zip(first, train(), strict=True))


def test_what_was_trained_before_changes_no_bit() -> None:
    """A network with convolutions leaves the helper threads awake, and products then go to them."""

    def perceptron() -> Any:
        model = nn.Sequential(nn.Linear(784, 64, rng=0), nn.ReLU(), nn.Linear(64, 10, rng=1))
        optimizer = optim.SGD(model.parameters(), lr=0.05)
        for i in range(3):
            x, y = batch(i)
            optimizer.zero_grad()
            ops.cross_entropy(model(ops.flatten(x, 1)), y).backward()
            optimizer.step()
        return optimizer.flat.w

    first = perceptron()
    train()
    np.testing.assert_array_equal(perceptron(), first)


def test_layers_done_together_give_the_bits_of_the_layers_one_by_one() -> None:
    """So an observer of each layer, such as minidl.trace, sees the same training."""

    def gradients(model: nn.Module) -> list[Any]:
        x, y = batch()
        x.requires_grad = True
        ops.cross_entropy(model(x), y).backward()
        return [x.grad, *(p.grad for p in model.parameters())]

    together, one_by_one = small_cnn(), small_cnn()
    calls: list[str] = []
    for _, layer in one_by_one.named_children():
        layer.forward = lambda x, own=layer.forward: calls.append("called") or own(x)  # type: ignore[misc]
    for got, want in zip(gradients(together), gradients(one_by_one), strict=True):
        np.testing.assert_array_equal(got, want)
    assert len(calls) == 8


@pytest.mark.parametrize("kernels", OLDER)
@pytest.mark.parametrize("threads", ["1", "2"])
def test_so_they_do_with_older_kernels(kernels: str, threads: str) -> None:
    """In Haswell's, the last bits of a product's row depend on where in the matrix the row is."""
    name = test_layers_done_together_give_the_bits_of_the_layers_one_by_one.__name__
    code = f"from tests import test_fast; test_fast.{name}()"
    env = {**os.environ, "OPENBLAS_CORETYPE": kernels, "OPENBLAS_NUM_THREADS": threads}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, cwd=Path(__file__).parents[1])


def test_a_layer_with_a_forward_of_its_own_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    x, conv, pool = batch()[0], nn.Conv2d(1, 4, 3, padding=1, rng=0), nn.MaxPool2d(2)
    np.testing.assert_allclose(
        nn.Sequential(conv, Twice(), pool)(x).data, 2 * nn.Sequential(conv, nn.ReLU(), pool)(x).data
    )
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: x * 0)
    assert not nn.Sequential(conv, nn.ReLU(), pool)(x).data.any()


def test_backward_twice_through_a_convolution_doubles_its_gradients() -> None:
    model, (x, y) = small_cnn(), batch(n=8)
    loss = ops.cross_entropy(model(x), y)
    loss.backward(retain_graph=True)
    once = [p.grad.copy() for p in model.parameters()]
    loss.backward()
    for p, g in zip(model.parameters(), once, strict=True):
        np.testing.assert_array_equal(p.grad, 2 * g)


def test_training_equals_the_reference() -> None:
    with reference_only():
        expected = train()
    for got, want in zip(train(), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)


# ---- memory ----


@given(keep=st.sets(st.integers(0, 9)), views=st.booleans())
def test_what_the_user_keeps_never_changes(keep: set[int], views: bool) -> None:
    """Any subset of what a few steps made, kept as a tensor or as a view, equals its copy after more steps."""
    model, held = small_cnn(), []
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    for i in range(4):
        x, y = batch(i, n=8)
        made: list[Tensor] = [x]
        for layer in (model[j] for j in range(8)):  # type: ignore[index]
            made.append(layer(made[-1]))
        made.append(ops.cross_entropy(made[-1], y))
        optimizer.zero_grad()
        made[-1].backward()
        optimizer.step()
        for j in keep:
            kept = made[j].data[..., None].swapaxes(0, -1)[0] if views and made[j].ndim else made[j]
            held.append((kept, (kept.data if isinstance(kept, Tensor) else kept).copy()))
        kept = layer = x = None
        del made
    for kept, copy in held:
        np.testing.assert_array_equal(kept.data if isinstance(kept, Tensor) else kept, copy)


def test_a_gradient_without_an_optimizer_is_the_users_own() -> None:
    w = Tensor(numbers(64, 64), requires_grad=True)
    x = Tensor(numbers(64, 64, seed=1), requires_grad=True)
    ops.linear(x, w).sum().backward()
    kept, copy = (w.grad, x.grad), (w.grad.copy(), x.grad.copy())
    for t in (w, x):
        t.grad = None
    for i in range(5):
        ops.linear(x, Tensor(numbers(64, 64, seed=i), requires_grad=True)).relu().sum().backward()
        x.grad = None
    assert all((a == b).all() for a, b in zip(kept, copy, strict=True))


def test_an_operation_of_ones_own_may_keep_its_arrays() -> None:
    def shifted(x: Tensor) -> Tensor:  # its vjp holds the input and a view of the output
        y = x.data + 1
        return record("shifted", y, (x, lambda g: g * y[:, ::-1] * x.data))

    w = numbers(64, 64)
    same(lambda x: ops.linear(shifted(ops.linear(x, Tensor(w))), Tensor(w)).relu(), numbers(64, 64, seed=1))


def test_trainings_in_several_threads_share_no_memory() -> None:
    results: dict[int, list[Any]] = {}

    def work(i: int) -> None:
        with no_fast():  # a thread begins with the default
            results[i] = train(3)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for worker in workers:
        worker.start()
    expected = train(3)
    for worker in workers:
        worker.join()
    for state in results.values():
        for got, want in zip(state, expected, strict=True):
            np.testing.assert_array_equal(got, want)
    assert len(results) == 3


def test_evaluation_holds_no_graph() -> None:
    model, (x, _) = small_cnn(), batch()
    with no_grad():
        out = model(x)
    assert out.node is None
    gc.collect()


def test_the_allocator_is_tuned_by_programs_only() -> None:
    code = "from minidl.fast import malloc; print(malloc.tune_allocator())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("True", "False")  # in a process of its own: it lasts as long as the process


# ---- threads ----


def two(work: Any, n: int) -> list[Any]:
    """split() as on a machine with two cores."""
    with fast_threads.use_threads(2):
        return fast_threads.split(work, n)


def test_split_covers_the_range_in_order() -> None:
    assert two(lambda i, j: (i, j), 7) == [(0, 3), (3, 7)]
    assert two(lambda i, j: (i, j), 1) == [(0, 1)]
    with fast_threads.use_threads(1):
        assert fast_threads.split(lambda i, j: (i, j), 7) == [(0, 7)]


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_in_any_part_reaches_the_caller(where: int, kind: Any) -> None:
    finished = []
    both_at_work = threading.Barrier(2)

    def work(i: int, j: int) -> None:
        both_at_work.wait(10)
        if (i > 0) == where:
            raise kind("here")
        threading.Event().wait(0.05)
        finished.append(i)

    with pytest.raises(kind, match="here"):
        two(work, 2)
    assert len(finished) == 1, "the other part must have ended by then"
    assert two(lambda i, j: j - i, 4) == [2, 2]


def test_nobody_waits_for_a_helper_that_has_not_begun() -> None:
    """As on a busy machine: the other trainings' parts keep all helpers, so this one's are done by itself."""
    begun, may_end, results = threading.Event(), threading.Event(), []

    def slow(i: int, j: int) -> None:
        if i > 0:
            begun.set()
            may_end.wait(10)

    other = threading.Thread(target=two, args=(slow, 2))
    other.start()
    assert begun.wait(10)
    results += two(lambda i, j: (i, j), 4)
    may_end.set()
    other.join()
    assert results == [(0, 2), (2, 4)]


def blas_limits() -> list[int]:
    return [found["num_threads"] for found in threadpool_info() if "numpy" in (found["filepath"] or "")]


@pytest.mark.skipif(not blas_limits(), reason="threadpoolctl knows no BLAS here")
def test_blas_is_held_by_the_first_and_let_go_by_the_last() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = blas_limits()
        inside, may_end, seen = threading.Event(), threading.Event(), []

        def other() -> None:
            with same_bits:
                seen.extend(blas_limits())
                inside.set()
                may_end.wait(10)
            seen.extend(blas_limits())

        with same_bits, same_bits:
            assert set(blas_limits()) == {1}
            assert fast_threads.threads() == max(before)
            thread = threading.Thread(target=other)
            thread.start()
            assert inside.wait(10)
        assert set(blas_limits()) == {1}, "the other one still computes"
        may_end.set()
        thread.join()
        assert set(seen) == {1, *before}
        assert blas_limits() == before


@pytest.mark.skipif(not blas_limits(), reason="threadpoolctl knows no BLAS here")
def test_blas_is_held_in_a_thread_that_threadpoolctl_would_refuse() -> None:
    """From 3.8 on it lets one thread set limits, the first: here ours, not the other one."""
    seen: list[int] = []

    def other() -> None:
        with same_bits:
            seen.extend(blas_limits())

    with threadpool_limits(2, user_api="blas"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert set(seen) == {1}
        assert set(blas_limits()) == {2}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loops_can_call_a_blas_with_sizes_of_32_or_64_bits(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """conda's, Debian's and MKL's have sizes of 32 bits. One that multiplies otherwise is not called."""
    for size in (ctypes.c_int32, ctypes.c_int64):
        for right in (True, False):
            library = OtherBlas(size, right=right)
            monkeypatch.setattr(ctypes, "PyDLL", lambda _, library=library: library)
            assert bool(fast_blas.gemm_of("another", dtype)) is right
            assert library.calls == [(2, 4, 3)]
    for library in (OtherBlas(ctypes.c_int64, reads=True), object()):
        monkeypatch.setattr(ctypes, "PyDLL", lambda _, library=library: library)
        assert fast_blas.gemm_of("another", dtype) == 0


def test_where_numpy_does_not_lead_to_its_blas_threadpoolctl_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where a look-up in NumPy's module does not include the libraries that it is linked to."""
    library = OtherBlas(ctypes.c_int64)
    found = [SimpleNamespace(filepath=name) for name in ("without", "openblas.dll")]
    monkeypatch.setattr(fast_blas, "_loaded", lambda: found)
    monkeypatch.setattr(ctypes, "PyDLL", lambda path: library if path == "openblas.dll" else object())
    address = ctypes.cast(library.cblas_sgemm, ctypes.c_void_p).value
    assert fast_blas.gemm.__wrapped__("float32") == address
    monkeypatch.setattr(fast_blas, "_loaded", list)
    assert fast_blas.gemm.__wrapped__("float32") == 0


def test_the_loops_are_told_which_kernels_do_not_pack_small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenBLAS's for AVX-512. What decides is what OpenBLAS chose, not what the processor has."""
    for name, unpacked in (("SkylakeX", 900_000), ("Haswell", 0), ("Zen", 0), ("unknown", 0)):
        monkeypatch.setattr(fast_blas, "kernels", lambda name=name: name)
        assert fast_blas.for_loops.__wrapped__("float32") == (fast_blas.gemm("float32"), unpacked)


def test_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What threadpoolctl says; it is asked only where NumPy does not lead to its BLAS: it may warn of OpenMP."""
    known = {each["architecture"] or "unknown" for each in threadpool_info() if each["internal_api"] == "openblas"}
    assert fast_blas.kernels() in (known or {"unknown"})
    monkeypatch.setattr(fast_blas, "_loaded", lambda: [SimpleNamespace(filepath="openblas.dll")])
    openblas = SimpleNamespace(openblas_get_corename=lambda: b"Zen")
    for library, said in ((openblas, "Zen"), (SimpleNamespace(), "unknown")):
        monkeypatch.setattr(ctypes, "PyDLL", {fast_blas.NUMPY: object(), "openblas.dll": library}.get)
        assert fast_blas.kernels.__wrapped__() == said


def test_where_each_thread_has_its_own_limit_each_sets_and_restores_it() -> None:
    """As where BLAS uses OpenMP: threads that overlap, and the helper threads of both kinds of split."""
    own = threading.local()

    def get() -> int:
        return getattr(own, "limit", 2)

    def set_to(limit: int) -> None:
        own.limit = limit

    held, seen = fast_blas._Blas(), []
    held.libraries, held.each = [fast_blas.Limit(get, set_to, each=True)], True

    def train(limit: int = 2) -> None:
        set_to(limit)
        held.hold()
        seen.extend((get(), held.own.limit))
        held.release()
        seen.append(get())

    def help_out() -> None:
        held.help()
        seen.append(get())

    held.hold()
    for work in (train, help_out, lambda: train(1), lambda: train(3)):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [1, 2, 2, 1, 1, 1, 1, 1, 3, 3]
    assert (get(), held.own.limit) == (1, 2)
    held.release()
    assert (get(), held.users, held.own.before) == (2, set(), ())


class Mkl:
    """Its functions, with a limit for the process and one for a thread, which counts if it is not 0."""

    process = thread = 0

    def MKL_Get_Max_Threads(self) -> int:
        return self.thread or self.process

    def MKL_Set_Num_Threads_Local(self, limit: int) -> None:
        self.thread = limit


@pytest.mark.parametrize("own", [0, 2, 3])
def test_mkl_is_held_in_a_thread_that_threadpoolctl_has_limited(own: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sets the limit of one thread, then to what it was: that of the process does not count there any more."""
    library = Mkl()
    library.process, library.thread = 4, own
    monkeypatch.setattr(ctypes, "PyDLL", lambda _: library)
    [(get, set_to, each)] = fast_blas._libraries()
    before = get()
    set_to(1)
    assert (each, get()) == (True, 1)
    set_to(before)
    assert (library.process, library.thread) == (4, own)


@pytest.mark.parametrize("openmp", [True, False])
@pytest.mark.parametrize("name", fast_blas.OPENBLAS)
def test_only_an_openblas_on_openmp_has_a_limit_for_each_thread(
    name: str, openmp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own functions tell what any thread has set last; and a BLAS may lead to OpenMP without using it."""
    functions = {"get_num_threads": "get", "set_num_threads": "set", "get_parallel": lambda: 2 if openmp else 1}
    library = SimpleNamespace(
        omp_get_max_threads="get one",
        omp_set_num_threads="set one",
        **{name.format(word): function for word, function in functions.items()},
    )
    monkeypatch.setattr(ctypes, "PyDLL", lambda _: library)
    limit = ("get one", "set one") if openmp else ("get", "set")
    assert fast_blas._libraries() == [(*limit, openmp)]


def test_a_blas_without_a_limit_leaves_all_cores_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has no threads, or whose number can't be set, as Apple's Accelerate."""
    monkeypatch.setattr(fast_blas.blas, "libraries", [])
    monkeypatch.setattr(fast_blas, "cores", lambda: 3)
    monkeypatch.setattr(fast_threads, "cores", lambda: 3)
    assert fast_threads.threads() == 3


def test_a_process_that_limits_blas_limits_the_helpers_too() -> None:
    with threadpool_limits(1, user_api="blas"):
        assert fast_threads.threads() == 1


def test_split_inside_split_runs_in_one_piece() -> None:
    assert two(lambda i, j: fast_threads.split(lambda a, b: (a, b), 4), 2) == [[(0, 4)], [(0, 4)]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking a process with threads is what we test
def test_a_forked_child_can_train() -> None:
    two(lambda i, j: None, 2)
    child = os.fork()
    if child == 0:
        ok = fast_threads.split(lambda i, j: j - i, 10)
        os._exit(0 if sum(ok) == 10 else 1)
    assert os.waitpid(child, 0)[1] == 0
