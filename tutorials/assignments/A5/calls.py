"""The calls that the grader can make to a submission of A5. This runs in the student's process.

The models and optimizers passed to the study are spies: they log the examples shown to them and the mode, the initial
weights and the learning rate. Feature 0 of each example is its number.
"""

import hashlib
import itertools
from typing import Any

import numpy as np
import part_calls
import study

from minidl import Tensor, nn
from minidl.grad_mode import is_recording
from minidl.optim import SGD, Adam, AfterSteps, Hybrid

MAKERS = {
    "sgd": lambda parameters, rate: SGD(parameters, rate),
    "momentum": lambda parameters, rate: SGD(parameters, rate, momentum=0.9),
    "adam": lambda parameters, rate: Adam(parameters, rate),
    "hybrid": lambda parameters, rate: Hybrid(parameters, Adam(lr=rate), SGD(lr=rate), switch=AfterSteps(10)),
}


class Ends:
    """An optimizer whose every step sets the same weights, whatever the gradients are."""

    def __init__(self, parameters: Any, weights: list[Any]) -> None:
        self.parameters, self.weights = list(parameters), weights

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        for p, w in zip(self.parameters, self.weights, strict=True):
            p.data[...] = w


class Spy(nn.Module):
    """A linear model that logs its inputs."""

    def __init__(self, features: int, classes: int, rng: Any, log: list[Any]) -> None:
        self.layer = nn.Linear(features, classes, rng=rng)
        self.log = log
        self.noise = np.zeros(1)
        weights = [p.data.copy() for p in self.parameters()]
        log.append({"start": _digest(self), "weights": weights, "rate": None, "optimizers": 0, "shown": []})
        self.run = log[-1]

    def forward(self, x: Tensor) -> Tensor:
        modes = {(True, True): "train", (False, False): "eval"}  # recording, training
        mode = modes.get((is_recording(), self.training), "mixed")
        self.run["shown"].append([mode, np.round(x.data[:, 0]).astype(np.int64)])
        shown = x.data.copy()
        shown[:, 0] = 1.0  # the model must not learn from the example's number
        return self.layer(Tensor(shown))


def _digest(model: Any) -> str:
    return hashlib.sha256(b"".join(p.data.tobytes() for p in model.parameters())).hexdigest()


def _spies(log: list[Any], features: int, classes: int) -> Any:
    def make_model(rng: Any) -> Spy:
        return Spy(features, classes, rng, log)

    def spied(maker: Any) -> Any:
        def make_optimizer(parameters: Any, rate: float) -> Any:
            log[-1]["rate"] = float(rate)
            log[-1]["optimizers"] += 1
            return maker(parameters, rate)

        return make_optimizer

    return make_model, spied


def _data(arrays: list[Any]) -> Any:
    return study.Data(*zip(arrays[::2], arrays[1::2], strict=True))


def train_once(arrays: list[Any], maker: str, rate: float, seed: int, epochs: int, batch_size: int, noise: int) -> Any:
    """Train; returns the log, the initial weights that the seed gives, the final ones, and whether the data is intact.

    `noise` seeds NumPy's global generator, which must make no difference.
    """
    log: list[Any] = []
    first, before = _digest(Spy(arrays[0].shape[1], 3, np.random.default_rng(seed), [])), [a.copy() for a in arrays]
    make_model, spied = _spies(log, arrays[0].shape[1], 3)
    np.random.seed(noise)  # noqa: NPY002 (a student may use it)
    model = study.train_once(make_model, spied(MAKERS[maker]), rate, _data(arrays), seed, epochs, batch_size)
    kept = all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))
    weights = [p.data for p in model.parameters()]
    return {"log": log, "end": _digest(model), "weights": weights, "first": first, "kept": kept}


def accuracy(x: Any, labels: Any, weight: Any) -> dict[str, Any]:
    """The accuracy of a linear model with these weights, and the log, which has the mode."""
    log: list[Any] = []
    model = Spy(x.shape[1], len(weight), 0, log)
    model.layer.weight.data[...] = weight
    got = study.accuracy(model, (x, labels))
    return {"accuracy": got.item() if isinstance(got, np.generic) else got, "log": log}  # accept NumPy's floats


