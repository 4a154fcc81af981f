"""A rule's formula: read, taken apart, computed in four ways that agree with the rule's in-place form."""

import math
import sys
import warnings
from contextlib import nullcontext
from itertools import product

import numpy as np
import pytest

from minidl import Tensor
from minidl.backend import no_fast
from minidl.fast.formula import take_apart, value_of
from minidl.fast.written import c_expression, python_source
from minidl.optim import SGD, SWATS, Adagrad, Adam, AdamW, Blend, Formula, Given, Line, RMSprop, Rule
from minidl.optim.formula import way_taken

N = 50


def swats_after(p, **more):
    rule = SWATS(p, 0.02, **more)
    rule._to_sgd(0.3, "told to")
    return rule


RULES = {
    "sgd": lambda p, **more: SGD(p, 0.1, **more),
    "momentum": lambda p, **more: SGD(p, 0.1, 0.9, **more),
    "nesterov": lambda p, **more: SGD(p, 0.1, 0.8, nesterov=True, **more),
    "adam": lambda p, **more: Adam(p, 0.01, (0.8, 0.99), 1e-3, **more),
    "adamw": lambda p, **more: AdamW(p, **{"weight_decay": 0.0, **more}),
    "amsgrad": lambda p, **more: Adam(p, 0.01, (0.8, 0.99), 1e-3, amsgrad=True, **more),
    "rmsprop": lambda p, **more: RMSprop(p, **more),
    "rmsprop, momentum": lambda p, **more: RMSprop(p, momentum=0.7, **more),
    "adagrad": lambda p, **more: Adagrad(p, **more),
    "adagrad, falling": lambda p, **more: Adagrad(p, lr_decay=0.1, **more),
    "blend": lambda p, **more: Blend(p, steps_per_epoch=4, center=2, period=3, **more),
    "blend at rate 0": lambda p, **more: Blend(p, 0.0, steps_per_epoch=4, center=2, period=3, **more),
    "swats, adam": lambda p, **more: SWATS(p, **more),
    "swats, sgd": swats_after,
}
STEPS = (1, 2, 7, 11, 1000)  # blend: on each of its three branches


def in_place(rule, vectors):
    """The state, p and w after one step by the rule's own form."""
    new = {name: vectors[f"{name}_old"].copy() for name in rule.vectors}
    w, g, p = vectors["w_old"].copy(), vectors["g"].copy(), np.empty(N, vectors["g"].dtype)
    rule.rule(rule.decayed(w, g, rule.lr), p, rule.lr, **new)
    return {**new, "p": p, "w": w + p}


def by_lines(rule, vectors):
    """On whole arrays, line by line."""
    values = {**rule.given(rule.lr), **vectors}
    for line in rule.lines():
        values[line.symbol] = value_of(line.expression, values)
    return values


def by_element(rule, vectors):
    """By the function for a compiler, one element after the other, in double precision."""
    results = [*rule.vectors, "p", "w"]
    parts = take_apart(tuple((line.symbol, line.expression) for line in rule.lines()), tuple(vectors))
    scope = {name: getattr(math, name) for name in ("sqrt", "exp", "log")}
    exec(python_source(parts, results), scope)
    numbers = parts.work_out(rule.given(rule.lr))
    rows = [scope["element"](*row, *numbers) for row in zip(*(v.tolist() for v in vectors.values()), strict=True)]
    return dict(zip(results, np.array(rows).T, strict=True))


def by_element_with_steps(rule, vectors):
    """The same where the step count is a vector: all that depends on it is worked out for each element."""
    given = {name: value for name, value in rule.given(rule.lr).items() if name != "t"}
    results = [*rule.vectors, "p", "w"]
    vectors = {**vectors, "t": np.full(N, rule.t)}
    parts = take_apart(tuple((line.symbol, line.expression) for line in rule.lines()), tuple(vectors))
    assert not any("t" in expression.split() for _, expression in (*parts.before, *parts.numbers))
    scope = {name: getattr(math, name) for name in ("sqrt", "exp", "log")}
    exec(python_source(parts, results), scope)
    rows = [
        scope["element"](*row, *parts.work_out(given))
        for row in zip(*(v.tolist() for v in vectors.values()), strict=True)
    ]
    return dict(zip(results, np.array(rows).T, strict=True))


