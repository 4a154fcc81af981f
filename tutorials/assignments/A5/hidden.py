"""A5, the teacher's part: a study's numbers are not known in advance, so its properties are checked.

Training, validation and test examples are numbered (feature 0), so the log shows which of them a model has seen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tutorials.assignments.assignment import Call, Items
from tutorials.assignments.check import Array, Wrong, exact, expect, require


def trained_of(x: Array, labels: Array, weight: Array, bias: Array, rate: float, epochs: int) -> list[Array]:
    """Weights and bias after some gradient steps on the cross-entropy: stands in for a wrong `train_once`."""
    w, b, wanted = weight.astype(np.float64), bias.astype(np.float64), np.eye(len(weight))[labels]
    for _ in range(10 * min(epochs, 50)):
        z = x @ w.T + b
        p = np.exp(z - z.max(1, keepdims=True))
        d = (p / p.sum(1, keepdims=True) - wanted) / len(x)
        w, b = w - rate * d.T @ x, b - rate * d.sum(0)
    return [w.astype(weight.dtype), b.astype(bias.dtype)]


def accuracy_of(x: Array, labels: Array, weight: Array, bias: Array) -> float:
    """The fraction of examples that a linear model classifies correctly."""
    return float(((x @ weight.T + bias).argmax(1) == labels).mean())


def interval_of(values: list[float]) -> list[float]:
    """The mean and its 95 % interval."""
    n, mean = len(values), float(np.mean(values))
    half = T95[n] * float(np.std(values, ddof=1)) / n**0.5
    return [mean, mean - half, mean + half]


ITEMS = Items(lesson=12, parts={
    "train_once": trained_of, "accuracy": accuracy_of, "tune": lambda rates: max(rates),
    "mean_and_interval": interval_of,
})  # fmt: skip
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
FIRST = (0, 1000, 2000)  # numbers of the first examples of the training, validation and test data
SIZES = (70, 40, 50)


def blobs(rng: np.random.Generator, noise: float = 0.6) -> list[Array]:
    """Three clouds of points, as [x, labels] for training, validation and test. Feature 0 is the example's number."""
    arrays: list[Array] = []
    centres = 2.5 * np.linalg.qr(rng.normal(size=(4, 4)))[0][:3]  # orthogonal, so well apart
    for first, n in zip(FIRST, SIZES, strict=True):
        labels = rng.integers(0, 3, n)
        x = centres[labels] + noise * rng.normal(size=(n, 4))
        arrays += [np.column_stack([first + np.arange(n), x]).astype(np.float32), labels]
    return arrays


def shown(run: Any, part: int) -> list[Any]:
    """What a model was shown of one split (0 training, 1 validation, 2 test): [mode, numbers] for each call."""
    first, n = FIRST[part], SIZES[part]
    return [each for each in run["shown"] if ((each[1] >= first) & (each[1] < first + n)).any()]


def trained_with(run: Any) -> list[Any]:
    """What a model was trained on. Calls in eval mode without recording, as to print the accuracy, don't count."""
    return [each for each in run["shown"] if each[0] != "eval"]


@ITEMS.item("accuracy", 10, "accuracy", lesson=4)
def accuracy(call: Call, rng: np.random.Generator) -> None:
    weight = rng.normal(size=(3, 5)).astype(np.float32)
    x = rng.normal(size=(43, 5)).astype(np.float32)  # 43 is prime: batches can't all have the same size
    labels = rng.integers(0, 3, 43)
    seen = x.copy()
    seen[:, 0] = 1
    right = float(((seen @ weight.T).argmax(1) == labels).mean())
    got = call("accuracy", x=x, labels=labels, weight=weight)
    require(isinstance(got["accuracy"], float), f"expected a float, got {got['accuracy']!r}")
    require(abs(got["accuracy"] - right) < 1e-6, f"43 examples: expected {right}, got {got['accuracy']}: the fraction"
            " of examples whose largest output is that of the true class")  # fmt: skip
    modes = {mode for mode, _ in got["log"][0]["shown"]}
    require(modes == {"eval"}, "call model.eval() and use `with no_grad():` (dropout and batch norm behave differently"
            " in eval mode, and no graph is needed)")  # fmt: skip


