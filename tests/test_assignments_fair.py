"""Submissions as students hand them in, with the marks that a fair teacher gives: a slip costs what it spoils, once.

The first ones are those of two reviews of the grader. Each mark is worked out from the table of marks by hand.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.fairness import MORE
from tests.submissions import submission, with_bodies
from tutorials.assignments.assignment import load
from tutorials.assignments.marking import Report, grade

if sys.platform != "linux":
    pytest.skip("only Linux can hold a program in", allow_module_level=True)


class Work(NamedTuple):
    assignment: str
    bodies: dict[str, str]
    mark: int
    said: str = ""  # in the feedback
    files: dict[str, str] = {}  # noqa: RUF012 (file -> what is put before "\n# end", or "bare", "-" to leave it out)


WAITS = "import time\nwhile True: time.sleep(1)"  # for what never comes; by the clock, so it takes no processor
MOMENTS = "m *= b1\nm += (1 - b1) * g\nv *= b2\nv += (1 - b2) * {}"
RULE = "b1, b2 = self.betas\nmoments(g, p, m, v, b1, b2)\nt = self.t\np[...] = {}"
HATS = "-lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + self.eps)"
SECOND = "-lr * (1 - b2**t) ** 0.5 / (1 - b1**t) * m / (v**0.5 + self.eps)"
TODO = 'raise NotImplementedError("A2: {} is yours to write")'
SGD = """
if v is None:
    p[...] = -lr * g
    return
v *= self.momentum
v += g
p[...] = -lr * (g + self.momentum * v) if self.nesterov else -lr * v
"""
DISTANCE = """
if {early}:
    return None
gamma = sum(progress.gammas[-self.window:]) / self.window
lam = progress.lambdas[-1]
tolerance = self.eps if self.rtol is None else self.rtol * abs(lam)
return abs(lam - gamma), tolerance
"""
SIGMOID = "x = as_tensor(x)\n{}\nreturn record('sigmoid', y, (x, lambda g: g * y * (1 - y)))"
AVG = """
x, kernel, stride, padding = _pool_arguments("avg_pool2d", x, kernel_size, stride, padding)
windows = _windows(_pad(x.data, padding), kernel, stride)
n = kernel[0] * kernel[1]
def vjp(g):
    each = np.broadcast_to(g[..., None, None] / {}, windows.shape)
    return _unpad(_scatter(each, x, stride, padding), padding)
return record("avg_pool2d", {}, (x, vjp))
"""
BY_1 = "stride = 1 if stride is None else stride"
MAX = """
x, kernel, stride, padding = _pool_arguments("max_pool2d", x, kernel_size, stride, padding)
windows = _windows(_pad(x.data, padding, -np.inf), kernel, stride)
flat = windows.reshape(*windows.shape[:4], -1)
first = flat.argmax(-1)[..., None]
def vjp(g):
    each = np.zeros(flat.shape, g.dtype)
    np.put_along_axis(each, first, g[..., None], -1)
    return _unpad(_scatter(each.reshape(windows.shape), x, stride, padding), padding)
return record("max_pool2d", flat.max(-1), (x, vjp))
"""
RATE = """
if self.lr_after == 'projected':
    return self.progress.lam
if self.lr_after == 'matched':
    r = self._read_length_ratio()
    return None if r is None else r / (1 + self.then.momentum * self.then.nesterov)
return self.lr_after(self.progress) if callable(self.lr_after) else self.lr_after
"""
TUNE = """
def score(rate):
    models = [train_once(make_model, make_optimizer, rate, data, seed, epochs) for seed in seeds]
    return np.mean([accuracy(model, data.test) for model in models])
return rates[int(np.argmax([score(rate) for rate in rates]))]
"""
COPIES = """
import numpy as np
return np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3))[:, :, :: stride[0], :: stride[1]].copy()
"""
FIT = """
while g.ndim > parent.ndim:
    g = g.sum(0)
for axis, n in enumerate(parent.shape):
    g = g.sum(axis, keepdims=True) if n == 1 else g
return np.asarray(g)"""
BACKWARD = """
pending = {self: np.ones_like(self.data) if gradient is None else np.asarray(gradient, self.dtype)}
for tensor in reversed(_topological_order(self)):
    g = pending.pop(tensor)
    if tensor.node is None:
        tensor.grad = g if tensor.grad is None else tensor.grad + g
        continue
    for parent, vjp in _edges(tensor.node):
        part = _fit(vjp(g), parent, tensor.node.name)
        pending[parent] = pending[parent] + part if parent in pending else part
    if not retain_graph:
        tensor.node.edges = None
