"""Stochastic gradient descent: step against the gradient of a batch, optionally with momentum.

Momentum adds up past gradients with fading weight, so that steps that agree grow and those that cancel shrink.
Nesterov's variant looks ahead: it uses the gradient as if the momentum step had been taken already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minidl.backend import Array, xp_of
from minidl.optim.checks import fraction
from minidl.optim.formula import Formula, Given, Line
from minidl.optim.optimizer import Rate
from minidl.optim.rule import Common, Params, Rule

if TYPE_CHECKING:
    from typing_extensions import Unpack


PLAIN = Formula(Line("p", "-lr * g", "the step"))
SUM = (Given("mu", "momentum", "momentum"), Line("v", "mu * v_old + g", "sum of past gradients"))
MOMENTUM = Formula(*SUM, Line("p", "-lr * v", "the step"))
NESTEROV = Formula(*SUM, Line("p", "-lr * (g + mu * v)", "the step"))


class SGD(Rule):
    """w <- w - lr v, with v <- mu v + g (mu = momentum); Nesterov: w <- w - lr (g + mu v).

    Robbins & Monro 1951, eq. 6 (mu = 0); Polyak 1964, eq. 9 (momentum); Nesterov 1983 in the form of Sutskever et
    al. 2013, eqs. 3-4, in PyTorch's form: the learning rate multiplies v when it is used, not when it is summed.

    lr            learning rate, or a schedule
    momentum      mu in [0, 1)
    nesterov      needs momentum > 0

    State: v (n,) if mu > 0. Raises ValueError for a hyper-parameter out of range.
    """

    name = "sgd"
    v: Array

    def __init__(
        self,
        params: Params = None,
        lr: Rate = 1e-3,
        momentum: float = 0.0,
        *,
        nesterov: bool = False,
        **common: Unpack[Common],
    ) -> None:
        self.momentum = fraction("momentum", momentum)
        self.nesterov = nesterov
        if nesterov and momentum == 0:
            raise ValueError("nesterov=True needs momentum > 0, got 0: try momentum=0.9")
        self.vectors = type(self).vectors or (("v",) if momentum > 0 else ())  # a subclass may name more
        super().__init__(params, lr, **common)

    @property
    def formula(self) -> Formula:
        if not self.momentum and not self.vectors:
            return PLAIN
        return NESTEROV if self.nesterov else MOMENTUM

    def rule(self, g: Array, p: Array, lr: float, v: Array | None = None) -> None:
        xp, mu = xp_of(g), self.momentum
        if v is None:
            xp.multiply(g, -lr, out=p)
            return
        v *= mu
        v += g
        if self.nesterov:
            xp.multiply(v, mu, out=p)
            p += g
            p *= -lr
        else:
            xp.multiply(v, -lr, out=p)
