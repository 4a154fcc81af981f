"""A3, the teacher's part: conditions, the projected learning rate, Hybrid's switch, SWATS."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from tutorials.assignments.A2.hidden import adam, start
from tutorials.assignments.assignment import Call, Items
from tutorials.assignments.check import Array, Exact, exact, expect, normal, require


def rate_after_of(lr_after: Any, mu: float, nesterov: bool, lam: float | None, ratio: float | None) -> float | None:
    """The learning rate after the switch: stands in for a wrong `Hybrid._rate_after`."""
    if lr_after == "projected":
        return None if lam is None else (1 - mu) * lam
    if lr_after == "matched":
        return None if ratio is None else ratio / (1 + mu * nesterov)
    return None if lr_after is None else float(lr_after)


ITEMS = Items(lesson=7, parts={"Hybrid._rate_after": rate_after_of})
BOTH = (np.float32, np.float64)


# ---- conditions ----


@ITEMS.item("Plateau.standing", 10, "Plateau.standing")
def plateau(call: Call, rng: np.random.Generator) -> None:
    nan = math.nan
    cases: list[tuple[dict[str, Any], list[float], float, int]] = [
        ({}, [], math.inf, 0), ({}, [3.0], 3.0, 0), ({}, [3, 2, 2, 2], 2.0, 2), ({}, [3, 2, 2.5, 1, 4], 1.0, 1),
        ({"patience": 3}, [1, 2, 3, 4], 1.0, 3), ({}, [1, nan, nan], 1.0, 2),
        ({"min_delta": 0.5}, [3, 2.6, 2.4, 2.3], 2.4, 1),
        ({"metric": "val_accuracy"}, [0.5, 0.6, 0.55, 0.6], 0.6, 2), ({"metric": "val_accuracy"}, [0.9, 0.8], 0.9, 1),
        ({"metric": "val_accuracy"}, [], -math.inf, 0), ({}, [nan, 2, 3], 2.0, 1),
        ({"metric": "val_accuracy", "min_delta": 0.1}, [0.5, 0.55, 0.58], 0.5, 2),
    ]  # fmt: skip
    for options, values, best, waited in cases:
        metric = options.get("metric", "val_loss")
        got = call("plateau", options=options, reports=[{metric: float(v)} for v in values])
        told = f"Plateau({', '.join(f'{k}={v!r}' for k, v in options.items())}), {metric} {values}"
        hint = ""
        if values == [3, 2, 2, 2] and got[1] == 0:
            hint = "\n  An equal value is not an improvement: it must beat the best by more than min_delta."
        elif metric != "val_loss" and got[0] == min(values, default=math.inf):
            hint = "\n  For an accuracy, higher is better: use _higher_is_better(metric)."
        elif any(map(math.isnan, values)):
            hint = "\n  NaN is not an improvement; every comparison with NaN is False."
        elif got[1] > waited:
            hint = "\n  Count consecutive epochs: an improvement resets the count."
        require(got[0] == best, f"{told}\n  expected the best {best}, got {got[0]}{hint}")
        require(got[1] == waited, f"{told}\n  expected {waited} epochs waited, got {got[1]}{hint}")
        answer = waited >= options.get("patience", 2)
        require(got[2] == answer, f"{told}\n  expected the answer {answer}, got {got[2]}")


@ITEMS.item("Gap, AnyOf, AllOf", 10, "Gap.__call__", "AnyOf.__call__", "AllOf.__call__")
def gap_and_joined(call: Call, rng: np.random.Generator) -> None:
    for train, val, answer in ((0.99, 0.9, True), (0.95, 0.93, False), (0.75, 0.5, True), (0.5, 0.9, False)):
        level = 0.25 if train == 0.75 else 0.05
        reports = [{"train_accuracy": 0.9, "val_accuracy": 0.1}, {"train_accuracy": train, "val_accuracy": val}]
        got = call("gap", level=level, reports=reports)
        told = f"Gap({level}) with train_accuracy {train}, val_accuracy {val} in the last of two epochs"
        hint = "\n  Only the last epoch counts." if (train, val) == (0.95, 0.93) else ""
        hint = "\n  A gap equal to the level has reached it: use >=." if train - val == level else hint
        hint = "\n  Keep the sign of the difference, train - val: no abs." if (train, val) == (0.5, 0.9) else hint
        require(got is answer, f"{told}: expected {answer}, got {got}{hint}")
    require(call("gap", level=0.05, reports=[]) is False, "Gap before the first report: expected False")
    for which, combine in (("AnyOf", any), ("AllOf", all)):
        for answers in (
            [True, True], [True, False], [False, True], [False, False], [True, True, False], [False, False, True],
        ):  # fmt: skip
            got = call("joined", which=which, answers=answers)
            require(got is combine(answers), f"{which} of {answers}: expected {combine(answers)}, got {got}")


@ITEMS.item("Projected.distance", 10, "Projected.distance")
def projected(call: Call, rng: np.random.Generator) -> None:
    gammas, lambdas = rng.uniform(0.5, 1.5, 9), rng.uniform(0.8, 1.2, 9)
    for options in ({}, {"eps": 0.1}, {"rtol": 0.2}, {"rtol": 0.3, "window": 3}, {"eps": 0.5, "window": 4}):
        window = options.get("window", 1)
        for k in (0, 1, 2, 5, 6, 8, 9):
            got, answer = call("projected", options=options, gammas=gammas[:k], lambdas=lambdas[:k])
            told = f"Projected({', '.join(f'{n}={v}' for n, v in options.items())}) after {k} steps"
            if k < 2 * window:
                require(got is None, f"{told}: expected None (before step {2 * window} it is too early), got {got}")
                continue
            require(isinstance(got, list), f"{told}: expected two numbers, got {got}")
            lam, gamma = lambdas[k - 1], gammas[k - window : k].mean()
            tolerance = options["rtol"] * lam if "rtol" in options else options.get("eps", 1e-9)
            expect(np.array(got), exact([abs(lam - gamma), tolerance], 20, 2.0), float, told, {
                "Use the mean of the last `window` gammas, not only the last one.":
                    lambda: [abs(lam - gammas[k - 1]), tolerance],
                "rtol is relative: the tolerance is rtol |Lambda|.":
                    lambda: [abs(lam - gamma), options.get("rtol", 0.0)],
                "Use the mean of the last `window` gammas, not of all.":
                    lambda: [abs(lam - gammas[:k].mean()), tolerance],
                "A distance is not negative: |Lambda - gamma|.": lambda: [-abs(lam - gamma), tolerance],
            })  # fmt: skip
            near = bool(abs(lam - gamma) < tolerance)
            require(answer is near, f"{told}: expected the condition to return {near}, got {answer}")
    got, _ = call("projected", options={"rtol": 0.5}, gammas=[-1.0, -3.0], lambdas=[-1.0, -2.0])
    require(
        got == [1.0, 1.0],
        f"Projected(rtol=0.5) with Lambda -2, gamma -3: expected [1, 1], got {got}: use |Lambda|, without its sign",
    )


# ---- the projected learning rate ----


def projection_of(ps: Array, gs: Array, b2: float, **slip: Any) -> dict[str, Array]:
    """gamma, lam and Lambda by Algorithm 1; the keyword arguments are mistakes."""
    lam, gammas, lambdas, lams = 0.0, [], [], []
    for k, (p, g) in enumerate(zip(ps.astype(np.float64), gs.astype(np.float64), strict=True), 1):
        with np.errstate(all="ignore"):
            pg = float(p @ g)
            gamma = float(np.float64(p @ p) / (pg if slip.get("sign") else -pg)) if pg else math.nan
            gamma = float(-pg / (p @ p)) if slip.get("upside_down") else gamma
            gamma = float(np.sqrt(p @ p) / -pg) if slip.get("length") else gamma
            gamma = float(-pg / (g @ g)) if slip.get("on_g") else gamma
            gamma = abs(gamma) if slip.get("absolute") else gamma
        if math.isfinite(gamma):
            lam = b2 * lam + (1 if slip.get("unweighted") else 1 - b2) * gamma
        else:
            gamma = math.nan
        gammas.append(gamma)
        lams.append(lam)
        lambdas.append(lam if slip.get("uncorrected") else lam / (1 - b2**k))
    return {"gammas": np.array(gammas), "lambdas": np.array(lambdas), "lams": np.array(lams)}


@ITEMS.item("Projection: gamma, lam and Lambda", 20, "Projection.measure", "Projection.add")
def projection(call: Call, rng: np.random.Generator) -> None:
    gs = normal(rng, (8, 5))
    ps = -0.01 * gs + 0.003 * normal(rng, (8, 5))
    ps[5] *= -1  # uphill: gamma is negative
    told = "eight steps, beta2 = 0.9"
    got = call("projection", beta2=0.9, ps=ps, gs=gs)
    _compare(got, ps, gs, told)
    none = ps.copy()
    none[3] = 0  # p.g = 0: no gamma, but the step counts
    got = call("projection", beta2=0.9, ps=none, gs=gs)
    _compare(got, none, gs, "eight steps, the fourth of which is 0, so p.g = 0")
    huge, tiny = ps.copy(), gs.copy()
    huge[2], tiny[2] = 1e10, -1e-310  # gamma overflows
    got = call("projection", beta2=0.9, ps=huge, gs=tiny)
    _compare(got, huge, tiny, "eight steps; the gamma of the third overflows")
    gs = normal(rng, (2, 70_001), np.float32)
    ps = (-0.01 * gs + 0.02 * normal(rng, gs.shape)).astype(np.float32)
    got = call("projection", beta2=0.9, ps=ps, gs=gs)
    gammas = projection_of(ps, gs, 0.9)["gammas"]
    require(bool(np.allclose(got["gammas"], gammas, rtol=1e-10, atol=0)), "two steps of 70,001 float32 elements\n"
            f"  gamma: expected {gammas}, got {got['gammas']}\n"
            "  Summed in float32 it is off in the seventh digit, but the switch needs nine: use dots64.")  # fmt: skip


def _compare(got: dict[str, Array], ps: Array, gs: Array, told: str) -> None:
    right = projection_of(ps, gs, 0.9)
    slips = {
        "The sign is wrong: gamma = p.p / -(p.g).": {"sign": True},
        "A step that goes uphill, p.g > 0, has a negative gamma: don't take abs.": {"absolute": True},
        "This is 1 / gamma: gamma = p.p / -(p.g).": {"upside_down": True},
        "The numerator is p.p, the square of the length.": {"length": True},
        "Project the SGD step onto p, not p onto the gradient.": {"on_g": True},
        "Lambda = lam / (1 - b2^k): did you forget the bias correction?": {"uncorrected": True},
        "Add (1 - b2) gamma to lam, not gamma.": {"unweighted": True},
    }
    for name in ("gammas", "lams", "lambdas"):
        missing = np.isnan(right[name])
        require(
            len(got[name]) == len(ps),
            f"{told}\n  {name}: expected one for each of the {len(ps)} steps, got {len(got[name])}",
        )
        require(np.array_equal(np.isnan(got[name]), missing),
                f"{told}\n  {name}: expected {right[name]}, got {got[name]}\n"
                "  If p.g is 0 or gamma overflows, gamma is NaN, lam is unchanged, and the step counts.")  # fmt: skip
        value = np.where(missing, 0, right[name])
        size = np.abs(value) + np.abs(value).max()
        expect(np.where(missing, 0, got[name]), exact(value, 200, size), np.float64, f"{told}\n  {name}", {
            said: partial(_slipped, ps, gs, name, slip) for said, slip in slips.items()})  # fmt: skip


def _slipped(ps: Array, gs: Array, name: str, slip: dict[str, Any]) -> Array:
    return np.nan_to_num(projection_of(ps, gs, 0.9, **slip)[name], nan=0.0)


# ---- Hybrid ----


@ITEMS.item("Hybrid._rate_after", 15, "Hybrid._rate_after")
def rate_after(call: Call, rng: np.random.Generator) -> None:
    lam, ratio = float(rng.uniform(0.1, 1)), float(rng.uniform(0.1, 1))
    for lr_after, momentum, nesterov, has, right, hint in (
        (None, 0.9, False, True, None, "With None the second rule keeps its own learning rate."),
        (0.3, 0.9, False, True, 0.3, "A number is the learning rate itself."),
        ("function", 0.9, False, True, 1.5, "Call the function with the progress."),
        (
            "projected",
            0.9,
            False,
            True,
            (1 - 0.9) * lam,
            "It is (1 - mu) Lambda: momentum multiplies a step by 1 / (1 - mu).",
        ),
        ("projected", 0.8, True, True, (1 - 0.8) * lam, "It is (1 - mu) Lambda for Nesterov as well."),
        ("projected", 0.0, False, True, lam, "Without momentum it is Lambda."),
        ("projected", 0.9, False, False, None, "Return None while there is no Lambda."),
        ("matched", 0.9, False, True, ratio, "SGD's first step is lr g: |p| / |g| makes it as long as p."),
        ("matched", 0.6, True, True, ratio / 1.6, "Nesterov's first step is lr (1 + mu) g: divide by 1 + mu."),
        ("matched", 0.0, False, False, None, "Return None while there is no ratio."),
    ):
        got = call("rate_after", lr_after=lr_after, momentum=momentum, nesterov=nesterov,
                   lam=lam if has else None, ratio=ratio if has else None)  # fmt: skip
        told = f"lr_after={lr_after!r}, momentum={momentum}{', nesterov' * nesterov}"
        if right is None or got is None:
            require(got is right, f"{told}: expected {right}, got {got}\n  {hint}")
        else:
            expect(np.array(got), exact(right, 4), np.float64, told, {hint: partial(float, got)})


def trained(w: Array, gradients: Array, at: int, lr: float, mu: float, carry: bool = False, **slip: Any) -> Exact:
    """Adam(0.01) for `at` steps, then SGD from there; v starts at 0, or with carry at mhat / (1 - mu)."""
    first = adam(w, gradients[:at], 0.01)
    w, slack, v, m = first.value[-1], first.slack[-1], np.zeros(len(w)), np.zeros(len(w))
    for g in gradients[:at].astype(np.float64):
        m = 0.9 * m + 0.1 * g
    mhat = m if slip.get("uncorrected") else m / (1 - 0.9**at)
    v = mhat if slip.get("unscaled") else mhat / (1 - mu) if carry else v
    v_size, values, slacks = 12 * np.abs(gradients[:at]).max() / (1 - mu) * np.ones(len(w)) * carry, [], []
    for t, g in enumerate(gradients[at:].astype(np.float64), 1):
        v, v_size = mu * v + g, mu * v_size + np.abs(g)
        w = w - lr * v
        slack = slack + lr * v_size * (4 * t + 10) + np.abs(w)
        values.append(w)
        slacks.append(slack)
    return Exact(np.concatenate([first.value, values]), np.concatenate([first.slack, slacks]))


def switched(
    call: Call, told: str, w: Array, g: Array, event: list[Any], right: Exact, mistakes: Any = None, **how: Any
) -> None:
    """Train in the student's process and check event, phases and weights."""
    got = call("hybrid", w=w, gradients=g, **how)
    require(got["event"] is not None, f"{told}: expected a switch after step {event[0]}, but there was none")
    step, epoch, lr, condition = got["event"]
    require(step == event[0], f"{told}: expected the switch after step {event[0]}, but it came after step {step}")
    phases = ["adam"] * event[0] + ["sgd"] * (len(g) - event[0])
    require(got["phases"] == phases, f"{told}: expected the phase 'sgd' after the switch, got {got['phases'][-1]!r}")
    expect(np.array(lr), exact(event[2], 4), np.float64, f"{told}: switch_event.lr", mistakes)
    require([epoch, condition] == [event[1], event[3]],
            f"{told}: expected {event[1]} and {event[3]!r} as switch_event's epoch and condition, got {epoch} and"
            f" {condition!r}")  # fmt: skip
    expect(got["w"], right, w.dtype, f"{told}: the weights after each step", mistakes)
    require(got["step"] == event[0], f"{told}: expected switch_step {event[0]}, got {got['step']}: set it")
    require(got["released"], f"{told}: the first rule still holds its vectors: first.release() frees them")


