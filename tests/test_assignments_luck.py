"""Answers that are right by luck: for the example's shapes, for one call, in float32, for one way to lie in memory.

Each loses the marks of its items, and the feedback says why. The right ones at the end do the same in unusual ways.
"""

import sys
from typing import NamedTuple

import numpy as np
import pytest

from tests.submissions import submission, with_bodies
from tutorials.assignments.assignment import load
from tutorials.assignments.check import Wrong, exact, expect
from tutorials.assignments.marking import grade


class Luck(NamedTuple):
    assignment: str
    bodies: dict[str, str]
    mark: int
    said: str = ""


LOSSES = """
logits, labels = as_tensor(logits), np.asarray(labels)
rows = np.arange(len(labels))
log_p = logits.data - logits.data.max(1, keepdims=True)
log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
p = np.exp(log_p)
"""
TRAINS = """
rng = np.random.default_rng(seed)
model = make_model(rng)
optimizer = make_optimizer(model.parameters(), rate)
x, labels = data.train
for _ in range(epochs):
    order = rng.permutation(len(x))
    {once}
    for start in range(0, len(x), batch_size):
        batch = order[start : start + batch_size]
        loss = ops.cross_entropy(model(Tensor(x[batch])), labels[batch]){loss}
        {each}
        loss.backward()
        optimizer.step(){then}
return model
"""
RIGHT = {"once": "pass", "loss": "", "each": "optimizer.zero_grad()", "then": ""}
STANDING = """
up = _higher_is_better(self.metric)
best, waited = {first}, 0
best = (-math.inf if up else math.inf) if best is None else best
for value in progress.history(self.metric){rest}:
    if value > best + {up} if up else value < best - self.min_delta:
        best, waited = value, 0
    else:
        waited += 1
return best, waited
"""
POOL = """
x, kernel, stride, padding = _pool_arguments("max_pool2d", x, kernel_size, stride, padding)
windows = _windows(_pad(x.data, padding, {border}), kernel, stride)
flat = windows.reshape(*windows.shape[:4], -1)
kept = np.zeros(flat.shape, x.dtype)
def vjp(g):
    each = {each}
    first = flat.argmax(-1)[..., None]
    np.put_along_axis(each, first, np.take_along_axis(each, first, -1) + g[..., None], -1)
    return _unpad(_scatter(each.reshape(windows.shape), x, stride, padding), padding)
return record("max_pool2d", flat.max(-1), (x, vjp))
"""
CASES = {
    "linear of rows only": Luck("A1", {"linear": """
x, w = as_tensor(x), as_tensor(weight)
b = as_tensor(np.zeros(len(w.data), x.dtype) if bias is None else bias)
return record("linear", x.data @ w.data.T + b.data,
              (x, lambda g: g @ w.data), (w, lambda g: g.T @ x.data), (b, lambda g: g.sum(0)))
"""}, 95, "ValueError"),
    "softmax of two axes": Luck("A1", {"softmax": """
x, axis = as_tensor(x), 0 if dim == 0 else 1
p = np.exp(x.data - x.data.max(axis, keepdims=True))
p /= p.sum(axis, keepdims=True)
return record("softmax", p, (x, lambda g: p * (g - (g * p).sum(axis, keepdims=True))))
"""}, 92, "softmax((2, 3, 4), dim=-1)"),
    "p is changed by the vjp": Luck("A1", {"cross_entropy": LOSSES + """
truth = (1 - label_smoothing) * np.eye(p.shape[1])[labels] + label_smoothing / p.shape[1]
y, share = _reduced("cross_entropy", -(truth * log_p).sum(1), reduction)
def vjp(g):
    nonlocal p
    p -= truth.astype(p.dtype)
    return p * np.reshape(g * share, (-1, 1))
return record("cross_entropy", np.asarray(y, p.dtype), (logits, vjp))
"""}, 93, "called a second time"),
    "reduction and label_smoothing are ignored": Luck("A1", {"cross_entropy": LOSSES + """
p[rows, labels] -= 1
return record("cross_entropy", -log_p[rows, labels].mean(), (logits, lambda g: g * p / len(p)))
"""}, 93, "reduction is ignored"),
    "a logarithm of the softmax plus 1e-12": Luck("A1", {"cross_entropy": LOSSES + """
loss = -np.log(p[rows, labels] + p.dtype.type(1e-12)).mean()
p[rows, labels] -= 1
return record("cross_entropy", loss, (logits, lambda g: g * p / len(p)))
"""}, 93, "Don't take the logarithm of a softmax"),
    "getitem of rows only": Luck("A1", {"getitem": """
x = as_tensor(x)
def vjp(g):
    d = np.zeros(x.shape, x.dtype)
    if isinstance(index, slice):
        d[index] = g
    else:
        for each, i in zip(g, index):
            d[i] += each
    return d
return record("getitem", x.data[index], (x, vjp))
"""}, 95),
    "backward begins with ones": Luck("A1", {"Tensor.backward": """
pending = {self: np.ones_like(self.data)}
for tensor in reversed(_topological_order(self)):
    g = pending.pop(tensor)
    if tensor.node is None:
        tensor._accumulate(g)
        continue
    for parent, vjp in _edges(tensor.node):
        part = _fit(vjp(g), parent, tensor.node.name)
        pending[parent] = pending[parent] + part if parent in pending else part
    if not retain_graph:
        tensor.node.edges = None
"""}, 92, "If `gradient` is given, start from it"),
    "Adam with averages in self": Luck("A2", {"Adam.rule": """
b1, b2 = self.betas
old_m, old_v = getattr(self, "own", (0, 0))
self.own = (b1 * old_m + (1 - b1) * g, b2 * old_v + (1 - b2) * g**2)
own_m, own_v = self.own
p[...] = -lr * (own_m / (1 - b1**self.t)) / ((own_v / (1 - b2**self.t)) ** 0.5 + self.eps)
"""}, 85, "Use the arguments m and v"),
    "Adam with self.lr": Luck("A2", {"Adam.rule": """
b1, b2 = self.betas
moments(g, p, m, v, b1, b2)
p[...] = -self.lr * (m / (1 - b1**self.t)) / ((v / (1 - b2**self.t)) ** 0.5 + self.eps)
"""}, 85, "Use the argument lr"),
    "Adam with a count of its own": Luck("A2", {"Adam.rule": """
b1, b2 = self.betas
moments(g, p, m, v, b1, b2)
self.count = getattr(self, "count", 0) + 1
p[...] = -lr * (m / (1 - b1**self.count)) / ((v / (1 - b2**self.count)) ** 0.5 + self.eps)
"""}, 85, "Use self.t: your own counter"),
    "NaN at first": Luck("A3", {"Plateau.standing": STANDING.format(
        first="next(iter(progress.history(self.metric)), None)", up="self.min_delta", rest="[1:]")},
        90, "NaN is not an improvement"),
    "min_delta for losses only": Luck("A3", {"Plateau.standing": STANDING.format(first="None", up="0", rest="")},
        90, "expected the best 0.5, got 0.58"),
    "an accuracy of 0 before the first": Luck("A3", {"Plateau.standing": STANDING.format(
        first="0.0 if up else None", up="self.min_delta", rest="")}, 90, "expected the best -inf"),
    "any of the first two": Luck("A3", {"AnyOf.__call__": """
return self.conditions[0](progress) or self.conditions[1](progress)
"""}, 90, "AnyOf of [False, False, True]"),
    "strides from the shape": Luck("A4", {"_windows": """
import numpy as np
(n, c, h, w), (kh, kw), (sh, sw), size = x.shape, kernel, stride, x.itemsize
return np.lib.stride_tricks.as_strided(x, (n, c, (h - kh) // sh + 1, (w - kw) // sw + 1, kh, kw), tuple(
    size * n for n in (c * h * w, h * w, sh * w, sw, w, 1)))
"""}, 90, "not C-contiguous: use x.strides"),
    "a border of -1000": Luck("A4", {"max_pool2d": POOL.format(border="-1000", each="np.zeros_like(kept)")},
        90, "The border must never win"),
    "gradients are added to a kept array": Luck("A4", {"max_pool2d": POOL.format(border="-np.inf", each="kept")},
        88, "called a second time"),
    "the border does not count": Luck("A4", {"avg_pool2d": """
x, kernel, stride, padding = _pool_arguments("avg_pool2d", x, kernel_size, stride, padding)
windows = _windows(_pad(x.data, padding), kernel, stride)
n = _windows(_pad(np.ones_like(x.data), padding), kernel, stride).sum((4, 5))
def vjp(g):
    return _unpad(_scatter(np.broadcast_to((g / n)[..., None, None], windows.shape), x, stride, padding), padding)
return record("avg_pool2d", windows.sum((4, 5)) / n, (x, vjp))
"""}, 94, "zeros of the padding count"),
    "a mean of the batches' accuracies": Luck("A5", {"accuracy": """
model.eval()
parts = range(0, len(split[1]), 10)
with no_grad():
    outs = [model(Tensor(split[0][i : i + 10])).numpy().argmax(1) for i in parts]
return float(np.mean([(out == split[1][i : i + 10]).mean() for i, out in zip(parts, outs)]))
"""}, 90, "43 examples"),
    "gradients cleared once an epoch": Luck("A5", {"train_once": TRAINS.format(
        **RIGHT | {"once": "optimizer.zero_grad()", "each": "pass"})}, 90, "accumulate during an epoch"),
    "two steps for a batch": Luck("A5", {"train_once": TRAINS.format(**RIGHT | {"then": "\n        optimizer.step()"})},
        90, "make two steps"),
    "the sum of the losses": Luck("A5", {"train_once": TRAINS.format(**RIGHT | {"loss": " * len(batch)"})},
        90, "not the sum"),
    "tuned for one epoch": Luck("A5", {"compare": """
found = {}
for name, make in optimizers.items():
    rate = tune(make_model, make, rates, data, tune_seeds, 1)
    judged = [accuracy(train_once(make_model, make, rate, data, seed, epochs), data.test) for seed in seeds]
    found[name] = Result(rate, judged, *mean_and_interval(judged))
return found
"""}, 90, "expected epochs=8 in each run"),
    # ---- right ----
    "accuracy in batches": Luck("A5", {"accuracy": """
model.eval()
right = 0
with no_grad():
    for i in range(0, len(split[1]), 7):
        right += int((model(Tensor(split[0][i : i + 7])).numpy().argmax(1) == split[1][i : i + 7]).sum())
return right / len(split[1])
"""}, 100),
    "train_once": Luck("A5", {"train_once": TRAINS.format(**RIGHT)}, 100),
    "getitem by counting": Luck("A1", {"getitem": """
x = as_tensor(x)
places = np.arange(x.size).reshape(x.shape)[index]
return record("getitem", x.data[index], (x, lambda g: np.bincount(
    places.ravel(), weights=g.ravel(), minlength=x.size).reshape(x.shape)))
"""}, 100),
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can hold a program in")
@pytest.mark.parametrize("name", CASES)
def test_luck_is_no_answer(name):
    luck = CASES[name]
    files = with_bodies(luck.assignment, luck.bodies)
    if luck.assignment == "A4":
        files = {
            path: text.replace("\nfrom typing", "\nimport numpy as np\nfrom typing", 1) for path, text in files.items()
        }
    report = grade(load(luck.assignment), submission(files))
    feedback = "\n".join(f"{mark.score} {mark.item.name}: {mark.feedback}" for mark in report.marks)
    assert report.score == luck.mark, feedback
    assert luck.said in feedback


def test_numbers_that_differ_late_are_shown_to_differ():
    right = exact(np.array([0.1112104610, 2.0]), 4)
    with pytest.raises(
        Wrong, match=r"expected 0\.111210461 at index \(0,\), got 0\.1112104644\n  Right to about seven"
    ):
        expect(np.array([0.1112104644, 2.0]), right, np.float64, "mean")
    with pytest.raises(Wrong, match=r"expected 2 at index \(1,\), got 3$"):
        expect(np.array([0.1112104610, 3.0]), right, np.float64, "mean")


def test_a_mistake_that_gives_the_right_answer_here_is_not_named():
    """At Adam's first step a bias correction that is late gives the right numbers: a rounding too much is not that."""
    right, rounded = exact(np.array([0.25, 3.0]), 2), np.array([0.25, 3.0 + 1e-5], np.float32)
    with pytest.raises(Wrong) as caught:
        expect(rounded, right, np.float32, "one step", {"It is late.": lambda: right.value})
    assert "late" not in str(caught.value)
    assert caught.value.slip == ""