@ITEMS.item("train_once: every example once an epoch, in a new order", 20, "train_once", lesson=4)
def each_once(call: Call, rng: np.random.Generator) -> None:
    arrays = blobs(rng)
    for batch_size in (32, 10, 100):
        got = call("train_once", arrays=arrays, maker="sgd", rate=0.1, seed=3, epochs=3, batch_size=batch_size, noise=0)
        require(len(got["log"]) == 1, f"expected one model to be made, there were {len(got['log'])}")
        steps = trained_with(got["log"][0])
        told = f"70 examples, batch_size={batch_size}, 3 epochs"
        per_epoch = math.ceil(70 / batch_size)
        hint = " (include the last, smaller batch)" if len(steps) == 3 * (70 // batch_size) else ""
        require(len(steps) == 3 * per_epoch, f"{told}: expected {3 * per_epoch} batches, there were {len(steps)}{hint}")
        require(all(mode == "train" for mode, _ in steps), f"{told}: train in train mode, with recording on")
        orders = []
        for epoch in range(3):
            batches = steps[epoch * per_epoch : (epoch + 1) * per_epoch]
            order = np.concatenate([numbers for _, numbers in batches])
            require(max(order) < 1000, f"{told}: the model was trained on validation or test data")
            require(
                np.array_equal(np.sort(order), np.arange(70)), f"{told}: epoch {epoch + 1} must show every example once"
            )
            orders.append(order)
        require(
            not np.array_equal(orders[0], np.arange(70)), f"{told}: the examples are in their original order: shuffle"
        )
        require(not np.array_equal(orders[0], orders[1]), f"{told}: the second epoch uses the same order as the first")


@ITEMS.item("train_once: it learns", 10, "train_once", lesson=4)
def learns(call: Call, rng: np.random.Generator) -> None:
    arrays = blobs(rng)
    for maker, rate in (("sgd", 0.1), ("adam", 0.05), ("hybrid", 0.1)):
        got = call("train_once", arrays=arrays, maker=maker, rate=rate, seed=1, epochs=20, batch_size=16, noise=0)
        weight, bias = got["weights"]
        x = arrays[0].copy()
        x[:, 0] = 1
        right = float(((x @ weight.T + bias).argmax(1) == arrays[1]).mean())
        hint = (
            "do you clear the gradients before each backward(), and does each example keep its label?"
            if right > 0.5
            else "is optimizer.step() called after backward()?"
        )
        require(right > 0.9, f"{maker}, learning rate {rate}, 20 epochs on three clouds of points: expected a training"
                f" accuracy above 0.9, got {right:.2f}: {hint}")  # fmt: skip
        run = got["log"][0]
        require(run["rate"] == rate, f"{maker}: expected an optimizer with learning rate {rate}, got {run['rate']}")
        require(run["optimizers"] == 1, f"{maker}: {run['optimizers']} optimizers were made in 20 epochs: make one"
                " before the first epoch, because a new one starts without its averages")  # fmt: skip
    got = call("train_once", arrays=arrays, maker="sgd", rate=0.1, seed=1, epochs=2, batch_size=16, noise=0)
    run = got["log"][0]
    batches = [numbers for _, numbers in trained_with(run)]
    ends: dict[str, dict[str, Any]] = {
        "": {}, "each step includes the gradients of all earlier batches: call optimizer.zero_grad() first":
            {"clear_every": len(batches)},
        "gradients accumulate during an epoch: call optimizer.zero_grad() before each backward()": {"clear_every": 5},
        "you make two steps per batch instead of one": {"steps": 2},
        "the loss of a batch is the mean over its examples, not the sum": {"summed": True},
    }  # fmt: skip
    away = {}  # how far the final weights are from those of correct training, and from those of each slip
    for said, slip in ends.items():
        end = trained_on(run["weights"], batches, arrays, 0.1, **slip)
        away[said] = max(float(np.abs(a - b).max()) for a, b in zip(got["weights"], end, strict=True))
    said = min(away, key=away.__getitem__) if min(away.values()) < 1e-3 else ""
    require(
        away[""] < 1e-3,
        "sgd, 2 epochs of 5 batches: one step on each batch's cross-entropy gives different weights"
        f"{': ' * bool(said)}{said}",
    )


def trained_on(
    start: list[Array], batches: list[Array], arrays: list[Array], rate: float, clear_every: int = 1, steps: int = 1,
    summed: bool = False,
) -> list[Array]:  # fmt: skip
    """The weights and bias of a linear model after SGD steps on these batches; the last arguments are mistakes."""
    weight, bias = (np.array(each, np.float64) for each in start)
    dw, db = np.zeros_like(weight), np.zeros_like(bias)
    x = arrays[0].astype(np.float64)
    x[:, 0] = 1
    for k, batch in enumerate(batches):
        logits = x[batch] @ weight.T + bias
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(batch)), arrays[1][batch]] -= 1
        kept, n = k % clear_every > 0, 1 if summed else len(batch)
        dw, db = dw * kept + p.T @ x[batch] / n, db * kept + p.sum(0) / n
        weight, bias = weight - steps * rate * dw, bias - steps * rate * db
    return [weight, bias]