@ITEMS.item("Hybrid: the switch", 12, "Hybrid._decide", "Hybrid._start_then")
def hybrid(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        w, g = start(rng, dtype, 12)
        how: dict[str, Any] = {"then": {"lr": 0.02, "momentum": 0.5}, "carry": "nothing", "lambdas": [0.0] * 12}
        switched(call, f"AfterSteps(5) in {np.dtype(dtype)}", w, g, [5, 2, 0.02, "step:5"], trained(w, g, 5, 0.02, 0.5),
                 {"Is `then` bound to the same weights (then.bind(self.flat))?": lambda: adam(w, g, 0.01).value},
                 condition=["AfterSteps", 5], lr_after=None, **how)  # fmt: skip
        switched(call, "AfterEpochs(3), lr_after=0.1", w, g, [6, 3, 0.1, "epoch:3"], trained(w, g, 6, 0.1, 0.5),
                 {"lr_after was not applied: then.set_peak(rate).": lambda: trained(w, g, 6, 0.02, 0.5).value},
                 condition=["AfterEpochs", 3], lr_after=0.1, **how)  # fmt: skip
    how["lambdas"] = [-0.5, -0.5, -0.2, 0.0, 0.1, 0.1, 0.1, *[0.1] * 5]
    switched(call, "AfterSteps(2), lr_after='projected', Lambda <= 0 until step 4", w, g, [5, 2, 0.05, "step:2"],
             trained(w, g, 5, 0.05, 0.5), {"It is (1 - mu) Lambda.": lambda: trained(w, g, 5, 0.1, 0.5).value},
             condition=["AfterSteps", 2], lr_after="projected", **how)  # fmt: skip


@ITEMS.item("Hybrid: momentum carried over", 5, "Hybrid._start_then")
def carried(call: Call, rng: np.random.Generator) -> None:
    w, g = start(rng, np.float64, 10)
    got = call("hybrid", w=w, gradients=g, then={"lr": 0.02, "momentum": 0.5}, condition=["AfterSteps", 4],
               lr_after=None, carry="momentum", lambdas=[])  # fmt: skip
    told = "AfterSteps(4), carry='momentum': the weights after each step"
    expect(got["w"], trained(w, g, 4, 0.02, 0.5, carry=True), w.dtype, told, {
        "v starts at 0, but it should start at m / ((1 - b1^t) (1 - mu)).": lambda: trained(w, g, 4, 0.02, 0.5).value,
        "Divide m by 1 - b1^t first.": lambda: trained(w, g, 4, 0.02, 0.5, carry=True, uncorrected=True).value,
        "v is a sum of gradients, not their mean: divide by 1 - mu.":
            lambda: trained(w, g, 4, 0.02, 0.5, carry=True, unscaled=True).value,
    })  # fmt: skip


# ---- SWATS ----


@ITEMS.item("SWATS: the Adam phase", 8, "SWATS._adam")
def swats_adam(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        w, g = start(rng, dtype, 15)
        for b1, b2, eps in ((0.9, 0.999, 1e-9), (0.5, 0.9, 0.1)):
            options = {"lr": 0.02, "betas": [b1, b2], "eps": eps}
            got = call("swats", options=options, w=w, gradients=g, at=None, lam=1.0)
            told = f"SWATS(lr=0.02, betas=({b1}, {b2}), eps={eps}), 15 steps in {np.dtype(dtype)}"

            def wrong(**slip: Any) -> Any:
                return lambda: adam(w, g, 0.02, b1, b2, eps, **slip).value

            expect(got["w"], adam(w, g, 0.02, b1, b2, eps, eps_first=True), dtype, told, {
                "Did you forget the bias correction?": wrong(correct=False),
                "The correction is sqrt(1 - b2^k) / (1 - b1^k).": wrong(correct_v=False),
                "In SWATS eps is added to sqrt(a) before the correction, in Adam after it.": wrong(),
            })  # fmt: skip


def swats_of(w: Array, g: Array, lam: float, b1: float = 0.9, **slip: Any) -> Exact:
    """Starting from the weights at the switch: v <- b1 v + g, w <- w - (1-b1) Lambda v."""
    w, slack, v, v_size = w.astype(np.float64), np.abs(w), np.zeros(len(w)), np.zeros(len(w))
    values, slacks = [], []
    for t, each in enumerate(g.astype(np.float64), 1):
        v, v_size = b1 * v + each, b1 * v_size + np.abs(each)
        rate = lam if slip.get("whole") else (1 - b1) * lam
        w = w - rate * v
        if slip.get("aliased"):
            v = v * (1 - b1)
        if slip.get("forgets"):
            v = v * 0
        slack = slack + lam * v_size * (4 * t + 10) + np.abs(w)
        values.append(w)
        slacks.append(slack)
    return Exact(np.array(values), np.array(slacks))


@ITEMS.item("SWATS: the switch and the SGD phase", 10, "SWATS._to_sgd", "SWATS._sgd")
def swats_switch(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        w, g = start(rng, dtype, 20)
        got = call("swats", options={"lr": 0.01}, w=w, gradients=g, at=6, lam=0.08)
        told = f"SWATS(lr=0.01) that switches after step 6 with Lambda = 0.08, 20 steps in {np.dtype(dtype)}"
        require(got["event"] is not None, f"{told}: switch_event is None: set it at the switch")
        require(got["event"][0] == 6, f"{told}: expected switch_event.step 6, got {got['event'][0]}")
        at, g = got["w"][5], g[6:]  # the item above checks the steps before the switch
        expect(got["w"][6:], swats_of(at, g, 0.08), dtype, f"{told}: after the switch", {
            "The learning rate is (1 - b1) Lambda: momentum multiplies a step by 1 / (1 - b1).":
                lambda: swats_of(at, g, 0.08, whole=True).value,
            "You scale v itself by (1 - b1), so v shrinks with every step: scale the step, not v.":
                lambda: swats_of(at, g, 0.08, aliased=True).value,
            "v is not kept from step to step: update it in place.": lambda: swats_of(at, g, 0.08, forgets=True).value,
        })  # fmt: skip
        expect(np.array(got["event"][1]), exact(0.1 * 0.08, 4), np.float64, f"{told}: switch_event.lr", {
            "It should be the learning rate of the SGD phase, (1 - b1) Lambda.": lambda: 0.08})  # fmt: skip
