"""A gradual transition in place of a switch: a convex combination moves from RMSprop to momentum SGD step by step."""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

from minidl.backend import Array, xp_of
from minidl.optim.checks import above, at_least, fraction
from minidl.optim.formula import Formula, Given, Line
from minidl.optim.optimizer import Rate
from minidl.optim.rmsprop import mean_square
from minidl.optim.rule import Common, Params, Rule

if TYPE_CHECKING:
    from typing_extensions import Unpack


SLIDE = "exp(2 * (e - c) / T) / 2 if e < c else 1 / 2 + (e - c) / T if e < c + T / 2 else 1"
FORMULA = Formula(
    Given("k", "the optimizer's step number", "steps"),
    Given("n", "steps in an epoch", "steps_per_epoch"),
    Given("c", "the epoch of equal shares", "center"),
    Given("T", "length of the transition, in epochs", "period"),
    Given("lr_rms", "RMSprop's learning rate"),
    Given("mu1", "momentum", "momentum"),
    Given("mu2", "how slowly m forgets", "alpha"),
    Given("eps", "keeps the division finite"),
    Line("e", "(k - 1) / n", "epoch, fractional"),
    Line("a_sgd", SLIDE, "SGD's share"),
    Line("a_rms", "(1 - a_sgd) * lr_rms / lr if lr > 0 else 0", "RMSprop's share, scaled"),
    Line("m", "mu2 * m_old + (1 - mu2) * g**2", "mean of the squared gradient"),
    Line("D", "mu1 * D_old - (a_sgd + a_rms / (sqrt(m) + eps)) * g", "direction"),
    Line("p", "lr * D", "the step"),
)


class Blend(Rule):
    """Akiba, Suzuki & Fukuda 2017, section 2.1 ("RMSprop warm-up"), with one slope corrected (see a_sgd), at epoch e:

    m <- mu2 m + (1-mu2) g^2
    D <- mu1 D - (a_sgd + a_rms / (sqrt(m) + eps)) g
    w <- w + eta D

    a_sgd(e) = 1/2 exp(2 (e-c) / T) for e < c;   1/2 + (e-c) / T for c <= e < c + T/2;   1 from there on
    a_rms = (1 - a_sgd) eta_rms / eta

    steps_per_epoch  batches in an epoch: step k = 1, 2, ... is at epoch e = (k - 1) / steps_per_epoch
    lr               eta, SGD's learning rate, or a schedule
    lr_rms           eta_rms, RMSprop's learning rate
    center, period   c and T, in epochs: equal shares at c, all SGD from c + T/2 on
    momentum         mu1 in [0, 1)
    alpha            mu2 in [0, 1)
    eps              > 0, keeps the division finite

    State: m, D (n,) and the step number. Raises ValueError for a hyper-parameter out of range.
    """

    name = "blend"
    vectors = ("m", "D")
    formula = FORMULA
    m: Array
    D: Array

    def __init__(
        self,
        params: Params = None,
        lr: Rate = 0.1,
        *,
        steps_per_epoch: int,
        lr_rms: float = 3e-4,
        center: float = 10.0,
        period: float = 5.0,
        momentum: float = 0.9,
        alpha: float = 0.99,
        eps: float = 1e-8,
        **common: Unpack[Common],
    ) -> None:
        self.steps_per_epoch = at_least("steps_per_epoch", steps_per_epoch, 1)
        self.lr_rms = at_least("lr_rms", lr_rms, 0)
        self.center, self.period = at_least("center", center, 0), above("period", period, 0)
        self.momentum, self.alpha = fraction("momentum", momentum), fraction("alpha", alpha)
        self.eps = above("eps", eps, 0)
        super().__init__(params, lr, **common)

    def a_sgd(self, e: float) -> float:
        """SGD's share at epoch e: near 0 long before the centre, 1/2 at the centre, 1 from half a period after it.

        Most transcriptions of the equation have slope 2/T after the centre: the share would overshoot to 3/2 and fall
        back to 1 at c + T/2. With 1/T it reaches 1 there, and continues the left branch, whose slope at c is 1/T.
        """
        x = (e - self.center) / self.period
        return 0.5 * exp(2 * x) if x < 0 else min(0.5 + x, 1.0)

    def rule(self, g: Array, p: Array, lr: float, m: Array, D: Array) -> None:
        xp = xp_of(g)
        a_sgd = self.a_sgd((self.steps - 1) / self.steps_per_epoch)
        mean_square(g, p, m, self.alpha)
        a_rms = (1 - a_sgd) * self.lr_rms / lr if lr > 0 else 0.0  # with eta = 0 nothing moves, whatever a_rms is
        xp.sqrt(m, out=p)
        p += self.eps
        xp.divide(a_rms, p, out=p)
        p += a_sgd
        p *= g
        D *= self.momentum
        D -= p
        xp.multiply(D, lr, out=p)
