"""A2, the teacher's part: the items, the right answers, and what common mistakes give.

The right answers come from the textbook formulas in float64, whose extra arguments switch on the mistakes. They also
accumulate the slack (see check.py): the number and size of the roundings that an answer in the input's precision has.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tutorials.assignments.assignment import Call, Items
from tutorials.assignments.check import Array, Exact, Mistakes, Wrong, exact, expect, normal, require


def moments_of(g: Array, m: Array, v: Array, b1: float, b2: float) -> list[Array]:
    """m <- b1 m + (1-b1) g and v <- b2 v + (1-b2) g^2: stands in for a wrong `moments`."""
    wide = [np.asarray(a, np.float64) for a in (g, m, v)]
    new = b1 * wide[1] + (1 - b1) * wide[0], b2 * wide[2] + (1 - b2) * wide[0] ** 2
    return [each.astype(g.dtype) for each in new]


ITEMS = Items(lesson=6, parts={"moments": moments_of})
NOTHING = 12345.0  # what p holds where no step was written: see calls.py
BOTH = (np.float32, np.float64)

# Slips that can affect several items: a student pays for them once.
CLIMBS = "This climbs: is the sign of the step right? p is added to w."
UNWRITTEN = "p holds no step: write it with `p[...] = ...`; `p = ...` or `return ...` makes a new array, which is lost"
ADDED = "p holds old numbers before the step: replace them (p[...] = ...) and don't add to them (p -= ..., p += ...)"
DAMPED = "Is the gradient multiplied by 1 - mu? Here v <- mu v + g."
FORGETS = "v is not kept from step to step: update it in place (v *= mu; v += g); a new array is lost."
FORGETS_BOTH = "m and v are not kept from step to step: `moments` must update them in place; a new array is lost."
SCRATCH = "Don't use the contents of `scratch` (here NaN): write into it before you read it, or ignore it."
INSIDE = "v contains the learning rate. PyTorch's convention, and ours: v <- mu v + g, then p = -lr v."


def sgd(w: Array, gradients: Array, lr: float, mu: float = 0, decay: float = 0, nesterov: bool = False,
        damped: bool = False, lr_inside: bool = False, forgets: bool = False, turned: bool = False,
        sign: int = -1) -> Exact:  # fmt: skip
    """w after each step; v <- mu v + g, w <- w - lr v. The last arguments are mistakes, as v <- mu v + (1-mu) g."""
    w, v = np.array(w, np.float64), np.zeros(len(w))
    size, v_size, values, slacks = np.zeros(len(w)), np.zeros(len(w)), [], []
    for t, g in enumerate(np.asarray(gradients, np.float64), 1):
        g = g + decay * w
        v = mu * v * (not forgets) + (1 - mu if damped else 1) * (lr if lr_inside else 1) * g
        v_size = mu * v_size + np.abs(g) + np.abs(decay * w)
        step = (mu * g + v if turned else g + mu * v) if nesterov else v
        w = w + sign * (1 if lr_inside else lr) * step
        size = size + lr * 2 * v_size * (4 * t + 6) + np.abs(w)
        values.append(w)
        slacks.append(size)
    return Exact(np.array(values), np.array(slacks))


def adam(w: Array, gradients: Array, lr: float = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8,
         decay: float = 0, decoupled: bool = False, correct: bool = True, correct_v: bool = True, late: bool = False,
         eps_inside: bool = False, root: bool = True, absolute: bool = False, swapped: bool = False,
         unweighted: bool = False, constant_t: bool = False, eps_first: bool = False, early: bool = False,
         correct_m: bool = True, rate: float = 1.0, sign: int = -1, no_eps: bool = False,
         from_0: bool = False, twice: bool = False, forgets: bool = False,
         corrected: bool = False) -> Exact:  # fmt: skip
    """w after each step of Kingma & Ba's Algorithm 1; the last arguments are mistakes."""
    w, m, v, m_size = np.array(w, np.float64), *np.zeros((3, len(w)))
    size, values, slacks = np.zeros(len(w)), [], []
    if swapped:
        b1, b2 = b2, b1
    for step, g in enumerate(np.asarray(gradients, np.float64), 1):
        t = 1 if constant_t else max(step - 1, 1) if late else step + 1 if early else step * (1 + twice) - from_0
        g_seen = g if decoupled else g + decay * w
        m, v = (np.zeros(len(w)), np.zeros(len(w))) if forgets else (m, v)
        m = b1 * m + (1 if unweighted else 1 - b1) * g_seen
        v = b2 * v + (1 if unweighted else 1 - b2) * (np.abs(g_seen) if absolute else g_seen**2)
        m_size = b1 * m_size + (1 - b1) * (np.abs(g) + np.abs(decay * w))
        mhat = m / (1 - b1**t) if correct and correct_m else m
        vhat = v / (1 - b2**t) if correct and correct_v else v
        if corrected:
            m, v = mhat, vhat
        if eps_first:
            below = (np.sqrt(v) + eps) / np.sqrt(1 - b2**t)
        else:
            below = np.sqrt(vhat + eps) if eps_inside else (np.sqrt(vhat) if root else vhat) + eps * (not no_eps)
        w = w * (1 - lr * decay) if decoupled else w
        w = w + sign * rate * lr * mhat / below
        size = size + lr * (4 * step + 12) * (m_size / (1 - b1**step)) / (np.sqrt(v / (1 - b2**step)) + eps) + np.abs(w)
        values.append(w)
        slacks.append(size)
    return Exact(np.array(values), np.array(slacks))