@pytest.mark.parametrize("way", [by_lines, by_element, by_element_with_steps])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RULES)
def test_the_formula_is_the_rule(name, dtype, way):
    rng = np.random.default_rng(0)
    for decay, t in product((0.0, 0.1), STEPS):
        p = Tensor(np.ones(N, dtype), requires_grad=True)
        rule = RULES[name]([p], weight_decay=decay)
        rule.t = t
        vectors = {"w_old": rng.standard_normal(N), "g": rng.standard_normal(N)}
        vectors |= {f"{v}_old": rng.uniform(0.1, 2, N) for v in rule.vectors}
        vectors = {name: v.astype(dtype) for name, v in vectors.items()}
        wanted, found = in_place(rule, vectors), way(rule, vectors)
        for symbol, value in wanted.items():
            rtol, size = (1e-5, 1e-6) if dtype == "float32" else (1e-12, 1e-14)
            atol = size * np.abs(value).max()
            np.testing.assert_allclose(found[symbol], value, rtol, atol, err_msg=f"{symbol}, t {t}, decay {decay}")


def test_a_vector_of_steps_gives_each_weight_its_own():
    rule = Adam([Tensor(np.ones(3), requires_grad=True)], 0.1)
    rng = np.random.default_rng(1)
    vectors = {name: rng.uniform(0.1, 1, 3) for name in ("w_old", "g", "m_old", "v_old")}
    rule.t = np.array([1, 5, 90])
    together = by_lines(rule, vectors)["w"]
    for i, t in enumerate([1, 5, 90]):
        rule.t = t
        assert together[i] == pytest.approx(by_lines(rule, vectors)["w"][i], rel=1e-14)
    share = Blend.formula.lines[1].expression
    values = {"e": np.array([0.5, 2.5, 9.0]), "c": 2.0, "T": 3.0}
    assert value_of(share, values).tolist() == [value_of(share, {**values, "e": e}) for e in values["e"]]


def test_numbers_are_moved_out():
    parts = take_apart(
        (("k", "b1**t"), ("m", "b1 * m_old + (1 - b1) * g"), ("p", "-lr * m / (1 - k) * 2 if lr > 0 else 0")),
        ("m_old", "g"),
    )
    assert parts.before == (("k", "b1**t"),)
    assert [expression for _, expression in parts.numbers] == [
        "b1", "1 - b1", "lr > 0", "(-lr) if lr > 0 else 1.0", "(1 - k) if lr > 0 else 1.0",
    ]  # fmt: skip
    assert parts.work_out({"b1": 0.5, "lr": 0.1, "t": 2}) == [0.5, 0.5, 1.0, -0.1, 0.75]
    source = python_source(parts, ["p"])
    assert source.startswith("def element(m_old, g, number0, number1, number2, number3, number4):\n    # number0 = b1")


def test_a_way_that_has_no_value_for_some_elements_is_no_warning():
    """Both ways are computed for all elements of an array; each warning here is an error."""
    values = {"g": np.array([0.0, 2.0]), "v": np.array([0.0, 4.0])}
    np.testing.assert_array_equal(value_of("g / sqrt(v) if v > 0 else 0", values), [0, 1])
    np.testing.assert_array_equal(value_of("0 if v == 0 else 1 / v", values), [0, 0.25])


def test_in_c():
    assert c_expression("a**2 + b**2.5", "x_{}".format) == "((x_a * x_a) + pow(x_b, (T)2.5))"
    assert c_expression("-sqrt(min(a, 2))") == "(-sqrt(fmin(a, (T)2.0)))"
    assert c_expression("a if a >= b else sign(b)") == "((a >= b) ? a : (T)((b > 0) - (b < 0)))"


