"""The mistakes that students make: each loses the marks of the items that it spoils and no others, and is named."""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.submissions import submission, with_bodies
from tutorials.assignments.assignment import load
from tutorials.assignments.marking import Report, grade

if sys.platform != "linux":
    pytest.skip("only Linux can hold a program in", allow_module_level=True)


class Mistake(NamedTuple):
    assignment: str
    bodies: dict[str, str]
    lost: set[str]  # names of the items that get nothing, or how they begin
    said: str  # in the feedback of one of them


ADAM = """
    b1, b2 = self.betas
    moments(g, p, m, v, b1, b2)
    t = self.t
    p[...] = -lr * {step}
"""
ADAM_ITEMS = {"Adam: the first step", "Adam: twenty steps"}  # a slip in the rule is paid for where it shows first
RIGHT_STEP = "(m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + self.eps)"
MOMENTUM = """
    if v is None:
        p[...] = -lr * g
        return
    {v}
    p[...] = -lr * {step}
"""
REVERSED = """
    pending = {self: np.ones_like(self.data) if gradient is None else gradient}
    todo = [self]
    while todo:
        tensor = todo.pop(%s)
        g = pending.pop(tensor)
        if tensor.node is None:
            tensor._accumulate(g)
            continue
        for parent, vjp in _edges(tensor.node):
            pending[parent] = pending.get(parent, 0) + _fit(vjp(g), parent, tensor.node.name)
            if not any(parent is each for each in todo):
                todo.append(parent)
        if not retain_graph:
            tensor.node.edges = None
"""
RECURSIVE = """
    order, seen = [], set()
    def visit(tensor):
        if tensor not in seen:
            seen.add(tensor)
            if tensor.node is not None:
                for parent, _ in _edges(tensor.node):
                    visit(parent)
            order.append(tensor)
    visit(root)
    return order
"""
SHARING = """
    order = _topological_order(self)
    pending = {self: np.ones_like(self.data) if gradient is None else gradient}
    while order:
        tensor = order.pop()
        g = pending.pop(tensor)
        if tensor.node is None:
            tensor._accumulate(g)
            continue
        for parent, vjp in _edges(tensor.node):
            part = _fit(vjp(g), parent, tensor.node.name)
            if parent in pending:
                pending[parent] += part
            else:
                pending[parent] = part
        if not retain_graph:
            tensor.node.edges = None
"""
CONV = """
    x, w, b = as_tensor(x), as_tensor(weight), bias
    kernel, stride, padding = (w.shape[2], w.shape[3]), _pair(stride), _pair(padding)
    xp = xp_of(x.data)
    windows = _windows(_pad(x.data, padding), kernel, stride)
    y = xp.tensordot(windows, {w}, axes=((1, 4, 5), (1, 2, 3)))
    def vjp_x(g):
        per_window = xp.tensordot(g, {w_back}, axes=(1, 0))
        return _unpad(_scatter(per_window.transpose(0, 3, 1, 2, 4, 5), x, stride, padding), padding)
    edges = [(x, vjp_x), (w, lambda g: xp.tensordot(g, windows, axes=((0, 2, 3), (0, 2, 3))))]
    if b is not None:
        b = as_tensor(b)
        y += b.data
        edges.append((b, lambda g: g.{to_b}))
    return record("conv2d", y.transpose(0, 3, 1, 2), *edges)
"""
TRAIN = """
    {rng}
    model = make_model(rng)
    model.train()
    optimizer = make_optimizer(model.parameters(), rate)
    x, labels = data.train
    for _ in range(epochs):
        order = {order}
        for start in range(0, {stop}, batch_size):
            batch = order[start : start + batch_size]
            loss = ops.cross_entropy(model(Tensor(x[batch])), labels[batch])
            {zero}
            loss.backward()
            optimizer.step()
    return model
"""
TRAIN_RIGHT = {
    "rng": "rng = np.random.default_rng(seed)", "order": "rng.permutation(len(x))", "stop": "len(x)",
    "zero": "optimizer.zero_grad()",
}  # fmt: skip