def tune(
    arrays: list[Any], maker: str, rates: list[float], seeds: list[int], epochs: int, ends: list[Any] | None = None
) -> dict[str, Any]:
    """The chosen rate, and the log. ends: for each rate, the final weights of its runs, in order."""
    log: list[Any] = []
    make_model, spied = _spies(log, arrays[0].shape[1], 3)
    left = [itertools.cycle(weights) for weights in ends or []]
    make = MAKERS[maker] if ends is None else lambda parameters, rate: Ends(parameters, next(left[rates.index(rate)]))
    rate = study.tune(make_model, spied(make), rates, _data(arrays), seeds, epochs)
    return {"rate": float(rate), "log": log}


def mean_and_interval(values: list[float]) -> Any:
    """Three floats."""
    return [float(v) for v in study.mean_and_interval(values)]


def compare(
    arrays: list[Any], makers: list[str], rates: list[float], tune_seeds: list[int], seeds: list[int], epochs: int
) -> dict[str, Any]:
    """The results, and the log of all runs."""
    log: list[Any] = []
    make_model, spied = _spies(log, arrays[0].shape[1], 3)
    optimizers = {name: spied(MAKERS[name]) for name in makers}
    found = study.compare(make_model, optimizers, rates, _data(arrays), tune_seeds, seeds, epochs)
    plain = not all(hasattr(r, "rate") for r in found.values())
    try:
        found = {name: r if hasattr(r, "rate") else study.Result(*r) for name, r in found.items()}
    except TypeError:
        raise TypeError("compare must return a Result for each optimizer") from None
    results = {
        name: [float(r.rate), [float(a) for a in r.accuracies], float(r.mean), float(r.low), float(r.high)]
        for name, r in found.items()
    }
    return {"results": results, "log": log, "plain": plain}


def give_parts(names: list[str]) -> None:
    """Let the grader compute the results of these functions; the log is kept here."""

    def train_once(
        make_model: Any, make_optimizer: Any, rate: float, data: Any, seed: int, epochs: int, *_: Any
    ) -> Any:
        model = make_model(np.random.default_rng(seed))
        optimizer = make_optimizer(model.parameters(), rate)
        if isinstance(optimizer, Ends):
            optimizer.step()
            return model
        x, labels = data.train
        _train(model, x, epochs)
        own = [model.layer.weight.data, model.layer.bias.data]
        new = part_calls.ask("train_once", _seen(x), labels, *own, float(rate), epochs)
        for mine, given in zip(own, new, strict=True):
            mine[...] = given
        return model

    def accuracy(model: Any, split: Any) -> Any:
        x, labels = split
        model.run["shown"].append(["eval", np.round(x[:, 0]).astype(np.int64)])
        return part_calls.ask("accuracy", _seen(x), labels, model.layer.weight.data, model.layer.bias.data)

    def tune(make_model: Any, make_optimizer: Any, rates: Any, data: Any, seeds: Any, epochs: int) -> Any:
        for rate in rates:
            for seed in seeds:
                model = make_model(np.random.default_rng(seed))
                make_optimizer(model.parameters(), rate)
                _train(model, data.train[0], epochs)
        return part_calls.ask("tune", [float(rate) for rate in rates])

    def mean_and_interval(values: Any) -> Any:
        return tuple(part_calls.ask("mean_and_interval", [float(value) for value in values]))

    stand_ins = {each.__name__: each for each in (train_once, accuracy, tune, mean_and_interval)}
    part_calls.give({name: (study, name, each) for name, each in stand_ins.items()}, names)


def _train(model: Any, x: Any, epochs: int) -> None:
    """Log that the model was shown all of x in each epoch."""
    model.run["shown"] += [["train", np.round(x[:, 0]).astype(np.int64)]] * epochs


def _seen(x: Any) -> Any:
    """The examples as the model sees them, without their numbers."""
    seen = x.copy()
    seen[:, 0] = 1.0
    return seen