def test_the_way_that_was_taken():
    assert way_taken("a if e < c else b if e < 9 else 1", {"e": 5, "c": 2}) == "b"
    assert way_taken("a if e < c else b", {"e": np.ones(2), "c": 2}) == "a if e < c else b"
    assert way_taken("1 / 2 + a", {}) == "1 / 2 + a"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([Line("s", "s_old + g")], "needs a line for the step"),
        ([Line("p", "-lr * gg")], "the formula of p: unknown symbol 'gg': did you mean 'g'"),
        ([Line("p", "-lr * (g")], "is not valid Python"),
        ([Line("p", "-lr * sgn(g)")], r"contains 'sgn\(g\)': it may contain"),
        ([Line("p", "g.sum()")], "it may contain"),
        ([Line("p", "[g for g in g]")], "it may contain"),
        ([Line("p", "-lr * q"), Line("q", "2 * g")], "unknown symbol 'q'"),
        ([Line("p", "-lr * max(g)")], r"'-lr \* max\(g\)': max takes two or more values, not 1"),
        ([Line("p", "-lr * abs()")], "abs takes one value, not 0"),
        ([Line("p", "-lr * sqrt(g, w_old)")], "sqrt takes one value, not 2"),
    ],
)
def test_a_formula_that_can_not_be(lines, message):
    with pytest.raises(ValueError, match=message):
        Formula(*lines)


@pytest.mark.parametrize(("decay", "name"), [("lr * m", "m"), ("lr * (g * w_old > 0)", "g"), ("lr * c", "c")])
def test_a_decay_is_the_same_for_all_weights(decay, name):
    """Plain NumPy works it out before the rule, once for all."""
    lines = Given("k"), Line("m", "m_old + g"), Line("c", "m / 2"), Line("e", "k / t"), Line("p", "-lr * m")
    with pytest.raises(ValueError, match=f"has '{name}', which differs between weights: it must be the same for all"):
        Formula(*lines, decay=decay)
    assert Formula(*lines, decay="lr * e * wd").decay_rate({"lr": 0.5, "k": 3, "t": 2, "wd": 0.25}) == 0.1875


class Compares(Rule):
    """What NumPy, compilers and C take differently, written as Python's users write it."""

    name, vectors = "compares", ("v",)
    formula = Formula(
        Line("v", "max(abs(g), 0.9 * v_old, 0.5)", "of three"),
        Line("k", "(g > 0) + (w_old > 0)", "0, 1 or 2"),
        Line("s", "(g > 0) - (g < 0)", "the sign"),
        Line("f", "(g > 0) / (1 + (w_old > 0) + (v > 1))", "a third at least"),
        Line("p", "-lr * (g / v + k + s + f - (-(v > 1))) * min(t, 9, 3)"),
    )


def test_comparisons_are_numbers_and_max_takes_any_number_of_values():
    """Beside a loop over plain numbers; the tests of the compiled loops train with it too."""
    rng, start = np.random.default_rng(0), [1.0, -2.0, 3.0, -0.1]
    p = Tensor(np.array(start), requires_grad=True)
    optimizer, w, v = Compares([p], 0.1), list(start), [0.0] * 4
    for t in range(1, 7):
        g = p.grad = rng.standard_normal(4)
        for i, each in enumerate(g.tolist()):
            v[i] = max(abs(each), 0.9 * v[i], 0.5)
            k, s = int(each > 0) + int(w[i] > 0), math.copysign(1, each)
            f = int(each > 0) / (1 + int(w[i] > 0) + int(v[i] > 1))
            w[i] -= 0.1 * (each / v[i] + k + s + f + int(v[i] > 1)) * min(t, 3)
        optimizer.step()
        np.testing.assert_allclose(p.numpy(), w, rtol=1e-13)
    assert c_expression("(a > b) / 2") == "(((a > b) ? (T)1.0 : (T)0.0) / (T)2.0)"
    assert c_expression("max(a, b, c)") == "fmax(fmax(a, b), c)"


