"""Adam: each weight gets its own step size, from running averages of its gradient and of the gradient's square.

m estimates the gradient's mean and v its mean square. Their ratio m / sqrt(v) is about +-1 where the gradient's sign
is steady and near 0 where it is noise, so the learning rate lr is roughly the size of a step in each coordinate.
"""

from __future__ import annotations

from functools import cache
from math import sqrt
from typing import TYPE_CHECKING

from minidl.backend import Array, xp_of
from minidl.optim.checks import above, two_fractions
from minidl.optim.formula import Formula, Given, Line
from minidl.optim.optimizer import Rate
from minidl.optim.rule import Clipping, Params, Rule

if TYPE_CHECKING:
    from typing_extensions import Unpack


FORMULA = Formula(
    Given("b1", "how slowly m forgets", "betas[0]"),
    Given("b2", "how slowly v forgets", "betas[1]"),
    Given("eps", "keeps the division finite"),
    Line("m", "b1 * m_old + (1 - b1) * g", "mean of the gradient"),
    Line("v", "b2 * v_old + (1 - b2) * g**2", "mean of its square"),
    Line("mhat", "m / (1 - b1**t)", "m, bias-corrected"),
    Line("vhat", "v / (1 - b2**t)", "v, bias-corrected"),
    Line("p", "-lr * mhat / (sqrt(vhat) + eps)", "the step"),
)
DECOUPLED = Formula(*FORMULA.terms, decay="lr")


@cache
def _amsgrad(adam: Formula) -> Formula:
    """The same formula, with the largest v so far in place of v."""
    *terms, vhat, p = adam.terms
    largest = Line("vmax", "max(vmax_old, v)", "the largest v so far")
    return Formula(*terms, largest, Line("vhat", "vmax / (1 - b2**t)", vhat.words), p, decay=adam.decay)


class Adam(Rule):
    """Kingma & Ba 2015, Algorithm 1:

    m <- b1 m + (1-b1) g                           mean of the gradient
    v <- b2 v + (1-b2) g^2                         mean of its square
    w <- w - lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)

    m and v start at 0; dividing by 1 - b^t corrects the bias towards zero that this causes.

    lr            learning rate, or a schedule
    betas         (b1, b2), each in [0, 1)
    eps           > 0, keeps the division finite
    weight_decay  lambda: g <- g + lambda w first, so the decay is averaged and rescaled too; AdamW decouples it
    amsgrad       use vmax <- max(vmax, v) in place of v (Reddi, Kale & Kumar 2018, Algorithm 2, in PyTorch's form)

    State: m, v, vmax (n,) and the step number t. Where |g| is above 1.8e19 (5.8e20 in PyTorch, which multiplies in
    another order), v overflows to inf in float32 and the weight stops moving. Raises ValueError for an argument out of
    range.
    """

    name = "adam"
    vectors: tuple[str, ...] = ("m", "v")
    m: Array
    v: Array

    def __init__(
        self,
        params: Params = None,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        **common: Unpack[Clipping],
    ) -> None:
        self.betas = two_fractions("betas", betas)
        self.eps = above("eps", eps, 0)
        self.amsgrad = amsgrad
        if amsgrad:
            self.vectors = (*self.vectors, "vmax")
        super().__init__(params, lr, weight_decay=weight_decay, **common)

    @property
    def formula(self) -> Formula:
        return _amsgrad(FORMULA) if self.amsgrad else FORMULA

    def rule(self, g: Array, p: Array, lr: float, m: Array, v: Array, vmax: Array | None = None) -> None:
        xp, (b1, b2), t = xp_of(g), self.betas, self.t
        moments(g, p, m, v, b1, b2)
        unbiased = sqrt(1 - b2**t)  # times numerator and denominator: saves a pass over the vector
        xp.sqrt(v if vmax is None else xp.maximum(vmax, v, out=vmax), out=p)
        p += self.eps * unbiased
        xp.divide(m, p, out=p)
        p *= -lr * unbiased / (1 - b1**t)


class AdamW(Adam):
    """Adam with decoupled weight decay: w <- w - lr lambda w.

    Loshchilov & Hutter 2019, Algorithm 2, line 12, in PyTorch's form: the paper multiplies lambda by the schedule's
    factor alone, not by lr. Each weight shrinks by the same factor, whatever its gradient. The decay is not part of the
    step vector p, so a projected rate (see Hybrid) does not mistake it for a step along the gradient. Arguments as in
    Adam; weight_decay is 0.01 if not given.
    """

    name = "adamw"

    def __init__(
        self,
        params: Params = None,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **common: Unpack[Clipping],
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **common)

    @property
    def formula(self) -> Formula:
        return _amsgrad(DECOUPLED) if self.amsgrad else DECOUPLED

    def decayed(self, w: Array, g: Array, lr: float) -> Array:
        if self.weight_decay:
            w *= 1 - lr * self.weight_decay
        return g


def moments(g: Array, scratch: Array, m: Array, v: Array, b1: float, b2: float) -> None:
    """m <- b1 m + (1-b1) g and v <- b2 v + (1-b2) g^2, in place."""
    xp = xp_of(g)
    m *= b1
    xp.multiply(g, 1 - b1, out=scratch)
    m += scratch
    v *= b2
    xp.multiply(g, g, out=scratch)
    scratch *= 1 - b2
    v += scratch
