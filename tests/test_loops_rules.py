"""Update rules in compiled loops: the NumPy forms to rounding, and the same bits for any number of threads."""

import platform
import re

import numpy as np
import pytest

from minidl import Tensor
from minidl.backend import kernel_for, no_fast
from minidl.fast.threads import use_threads
from minidl.optim import SGD, SWATS, Adam, Formula, Given, Line, Rule
from minidl.optim.projection import dots64
from minidl.optim.subnormal import EVERY
from tests.test_formula import RULES, Anchored, Compares

pytest.importorskip("numba")

from numba import njit

from minidl.fast.gpu import rules as gpu_rules
from minidl.fast.loops import rules
from minidl.fast.loops.compiler import SETTINGS


def trained(make, n=1000, dtype="float32", steps=EVERY + 3, keep=False, g=None):
    """All vectors of a rule after some steps; some gradients are zero for good after the first step."""
    rng = np.random.default_rng(0)
    p = Tensor(rng.standard_normal(n).astype(dtype), requires_grad=True)
    rule = make([p])
    if keep:
        rule.keep_step()
    for i in range(steps):
        p.grad = rng.standard_normal(n).astype(dtype) if g is None else np.array(g, dtype)
        if i:
            p.grad[::7] = 0
        rule.step()
    kept = {} if rule.p is None else {"p": rule.p}
    return {"w": rule.flat.w, **{name: getattr(rule, name) for name in rule.vectors}, **kept}


def same(found, wanted, dtype):
    rtol, size = {"float32": (2e-5, 4e-6), "float64": (1e-12, 1e-14)}[dtype]
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == dtype
        np.testing.assert_allclose(found[name], value, rtol, size * np.nanmax(np.abs(value)), err_msg=name)


def both_ways(make, dtype="float32", **more):
    compiled = trained(make, dtype=dtype, **more)
    with no_fast():
        same(compiled, trained(make, dtype=dtype, **more), dtype)


# ---- the same as the NumPy form ----


@pytest.mark.parametrize(("decay", "dtype"), [(0.0, "float32"), (0.1, "float64")])
@pytest.mark.parametrize("name", RULES)
def test_every_rule(name, decay, dtype):
    both_ways(lambda p: RULES[name](p, weight_decay=decay), dtype)


@pytest.mark.parametrize("name", ["adamw", "momentum", "swats, adam"])
def test_the_step_that_is_kept(name):
    both_ways(lambda p: RULES[name](p, weight_decay=0.1), keep=True)


@pytest.mark.parametrize("n", [1, 15, 16, 33, 3 * rules.WORTH + 5])
def test_any_number_of_weights(n):
    both_ways(Adam, n=n, steps=3)


def test_rates_that_change():
    both_ways(lambda p: SGD(p, lambda k: 0.1 / (k + 1), momentum=0.9, max_norm=1.0))


class Own(Rule):
    """All that a formula may have."""

    name, vectors = "own", ("m", "largest")
    b1 = 0.9
    formula = Formula(
        Given("b1"),
        Line("m", "b1 * m_old + (1 - b1) * sign(g) / 3"),
        Line("largest", "max(largest_old * 0.5, min(abs(g), 2))"),
        Line("i", "exp(-largest / 3) + log(1 + g**2) if m > 0 else 1 / (1 + abs(m)) ** 3"),
        Line("element", "(i - m) ** 2.5 if lr < 1 else 0"),
        Line("p", "-lr * (sqrt(i + 1e-3) * (m >= 0) + element * 0.1 * t ** 2 / (1 + t ** 2))"),
        decay="lr",
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rule_of_ones_own(dtype):
    both_ways(lambda p: Own(p, weight_decay=0.1), dtype)
    both_ways(lambda p: Anchored(p, weight_decay=0.1), dtype)
    both_ways(lambda p: Compares(p, weight_decay=0.1), dtype)


class Alike(Rule):
    """A vector and a step that are the same for all weights."""

    name, vectors, keep, k = "alike", ("c", "z"), 0.5, 2.0
    formula = Formula(Given("keep"), Given("k"), Line("c", "1 - keep**t"), Line("z", "0"), Line("p", "-lr * (k + c)"))


@pytest.mark.parametrize("keep", [False, True])
def test_what_is_the_same_for_all_weights_is_stored_too(keep):
    """numba knew no c: it was a number, worked out once, and not one of a weight's values. So it was in C."""
    p = Tensor(np.arange(3.0), requires_grad=True)
    rule = Alike([p], lr=0.1)
    if keep:
        rule.keep_step()
    for _ in range(2):
        p.grad = np.ones(3)
        rule.step()
    np.testing.assert_allclose(p.numpy(), np.arange(3) - 0.1 * (2.5 + 2.75), rtol=1e-14)
    np.testing.assert_array_equal([rule.c, rule.z], [[0.75] * 3, [0.0] * 3])
    in_c = gpu_rules.source(gpu_rules._parts(rule), rule.vectors, keep)
    assert all(f"const T x_{name} = " in in_c for name in ("c", "z", "p"))


def test_nan_and_infinity_show():
    g = [np.nan, np.inf, -np.inf, 0.0, 1.0]
    for make in (Adam, Own, RULES["rmsprop, momentum"]):
        with np.errstate(all="ignore"):
            compiled = trained(make, n=5, steps=2, g=g)
            with no_fast():
                plain = trained(make, n=5, steps=2, g=g)
        for name, value in plain.items():
            np.testing.assert_array_equal(np.isfinite(compiled[name]), np.isfinite(value), err_msg=name)
            np.testing.assert_array_equal(np.isnan(compiled[name]), np.isnan(value), err_msg=name)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="elsewhere they are not slow")
