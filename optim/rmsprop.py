"""RMSprop: divide each weight's gradient by its recent size, so that steep and flat directions move alike."""

from __future__ import annotations

from minidl.backend import Array, xp_of
from minidl.optim.explain import Look, Term
from minidl.optim.optimizer import Params, Rate, Rule, above, fraction


class RMSprop(Rule):
    """Tieleman & Hinton 2012, lecture 6.5, slide 29:

    s <- alpha s + (1-alpha) g^2                   mean of the squared gradient
    w <- w - lr g / (sqrt(s) + eps)

    With momentum mu, as in PyTorch: v <- mu v + g / (sqrt(s) + eps) and w <- w - lr v.

    lr            rate, or a schedule
    alpha         in [0, 1), how slowly s forgets
    eps           > 0, keeps the division finite
    weight_decay  lambda: g <- g + lambda w first
    momentum      mu in [0, 1)
    max_norm      clip the global norm of the gradient

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
        *,
        max_norm: float | None = None,
    ) -> None:
        self.alpha = fraction("alpha", alpha)
        self.eps = above("eps", eps, 0)
        self.momentum = fraction("momentum", momentum)
        self.vectors = ("s", "v") if momentum > 0 else ("s",)
        super().__init__(params, lr, weight_decay=weight_decay, max_norm=max_norm)

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

    def step_terms(self, look: Look, g: str) -> list[Term]:
        scaled = f"{g} / (sqrt(s) + eps)"
        terms = [
            Term("alpha", self.alpha, "", "how slowly s forgets"),
            Term("eps", self.eps, "", "keeps the division finite"),
            look.given("s_old", "mean of the squared gradient, before the step"),
            look.term("s", f"alpha * s_old + (1 - alpha) * {g}**2", "the mean with this gradient"),
        ]
        if not self.momentum:
            return [*terms, look.term("p", f"-lr * {scaled}", "the step")]
        return [
            *terms,
            Term("mu", self.momentum, "", "momentum"),
            look.given("v_old", "sum of past scaled gradients, before the step"),
            look.term("v", f"mu * v_old + {scaled}", "the sum with this gradient"),
            look.term("p", "-lr * v", "the step"),
        ]


def mean_square(g: Array, scratch: Array, s: Array, alpha: float) -> None:
    """s <- alpha s + (1-alpha) g^2, in place."""
    s *= alpha
    xp_of(g).multiply(g, g, out=scratch)
    scratch *= 1 - alpha
    s += scratch