@ITEMS.item("train_once: the seed decides everything", 15, "train_once", lesson=4)
def seeds(call: Call, rng: np.random.Generator) -> None:
    arrays = blobs(rng)

    def run(seed: int, noise: int, maker: str = "adam") -> Any:
        got = call("train_once", arrays=arrays, maker=maker, rate=0.05, seed=seed, epochs=2, batch_size=16, noise=noise)
        order = np.concatenate([numbers for _, numbers in got["log"][0]["shown"]])
        require(got["kept"], "data was changed, so the next run sees different data; take x[order[...]], a copy")
        return got["log"][0]["start"], order, got["end"], got["first"]

    one, again, other, sgd = run(5, 1), run(5, 2), run(6, 1), run(5, 1, "sgd")
    hint = "draw everything random from np.random.default_rng(seed), not from np.random"
    require(one[0] == again[0], f"the same seed gave different initial weights: {hint}")
    require(np.array_equal(one[1], again[1]), f"the same seed gave a different order of the examples: {hint}")
    require(one[2] == again[2], f"the same seed gave different final weights: {hint}")
    require(one[0] == one[3], "np.random.default_rng(seed) draws first the model's weights, then the orders; your"
            " model starts from other weights")  # fmt: skip
    require(one[0] != other[0], "seeds 5 and 6 give the same initial weights")
    require(not np.array_equal(one[1], other[1]), "seeds 5 and 6 show the examples in the same order")
    require(one[0] == sgd[0], "with the same seed, SGD and Adam start from different weights: that is not a fair"
            " comparison")  # fmt: skip
    require(np.array_equal(one[1], sgd[1]), "with the same seed, SGD and Adam see the examples in different orders")


@ITEMS.item("tune: all rates, on the validation data", 15, "tune", lesson=9)
def tune(call: Call, rng: np.random.Generator) -> None:
    arrays, rates = blobs(rng), [1e-6, 0.2, 1e-5]
    asked = {"maker": "sgd", "rates": rates, "seeds": [0, 1], "epochs": 5}
    got = call("tune", arrays=arrays, **asked)
    tried = sorted(run["rate"] for run in got["log"])
    told = f"rates {rates}, seeds [0, 1]"
    require(tried == sorted(rates * 2), f"{told}: try each rate with each seed; you tried {tried}")
    for rate in rates:
        starts = {run["start"] for run in got["log"] if run["rate"] == rate}
        require(len(starts) == 2, f"{told}: rate {rate} was not tried with two different seeds")
    require(not any(shown(run, 2) for run in got["log"]), f"{told}: the test data was used: choose by data.val")
    for_all_epochs(got["log"], 5, told)
    require(all(shown(run, 1) for run in got["log"]), f"{told}: choose by the accuracy on data.val")
    require(got["rate"] == 0.2, f"{told}: expected 0.2, since the others hardly train; got {got['rate']}")
    arrays[3] = (arrays[3] + 1) % 3  # every validation label is wrong: now it is best not to learn
    got = call("tune", arrays=arrays, **asked)
    require(
        got["rate"] != 0.2,
        "with every validation label wrong, a rate that learns must lose: do you choose by data.val?",
    )

    by_mean(call, rng)


