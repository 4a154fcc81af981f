"""AdaGrad: steps shrink as a weight's squared gradients add up, so weights of rare features keep large steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minidl.backend import Array, xp_of
from minidl.optim.checks import above, at_least
from minidl.optim.flat import FlatParameters
from minidl.optim.formula import Formula, Given, Line
from minidl.optim.optimizer import Rate
from minidl.optim.rule import Clipping, Params, Rule

if TYPE_CHECKING:
    from typing_extensions import Unpack


FORMULA = Formula(
    Given("lr_decay", "how fast the learning rate decays"),
    Given("eps", "keeps the division finite"),
    Line("lr_t", "lr / (1 + (t - 1) * lr_decay)", "the decayed learning rate"),
    Line("s", "s_old + g**2", "sum of squared gradients"),
    Line("p", "-lr_t * g / (sqrt(s) + eps)", "the step"),
)


class Adagrad(Rule):
    """Duchi, Hazan & Singer 2011, Figure 1 with the diagonal matrix:

    s <- s + g^2                                   sum of all squared gradients
    w <- w - lr_t g / (sqrt(s) + eps)              lr_t = lr / (1 + (t-1) lr_decay)

    lr                         learning rate, or a schedule
    lr_decay                   >= 0, as in PyTorch
    initial_accumulator_value  initial value of s, >= 0
    eps                        > 0, keeps the division finite

    State: s (n,) and the step number t. Raises ValueError for a hyper-parameter out of range.
    """

    name = "adagrad"
    vectors = ("s",)
    formula = FORMULA
    s: Array

    def __init__(
        self,
        params: Params = None,
        lr: Rate = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        **common: Unpack[Clipping],
    ) -> None:
        self.lr_decay = at_least("lr_decay", lr_decay, 0)
        self.initial_accumulator_value = at_least("initial_accumulator_value", initial_accumulator_value, 0)
        self.eps = above("eps", eps, 0)
        super().__init__(params, lr, weight_decay=weight_decay, **common)

    def bind(self, flat: FlatParameters) -> None:
        super().bind(flat)
        self.s += self.initial_accumulator_value

    def rule(self, g: Array, p: Array, lr: float, s: Array) -> None:
        xp = xp_of(g)
        xp.multiply(g, g, out=p)
        s += p
        xp.sqrt(s, out=p)
        p += self.eps
        xp.divide(g, p, out=p)
        p *= -lr / (1 + (self.t - 1) * self.lr_decay)