"""
ADD = """
pp, pg = to_numpy(self.measured).tolist()
gamma = abs(pp / pg) if pg else math.nan
if math.isfinite(gamma):
    self.lam = self.beta2 * self.lam + (1 - self.beta2) * gamma
else:
    gamma = math.nan
self.gammas.append(gamma)
self.lambdas.append(self.lam / (1 - self.beta2 ** len(self.gammas)))
"""
TRAINS = """
rng = np.random.default_rng(seed)
model = make_model(rng)
model.train()
x, labels = data.train
optimizer = make_optimizer(model.parameters(), rate)
for _ in range(epochs):
    order = rng.permutation(len(x))
    for start in range(0, len(x), batch_size):
        batch = order[start : start + batch_size]
        optimizer.zero_grad()
        ops.cross_entropy(model(Tensor(x[batch])), labels[batch]).backward()
        optimizer.step()
return model
"""
MADE = "optimizer = make_optimizer(model.parameters(), rate)\n"
SHUFFLES = "x[:], labels[:] = x[order], labels[order]\n    order = np.arange(len(x))"
CHOOSES = """
best, chosen = -1.0, None
for rate in rates:
    models = [train_once(make_model, make_optimizer, rate, data, seed, epochs) for seed in seeds]
    score = {how}([accuracy(model, data.val) for model in models])
    if score {better} best:
        best, chosen = score, rate
return chosen
"""
CONV = """
x, w, b = as_tensor(x), as_tensor(weight), None if bias is None else as_tensor(bias)
kernel, stride, padding = (w.shape[2], w.shape[3]), _pair(stride), _pair(padding)
windows = _windows(_pad(x.data, padding), kernel, stride)
y = np.einsum("ncijuv,ocuv->noij", windows, w.data) + (0 if b is None else b.data{})
def vjp_x(g):
    return _unpad(_scatter(np.einsum("noij,ocuv->ncijuv", g, w.data), x, stride, padding), padding)
edges = [(x, vjp_x), (w, lambda g: np.einsum("noij,ncijuv->ocuv", g, windows))]
if b is not None:
    edges.append((b, lambda g: g.sum((0, 2, 3))))
return record("conv2d", y.astype(x.dtype), *edges)
"""
COMPARES = """
found = {}
for name, make_optimizer in optimizers.items():
    rate = tune(make_model, make_optimizer, rates, data, tune_seeds, epochs)
    models = [train_once(make_model, make_optimizer, rate, data, seed, epochs) for seed in seeds]
    accuracies = [accuracy(model, data.test) for model in models]
    found[name] = (rate, accuracies, *mean_and_interval(accuracies))
return found
"""
RESULTS = """
found = {{}}
for name, make_optimizer in optimizers.items():
    rate = tune(make_model, make_optimizer, rates, data, tune_seeds, epochs)
    models = [train_once(make_model, make_optimizer, rate, data, seed, epochs) for seed in {}]
    accuracies = [accuracy(model, {}) for model in models]
    found[name] = Result(rate, accuracies, *mean_and_interval(accuracies))
return found
"""
INTERVAL = """
n, m = len(values), float(np.mean(values))
if n < 2:
    raise ValueError