def for_all_epochs(runs: list[Any], epochs: int, told: str) -> None:
    """Check that each run shows the training data `epochs` times."""
    for run in runs:
        n = sum(map(len, (numbers for _, numbers in trained_with(run))))
        require(
            n == epochs * SIZES[0],
            f"{told}: expected epochs={epochs} in each run, that is {epochs * SIZES[0]} examples; one run had {n}",
        )


def by_mean(call: Call, rng: np.random.Generator) -> None:
    """The mean over the seeds decides, and the first of equal means wins. The final weights of each run are given."""
    arrays = blobs(rng)
    seen = arrays[2].copy()
    seen[:, 0] = 1
    good = np.linalg.lstsq(seen, np.eye(3)[arrays[3]], rcond=None)[0].T.astype(np.float32), np.zeros(3, np.float32)
    two = good[0], np.array([0, 0, -100], np.float32)  # never predicts class 2
    one = good[0], np.array([0, -100, -100], np.float32)
    ends = [[list(each) for each in runs] for runs in ([good, one, one], [two] * 3, [two] * 3)]
    rates = [0.3, 0.1, 0.2]
    got = call("tune", arrays=arrays, maker="sgd", rates=rates, seeds=[0, 1, 2], epochs=1, ends=ends)["rate"]
    scores = [[accuracy_of(seen, arrays[3], *weights) for weights in runs] for runs in ends]
    told = "; ".join(
        f"rate {rate}: {', '.join(f'{a:.2f}' for a in score)}" for rate, score in zip(rates, scores, strict=True)
    )
    hint = "if means are equal, take the first rate" if got == 0.2 else "the mean over the seeds decides"
    require(got == 0.1, f"validation accuracies {told}: expected rate 0.1, got {got}: {hint}")


@ITEMS.item("mean_and_interval", 10, "mean_and_interval")
def interval(call: Call, rng: np.random.Generator) -> None:
    for n in (3, 2, 5, 7):
        values = rng.uniform(0.9, 1, n)
        mean, s, t = values.mean(), values.std(ddof=1), T95[n]
        got = call("mean_and_interval", values=values.tolist())
        right = np.array([mean, mean - t * s / n**0.5, mean + t * s / n**0.5])
        expect(np.array(got), exact(right, 100, 20.0), np.float64, f"{n} values", {
            "The sample standard deviation divides by n - 1: ddof=1.":
                lambda: mean + np.array([0, -1, 1]) * t * values.std() / n**0.5,
            "The interval of the mean shrinks with sqrt(n): s / sqrt(n).": lambda: mean + np.array([0, -1, 1]) * t * s,
            "The interval of the mean shrinks with sqrt(n), not with n.":
                lambda: mean + np.array([0, -1, 1]) * t * s / n,
            "1.96 is for large n; for a few values, t comes from T95.":
                lambda: mean + np.array([0, -1, 1]) * 1.96 * s / n**0.5,
            "t for n values is T95[n].": lambda: mean + np.array([0, -1, 1]) * T95.get(n + 1, t) * s / n**0.5,
            "s is the square root of the variance.": lambda: mean + np.array([0, -1, 1]) * t * s**2 / n**0.5,
        })  # fmt: skip
    try:
        call("mean_and_interval", values=[0.5])
    except Wrong as wrong:
        require("ValueError" in str(wrong), f"one value: expected ValueError, got {wrong}")
    else:
        raise Wrong("one value: expected ValueError, since it says nothing about the spread")


PLAIN = "compare returns a Result for each optimizer: Result(rate, accuracies, mean, low, high)"
STUDY: dict[str, Any] = {
    "makers": ["sgd", "adam", "hybrid"], "rates": [1e-6, 0.2], "tune_seeds": [100, 101], "seeds": [1, 2, 3],
    "epochs": 8,
}  # fmt: skip