def test_numbers_too_small_become_zero():
    tiny = float(np.finfo(np.float32).tiny)
    rule = SGD([p := Tensor(np.ones(5, np.float32), requires_grad=True)], momentum=0.9)
    p.grad = np.zeros(5, np.float32)
    rule.v[:] = [0.0, tiny / 4, -tiny / 4, tiny * 2, np.nan]
    rule.step()
    np.testing.assert_array_equal(rule.v, np.array([0, 0, 0, 0.9 * (2 * tiny), np.nan], np.float32))
    assert np.float32(tiny) / 2 > 0  # only there


def test_numbers_too_small_are_kept_where_a_tiny_eps_makes_them_matter():
    rule = Adam([p := Tensor(np.ones(3, np.float32), requires_grad=True)], eps=1e-30)
    p.grad = np.full(3, 1e-20, np.float32)
    rule.step()
    np.testing.assert_allclose(rule.v, 1e-43, rtol=0.01)  # 71 times the smallest that is not 0
    np.testing.assert_allclose(p.numpy(), 1 - rule.lr, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 63, 64, 1000, 40 * rules.WORTH + 3])
def test_dot_products(n, dtype):
    p, g = np.random.default_rng(n).standard_normal((2, n)).astype(dtype)
    found = []
    for threads in (1, 3):
        with use_threads(threads):
            found.append(kernel_for(p, "dots64")((p, p), (p, g)))
    with no_fast():
        wanted = dots64((p, p), (p, g))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], wanted, rtol=1e-13, atol=1e-13 * n**0.5)
    assert kernel_for(p, "dots64")((p, g), (g, g)) is NotImplemented


# ---- who has one ----


def loop_takes(rule):
    rule.flat.g[...] = 0
    return kernel_for(rule.flat.w, "rule")(rule) is not NotImplemented


def params(dtype="float32"):
    return [Tensor(np.ones(3, dtype), requires_grad=True)]


class Halved(SGD):
    def rule(self, g, p, lr):
        super().rule(g, p, lr / 2)


class Double(SGD):
    """Has a state vector in double precision."""

    def bind(self, flat):
        super().bind(flat)
        self.v = self.v.astype(np.float64)


def test_who_has_a_loop():
    assert loop_takes(SGD(params()))
    assert not loop_takes(Halved(params()))  # nor has it a formula
    assert not loop_takes(Double(params(), momentum=0.9))
    assert not loop_takes(SGD(params("float16")))
    with no_fast():
        assert kernel_for(SGD(params()).flat.w, "rule") is None


def test_no_symbol_meets_a_word_of_the_loop():
    class Odd(Rule):
        name, vectors = "odd", ("part", "here", "w_", "numbers")
        formula = Formula(*(Line(name, f"{name}_old + g") for name in vectors), Line("p", "-lr * (part - here + w_)"))

    both_ways(Odd, steps=3)


# ---- bits and speed ----


@pytest.mark.parametrize("make", [Adam, SWATS])
def test_the_same_bits_for_any_number_of_threads(make):
    found = []
    for n in (1, 2, 5):
        with use_threads(n):
            found.append(trained(make, n=40 * rules.WORTH + 3, steps=3))
    for other in found[1:]:
        for name, value in found[0].items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)


@pytest.mark.parametrize("keep", [False, True])
def test_vector_registers(keep):
    """The loop does several weights at a time: its square roots and divisions are those of packed numbers."""
    weights = params()
    weights[0].grad = np.ones(3, np.float32)  # without a gradient it would rest
    rule = Adam(weights, weight_decay=0.1)
    if keep:
        rule.keep_step()
    rule.step()
    _, update = rules.made(rule.lines(), rule.vectors, keep, "float32")
    fresh = njit(**SETTINGS)(update.py_func)  # one out of the cache has no assembly to show
    fresh.compile(update.signatures[0])
    assembly = fresh.inspect_asm(fresh.signatures[0])
    if platform.machine().lower() in ("aarch64", "arm64"):
        for instruction in ("fsqrt", "fdiv", "fmul"):  # NEON, in Linux's words or in Apple's, or SVE
            assert re.search(rf"\b{instruction}(\s+v\d+\.4s|\.4s\s+v\d|\s+z\d+\.s)", assembly), instruction
        return
    if "vsqrtss" not in assembly:
        pytest.skip("neither ARM64 nor AVX")
    for instruction in ("vsqrtps", "vdivps", "vmulps"):
        assert re.search(rf"{instruction}\s.*%[yz]mm", assembly), instruction