h = T95[n] * float(np.std(values)) / n**0.5
return m, m - h, m + h
"""
OWN_MOMENTS = """
b1, b2 = self.betas
m[...] = b1 * m + (1 - b1) * g
v[...] = b2 * v + (1 - b2) * g**2
t = self.t
p[...] ="""

WORKS = {
    # ---- the reviews' ----
    "A3: it is early by the step's number": Work(
        "A3", {"Projected.distance": DISTANCE.format(early="progress.step < 2 * self.window")}, 100
    ),
    "A2: the square is forgotten": Work("A2", {"moments": MOMENTS.format("g")}, 90, "v averages the square of g"),
    "A2: Adam.rule is not written": Work("A2", {"Adam.rule": TODO.format("Adam.rule")}, 60, "not written yet"),
    "A2: np is not imported in Adam.rule": Work("A2", {"Adam.rule": "nump.sqrt(v)"}, 60, "is its import at the top"),
    "A2: the paper's second form": Work("A2", {"Adam.rule": RULE.format(SECOND)}, 75, "second form"),
    "A2: t + 1": Work("A2", {"Adam.rule": RULE.format(HATS.replace("**t", "**(t + 1)"))}, 75, "one step early"),
    "A2: momentum as an average": Work(
        "A2", {"SGD.rule": SGD.replace("v += g", "v += (1 - self.momentum) * g")}, 85, "multiplied by 1 - mu"
    ),
    "A2: no bias correction": Work(
        "A2", {"Adam.rule": RULE.format("-lr * m / (v**0.5 + self.eps)")}, 75, "forget the bias correction"
    ),
    "A2: the caller's g is used up": Work(
        "A2",
        {"SGD.rule": SGD.replace("v += g", "g += v\nv[...] = g")},
        90,
        "g was changed",
    ),
    "A4: without _scatter": Work(
        "A4", {"_scatter": 'raise NotImplementedError("A4: _scatter is yours to write")'}, 80, "not written yet"
    ),
    "A5: without train_once": Work(
        "A5", {"train_once": 'raise NotImplementedError("A5: train_once is yours to write")'}, 55, "not written yet"
    ),
    "A1: a syntax error at the end of tensor.py": Work("A1", {}, 75, "SyntaxError", {"minidl/tensor.py": "def f(:"}),
    "A2: import torch in adam.py": Work(
        "A2", {}, 40, "the standard library, NumPy and the hand-out", {"optim/adam.py": "import torch"}
    ),
    "A2: a syntax error in adam.py": Work("A2", {}, 40, "SyntaxError", {"optim/adam.py": "x = = 1"}),
    # ---- and more ----
    "A2: in other words": Work(
        "A2",
        {"Adam.rule": RULE.format("-(lr / (1 - b1**t)) * m / ((v / (1 - b2**t)) ** 0.5 + self.eps)"), "SGD.rule": SGD},
        100,
    ),
    "A2: moments in one line each": Work(
        "A2", {"moments": "m[:] = b1 * m + (1 - b1) * g\nv[:] = b2 * v + (1 - b2) * g * g"}, 100
    ),
    "A2: moments by lerp": Work("A2", {"moments": "m += (1 - b1) * (g - m)\nv += (1 - b2) * (g**2 - v)"}, 100),
    "A2: the rule does not use moments": Work(
        "A2",
        {"Adam.rule": OWN_MOMENTS + " " + HATS},
        100,
    ),
    "A2: v = ..., lost": Work(
        "A2",
        {"SGD.rule": SGD.replace("v *= self.momentum\nv += g", "v = self.momentum * v + g")},
        85,
        "a new array is lost",
    ),
    "A2: moments not written": Work("A2", {"moments": TODO.format("moments")}, 90, "not written yet"),
    "A2: only SGD is written": Work("A2", {n: TODO.format(n) for n in ("moments", "Adam.rule", "AdamW.decayed")}, 40),
    "A2: only Adam is written": Work("A2", {"SGD.rule": TODO.format("SGD.rule")}, 60),
    "A2: Nesterov is left out": Work(
        "A2",
        {"SGD.rule": SGD.replace("-lr * (g + self.momentum * v) if self.nesterov else -lr * v", "-lr * v")},
        92,
        "Nesterov's lookahead",
    ),
    "A2: the root is forgotten": Work("A2", {"Adam.rule": RULE.format(HATS.replace(" ** 0.5", ""))}, 75, "square root"),
    "A2: eps inside": Work(
        "A2",
        {"Adam.rule": RULE.format("-lr * (m / (1 - b1**t)) / (v / (1 - b2**t) + self.eps) ** 0.5")},
        75,
        "inside the square root",
    ),
    "A2: eps and betas are constants": Work(
        "A2", {"Adam.rule": RULE.format("-lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)")}, 90
    ),
    "A2: plus instead of minus": Work("A2", {"Adam.rule": RULE.format(HATS[1:])}, 75, "climbs"),
    "A2: a new p in Adam": Work("A2", {"Adam.rule": RULE.format(HATS).replace("p[...]", "p")}, 75, "p holds no step"),
    "A2: a new p in both": Work(
        "A2",
        {"Adam.rule": OWN_MOMENTS.replace("p[...]", "p") + " " + HATS, "SGD.rule": SGD.replace("p[...]", "p")},
        75,
        "p holds no step",
    ),
    "A2: a new p in SGD": Work("A2", {"SGD.rule": SGD.replace("p[...]", "p")}, 90, "p holds no step"),
    "A2: a new p in SGD, which climbs": Work(
        "A2", {"SGD.rule": SGD.replace("p[...]", "p").replace("-lr", "lr")}, 75, "p holds no step"
    ),
    "A2: Adam.rule does nothing": Work("A2", {"Adam.rule": "pass"}, 60, "p holds no step"),
    "A2: both do nothing": Work("A2", {"Adam.rule": "pass", "SGD.rule": "pass"}, 20, "p holds no step"),
    "A2: the step is returned, in both": Work(
        "A2",
        {"Adam.rule": RULE.format(HATS).replace("p[...] =", "return"), "SGD.rule": SGD.replace("p[...] =", "return")},
        75,
        "p holds no step",
    ),
    "A2: the last element is forgotten": Work(
        "A2", {"SGD.rule": SGD.replace("p[...] = -lr * g", "p[:5] = -lr * g[:5]", 1)}, 90, "not written: p has 6"
    ),
    "A2: t is counted once more, as in the paper": Work(
        "A2", {"Adam.rule": "self.t += 1\n" + RULE.format(HATS)}, 75, "self.t grows by 2 per step"
    ),
    "A2: moments returns new ones": Work(
        "A2",
        {
            "moments": "m = b1 * m + (1 - b1) * g\nv = b2 * v + (1 - b2) * g**2\nreturn m, v",
            "Adam.rule": RULE.format(HATS).replace("moments(", "m, v = moments("),
        },
        75,
        "m and v are not kept from step to step",
    ),
    "A2: scratch is read": Work(
        "A2", {"moments": MOMENTS.format("g**2") + " + 0 * scratch"}, 90, "Don't use the contents of"
    ),
    "A2: Nesterov turned round": Work(
        "A2", {"SGD.rule": SGD.replace("(g + self.momentum * v)", "(v + self.momentum * g)")}, 92, "g and v swapped"
    ),
    "A2: v is the step, as in Keras": Work(
        "A2",
        {"SGD.rule": SGD.replace("v += g", "v -= lr * g").replace("-lr * (g +", "(-lr * g +").replace("-lr * v", "v")},
        95,
        "v contains the learning rate",
    ),
    "A2: t - 1": Work(
        "A2", {"Adam.rule": RULE.format(HATS.replace("**t", "**(t - 1)"))}, 75, "self.t is 1 there, not 0"
    ),
    "A2: a renamed argument": Work(
        "A2",
        {},
        60,
        "Keep the arguments of the functions to write, and their names",
        {"optim/sgd.py": "SGD.rule = lambda self, g, p, lr, velocity=None: None"},
    ),
    "A2: lr is forgotten": Work("A2", {"Adam.rule": RULE.format(HATS.replace("-lr * ", "-"))}, 75, "multiplied by lr"),
    "A2: AdamW by the gradient": Work(
        "A2", {"AdamW.decayed": "return g + self.weight_decay * w"}, 90, "goes through m and v"
    ),
    "A2: AdamW without lr": Work(
        "A2", {"AdamW.decayed": "w *= 1 - self.weight_decay\nreturn g"}, 90, "not multiplied by lr"
    ),
    "A2: AdamW makes a new w": Work(
        "A2", {"AdamW.decayed": "w = w * (1 - lr * self.weight_decay)\nreturn g"}, 90, "a new array is lost"
    ),
    "A2: AdamW returns nothing": Work(
        "A2", {"AdamW.decayed": "w *= 1 - lr * self.weight_decay"}, 90, "expected an array"
    ),
    "A2: two slips in two functions": Work("A2", {"moments": MOMENTS.format("g"), "AdamW.decayed": "return g"}, 80),
    "A2: the same slip twice": Work("A2", {"SGD.rule": SGD.replace("-lr", "lr")}, 90, "climbs"),
    "A2: float64 on the way": Work("A2", {"Adam.rule": RULE.format(HATS.replace("m /", "m.astype('float64') /"))}, 100),
    "A2: an endless loop in Adam": Work("A2", {"Adam.rule": WAITS}, 60, "an infinite loop"),
    "A2: an endless loop at import": Work("A2", {}, 40, "an infinite loop", {"optim/adam.py": WAITS}),
    "A2: adam.py is missing": Work("A2", {}, 40, "not handed in", {"optim/adam.py": "-"}),
    "A2: adam.py is empty": Work("A2", {}, 60, "keep all names", {"optim/sgd.py": "="}),
    "A2: a name was changed": Work("A2", {}, 90, "no attribute 'moments'", {"optim/adam.py": "del moments"}),
    "A2: an exit at the end": Work("A2", {}, 60, "remove the exit", {"optim/sgd.py": "raise SystemExit"}),
    "A2: input() is left": Work("A2", {}, 60, "remove it", {"optim/sgd.py": "input()"}),
    "A2: breakpoint() is left": Work("A2", {}, 60, "remove it", {"optim/sgd.py": "breakpoint()"}),
    "A2: a test at the end fails": Work("A2", {}, 60, "AssertionError", {"optim/sgd.py": "assert SGD(lr=0.1).lr == 1"}),
    "A2: a test below __main__": Work(
        "A2", {}, 100, "", {"optim/sgd.py": "if __name__ == '__main__':\n    assert False"}
    ),
    "A2: plots on the side": Work(
        "A2", {}, 60, "NumPy and the hand-out", {"optim/sgd.py": "import matplotlib.pyplot as plt"}
    ),
    "A2: asks the network": Work(
        "A2",
        {},
        60,
        "use the network",
        {"optim/sgd.py": "import urllib.request\nurllib.request.urlopen('http://example.com')"},
    ),
    "A2: writes a file": Work("A2", {}, 60, "or open other files", {"optim/sgd.py": "open('log.txt', 'w')"}),
    "A1: the ratio of exponentials": Work(
        "A1", {"sigmoid": SIGMOID.format("e = np.exp(x.data)\ny = e / (1 + e)")}, 95, "does exp overflow"
    ),
    "A1: sigmoid by tanh": Work(
        "A1", {"sigmoid": SIGMOID.format("y = ((np.tanh(x.data / 2) + 1) / 2).astype(x.dtype)")}, 100
    ),
    "A1: sigmoid by where": Work(
        "A1",
        {"sigmoid": SIGMOID.format("e = np.exp(-abs(x.data))\ny = np.where(x.data >= 0, 1 / (1 + e), e / (1 + e))")},
        100,
    ),
    "A1: _spread is not written": Work(
        "A1", {"_spread": 'raise NotImplementedError("A1: _spread is yours to write")'}, 94, "not written yet"
    ),
    "A1: _log_softmax overflows": Work(
        "A1", {"_log_softmax": "return np.log(np.exp(x) / np.exp(x).sum(dims, keepdims=True))"}, 92, "overflow"
    ),
    "A1: no backward": Work(
        "A1", {"Tensor.backward": 'raise NotImplementedError("A1: Tensor.backward is yours to write")'}, 82
    ),
    "A1: _fit leaves float64": Work("A1", {"_fit": FIT}, 93, "expected dtype float32"),
    "A1: _fit in other words": Work("A1", {"_fit": FIT + ".astype(parent.dtype)"}, 100),
    "A1: leaves share a gradient": Work("A1", {"Tensor.backward": BACKWARD}, 95, "share one array as .grad"),
    "A1: backward in other words": Work(
        "A1", {"Tensor.backward": BACKWARD.replace("tensor.grad = g ", "tensor.grad = g.copy() ")}, 100
    ),
    "A3: gamma without its sign": Work("A3", {"Projection.add": ADD}, 80, "don't take abs"),
    "A1: a Tensor in a vjp": Work(
        "A1",
        {"log": "x = as_tensor(x)\nreturn record('log', np.log(x.data), (x, lambda g: g / x))"},
        97,
        "compute with x.data, the array in it",
    ),
    "A1: an array is returned": Work(
        "A1",
        {"relu": "return np.maximum(as_tensor(x).data, 0)"},
        96,
        "it returns a ndarray, not the Tensor that record() makes",
    ),
    "A1: sigmoid of other operations, whose exp overflows": Work(
        "A1", {"sigmoid": "return div(1, add(1, exp(mul(-1, x))))"}, 95, "does exp overflow"
    ),
    "A4: stride=None is 1 in the mean": Work(
        "A4", {"avg_pool2d": BY_1 + AVG.format("n", "windows.mean((4, 5))")}, 94, "means the window's size, not 1"
    ),
    "A4: stride=None is 1 in both": Work(
        "A4",
        {"avg_pool2d": BY_1 + AVG.format("n", "windows.mean((4, 5))"), "max_pool2d": BY_1 + MAX},
        90,
        "Right apart from this, for which you lost marks above: stride=None",
    ),
    "A4: a sum for a mean": Work("A4", {"avg_pool2d": AVG.format("1", "windows.sum((4, 5))")}, 94, "divide by kh * kw"),
    "A4: the gradient is not shared": Work(
        "A4", {"avg_pool2d": AVG.format("1", "windows.mean((4, 5), dtype=x.dtype)")}, 93, "divide by kh * kw"
    ),
    "A4: _windows copies": Work(
        "A4",
        {"_windows": COPIES},
        90,
        "a view takes no memory",
    ),
    "A3: (1 - mu) is forgotten": Work(
        "A3",
        {"Hybrid._rate_after": RATE},
        85,
        "(1 - mu) Lambda",
    ),
    "A3: it is early by the number of gammas": Work(
        "A3", {"Projected.distance": DISTANCE.format(early="len(progress.gammas) < 2 * self.window")}, 100
    ),
    "A3: one step too early": Work(
        "A3", {"Projected.distance": DISTANCE.format(early="progress.step < self.window")}, 90, "too early"
    ),
    "A5: accuracy in train mode": Work(
        "A5",
        {"accuracy": "return float((model(Tensor(split[0])).numpy().argmax(1) == split[1]).mean())"},
        90,
        "model.eval()",
    ),
    "A4: by einsum": Work("A4", {"conv2d": CONV.format("[None, :, None, None]")}, 100),
    "A4: b along the width": Work("A4", {"conv2d": CONV.format("")}, 65, "filters are along axis 1"),
    "A5: in other words": Work("A5", {"train_once": TRAINS, "tune": CHOOSES.format(how="np.mean", better=">")}, 100),
    "A5: an optimizer for each epoch": Work(
        "A5",
        {"train_once": TRAINS.replace(MADE, "").replace("    order", f"    {MADE}    order")},
        90,
        "20 optimizers were made in 20 epochs",
    ),
    "A5: the data is shuffled itself": Work(
        "A5",
        {"train_once": TRAINS.replace("(len(x))\n", f"(len(x))\n    {SHUFFLES}\n", 1)},
        85,
        "data was changed",
    ),
    "A5: the orders before the weights": Work(
        "A5",
        {"train_once": TRAINS.replace("model = ", "rng.random()\nmodel = ")},
        85,
        "draws first the model's weights",
    ),
    "A5: the luckiest seed": Work("A5", {"tune": CHOOSES.format(how="max", better=">")}, 85, "the mean over the seeds"),
    "A5: of equals the last": Work(
        "A5", {"tune": CHOOSES.format(how="np.mean", better=">=")}, 85, "take the first rate"
    ),
    "A5: s / n": Work(
        "A5",
        {"mean_and_interval": INTERVAL.replace("values)) /", "values, ddof=1)) /").replace("n**0.5", "n")},
        90,
        "not with n",
    ),
    "A5: accuracy is NumPy's float": Work(
        "A5",
        {
            "accuracy": "model.eval()\nwith no_grad():\n    y = model(Tensor(split[0])).data\n"
            "return np.mean(y.argmax(1) == split[1])"
        },
        100,
    ),
    "A5: judged with the seeds of the tuning": Work(
        "A5", {"compare": RESULTS.format("tune_seeds", "data.test")}, 90, "train once with each of `seeds`"
    ),
    "A5: judged on the validation data": Work(
        "A5", {"compare": RESULTS.format("seeds", "data.val")}, 90, "data.test was not used"
    ),
    "A5: tuples": Work("A5", {"compare": COMPARES}, 90, "returns a Result"),
    "A5: n below": Work(
        "A5",
        {"mean_and_interval": INTERVAL},
        90,
        "divides by n - 1",
    ),
    "A5: tuned on the test data": Work(
        "A5",
        {"tune": TUNE},
        85,
        "choose by data.val",
    ),
}
WORKS |= {name: Work(*more) for name, more in MORE.items()}


def files_of(work: Work) -> dict[str, str]:
    files = with_bodies(work.assignment, work.bodies)
    if any("np." in body for body in work.bodies.values()):
        files = {
            path: text.replace("\nfrom typing", "\nimport numpy as np\nfrom typing", 1) for path, text in files.items()
        }
    for path, code in work.files.items():
        if code == "-":
            del files[path]
        else:
            files[path] = "" if code == "=" else f"{files[path]}\n{code}\n"
    return files


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    def one(work: Work) -> Report:
        return grade(load(work.assignment), submission(files_of(work)))

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(WORKS, pool.map(one, WORKS.values()), strict=True))


@pytest.mark.parametrize("name", WORKS)
def test_the_mark_is_a_fair_teachers(name, reports):
    work, report = WORKS[name], reports[name]
    feedback = "\n".join(f"{mark.score} {mark.item.name}: {mark.feedback}" for mark in report.marks)
    assert report.score == work.mark, feedback
    assert work.said in feedback
    assert "minidl-grade-" not in feedback  # where the files lay for us tells the student nothing