@ITEMS.item("compare: a fair comparison", 10, "compare")
def fair(call: Call, rng: np.random.Generator) -> None:
    arrays = blobs(rng)
    got = call("compare", arrays=arrays, **STUDY)
    require(
        sorted(got["results"]) == sorted(STUDY["makers"]),
        f"expected results for {STUDY['makers']}, got {list(got['results'])}",
    )
    named(call, got)
    runs = got["log"]
    final = [run for run in runs if shown(run, 2)]
    if not final:  # not judged on the test data (see the next item): take the runs whose seed each optimizer has once
        starts = [run["start"] for run in runs]
        final = [run for run in runs if starts.count(run["start"]) == len(STUDY["makers"])]
    tuning = [run for run in runs if not any(run is each for each in final)]
    require(len(tuning) == 12, f"3 optimizers x 2 rates x 2 tune_seeds are 12 tuning runs, there were {len(tuning)}")
    if len(final) != 9:
        raise Wrong(f"3 optimizers x 3 seeds are 9 final runs, there were {len(final)}: {SEEDS}", SEEDS)
    for_all_epochs(runs, STUDY["epochs"], "compare")
    starts = [run["start"] for run in final]
    require(len(set(starts)) == 3, "the same seed must give every optimizer the same initial weights")
    require(not set(starts) & {run["start"] for run in tuning}, "the final runs use seeds from the tuning: use `seeds`")


SEEDS = "train once with each of `seeds`"


def named(call: Call, got: Any) -> None:
    """Check that each optimizer has a Result."""
    if got["plain"] and not call.ledger.forgives(PLAIN):
        raise Wrong(PLAIN, PLAIN)


@ITEMS.item("compare: the test data is for the end", 10, "compare")
def judged(call: Call, rng: np.random.Generator) -> None:
    arrays = blobs(rng, noise=1.0)
    got = call("compare", arrays=arrays, **STUDY)
    named(call, got)
    for name, (rate, accuracies, mean, low, high) in got["results"].items():
        require(rate == 0.2, f"{name}: expected rate 0.2, since the other hardly trains; got {rate}")
        n = len(accuracies)
        forgiven = n == len(STUDY["tune_seeds"]) and call.ledger.forgives(SEEDS)
        require(n == 3 or forgiven, f"{name}: expected 3 accuracies, one for each seed, got {n}")
        a = np.array(accuracies)
        half = T95[n] * a.std(ddof=1) / n**0.5
        right = [a.mean(), a.mean() - half, a.mean() + half]
        require(
            bool(np.allclose([mean, low, high], right, atol=1e-9)),
            f"{name}: mean, low and high are not those of {accuracies}",
        )
        require(
            any(shown(run, 2) for run in got["log"]),
            f"{name}: data.test was not used: compute the final accuracies on it",
        )
        require(
            bool(np.allclose(a * 50, np.round(a * 50), atol=1e-4)),
            f"{name}: {accuracies} can't be accuracies on the 50 test examples",
        )
    for run in got["log"]:
        looks = shown(run, 2)  # consecutive calls, if the data is passed in batches
        times = sum(len(numbers) for _, numbers in looks) / SIZES[2]
        require(times <= 1, f"the test data was used {times:.0f} times in one run: use it once, at the end")
        last = run["shown"][len(run["shown"]) - len(looks) :]
        require(all(a is b for a, b in zip(last, looks, strict=True)), "the test data was used before the end of a run")
    arrays[5] = (arrays[5] + 1) % 3  # other test labels: other accuracies, but nothing else may change
    other = call("compare", arrays=arrays, **STUDY)
    for name in STUDY["makers"]:
        require(
            other["results"][name][0] == got["results"][name][0],
            f"{name}: with different test labels, a different rate was chosen",
        )
        require(max(other["results"][name][1]) < min(got["results"][name][1]),
                f"{name}: with every test label wrong, accuracies must fall: are they from data.test?")  # fmt: skip