MISTAKES = {
    # ---- A1 ----
    "mul swaps the gradients": Mistake("A1", {"mul": """
        a, b = operands("mul", a, b)
        return record("mul", a.data * b.data, (a, lambda g: g * a.data), (b, lambda g: g * b.data))
    """}, {"mul"}, "g times the other input"),
    "div has the wrong sign": Mistake("A1", {"div": """
        a, b = operands("div", a, b)
        y = a.data / b.data
        return record("div", y, (a, lambda g: g / b.data), (b, lambda g: g * y / b.data))
    """}, {"div"}, "The sign"),
    "relu passes the gradient at 0": Mistake("A1", {"relu": """
        x = as_tensor(x)
        return record("relu", np.maximum(x.data, 0), (x, lambda g: g * (x.data >= 0)))
    """}, {"relu"}, "x > 0, not x >= 0"),
    "relu in place": Mistake("A1", {"relu": """
        x = as_tensor(x)
        np.maximum(x.data, 0, out=x.data)
        return record("relu", x.data, (x, lambda g: g * (x.data > 0)))
    """}, {"relu"}, "changes its input"),
    "sigmoid overflows": Mistake("A1", {"sigmoid": """
        x = as_tensor(x)
        y = np.exp(x.data) / (1 + np.exp(x.data))
        return record("sigmoid", y, (x, lambda g: g * y * (1 - y)))
    """}, {"sigmoid"}, "does exp overflow"),
    "sigmoid in float64": Mistake("A1", {"sigmoid": """
        x = as_tensor(x)
        y = 1 / (1 + np.exp(-np.clip(x.data, -80, 80).astype(np.float64)))
        return record("sigmoid", y, (x, lambda g: g * y * (1 - y)))
    """}, {"sigmoid"}, "expected dtype float32"),
    "sum forgets keepdim": Mistake("A1", {"sum": """
        x = as_tensor(x)
        dims = axes("sum", dim, x.ndim)
        return record("sum", x.data.sum(dims), (x, _spread(x, dims)))
    """}, {"sum"}, "keepdim"),
    "mean does not divide": Mistake("A1", {"mean": """
        x = as_tensor(x)
        dims = axes("mean", dim, x.ndim)
        return record("mean", x.data.mean(dims, keepdims=keepdim), (x, _spread(x, dims)))
    """}, {"mean"}, "forget to divide"),
    "max pays every tie in full": Mistake("A1", {"max": """
        x = as_tensor(x)
        dims = axes("max", dim, x.ndim)
        y = x.data.max(dims, keepdims=True)
        spread = _spread(x, dims)
        return record("max", y if keepdim else y.squeeze(dims), (x, lambda g: spread(g) * (x.data == y)))
    """}, {"max"}, "share the gradient evenly"),
    "getitem counts a repeated index once": Mistake("A1", {"getitem": """
        x = as_tensor(x)
        def vjp(g):
            dx = np.zeros_like(x.data)
            dx[index] += g
            return dx
        return record("getitem", x.data[index], (x, vjp))
    """}, {"getitem"}, "np.add.at"),
    "matmul forgets to transpose": Mistake("A1", {"matmul": """
        a, b = as_tensor(a), as_tensor(b)
        return record("matmul", a.data @ b.data, (a, lambda g: g @ b.data), (b, lambda g: a.data @ g))
    """}, {"matmul"}, ""),
    "log_softmax overflows": Mistake("A1", {
        "_log_softmax": "return np.log(np.exp(x) / np.exp(x).sum(dims, keepdims=True))"},
        {"softmax"}, "does exp overflow"),
    "log_softmax mixes nothing": Mistake("A1", {"log_softmax": """
        x = as_tensor(x)
        y = _log_softmax(x.data, dim)
        return record("log_softmax", y, (x, lambda g: g - np.exp(y) * g))
    """}, {"softmax"}, "affects all outputs"),
    "cross_entropy is a sum": Mistake("A1", {"cross_entropy": """
        logits = as_tensor(logits)
        rows, log_p = np.arange(len(labels)), _log_softmax(logits.data, -1)
        def vjp(g):
            d = np.exp(log_p)
            d[rows, labels] -= 1
            return d * g
        return record("cross_entropy", -log_p[rows, labels].sum(), (logits, vjp))
    """}, {"cross_entropy"}, "not the sum"),
    "backward hands on too early": Mistake("A1", {"Tensor.backward": REVERSED % ""}, {"backward: every"}, ""),
    "backward breadth first": Mistake("A1", {"Tensor.backward": REVERSED % "0"}, {"backward: every"}, ""),
    "the walk is recursive": Mistake("A1", {"_topological_order": RECURSIVE}, {"backward: a chain"}, "RecursionError"),
    "backward adds in place": Mistake("A1", {"Tensor.backward": SHARING}, {"backward: gradients add up"},
        "into it changes both"),
    "_fit takes a mean": Mistake("A1", {"_fit": """
        while g.ndim > parent.ndim:
            g = g.mean(0)
        for i, n in enumerate(parent.shape):
            if n == 1 and g.shape[i] != 1:
                g = g.mean(i, keepdims=True)
        return np.asarray(g)
    """}, {"_fit"}, "don't average"),
    # ---- A2 ----
    "no bias correction": Mistake("A2", {"Adam.rule": ADAM.format(step="m / (v**0.5 + self.eps)")}, ADAM_ITEMS,
        "did you forget the bias correction"),
    "bias correction one step late": Mistake("A2", {
        "Adam.rule": ADAM.format(step=RIGHT_STEP.replace("**t", "**max(t - 1, 1)"))},
        ADAM_ITEMS - {"Adam: the first step"}, "one step late"),
    "eps inside the root": Mistake("A2", {"Adam.rule": ADAM.format(
        step="(m / (1 - b1**t)) / (v / (1 - b2**t) + self.eps) ** 0.5")}, ADAM_ITEMS, "eps is inside the square root"),
    "eps before the correction": Mistake("A2", {"Adam.rule": ADAM.format(
        step="(m / (1 - b1**t)) / ((v**0.5 + self.eps) / (1 - b2**t) ** 0.5)")}, ADAM_ITEMS, "eps is added before"),
    "no square root": Mistake("A2", {"Adam.rule": ADAM.format(step="(m / (1 - b1**t)) / (v / (1 - b2**t) + self.eps)")},
        ADAM_ITEMS, "forget the square root"),
    "moments into new arrays": Mistake("A2", {"moments": "m = b1 * m + (1 - b1) * g\nv = b2 * v + (1 - b2) * g**2"},
        {"moments"}, "a new array is lost"),
    "moments unweighted": Mistake("A2", {"moments": "m *= b1\nm += g\nv *= b2\nv += g * g"}, {"moments"},
        "Add (1 - b1) g to m"),
    "SGD climbs": Mistake("A2", {"SGD.rule": "p[...] = lr * g if v is None else 0"},
        {"SGD: w", "SGD with", "SGD: the rate", "Nesterov"}, "This climbs"),
    "SGD climbs everywhere": Mistake("A2", {"SGD.rule": MOMENTUM.format(v="v *= self.momentum\n    v += g",
        step="(g + self.momentum * v if self.nesterov else v)").replace("-lr", "lr")}, {"SGD: w"}, "This climbs"),
    "momentum averages": Mistake("A2", {"SGD.rule": MOMENTUM.format(
        v="v *= self.momentum\n    v += (1 - self.momentum) * g", step="v")},
        {"SGD with", "Nesterov"}, "multiplied by 1 - mu"),
    "momentum forgets": Mistake("A2", {"SGD.rule": MOMENTUM.format(v="v = self.momentum * v + g",
        step="(g + self.momentum * v if self.nesterov else v)")}, {"SGD with"}, "a new array is lost"),
    "the rate is inside v": Mistake("A2", {"SGD.rule": """
        if v is None:
            p[...] = -lr * g
            return
        v *= self.momentum
        v += lr * g
        p[...] = -(lr * g + self.momentum * v if self.nesterov else v)
    """}, {"SGD: the rate"}, "v contains the learning rate"),
    "no Nesterov": Mistake("A2", {"SGD.rule": MOMENTUM.format(v="v *= self.momentum\n    v += g", step="v")},
        {"Nesterov"}, "without Nesterov's lookahead"),
    "the gradient is used up": Mistake("A2", {"SGD.rule": """
        if v is not None:
            v *= self.momentum
            v += g
            if self.nesterov:
                p[...] = -lr * (g + self.momentum * v)
            else:
                p[...] = -lr * v
        else:
            g *= -lr
            p[...] = g
    """}, {"SGD: nothing else"}, "g was changed"),
    "AdamW decays through the gradient": Mistake("A2", {"AdamW.decayed": "return g + self.weight_decay * w"}, {"AdamW"},
        "goes through m and v"),
    # ---- A3 ----
    "Lambda without correction": Mistake("A3", {"Projection.add": """
        pp, pg = to_numpy(self.measured).tolist()
        gamma = pp / -pg if pg != 0 else math.nan
        gamma = gamma if math.isfinite(gamma) else math.nan
        if gamma == gamma:
            self.lam = self.beta2 * self.lam + (1 - self.beta2) * gamma
        self.gammas.append(gamma)
        self.lambdas.append(self.lam)
    """}, {"Projection"}, "forget the bias correction"),
    "an infinite gamma poisons lam": Mistake("A3", {"Projection.add": """
        pp, pg = to_numpy(self.measured).tolist()
        gamma = pp / -pg if pg != 0 else math.nan
        self.lam = self.beta2 * self.lam + (1 - self.beta2) * gamma
        self.gammas.append(gamma)
        self.lambdas.append(self.lam / (1 - self.beta2 ** len(self.gammas)))
    """}, {"Projection"}, "lam is unchanged"),
    "the projection in float32": Mistake("A3", {
        "Projection.measure": "self.measured = np.array([float(p @ p), float(p @ g)])"
    }, {"Projection"}, "use dots64"),
    "the rate without 1 - mu": Mistake("A3", {"Hybrid._rate_after": """
        if self.lr_after is None or isinstance(self.lr_after, (int, float)):
            return self.lr_after
        if callable(self.lr_after):
            return self.lr_after(self.progress)
        return self.progress.lam if self.lr_after == "projected" else self._length_ratio
    """}, {"Hybrid._rate_after"}, "(1 - mu) Lambda"),
    "an equal value counts as better": Mistake("A3", {"Plateau.standing": """
        sign = 1 if _higher_is_better(self.metric) else -1
        best, waited = -math.inf, 0
        for value in progress.history(self.metric):
            if sign * value >= best + self.min_delta:
                best, waited = sign * value, 0
            else:
                waited += 1
        return sign * best, waited
    """}, {"Plateau"}, "equal value is not an improvement"),
    "SWATS scales v itself": Mistake("A3", {
        "SWATS._sgd": "v *= self.betas[0]\nv += g\nv *= 1\np[...] = -lr * v\nv *= 1 - self.betas[0]"},
        {"SWATS: the switch"}, "so v shrinks with every step"),
    "Hybrid takes a negative rate": Mistake("A3", {"Hybrid._decide": """
        if not self.switch(self.progress):
            return
        rate = self._rate_after()
        reason = self.switch.reason(self.progress)
        self.switch_step = self.progress.step
        self._start_then()
        if rate is not None:
            self.then.set_peak(abs(rate))
        self.switch_event = SwitchEvent(self.switch_step, self.progress.epoch, self.then.lr, reason)
    """}, {"Hybrid: the switch"}, "expected the switch after step 5, but it came after step 2"),
    # ---- A4 ----
    "the filter is turned round": Mistake("A4", {"conv2d": CONV.format(w="w.data[:, :, ::-1, ::-1]",
        w_back="w.data[:, :, ::-1, ::-1]", to_b="sum((0, 2, 3))")},
        {"conv2d: the value"}, "You flipped the filter"),
    "b's gradient is a mean": Mistake("A4", {
        "conv2d": CONV.format(w="w.data", w_back="w.data", to_b="mean((0, 2, 3))")},
        {"conv2d: the gradient of the filters"}, ""),
    "overlapping windows overwrite": Mistake("A4", {"_scatter": """
        import numpy as np
        n, c, oh, ow, kh, kw = per_window.shape
        (sh, sw), (ph, pw) = stride, padding
        image = np.zeros((n, c, x.shape[2] + 2 * ph, x.shape[3] + 2 * pw), per_window.dtype)
        for i in range(oh):
            for j in range(ow):
                image[:, :, i * sh : i * sh + kh, j * sw : j * sw + kw] = per_window[:, :, i, j]
        return image
    """}, {"conv2d: the gradient of the images"}, "Add, don't assign"),
    "max_pool2d pads with 0": Mistake("A4", {"_pad": """
        import numpy as np
        (ph, pw) = padding
        return np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    """}, {"max_pool2d: the value"}, "must never win"),
    "_windows is off by one": Mistake("A4", {"_windows": """
        import numpy as np
        n, c, h, w = x.shape
        (kh, kw), (sh, sw) = kernel, stride
        shape = (n, c, (h - kh) // sh, (w - kw) // sw, kh, kw)
        s = x.strides
        return np.lib.stride_tricks.as_strided(x, shape, (s[0], s[1], s[2] * sh, s[3] * sw, s[2], s[3]))
    """}, {"_windows"},
        "expected shape"),
    # ---- A5 ----
    "tuned on the test data": Mistake("A5", {"tune": """
        scores = []
        for rate in rates:
            models = [train_once(make_model, make_optimizer, rate, data, seed, epochs) for seed in seeds]
            scores.append(np.mean([accuracy(model, data.test) for model in models]))
        return rates[int(np.argmax(scores))]
    """}, {"tune"}, "choose by data.val"),
    "the global generator": Mistake("A5", {
        "train_once": TRAIN.format(**TRAIN_RIGHT | {"order": "np.random.permutation(len(x))"})},
        {"train_once: the seed"}, "not from np.random"),
    "the last batch is dropped": Mistake("A5", {
        "train_once": TRAIN.format(**TRAIN_RIGHT | {"stop": "len(x) - batch_size + 1"})},
        {"train_once: every"}, "include the last, smaller batch"),
    "never shuffled": Mistake("A5", {"train_once": TRAIN.format(**TRAIN_RIGHT | {"order": "np.arange(len(x))"})},
        {"train_once: every", "train_once: the seed"}, "shuffle"),
    "the interval has n below": Mistake("A5", {"mean_and_interval": """
        n, mean = len(values), float(np.mean(values))
        if n < 2:
            raise ValueError("too few")
        half = T95[n] * float(np.std(values)) / n**0.5
        return mean, mean - half, mean + half
    """}, {"mean_and_interval"}, "divides by n - 1"),
    "accuracy in train mode": Mistake("A5", {"accuracy": """
        return float((model(Tensor(split[0])).numpy().argmax(1) == split[1]).mean())
    """}, {"accuracy"}, "model.eval()"),
}  # fmt: skip


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    """All of them graded, two at a time."""

    def one(mistake: Mistake) -> Report:
        return grade(load(mistake.assignment), submission(with_bodies(mistake.assignment, mistake.bodies)))

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(MISTAKES, pool.map(one, MISTAKES.values()), strict=True))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_costs_its_items_and_is_named(reports, name):
    mistake, report = MISTAKES[name], reports[name]
    lost = {mark.item.name for mark in report.marks if mark.score == 0}
    expected = {m.item.name for m in report.marks if m.item.name.startswith(tuple(mistake.lost))}
    feedback = "\n".join(f"{mark.item.name}: {mark.feedback}" for mark in report.marks if mark.feedback)
    assert lost == expected, feedback
    assert mistake.said.lower() in feedback.lower(), feedback
    assert report.score == report.most - sum(m.item.marks for m in report.marks if m.item.name in expected)