def start(rng: np.random.Generator, dtype: Any, steps: int, n: int = 6) -> tuple[Array, Array]:
    """Weights, and gradients with scales from 0.01 to 100."""
    return normal(rng, n, dtype), (normal(rng, (steps, n)) * 10.0 ** rng.uniform(-2, 2, n)).astype(dtype)


def trajectory(call: Call, rule: str, options: dict[str, Any], w: Array, g: Array, forgiving: bool = True) -> Any:
    """The student's weights after each step. If p holds no step and the student has already paid for that, the steps
    are those that the rule left in a new array, or added to p."""
    asked = {"rule": rule, "options": options, "w": w, "gradients": g}
    got = call("steps", **asked)
    told = given(rule, options, w, g)
    left = [np.full(g.shape, NOTHING), (1 - options.get("betas", (0.9, 0.999))[1]) * g.astype(np.float64) ** 2]
    same = isinstance(got, np.ndarray) and got.shape == g.shape
    if same and added(got[0] - w, 2.0**-9):
        charge(call, ADDED, told, forgiving)
        return call("steps", **asked, held=0.0)
    for p in left:  # what p holds before the rule, or after `moments` has used it as scratch
        if same and np.allclose(got, w + np.cumsum(p, 0), rtol=1e-3, atol=1e-6):
            charge(call, UNWRITTEN, told, forgiving)
            return call("steps", **asked, rebound=True)
    if same and np.isclose(got[0] - w, NOTHING, rtol=1e-3).any():
        raise Wrong(f"{told}: part of p is not written: p has {len(w)} elements here")
    return got


def added(p: Array, rounding: float = 0.0) -> bool:
    """Whether a step was added to what p held, and is no rounding of it: 2**-9 in float32."""
    return bool((np.abs(p - NOTHING) < NOTHING / 2).all() and (np.abs(p - NOTHING) > rounding).any())


def charge(call: Call, slip: str, told: str, forgiving: bool = True) -> None:
    """Raise Wrong unless the student has already paid for this slip."""
    if not (forgiving and call.ledger.forgives(slip)):
        raise Wrong(f"{told}: {slip}", slip)


def given(rule: str, options: dict[str, Any], w: Array, g: Array) -> str:
    """A description of the input."""
    arguments = ", ".join(f"{k}={tuple(v) if isinstance(v, list) else v}" for k, v in options.items())
    few = np.array2string(g[0][:3], precision=4, separator=", ")
    return f"{rule}({arguments}), {len(g)} step{'s' * (len(g) > 1)} in {w.dtype}, first gradients {few}"


