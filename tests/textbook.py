"""The rules as a textbook would compute them by hand: plain Python floats, one weight at a time, from the formulas.

Each function yields the weights after every step. `grad(k, w)` is the gradient at step k = 1, 2, ... as a list of
floats. Nothing here shares a line with optim/: this is what the tests hold it against.
"""

from collections.abc import Callable, Iterator
from math import exp, sqrt

Vector = list[float]
Gradient = Callable[[int, Vector], Vector]


def sgd(w: Vector, grad: Gradient, lr: float, mu: float = 0, wd: float = 0, nesterov: bool = False) -> Iterator[Vector]:
    w, v, k = list(w), [0.0] * len(w), 0
    while True:
        k += 1
        g = grad(k, w)
        for i in range(len(w)):
            gi = g[i] + wd * w[i]
            v[i] = mu * v[i] + gi
            w[i] = w[i] - lr * ((gi + mu * v[i]) if nesterov else v[i])
        yield list(w)


def adam(
    w: Vector, grad: Gradient, lr: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, wd: float = 0,
    decoupled: bool = False, amsgrad: bool = False,
) -> Iterator[Vector]:  # fmt: skip
    w, m, v, k = list(w), [0.0] * len(w), [0.0] * len(w), 0
    largest = [0.0] * len(w)
    while True:
        k += 1
        g = grad(k, w)
        for i in range(len(w)):
            gi = g[i] if decoupled else g[i] + wd * w[i]
            m[i] = b1 * m[i] + (1 - b1) * gi
            v[i] = b2 * v[i] + (1 - b2) * gi**2
            largest[i] = max(largest[i], v[i])
            m_hat, v_hat = m[i] / (1 - b1**k), (largest[i] if amsgrad else v[i]) / (1 - b2**k)
            old = w[i]
            w[i] = old - lr * m_hat / (sqrt(v_hat) + eps)
            if decoupled:
                w[i] -= lr * wd * old
        yield list(w)


def rmsprop(
    w: Vector, grad: Gradient, lr: float, alpha: float = 0.99, eps: float = 1e-8, wd: float = 0, mu: float = 0
) -> Iterator[Vector]:
    w, s, v, k = list(w), [0.0] * len(w), [0.0] * len(w), 0
    while True:
        k += 1
        g = grad(k, w)
        for i in range(len(w)):
            gi = g[i] + wd * w[i]
            s[i] = alpha * s[i] + (1 - alpha) * gi * gi
            v[i] = mu * v[i] + gi / (sqrt(s[i]) + eps)
            w[i] -= lr * v[i]
        yield list(w)


def adagrad(
    w: Vector, grad: Gradient, lr: float, lr_decay: float = 0, wd: float = 0, start: float = 0, eps: float = 1e-10
) -> Iterator[Vector]:
    w, s, k = list(w), [start] * len(w), 0
    while True:
        k += 1
        g = grad(k, w)
        for i in range(len(w)):
            gi = g[i] + wd * w[i]
            s[i] += gi**2
            w[i] -= lr / (1 + (k - 1) * lr_decay) * gi / (sqrt(s[i]) + eps)
        yield list(w)


def a_sgd(e: float, c: float, period: float) -> float:
    if e < c:
        return exp(2 * (e - c) / period) / 2
    if e < c + period / 2:
        return 1 / 2 + (e - c) / period
    return 1.0


def blend(
    w: Vector, grad: Gradient, eta: float, steps_per_epoch: int, eta_rms: float = 3e-4, c: float = 10,
    period: float = 5, mu1: float = 0.9, mu2: float = 0.99, eps: float = 1e-8, wd: float = 0,
) -> Iterator[Vector]:  # fmt: skip
    w, m, delta, k = list(w), [0.0] * len(w), [0.0] * len(w), 0
    while True:
        share = a_sgd(k / steps_per_epoch, c, period)
        share_rms = (1 - share) * eta_rms / eta
        k += 1
        g = grad(k, w)
        for i in range(len(w)):
            gi = g[i] + wd * w[i]
            m[i] = mu2 * m[i] + (1 - mu2) * gi**2
            delta[i] = mu1 * delta[i] - (share + share_rms / (sqrt(m[i]) + eps)) * gi
            w[i] += eta * delta[i]
        yield list(w)


class Swats:
    """Keskar & Socher 2017, Algorithm 1, line by line. `w`, `phase`, `gammas`, `Lambda`, `switched_at` can be read."""

    def __init__(self, w, lr=1e-3, b1=0.9, b2=0.999, eps=1e-9, switch_eps=1e-9, switch_rtol=None, wd=0.0):
        n = len(w)
        self.w, self.m, self.a, self.v = list(w), [0.0] * n, [0.0] * n, [0.0] * n
        self.lr, self.b1, self.b2, self.eps = lr, b1, b2, eps
        self.switch_eps, self.switch_rtol, self.wd = switch_eps, switch_rtol, wd
        self.k, self.lam, self.phase = 0, 0.0, "adam"
        self.gammas: list[float | None] = []
        self.Lambda: float | None = None
        self.switched_at: int | None = None

    def step(self, g: Vector) -> None:
        self.k += 1
        k, b1, b2 = self.k, self.b1, self.b2
        if self.phase == "sgd":
            for i in range(len(self.w)):
                self.v[i] = b1 * self.v[i] + g[i]
                self.w[i] -= (1 - b1) * self.Lambda * self.v[i] + self.lr * self.wd * self.w[i]
            return
        p = []
        for i in range(len(self.w)):
            self.m[i] = b1 * self.m[i] + (1 - b1) * g[i]
            self.a[i] = b2 * self.a[i] + (1 - b2) * g[i] ** 2
            p.append(-self.lr * sqrt(1 - b2**k) / (1 - b1**k) * self.m[i] / (sqrt(self.a[i]) + self.eps))
            self.w[i] += p[i] - self.lr * self.wd * self.w[i]
        pg = sum(pi * gi for pi, gi in zip(p, g, strict=True))
        if pg == 0:
            self.gammas.append(None)
            return
        gamma = sum(pi * pi for pi in p) / -pg
        self.gammas.append(gamma)
        self.lam = b2 * self.lam + (1 - b2) * gamma
        estimate = self.lam / (1 - b2**k)
        near = abs(estimate - gamma) < self.switch_eps
        if self.switch_rtol is not None:
            near = near or abs(estimate - gamma) < self.switch_rtol * abs(estimate)
        if k > 1 and near:
            self.phase, self.Lambda, self.switched_at = "sgd", estimate, k
            self.v = [0.0] * len(self.w)
