"""RMSprop: divide each weight's gradient by its recent size, so that steep and flat directions move alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minidl.backend import Array, xp_of
from minidl.optim.checks import above, fraction
from minidl.optim.formula import Formula, Given, Line
from minidl.optim.optimizer import Rate
from minidl.optim.rule import Clipping, Params, Rule

if TYPE_CHECKING:
    from typing_extensions import Unpack


MEAN = (
    Given("alpha", "how slowly s forgets"),
    Given("eps", "keeps the division finite"),
    Line("s", "alpha * s_old + (1 - alpha) * g**2", "mean of the squared gradient"),
)
PLAIN = Formula(*MEAN, Line("p", "-lr * g / (sqrt(s) + eps)", "the step"))
MOMENTUM = Formula(
    *MEAN,
    Given("mu", "momentum", "momentum"),
    Line("v", "mu * v_old + g / (sqrt(s) + eps)", "sum of past scaled gradients"),
    Line("p", "-lr * v", "the step"),
)


class RMSprop(Rule):
    """Tieleman & Hinton 2012, lecture 6.5, slide 29:

    s <- alpha s + (1-alpha) g^2                   mean of the squared gradient
    w <- w - lr g / (sqrt(s) + eps)

    With momentum mu, as in PyTorch: v <- mu v + g / (sqrt(s) + eps) and w <- w - lr v.

    lr            learning rate, or a schedule
    alpha         in [0, 1), how slowly s forgets; 0.9 on the slide, by default PyTorch's
    eps           > 0, keeps the division finite
    momentum      mu in [0, 1)

    State: s (n,), and v (n,) if mu > 0. Raises ValueError for a hyper-parameter out of range.
    """

    name = "rmsprop"
    s: Array
    v: Array

    def __init__(
        self,
        params: Params = None,
        lr: Rate = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        **common: Unpack[Clipping],
    ) -> None:
        self.alpha = fraction("alpha", alpha)
        self.eps = above("eps", eps, 0)
        self.momentum = fraction("momentum", momentum)
        self.vectors = type(self).vectors or (("s", "v") if momentum > 0 else ("s",))
        super().__init__(params, lr, weight_decay=weight_decay, **common)

    @property
    def formula(self) -> Formula:
        return MOMENTUM if self.momentum or "v" in self.vectors else PLAIN

    def rule(self, g: Array, p: Array, lr: float, s: Array, v: Array | None = None) -> None:
        xp = xp_of(g)
        mean_square(g, p, s, self.alpha)
        xp.sqrt(s, out=p)
        p += self.eps
        xp.divide(g, p, out=p)
        if v is None:
            p *= -lr
        else:
            v *= self.momentum
            v += p
            xp.multiply(v, -lr, out=p)


def mean_square(g: Array, scratch: Array, s: Array, alpha: float) -> None:
    """s <- alpha s + (1-alpha) g^2, in place."""
    s *= alpha
    xp_of(g).multiply(g, g, out=scratch)
    scratch *= 1 - alpha
    s += scratch