# ---- SGD ----


@ITEMS.item("SGD: w <- w - lr g", 10, "SGD.rule", lesson=5)
def plain(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        w, g = start(rng, dtype, 4)
        options = {"lr": 0.1}
        expect(trajectory(call, "SGD", options, w, g), sgd(w, g, 0.1), dtype, given("SGD", options, w, g), {
            CLIMBS: lambda: sgd(w, g, 0.1, sign=1).value,
            "This is the step for lr = 1: did you forget to multiply by lr?": lambda: sgd(w, g, 1.0).value,
        })  # fmt: skip


def momentum_slips(w: Array, g: Array, lr: float, mu: float, nesterov: bool) -> Mistakes:
    """What common slips with v give."""

    def wrong(**slip: Any) -> Any:
        return lambda: sgd(w, g, lr, mu, **{"nesterov": nesterov, **slip}).value

    return {
        DAMPED: wrong(damped=True), FORGETS: wrong(forgets=True), CLIMBS: wrong(sign=1),
        "You add mu g to v instead of g: v <- mu v + g.": lambda: sgd(w, mu * g, lr, mu, nesterov=False).value,
        "This is plain SGD: do you compute the step from g instead of v?": lambda: sgd(w, g, lr).value,
        "This is Nesterov's step although nesterov=False." if not nesterov else
        "This is momentum without Nesterov's lookahead: p = -lr (g + mu v).": wrong(nesterov=not nesterov),
        "Are g and v swapped? p = -lr (g + mu v).": wrong(turned=True),
    }  # fmt: skip


@ITEMS.item("SGD with momentum", 15, "SGD.rule", lesson=5)
def momentum(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        w, g = start(rng, dtype, 8)
        options = {"lr": 0.05, "momentum": 0.9}
        slips = momentum_slips(w, g, 0.05, 0.9, nesterov=False)
        told = given("SGD", options, w, g)
        expect(trajectory(call, "SGD", options, w, g), sgd(w, g, 0.05, 0.9), dtype, told, slips, call.ledger)


@ITEMS.item("SGD: the rate multiplies v when it is used", 5, "SGD.rule", lesson=5)
def changing_rate(call: Call, rng: np.random.Generator) -> None:
    g, v = normal(rng, 5), normal(rng, 5)
    asked = {"name": "SGD", "options": {"momentum": 0.9}, "g": g, "state": {"v": v}, "t": 3, "lr": 0.01}
    got = call("rule", **asked)
    if (got["p"] == NOTHING).all():
        charge(call, UNWRITTEN, "one step from a given v")
        got = call("rule", **asked, rebound=True)
    elif added(got["p"]):
        charge(call, ADDED, "one step from a given v")
        got = call("rule", **asked, held=0.0)
    right = exact(-0.01 * (0.9 * v + g), 6, 0.01 * (np.abs(v) + np.abs(g)))
    expect(got["p"], right, np.float64, "one step from a given v, lr = 0.01", {
        INSIDE: lambda: -(0.9 * v + 0.01 * g), DAMPED: lambda: -0.01 * (0.9 * v + 0.1 * g),
        CLIMBS: lambda: 0.01 * (0.9 * v + g), f"{INSIDE} ": lambda: 0.9 * v - 0.01 * g,
        "v has no effect: use the argument v, since self.v may hold more than this slice.": lambda: -0.01 * g,
    }, call.ledger)  # fmt: skip


@ITEMS.item("Nesterov momentum", 8, "SGD.rule", lesson=5)
def nesterov(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        w, g = start(rng, dtype, 8)
        options = {"lr": 0.05, "momentum": 0.8, "nesterov": True}
        right = sgd(w, g, 0.05, 0.8, nesterov=True)
        slips = momentum_slips(w, g, 0.05, 0.8, nesterov=True)
        expect(trajectory(call, "SGD", options, w, g), right, dtype, given("SGD", options, w, g), slips, call.ledger)


@ITEMS.item("SGD: nothing else is touched", 2, "SGD.rule", lesson=5)
def sgd_in_place(call: Call, rng: np.random.Generator) -> None:
    v = {"v": normal(rng, 5)}
    untouched(call, rng, "SGD", {}, {})
    untouched(call, rng, "SGD", {"momentum": 0.9}, v)
    untouched(call, rng, "SGD", {"momentum": 0.9, "nesterov": True}, v)


def untouched(call: Call, rng: np.random.Generator, name: str, options: dict[str, Any], state: dict[str, Any]) -> None:
    """A single call of a rule does not change g, fills p and keeps no reference to g."""
    g = normal(rng, 5)
    got = call("rule", name=name, options=options, g=g, state=state, t=1, lr=0.1)
    arguments = ", ".join(f"{k}={v}" for k, v in options.items())
    told = f"{name}({arguments}).rule(g, p, lr{''.join(f', {k}' for k in state)})"
    require(np.array_equal(got["g"], g), f"{told}: g was changed, but it belongs to the caller: work on p or on a copy")
    if (got["p"] == NOTHING).all():
        charge(call, UNWRITTEN, told)
        got = call("rule", name=name, options=options, g=g, state=state, t=1, lr=0.1, rebound=True)
    require(not (got["p"] == NOTHING).any(), f"{told}: part of p was not written")
    kept = [k for k, v in got["state"].items() if (v == 12345.0).any()]
    require(not kept, f"{told}: {', '.join(kept)} shares memory with g, so it changes with g: copy the values")


# ---- Adam ----


@ITEMS.item("moments: m and v", 10, "moments")
def moments(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        g, m, v = (normal(rng, 5, dtype) for _ in range(3))
        v = np.abs(v)
        g64, m64, v64 = (a.astype(np.float64) for a in (g, m, v))
        got = call("moments", g=g, m=m, v=v, b1=0.8, b2=0.95)
        few = np.array2string(g[:3], precision=4, separator=", ")
        told = f"m and v after moments(g, scratch, m, v, 0.8, 0.95) in {np.dtype(dtype)}, g = {few}"
        right = exact(0.8 * m64 + (1 - 0.8) * g64, 4, np.abs(m64) + np.abs(g64))
        expect(got["m"], right, dtype, f"m: {told}", {
            "m did not change: update it in place (m *= b1; m += ...); a new array is lost.": lambda: m64,
            "Add (1 - b1) g to m, not g.": lambda: 0.8 * m64 + g64,
            "Are b1 and b2 swapped?": lambda: 0.95 * m64 + 0.05 * g64,
            "Are b1 and 1 - b1 swapped?": lambda: 0.2 * m64 + 0.8 * g64,
            "m averages g, not its square.": lambda: 0.8 * m64 + 0.2 * g64**2,
            "The old m is missing.": lambda: 0.2 * g64, SCRATCH: lambda: np.full_like(m64, np.nan),
        })  # fmt: skip
        expect(got["v"], exact(0.95 * v64 + (1 - 0.95) * g64**2, 5), dtype, f"v: {told}", {
            "v did not change: update it in place; a new array is lost.": lambda: v64,
            SCRATCH: lambda: np.full_like(v64, np.nan),
            "v averages the square of g.": lambda: 0.95 * v64 + 0.05 * g64,
            "Add (1 - b2) g^2 to v, not g^2.": lambda: 0.95 * v64 + g64**2,
            "Square only g: (1 - b2) g^2, not ((1 - b2) g)^2.": lambda: 0.95 * v64 + (0.05 * g64) ** 2,
            "v averages the square of g, not its absolute value.": lambda: 0.95 * v64 + 0.05 * np.abs(g64),
            "Are b1 and b2 swapped?": lambda: 0.8 * v64 + 0.2 * g64**2,
            "v averages the square of g, not of the average m.":
                lambda: 0.95 * v64 + 0.05 * (0.8 * m64 + 0.2 * g64) ** 2,
        })  # fmt: skip


def adam_mistakes(call: Call, w: Array, g: Array, **options: Any) -> dict[str, Any]:
    """What common slips give."""

    def wrong(**slip: Any) -> Any:
        return lambda: adam(w, g, **options, **slip).value

    def from_0() -> Any:  # NaN from the first step on; but a rule that gives NaN for any t has another fault
        state = {"m": np.ones(3), "v": np.ones(3)}
        later = call("rule", name="Adam", options={}, g=np.ones(3), state=state, t=3, lr=0.1)["p"]
        return adam(w, g, **options, from_0=bool(np.isfinite(later).all())).value

    return {
        "Did you forget the bias correction, the divisions by 1 - b^t?": wrong(correct=False),
        "m is corrected, but v is not: divide v by 1 - b2^t as well.": wrong(correct_v=False),
        "v is corrected, but m is not: divide m by 1 - b1^t as well.": wrong(correct_m=False),
        "The bias correction is one step late: self.t includes this step; it is 1 at the first.": wrong(late=True),
        "At the first step you divide by 1 - b^t = 0: self.t is 1 there, not 0.": from_0,
        "The bias correction is one step early: self.t already includes this step, so don't add 1.": wrong(early=True),
        "The bias correction does not change with t.": wrong(constant_t=True),
        "self.t grows by 2 per step: it is counted before the rule runs, so don't change it.": wrong(twice=True),
        FORGETS_BOTH: wrong(forgets=True),
        "You corrected m and v in place, which spoils the next step: correct copies.": wrong(corrected=True),
        "Did you forget the square root of v?": wrong(root=False),
        "eps is inside the square root: it should be sqrt(vhat) + eps.": wrong(eps_inside=True),
        "eps is added before v is corrected, as in the paper's second form (end of its section 2); here, as in its "
        "Algorithm 1, it is sqrt(v / (1 - b2^t)) + eps.": wrong(eps_first=True),
        "eps is missing.": wrong(no_eps=True),
        "The step is not multiplied by lr.": wrong(rate=1 / options.get("lr", 1e-3)),
        "This climbs: is the sign of the step right? p is added to w, so it needs a minus.": wrong(sign=1),
        "v averages the square of the gradient, not its absolute value.": wrong(absolute=True),
        "Are b1 and b2 swapped?": wrong(swapped=True),
        "m and v need the factors (1 - b1) and (1 - b2).": wrong(unweighted=True),
    }


@ITEMS.item("Adam: the first step", 10, "Adam.rule")
def first_step(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        w, g = start(rng, dtype, 1)
        options = {"lr": 0.01}
        told = given("Adam", options, w, g) + "; each weight moves by lr, against the sign of its gradient"
        expect(
            trajectory(call, "Adam", options, w, g), adam(w, g, 0.01), dtype, told, adam_mistakes(call, w, g, lr=0.01)
        )


@ITEMS.item("Adam: twenty steps", 15, "Adam.rule")
def many_steps(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        w, g = start(rng, dtype, 20)
        options = {"lr": 0.02}
        told = given("Adam", options, w, g)
        got = trajectory(call, "Adam", options, w, g, forgiving=False)
        expect(got, adam(w, g, 0.02), dtype, told, adam_mistakes(call, w, g, lr=0.02))
    from_before(call, rng)


def from_before(call: Call, rng: np.random.Generator) -> None:
    """A single call in the middle of training: a step depends only on the arguments and self.t."""
    g, m, v = normal(rng, 5), normal(rng, 5), 0.1 + np.abs(normal(rng, 5))

    def step(m: Array = m, v: Array = v, lr: float = 0.03, t: int = 7) -> Array:
        mhat = (0.9 * m + (1 - 0.9) * g) / (1 - 0.9**t)
        return -lr * mhat / (np.sqrt((0.999 * v + (1 - 0.999) * g**2) / (1 - 0.999**t)) + 1e-8)

    got = call("rule", name="Adam", options={}, g=g, state={"m": m, "v": v}, t=7, lr=0.03)
    none, size = np.zeros(5), 0.03 * (np.abs(m) + np.abs(g)) / (1 - 0.9**7) / np.sqrt(v)
    arguments = "Use the arguments m and v: averages that you store in self are not kept separately for each slice."
    expect(got["p"], exact(step(), 60, size), np.float64, "one step at t = 7 from given m and v, lr = 0.03", {
        "Use the argument lr: self.lr (here 0.001) may differ from the learning rate of this slice.":
            lambda: step(lr=1e-3),
        "Use self.t: your own counter starts again when training is resumed.": lambda: step(t=1),
        arguments: lambda: step(none, none), f"{arguments} ": lambda: step(none, none, t=1),
    })  # fmt: skip


@ITEMS.item("Adam: other betas and eps", 10, "Adam.rule")
def other_options(call: Call, rng: np.random.Generator) -> None:
    w, g = start(rng, np.float64, 12)
    for b1, b2, eps in ((0.5, 0.9, 0.1), (0.0, 0.99, 1e-3), (0.9, 0.0, 1.0)):
        options = {"lr": 0.05, "betas": (b1, b2), "eps": eps}
        right = adam(w, g, 0.05, b1, b2, eps)
        told = given("Adam", options, w, g)
        mistakes = {"Do you use self.betas and self.eps, not constants?": lambda: adam(w, g, 0.05).value}
        mistakes |= adam_mistakes(call, w, g, lr=0.05, b1=b1, b2=b2, eps=eps)
        expect(trajectory(call, "Adam", options, w, g), right, np.float64, told, mistakes, call.ledger)


@ITEMS.item("AdamW: decay apart from the gradient", 10, "AdamW.decayed")
def adamw(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        w, g = 5 * normal(rng, 6, dtype), normal(rng, 6, dtype)
        w64, g64 = w.astype(np.float64), g.astype(np.float64)
        got = call("decayed", w=w, g=g, lr=0.05, weight_decay=0.3)
        told = f"AdamW(weight_decay=0.3).decayed(w, g, lr=0.05) in {np.dtype(dtype)}, w = {_few(w)}"
        through = "Your decay goes through m and v: AdamW multiplies w itself by 1 - lr lambda and returns g unchanged."
        expect(got["returned"], exact(g64, 0), dtype, f"{told}: the return value", {
            through: lambda: g64 + 0.3 * w64, f"{through} ": lambda: g64 + 0.05 * 0.3 * w64})  # fmt: skip
        expect(got["w"], exact(w64 * (1 - 0.05 * 0.3), 4, 2 * np.abs(w64)), dtype, f"{told}: w afterwards", {
            "w did not change: update it in place (w *= ...); a new array is lost.": lambda: w64,
            "The decay is not multiplied by lr: w <- w - lr lambda w.": lambda: w64 * (1 - 0.3),
            "The decay is not multiplied by lambda: w <- w - lr lambda w.": lambda: w64 * (1 - 0.05),
            "w grows instead of shrinking: w <- w - lr lambda w.": lambda: w64 * (1 + 0.05 * 0.3),
            "w is multiplied by lr lambda, not by 1 - lr lambda.": lambda: w64 * 0.05 * 0.3,
        })  # fmt: skip


def _few(a: Array) -> str:
    return np.array2string(a[:3], precision=4, separator=", ")


@ITEMS.item("Adam: nothing else is touched", 5, "Adam.rule", "AdamW.decayed")
def adam_in_place(call: Call, rng: np.random.Generator) -> None:
    m, v, g = normal(rng, 5), np.abs(normal(rng, 5)), normal(rng, 5)
    untouched(call, rng, "Adam", {}, {"m": m, "v": v})
    try:
        got = call("decayed", w=normal(rng, 5), g=g, lr=0.1, weight_decay=0.1)
    except Wrong:
        return  # the item above has charged for this
    require(np.array_equal(got["g"], g), "AdamW.decayed(w, g, lr): g was changed, but it belongs to the caller")