def test_a_formula_is_not_told_how_to_write_into_arrays():
    """Adan's mean of the gradient's changes is 0 after the first step, as it should be."""

    class Changes(Rule):
        name, vectors = "changes", ("last", "v")
        formula = Formula(
            Line("v", "0.9 * v_old + 0.1 * (g - last_old) if t > 1 else 0 * g"), Line("last", "g"), Line("p", "-lr * g")
        )

    p = Tensor(np.ones(3), requires_grad=True)
    p.grad = np.ones(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Changes([p], 0.1).step()


@pytest.mark.parametrize(
    "name", ["p", "g", "w", "t", "rate", "schedule_scale", "groups", "max_norm", "whole", "name", "flat", "given"]
)
def test_a_vector_has_no_name_that_every_rule_has(name):
    class Own(Rule):
        vectors = (name,)

        def rule(self, g, p, lr, **state):
            p[...] = -lr * g

    Own.name = "own"
    with pytest.raises(TypeError, match=f"Own.vectors names '{name}', which every rule has already"):
        Own([Tensor(np.ones(3), requires_grad=True)])


def test_a_vector_without_a_line():
    class Forgets(Rule):
        name, vectors = "forgets", ("s", "v")
        formula = Formula(Line("s", "s_old + g"), Line("p", "-lr * s"))

    with pytest.raises(ValueError, match="the formula of 'forgets' has no line for its vector v"):
        Forgets([Tensor(np.ones(3), requires_grad=True)])


def test_a_rule_may_be_a_formula_alone():
    """Its decay may be apart too; and it is saved and loaded like any other."""

    class Lion(Rule):  # Chen et al. 2023, Algorithm 2
        name, vectors = "lion", ("m",)
        b1, b2 = 0.9, 0.99
        formula = Formula(
            Given("b1"),
            Given("b2"),
            Line("c", "b1 * m_old + (1 - b1) * g", "what the step follows"),
            Line("m", "b2 * m_old + (1 - b2) * g", "mean of the gradient"),
            Line("p", "-lr * sign(c)", "the step"),
            decay="lr",
        )

    p = Tensor(np.array([1.0, -2.0, 3.0]), requires_grad=True)
    optimizer = Lion([p], 0.1, weight_decay=0.5)
    w, m, rng = p.numpy().copy(), np.zeros(3), np.random.default_rng(0)
    for _ in range(4):
        g = p.grad = rng.standard_normal(3)
        w = w * (1 - 0.1 * 0.5) - 0.1 * np.sign(0.9 * m + 0.1 * g)
        m = 0.99 * m + 0.01 * g
        optimizer.step()
        np.testing.assert_allclose(p.numpy(), w, rtol=1e-14)
    np.testing.assert_allclose(optimizer.state_dict()["vectors"]["m"], m, rtol=1e-14)


class Anchored(Rule):
    """Pulled back to where it started, and longer and longer steps from the fourth on, as RAdam's are."""

    name, vectors = "anchored", ("start",)
    formula = Formula(
        Line("r", "t - 3"),
        Line("start", "w_old if t == 1 else start_old"),
        Line("p", "-lr * sqrt(r) * g - 0.1 * (w_old - start) if r > 0 else -lr * g"),
        decay="lr",
    )


def test_a_formula_may_read_the_weights_and_leave_a_way_without_a_value():
    """sqrt(r) of the first steps is never asked for; the tests of the compiled loops train with it too."""
    w = start = np.array([1.0, -2.0, 3.0])
    p = Tensor(w.copy(), requires_grad=True)
    optimizer = Anchored([p], 0.1, weight_decay=0.5)
    rng = np.random.default_rng(0)
    for t in range(1, 7):
        g = p.grad = rng.standard_normal(3)
        step = -0.1 * math.sqrt(t - 3) * g - 0.1 * (w - start) if t > 3 else -0.1 * g
        w = w * (1 - 0.1 * 0.5) + step
        optimizer.step()
        np.testing.assert_allclose(p.numpy(), w, rtol=1e-14)


def test_a_number_without_a_value_is_told():
    words = "math domain" if sys.version_info < (3, 14) else r"expected a nonnegative input, got -2\.0"  # Python's
    p = Tensor(np.ones(3), requires_grad=True)
    p.grad = np.ones(3)

    class Early(Rule):
        name = "early"
        formula = Formula(Line("p", "-lr * sqrt(t - 3) * g"))

    with pytest.raises(ValueError, match=rf"sqrt\(t - 3\).* has no value for lr = 0.1, t = 1: {words}"):
        Early([p], 0.1).step()
    parts = take_apart((("p", "sqrt(t - 3) * g"),), ("g",))
    with pytest.raises(ValueError, match=rf"'sqrt\(t - 3\)' has no value for t = 1: {words}"):
        parts.work_out({"t": 1})


@pytest.mark.parametrize("name", ["d", "w", "w_shrunk", "g", "lr", "t", "wd"])
def test_a_symbol_that_has_a_meaning_is_refused(name):
    for terms in ((Line(name, "2 * lr"), Line("p", "-lr * g")), (Given(name), Line("p", "-lr * g"))):
        with pytest.raises(ValueError, match=f"the formula's symbol '{name}' has a meaning in every formula"):
            Formula(*terms)


def test_a_line_that_takes_the_decay_a_second_time_is_refused():
    """With weight_decay it would act twice, and without it nobody could tell its value."""
    with pytest.raises(ValueError, match="the formula of q has wd, but weight decay needs no line: it is added to g"):
        Formula(Line("q", "g + wd * w_old"), Line("p", "-lr * q"))
    Formula(Line("p", "-lr * g"), decay="lr * wd")


@pytest.mark.parametrize("name", ["number0", "number12", "float32", "sqrt", "max", "lambda", "m 1"])
def test_a_symbol_of_the_loops_is_refused(name):
    """number0 was what the loop had worked out beforehand, and the weights went elsewhere."""
    for terms in ((Line(name, "2 * g"), Line("p", "-lr * g")), (Given(name), Line("p", "-lr * g"))):
        with pytest.raises(ValueError, match=f"can't have the symbol '{name}': choose another name"):
            Formula(*terms)


def test_vectors_in_a_list_and_a_formula_that_is_none():
    class Momentum(Rule):
        name, vectors = "momentum", ["m"]
        formula = Formula(Line("m", "0.9 * m_old + g"), Line("p", "-lr * m"))

    p = Tensor(np.ones(3), requires_grad=True)
    optimizer = Momentum([p], 0.1)
    for _ in range(2):
        p.grad = np.ones(3)
        optimizer.step()
    np.testing.assert_allclose(p.numpy(), 1 - 0.1 - 0.19, rtol=1e-14)
    for formula in ("-lr * g", [Line("p", "-lr * g")]):
        with pytest.raises(TypeError, match=r"Text.formula must be a Formula: write formula = Formula\(Line"):
            type("Text", (Rule,), {"name": "text", "formula": formula})([p])
    with pytest.raises(TypeError, match=r"Momentum.vectors names 'm' twice"):
        type("Momentum", (Momentum,), {"vectors": ("m", "m")})([p])


def test_neither_rule_nor_formula():
    class Nothing(Rule):
        name = "nothing"

    p = Tensor(np.ones(3), requires_grad=True)
    p.grad = np.ones(3)
    with pytest.raises(NotImplementedError, match=r"Nothing needs a formula, or rule\(self, g, p, lr"):
        Nothing([p]).step()


def test_a_formula_of_ones_own_stands_before_the_rule_that_is_inherited():
    """Adam's own rule would go on silently where there are no compiled loops."""

    class AdaBelief(Adam):  # Zhuang et al. 2020, without epsilon in s
        formula = Formula(
            Given("b1", "", "betas[0]"),
            Given("b2", "", "betas[1]"),
            Given("eps"),
            Line("m", "b1 * m_old + (1 - b1) * g"),
            Line("v", "b2 * v_old + (1 - b2) * (g - m)**2"),
            Line("p", "-lr * m / (1 - b1**t) / (sqrt(v / (1 - b2**t)) + eps)"),
        )

    for forms in (no_fast, nullcontext):
        p = Tensor(np.array([1.0, -2.0, 3.0]), requires_grad=True)
        optimizer, rng = AdaBelief([p], 0.1), np.random.default_rng(0)
        w, m, s = p.numpy().copy(), np.zeros(3), np.zeros(3)
        for t in range(1, 5):
            g = p.grad = rng.standard_normal(3)
            m = 0.9 * m + 0.1 * g
            s = 0.999 * s + 0.001 * (g - m) ** 2
            w = w - 0.1 * m / (1 - 0.9**t) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
            with forms():
                optimizer.step()
            np.testing.assert_allclose(p.numpy(), w, rtol=1e-12)


def test_who_changes_a_rule_loses_its_formula():
    class Half(SGD):
        def rule(self, g, p, lr, v=None):
            super().rule(g, p, lr / 2)

    class Undecayed(Adam):
        def decayed(self, w, g, lr):
            return g

    class Named(Adam):
        name = "named"

    p = [Tensor(np.ones(3), requires_grad=True)]
    assert Half(p).lines() is Undecayed(p).lines() is None
    assert Named(p).lines() == Adam(p).lines() != AdamW(p).lines()


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, Adagrad])
@pytest.mark.parametrize("name", ["rule", "decayed"])
def test_a_rule_that_a_program_replaces_is_the_one_that_is_used(kind, name, monkeypatch):
    """In a notebook: a compiled loop would be that of the formula, and plain NumPy would take the new function."""

    def rule(self, g, p, lr, **state):
        p[...] = -10 * lr * g

    def decayed(self, w, g, lr):
        w *= 0.5
        return g

    def step(own=None):
        p = Tensor(np.ones(9, np.float32), requires_grad=True)
        optimizer = kind([p], lr=0.01, weight_decay=0.1)
        if own is not None:
            setattr(optimizer, name, own.__get__(optimizer))
        p.grad = np.ones(9, np.float32)
        optimizer.step()
        return float(p.data[0])

    new = {"rule": rule, "decayed": decayed}[name]
    with no_fast():
        before, after = step(), step(new)
    assert abs(before - after) > 0.05
    assert (step(), step(new)) == pytest.approx((before, after), rel=1e-6)
    monkeypatch.setattr(kind, name, new)
    assert step() == pytest.approx(after, rel=1e-6)
    monkeypatch.undo()
    assert step() == pytest.approx(before, rel=1e-6)


def test_a_class_that_is_changed_later_takes_its_new_rule():
    """As in a notebook; %autoreload writes a file's new code into the functions that its old class has."""

    class First(Rule):
        name = "first"
        formula = Formula(Line("p", "-lr * g"))

    class Other(First):
        formula = Formula(Line("p", "-2 * lr * g"))

    class Quick(SGD):
        name = "quick"

    def rule(self, g, p, lr, **state):
        p[...] = -10 * lr * g

    def step(kind):
        p = Tensor(np.ones(1), requires_grad=True)
        optimizer = kind([p], lr=0.01)
        p.grad = np.ones(1)
        optimizer.step()
        return float(p.data[0])

    for forms in (no_fast, nullcontext):
        with forms():
            assert [step(kind) for kind in (First, Other, Quick)] == pytest.approx([0.99, 0.98, 0.99])
    First.rule.__code__, First.rule.__dict__, First.formula, Quick.rule = rule.__code__, {}, Rule.formula, rule
    for forms in (no_fast, nullcontext):
        with forms():
            assert [step(kind) for kind in (First, Other, Quick)] == pytest.approx([0.9, 0.98, 0.9])
