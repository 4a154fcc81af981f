"""Schedule-free Adam: no schedule and no fixed end; the weights to evaluate are a running average of the path.

Defazio et al. 2024, "The Road Less Scheduled" (arXiv:2405.15682), Algorithm 1, without its warm-up and its decoupled
weight decay. The gradient is taken at y, between the fast path z and its average x; x is what is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from math import sqrt
from typing import TYPE_CHECKING, Any

from minidl.backend import Array, xp_of
from minidl.optim.checks import above, two_fractions
from minidl.optim.flat import FlatParameters
from minidl.optim.optimizer import Rate, State
from minidl.optim.rule import Common, Params, Rule

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ScheduleFree(Rule):
    """Defazio et al. 2024, Algorithm 1, at step t:

    y = (1-b1) z + b1 x                       the weights while training;   g is the gradient there
    v <- b2 v + (1-b2) g^2
    z <- z - lr_t g / (sqrt(v) + eps)         lr_t = lr sqrt(1-b2^t)
    x <- (1-c) x + c z                        c = lr_t^2 / (lr_1^2 + ... + lr_t^2)

    lr            learning rate, or a schedule
    betas         (b1, b2), each in [0, 1): how near y is to the average, and how slowly v forgets
    eps           > 0, keeps the division finite

    Evaluate inside `with optimizer.averaged():`, where the weights are x. State: v, z, x (n,), the step number and the
    sum of squared rates. Raises ValueError for a hyper-parameter out of range.
    """

    name = "schedule-free"
    vectors = ("v", "z", "x")
    v: Array
    z: Array
    x: Array

    def __init__(
        self,
        params: Params = None,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        **common: Unpack[Common],
    ) -> None:
        self.betas = two_fractions("betas", betas)
        self.eps = above("eps", eps, 0)
        self.squares, self.c = 0.0, 1.0  # the sum of lr_t^2, and the weight of this step's z in x
        super().__init__(params, lr, **common)

    def bind(self, flat: FlatParameters) -> None:
        super().bind(flat)
        self.squares = 0.0

    def update(self) -> None:
        if self.t == 1:  # not in bind: weights may be loaded into the model after the optimizer is built
            self.z[...] = self.x[...] = self._bound().w
        super().update()

    def advance(self) -> None:
        super().advance()
        self.rate *= sqrt(1 - self.betas[1] ** self.t)
        self.squares += self.rate**2
        self.c = self.rate**2 / self.squares if self.squares else 1.0

    def rule(self, g: Array, p: Array, lr: float, v: Array, z: Array, x: Array) -> None:
        b1, b2 = self.betas
        y = (1 - b1) * z + b1 * x
        v *= b2
        v += (1 - b2) * g**2
        z -= lr * g / (xp_of(g).sqrt(v) + self.eps)
        x += self.c * (z - x)
        p[...] = (1 - b1) * z + b1 * x - y

    def averaged(self) -> AbstractContextManager[None]:
        """Inside the block, the weights are the average x."""
        return self._bound().showing(self.x if self.t else self._bound().w)

    def state_dict(self) -> State:
        state = super().state_dict()
        state["scalars"]["squares"] = self.squares
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.squares = state["scalars"]["squares"]
