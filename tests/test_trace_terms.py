"""Every formula that a rule gives for its step, worked out again from the numbers beside it."""

import math

import numpy as np
import pytest

from minidl import Tensor
from minidl.optim import (
    GNMT,
    SGD,
    SWATS,
    Adagrad,
    Adam,
    AdamW,
    AfterSteps,
    Blend,
    Formula,
    Hybrid,
    Line,
    Optimizer,
    Projected,
    RMSprop,
    Rule,
)
from minidl.optim.explain import Look, Term

N = 12

MAKERS = {
    "sgd": lambda p: SGD(p, 0.1),
    "sgd, decay": lambda p: SGD(p, 0.1, weight_decay=0.1),
    "momentum": lambda p: SGD(p, 0.1, 0.9),
    "nesterov, decay": lambda p: SGD(p, 0.1, 0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: Adam(p, 0.01),
    "adam, decay, clipped": lambda p: Adam(p, 0.01, weight_decay=0.1, max_norm=0.5),
    "adamw": lambda p: AdamW(p, 0.01, weight_decay=0.3),
    "rmsprop": lambda p: RMSprop(p, 0.01),
    "rmsprop, momentum": lambda p: RMSprop(p, 0.01, momentum=0.9),
    "adagrad": lambda p: Adagrad(p, 0.01),
    "adagrad, falling": lambda p: Adagrad(p, 0.01, lr_decay=0.1),
    "blend": lambda p: Blend(p, 0.05, steps_per_epoch=4, center=2, period=2),
    "swats": lambda p: SWATS(p, 0.01, switch_rtol=0.5),
    "swats, decay": lambda p: SWATS(p, 0.01, switch_rtol=0.5, weight_decay=0.1),
    "gnmt": lambda p: GNMT(p, total_steps=100),
    "hybrid": lambda p: Hybrid(p, Adam(lr=0.01), SGD(lr=0.1, momentum=0.9), lambda progress: progress.step >= 4),
    "hybrid, projected": lambda p: Hybrid(
        p, Adam(lr=0.01), SGD(lr=1.0, momentum=0.9), Projected(rtol=0.5), lr_after="projected"
    ),
}


def watched(optimizer: Optimizer, parameter: Tensor, steps: int, first: int = 0) -> list[list[Term]]:
    """The terms of each step on a noisy quadratic, seen at every second weight; read later, as the recorder does."""
    rng, places = np.random.default_rng(1), np.arange(first, first + N, 2)
    looks, weights = [], []
    for _ in range(steps):
        look = Look(optimizer, places)
        before = optimizer.flat.w.copy()
        parameter.grad = (parameter.data + 0.5 + 0.05 * rng.normal(size=N)).astype(np.float32)
        optimizer.step()
        look.end()
        looks.append(look)
        weights.append((before[places], optimizer.flat.w[places]))
    seen = [optimizer.terms(look) for look in looks]
    for terms, (before, after) in zip(seen, weights, strict=True):
        first, last = next(t for t in terms if t.symbol == "w_old"), terms[-1]
        assert last.symbol == "w"
        np.testing.assert_array_equal(first.value, before)
        np.testing.assert_array_equal(last.value, after)
    return seen


def work_out(terms: list[Term]) -> None:
    """Evaluate each formula in float64 from the terms above it."""
    scope = {"sqrt": np.sqrt, "exp": np.exp}
    for term in terms:
        if term.formula:
            size = np.abs(np.asarray(term.value)).max()
            found = eval(term.formula, {"__builtins__": {}}, scope)
            np.testing.assert_allclose(found, term.value, rtol=2e-5, atol=1e-6 * size, err_msg=term.symbol)
        scope[term.symbol] = np.asarray(term.value, np.float64)
        assert np.isfinite(scope[term.symbol]).all()


@pytest.mark.parametrize("name", MAKERS)
def test_every_formula_gives_its_value(name):
    parameter = Tensor(np.linspace(-1, 1, N, dtype=np.float32), requires_grad=True)
    optimizer = MAKERS[name]([parameter])
    steps = watched(optimizer, parameter, 12)
    for terms in steps:
        work_out(terms)
        assert next(t for t in terms if t.symbol == "p").formula
    if name.startswith(("swats", "gnmt", "hybrid")):
        assert optimizer.switch_event is not None
        assert {t.symbol for t in steps[0]} != {t.symbol for t in steps[-1]}


@pytest.mark.parametrize("make", [
    lambda p: Adam(p, 0.01),
    lambda p: AdamW(p, 0.01, weight_decay=0.2),
    lambda p: Hybrid(p, AdamW(lr=0.01, weight_decay=0.2), SGD(lr=0.1, momentum=0.9, weight_decay=0.2), AfterSteps(4),
                     lr_after="projected", decay_after="matched"),
])  # fmt: skip
def test_a_weight_has_the_rate_and_decay_of_its_group_and_its_own_steps(make):
    a, b, frozen = (Tensor(np.linspace(1, 2, 4, dtype=np.float32), requires_grad=True) for _ in range(3))
    frozen.requires_grad = False
    groups = [{"params": [a], "lr_scale": 0.1, "weight_decay": 0.5}, {"params": [b, frozen]}]
    optimizer, looks = make(groups), []
    for k in range(8):
        a.grad, b.grad = 0.5 * a.data, None if k == 0 else b.data - 3
        looks.append(Look(optimizer, np.array([1, 5, 9])))
        optimizer.step()
        looks[-1].end()
    for k, look in enumerate(looks):
        terms = optimizer.terms(look)
        work_out(terms)
        found = {t.symbol: t.value for t in terms}
        assert found["lr"][0] == pytest.approx(0.1 * found["lr"][1])
        if k in range(1, 4):  # the first phase: b has rested once
            assert found["t"].tolist() == [k + 1, k, k + 1]
            assert found["wd"].tolist() == [0.5, look.wd, 0]


@pytest.mark.parametrize("rule", [Adam, AdamW])
@pytest.mark.parametrize("rests", [False, True])
def test_weights_that_do_not_decay_have_a_decay_of_zero(rule, rests):
    """Of the weights looked at, none decays: the lines of this step still name the decay."""
    a, b = Tensor(np.ones(3), requires_grad=True), Tensor(np.ones(2), requires_grad=True)
    optimizer = rule([{"params": [a]}, {"params": [b], "weight_decay": 0.1 if rests else 0.0}], weight_decay=0.1)
    a.grad, b.grad = np.ones(3), None if rests else np.ones(2)
    look = Look(optimizer, np.array([3, 4]))
    optimizer.step()
    look.end()
    terms = {term.symbol: term.value for term in optimizer.terms(look)}
    np.testing.assert_array_equal(terms["wd"], [0.0, 0.0])
    np.testing.assert_array_equal(terms["w"], b.data)


class Average(SGD):
    """SGD whose weights are pulled back by half of each step, as an optimizer around another might do."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.inner = SGD(params, **options)

    active = property(lambda self: self.inner)

    def advance(self):
        self.inner.advance()

    def update(self):
        before = self.flat.w.copy()
        self.inner.update()
        self.flat.w[...] = (self.flat.w + before) / 2


def test_weights_that_an_optimizer_around_a_rule_has_moved_have_no_formula():
    """The page said w_old + p beside another number."""
    w = Tensor(np.ones(3), requires_grad=True)
    optimizer = Average([w], lr=0.5)
    w.grad = np.ones(3)
    look = Look(optimizer, np.arange(3))
    optimizer.step()
    look.end()
    terms = {term.symbol: term for term in optimizer.terms(look)}
    np.testing.assert_array_equal(terms["w"].value, 0.75)
    assert (terms["p"].formula, terms["w"].formula) == ("-lr * g", "")


def test_a_wrong_formula_is_noticed():
    parameter = Tensor(np.linspace(-1, 1, N, dtype=np.float32), requires_grad=True)
    terms = watched(Adam([parameter], 0.01), parameter, 3)[-1]
    for i, term in enumerate(terms):
        if term.formula:
            wrong = [*terms[:i], term._replace(formula=f"1.001 * ({term.formula})"), *terms[i + 1 :]]
            with pytest.raises(AssertionError):
                work_out(wrong)


def test_after_the_switch_lambda_is_the_projections():
    for name in ("swats", "hybrid, projected"):
        parameter = Tensor(np.linspace(-1, 1, N, dtype=np.float32), requires_grad=True)
        optimizer = MAKERS[name]([parameter])
        terms = {t.symbol: t for t in watched(optimizer, parameter, 12)[-1]}
        history = optimizer.projection.lambdas
        assert math.isclose(terms["Lambda"].value, history[optimizer.switch_event.step - 1], rel_tol=1e-12)


def test_a_rule_of_ones_own_is_shown_by_its_vectors():
    class Signs(Rule):
        name, vectors = "signs", ("s",)

        def rule(self, g, p, lr, s):
            s += np.sign(g)
            np.multiply(s, -lr, out=p)

    parameter = Tensor(np.linspace(-1, 1, N, dtype=np.float32), requires_grad=True)
    terms = watched(Signs([parameter], 0.1), parameter, 2)[-1]
    assert [t.symbol for t in terms] == ["t", "lr", "w_old", "g", "s_old", "s", "p", "w"]
    work_out(terms)


def test_a_vector_without_words_is_what_it_was_before_the_step():
    class Largest(Rule):
        name, vectors = "largest", ("u",)
        formula = Formula(Line("u", "max(0.9 * u_old, abs(g))"), Line("p", "-lr * g / u"))

    parameter = Tensor(np.linspace(-1, 1, N, dtype=np.float32), requires_grad=True)
    terms = {t.symbol: t for t in watched(Largest([parameter], 0.1), parameter, 2)[-1]}
    assert terms["u_old"].words == "before the step"
    true = np.maximum(np.float32(0.9) * terms["u_old"].value, abs(terms["g"].value))
    np.testing.assert_allclose(terms["u"].value, true, rtol=1e-6)


@pytest.mark.parametrize("base", [Adam, Adagrad])
def test_what_an_update_of_ones_own_changes_is_not_shown_by_the_formula(base):
    """Lookahead (Zhang et al. 2019): every third step the weights go half of the way back."""

    class Lookahead(base):
        name = "lookahead"

        def update(self):
            start = self.flat.w.copy()
            super().update()
            if self.t % 3 == 0:
                self.flat.w[...] = (start + self.flat.w) / 2

    class Scaled(base):
        name = "scaled"

        def update(self):
            p, start = self.keep_step(), self.flat.w.copy()
            super().update()
            p *= 0.5
            self.flat.w[...] = start + p

    class ByVectors(Lookahead):  # no formula: a rule of its own
        def rule(self, g, p, lr, **state):
            super().rule(g, p, lr, **state)

    for make, symbol, shown in (
        (base, "w", [True] * 6),
        (Lookahead, "w", [True, True, False] * 2),
        (ByVectors, "w", [True, True, False] * 2),
        (Lookahead, "p", [True] * 6),
        (Scaled, "p", [False] * 6),
        (Scaled, "w", [True] * 6),
    ):
        parameter, frozen = (Tensor(np.linspace(-1, 1, N, dtype=np.float32), requires_grad=True) for _ in range(2))
        frozen.requires_grad = False
        steps = watched(make([frozen, parameter], 0.01), parameter, 6, first=N - 4)
        assert [bool(next(t for t in terms if t.symbol == symbol).formula) for terms in steps] == shown, make
