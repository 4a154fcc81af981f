"""More submissions as students hand them in: what spoils one item costs that one, and what is right costs nothing.

Each is (assignment, the bodies of functions, the mark that a fair teacher gives, what the feedback says). They are what
was learned from a hundred, 20 for each assignment, whose marks were written down before they were graded.
"""

MORE: dict[str, tuple[str, dict[str, str], int, str]] = {
    "A2: v counts the other way round inside": (
        "A2",
        {
            "SGD.rule": """
if v is None:
    p[...] = -lr * g
    return
v *= self.momentum
v -= g
p[...] = lr * v if not self.nesterov else lr * (self.momentum * v - g)
"""
        },
        95,
        "",
    ),
    "A2: p = for p[...] =": (
        "A2",
        {
            "SGD.rule": """
if v is None:
    p = -lr * g
    return
v *= self.momentum
v += g
p = -lr * (g + self.momentum * v) if self.nesterov else -lr * v
"""
        },
        90,
        "makes a new array, which is lost",
    ),
    "A2: only m is corrected": (
        "A2",
        {
            "Adam.rule": """
b1, b2 = self.betas
moments(g, p, m, v, b1, b2)
t = self.t
p[...] = -lr * (m / (1 - b1**t)) / (np.sqrt(v) + self.eps)
"""
        },
        75,
        "m is corrected, but v is not",
    ),
    "A2: p is filled, then added to": (
        "A2",
        {
            "SGD.rule": """
p.fill(0)
if v is not None:
    v[:] = self.momentum * v + g
    p -= lr * (g + self.momentum * v if self.nesterov else v)
else:
    p -= lr * g
"""
        },
        100,
        "",
    ),
    "A2: a loop over the elements": (
        "A2",
        {
            "Adam.rule": """
b1, b2 = self.betas
moments(g, p, m, v, b1, b2)
t = self.t
for i in range(len(p)):
    p[i] = -lr * (m[i] / (1 - b1**t)) / (np.sqrt(v[i] / (1 - b2**t)) + self.eps)
"""
        },
        100,
        "",
    ),
    "A3: SWATS: eps inside the root": (
        "A3",
        {
            "SWATS._adam": """
(b1, b2), k = self.betas, self.t
moments(g, p, m, a, b1, b2)
p[...] = -lr * (1 - b2**k) ** 0.5 / (1 - b1**k) * m / (a + self.eps) ** 0.5
"""
        },
        92,
        "",
    ),
    "A3: SWATS: v itself is scaled": (
        "A3",
        {
            "SWATS._sgd": """
v *= self.betas[0]
v += g
v *= 1 - self.betas[0]
p[...] = -lr * v
"""
        },
        90,
        "",
    ),
    "A3: p.p and p.g in float32": (
        "A3",
        {
            "Projection.measure": """
self.measured = np.array([p @ p, p @ g])
"""
        },
        80,
        "",
    ),
    "A3: min_delta is forgotten": (
        "A3",
        {
            "Plateau.standing": """
sign = 1 if _higher_is_better(self.metric) else -1
best, n = -math.inf, 0
for x in progress.history(self.metric):
    if sign * x > best:
        best, n = sign * x, 0
    else:
        n += 1
return sign * best, n
"""
        },
        90,
        "",
    ),
    "A4: the filters are turned round": (
        "A4",
        {
            "conv2d": """
x, w = as_tensor(x), as_tensor(weight)
kernel = w.shape[2:]
stride, padding = _pair(stride), _pair(padding)
win = _windows(_pad(x.data, padding), kernel, stride)
f = w.data[:, :, ::-1, ::-1]
y = np.einsum('ncijuv,ocuv->noij', win, f)
def vjp_x(g):
    per_window = np.einsum('noij,ocuv->ncijuv', g, f)
    return _unpad(_scatter(per_window, x, stride, padding), padding)
edges = [(x, vjp_x), (w, lambda g: np.einsum('noij,ncijuv->ocuv', g, win)[:, :, ::-1, ::-1])]
if bias is not None:
    b = as_tensor(bias)
    y = y + b.data[None, :, None, None]
    edges.append((b, lambda g: g.sum(axis=(0, 2, 3))))
return record('conv2d', y, *edges)
"""
        },
        80,
        "as in mathematics",
    ),
    "A4: a border of zeros wins": (
        "A4",
        {
            "max_pool2d": """
x, kernel, stride, padding = _pool_arguments('max_pool2d', x, kernel_size, stride, padding)
win = _windows(_pad(x.data, padding), kernel, stride)
flat = win.reshape(*win.shape[:4], -1)
arg = flat.argmax(-1)
y = flat.max(-1)
def vjp(g):
    d = np.zeros_like(flat)
    np.put_along_axis(d, arg[..., None], g[..., None], -1)
    return _unpad(_scatter(d.reshape(win.shape), x, stride, padding), padding)
return record('max_pool2d', y, (x, vjp))
"""
        },
        90,
        "The border must never win",
    ),
    "A4: _scatter writes for adds": (
        "A4",
        {
            "_scatter": """
n, c, oh, ow, kh, kw = per_window.shape
(sh, sw), (ph, pw) = stride, padding
image = np.zeros((n, c, x.shape[2] + 2*ph, x.shape[3] + 2*pw), per_window.dtype)
for i in range(oh):
    for j in range(ow):
        image[:, :, i*sh:i*sh+kh, j*sw:j*sw+kw] = per_window[:, :, i, j]
return image
"""
        },
        80,
        "",
    ),
    "A4: only the value of conv2d": (
        "A4",
        {
            "conv2d": """
x, w = as_tensor(x), as_tensor(weight)
(kh, kw), (sh, sw), padding = w.shape[2:], _pair(stride), _pair(padding)
z = _pad(x.data, padding)
oh, ow = (z.shape[2]-kh)//sh+1, (z.shape[3]-kw)//sw+1
y = np.zeros((len(z), len(w.data), oh, ow), x.dtype)
for i in range(oh):
    for j in range(ow):
        patch = z[:, :, i*sh:i*sh+kh, j*sw:j*sw+kw]
        y[:, :, i, j] = np.tensordot(patch, w.data, ((1, 2, 3), (1, 2, 3)))
if bias is not None:
    y += as_tensor(bias).data[:, None, None]
return record('conv2d', y)
"""
        },
        65,
        "",
    ),
    "A5: zero_grad is forgotten": (
        "A5",
        {
            "train_once": """
rng = np.random.default_rng(seed)
model = make_model(rng)
model.train()
optimizer = make_optimizer(model.parameters(), rate)
x, labels = data.train
for _ in range(epochs):
    order = rng.permutation(len(x))
    for start in range(0, len(x), batch_size):
        batch = order[start : start + batch_size]
        loss = ops.cross_entropy(model(Tensor(x[batch])), labels[batch])
        loss.backward()
        optimizer.step()
return model
"""
        },
        90,
        "call optimizer.zero_grad() first",
    ),
    "A5: judged on the validation data": (
        "A5",
        {
            "compare": """
results = {}
for name, make_optimizer in optimizers.items():
    rate = tune(make_model, make_optimizer, rates, data, tune_seeds, epochs)
    models = [train_once(make_model, make_optimizer, rate, data, s, epochs) for s in seeds]
    accs = [accuracy(model, data.val) for model in models]
    results[name] = Result(rate, accs, *mean_and_interval(accs))
return results
"""
        },
        90,
        "",
    ),
    "A5: zero_grad at the end": (
        "A5",
        {
            "train_once": """
rng = np.random.default_rng(seed)
model = make_model(rng)
model.train()
optimizer = make_optimizer(model.parameters(), rate)
x, labels = data.train
for _ in range(epochs):
    order = rng.permutation(len(x))
    for start in range(0, len(x), batch_size):
        batch = order[start : start + batch_size]
        loss = ops.cross_entropy(model(Tensor(x[batch])), labels[batch])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
return model
"""
        },
        100,
        "",
    ),
    "A5: 1.96 for t": (
        "A5",
        {
            "mean_and_interval": """
n = len(values)
if n < 2:
    raise ValueError('x')
m = float(np.mean(values))
h = 1.96 * float(np.std(values, ddof=1)) / n ** 0.5
return m, m - h, m + h
"""
        },
        90,
        "t comes from T95",
    ),
    "A1: of equal maxima the first gets all": (
        "A1",
        {
            "max": """
x = as_tensor(x)
dims = tuple(range(x.ndim)) if dim is None else tuple(int(d) % x.ndim for d in np.atleast_1d(dim))
y = x.data.max(dims, keepdims=True)
order = np.where(x.data == y, np.arange(x.size).reshape(x.shape), x.size)
first = order == order.min(dims, keepdims=True)
return record('max', y if keepdim else y.squeeze(dims), (x, lambda g: first * g.reshape(y.shape)))
"""
        },
        92,
        "yours gives all of it to the first",
    ),
    "A1: a list is asked with `in`": (
        "A1",
        {
            "_topological_order": """
order, stack = [], [(root, False)]
while stack:
    tensor, done = stack.pop()
    if done:
        order.append(tensor)
    elif tensor not in order:
        stack.append((tensor, True))
        if tensor.node is not None:
            stack.extend((parent, False) for parent, _ in _edges(tensor.node))
return order
"""
        },
        92,
        "Right apart from _topological_order",
    ),
    "A1: the walk's gradients lie in .grad": (
        "A1",
        {
            "Tensor.backward": """
self.grad = _seed(self, gradient).copy()
for tensor in reversed(_topological_order(self)):
    for parent, vjp in () if tensor.node is None else _edges(tensor.node):
        part = _fit(vjp(tensor.grad), parent, tensor.node.name)
        parent.grad = part.copy() if parent.grad is None else parent.grad + part
    if tensor.node is not None and not retain_graph:
        tensor.node.edges = None
"""
        },
        95,
        "keep a pass's gradients apart from .grad",
    ),
    "A2: m and v themselves are corrected": (
        "A2",
        {
            "Adam.rule": """
b1, b2 = self.betas
moments(g, p, m, v, b1, b2)
m /= 1 - b1**self.t
v /= 1 - b2**self.t
p[...] = -lr * m / (np.sqrt(v) + self.eps)
"""
        },
        85,
        "correct copies",
    ),
    "A3: the first rule keeps its vectors": (
        "A3",
        {
            "Hybrid._start_then": """
self.then.bind(self.flat)
if self.carry == 'momentum':
    self.then.v[...] = self.first.m / ((1 - self.first.betas[0] ** self.first.t) * (1 - self.then.momentum))
self.current = self.then
"""
        },
        88,
        "first.release()",
    ),
    "A3: switch_step is not noted": (
        "A3",
        {
            "Hybrid._decide": """
if not self.switch(self.progress):
    return
rate = self._rate_after()
if isinstance(self.lr_after, str) and not (rate and 0 < rate < math.inf):
    return
reason = self.switch.reason(self.progress)
self._start_then()
if rate is not None:
    self.then.set_peak(rate)
self.switch_event = SwitchEvent(self.progress.step, self.progress.epoch, self.then.lr, reason)
"""
        },
        88,
        "expected switch_step 5, got None",
    ),
    "A4: equal maxima share": (
        "A4",
        {
            "max_pool2d": """
x, kernel, stride, padding = _pool_arguments('max_pool2d', x, kernel_size, stride, padding)
windows = _windows(_pad(x.data, padding, -np.inf), kernel, stride)
y = windows.max((4, 5))
def vjp(g):
    winners = windows == y[..., None, None]
    each = winners * (g / winners.sum((4, 5)))[..., None, None]
    return _unpad(_scatter(each.astype(g.dtype), x, stride, padding), padding)
return record('max_pool2d', y, (x, vjp))
"""
        },
        88,
        "yours splits it among them",
    ),
    "A5: accuracies are printed after each epoch": (
        "A5",
        {
            "train_once": """
rng = np.random.default_rng(seed)
model = make_model(rng)
optimizer = make_optimizer(model.parameters(), rate)
x, labels = data.train
for _ in range(epochs):
    model.train()
    order = rng.permutation(len(x))
    for start in range(0, len(x), batch_size):
        batch = order[start : start + batch_size]
        loss = ops.cross_entropy(model(Tensor(x[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(accuracy(model, data.train), accuracy(model, data.val))
return model
"""
        },
        100,
        "",
    ),
    "A5: chosen by the training data": (
        "A5",
        {
            "tune": """
def score(rate):
    models = [train_once(make_model, make_optimizer, rate, data, seed, epochs) for seed in seeds]
    return np.mean([accuracy(model, data.train) for model in models])
return max(rates, key=score)
"""
        },
        85,
        "choose by the accuracy on data.val",
    ),
    "A2: p -= in both": (
        "A2",
        {
            "SGD.rule": """
if v is None:
    p -= lr * g
    return
v *= self.momentum
v += g
p -= lr * (g + self.momentum * v if self.nesterov else v)
""",
            "Adam.rule": """
b1, b2 = self.betas
moments(g, np.empty_like(g), m, v, b1, b2)
p -= lr * (m / (1 - b1**self.t)) / ((v / (1 - b2**self.t)) ** 0.5 + self.eps)
""",
        },
        75,
        "don't add to them",
    ),
    "A2: the vectors of self": (
        "A2",
        {
            "SGD.rule": """
if v is None:
    p[...] = -lr * g
    return
self.v[...] = self.momentum * self.v + g
p[...] = -lr * (g + self.momentum * self.v if self.nesterov else self.v)
""",
            "Adam.rule": """
b1, b2 = self.betas
self.m[...] = b1 * self.m + (1 - b1) * g
self.v[...] = b2 * self.v + (1 - b2) * g * g
p[...] = -lr * (self.m / (1 - b1**self.t)) / ((self.v / (1 - b2**self.t)) ** 0.5 + self.eps)
""",
        },
        80,
        "v has no effect: use the argument v",
    ),
    "A4: the gradient of the filters is a mean": (
        "A4",
        {
            "conv2d": """
x, w, b = as_tensor(x), as_tensor(weight), None if bias is None else as_tensor(bias)
kernel, stride, padding = (w.shape[2], w.shape[3]), _pair(stride), _pair(padding)
windows = _windows(_pad(x.data, padding), kernel, stride)
y = np.einsum("ncijuv,ocuv->noij", windows, w.data) + (0 if b is None else b.data[:, None, None])
def vjp_x(g):
    return _unpad(_scatter(np.einsum("noij,ocuv->ncijuv", g, w.data), x, stride, padding), padding)
edges = [(x, vjp_x), (w, lambda g: np.einsum("noij,ncijuv->ocuv", g, windows) / len(x.data))]
if b is not None:
    edges.append((b, lambda g: g.sum((0, 2, 3)) / len(x.data)))
return record("conv2d", y.astype(x.dtype), *edges)
"""
        },
        85,
        "Don't divide by the number of images",
    ),
    "A4: a reshape that fits no overlapping windows": (
        "A4",
        {
            "max_pool2d": """
x, kernel, stride, padding = _pool_arguments("max_pool2d", x, kernel_size, stride, padding)
n, c, h, w = x.shape
rows, columns = (h - kernel[0]) // stride[0] + 1, (w - kernel[1]) // stride[1] + 1
windows = x.data[:, :, : rows * kernel[0], : columns * kernel[1]]
windows = windows.reshape(n, c, rows, kernel[0], columns, kernel[1])
def vjp(g):
    return np.zeros_like(x.data)
return record("max_pool2d", windows.max((3, 5)), (x, vjp))
"""
        },
        78,
        "max_pool2d((2, 1, 6, 6), kernel_size=3, stride=1) in float32\n  ValueError: cannot reshape",
    ),
    "A5: compare gives the rates only": (
        "A5",
        {
            "compare": """
return {name: tune(make_model, each, rates, data, tune_seeds, epochs) for name, each in optimizers.items()}
"""
        },
        80,
        "must return a Result for each optimizer",
    ),
    "A1: without g": (
        "A1",
        {
            "log": "x = as_tensor(x)\nreturn record('log', np.log(x.data), (x, lambda g: 1 / x.data))",
            "relu": "x = as_tensor(x)\nreturn record('relu', np.maximum(x.data, 0), (x, lambda g: 1.0 * (x.data > 0)))",
            "sigmoid": "x = as_tensor(x)\ny = (np.tanh(x.data / 2) + 1) / 2\n"
            "return record('sigmoid', y.astype(x.dtype), (x, lambda g: y * (1 - y)))",
        },
        97,
        "Right apart from this, for which you lost marks above: Where is g?",
    ),
    "A1: float64 in several": (
        "A1",
        {
            "log": "x = as_tensor(x)\nreturn record('log', np.log(x.data.astype(float)), (x, lambda g: g / x.data))",
            "relu": "x = as_tensor(x)\nm = (x.data > 0).astype(int)\n"
            "return record('relu', x.data * m, (x, lambda g: g * m))",
        },
        97,
        "Right apart from this, for which you lost marks above: The result must have the dtype",
    ),
}
