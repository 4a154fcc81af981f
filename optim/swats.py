"""SWATS: Adam that switches to SGD with momentum, at a step and a learning rate that it finds itself.

At each Adam step p, gamma is the SGD rate that explains p best (see projection.py). When gamma reaches its running
average Lambda, one SGD rate describes what Adam does, and SGD takes over at that rate. The whole algorithm is in this
file; Hybrid(first=Adam(), then=SGD(momentum=0.9), switch=Projected(), lr_after="projected") is the same from parts,
except that Adam adds its eps to the bias-corrected root.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import TYPE_CHECKING, Any

from minidl.backend import Array, xp_of
from minidl.optim.adam import moments
from minidl.optim.checks import above, parts_of, two_fractions, within, without
from minidl.optim.flat import FlatParameters
from minidl.optim.formula import Formula, Given, Line
from minidl.optim.groups import scaled
from minidl.optim.optimizer import Rate, State, SwitchEvent
from minidl.optim.progress import Progress
from minidl.optim.projection import Projection
from minidl.optim.rule import Clipping, Params, Rule
from minidl.optim.switch import AnyOf, Condition, Projected
from minidl.optim.verdict import verdict_of

if TYPE_CHECKING:
    from typing_extensions import Unpack


ADAM = Formula(
    Given("b1", "how slowly m forgets", "betas[0]"),
    Given("b2", "how slowly a forgets", "betas[1]"),
    Given("eps", "keeps the division finite"),
    Line("m", "b1 * m_old + (1 - b1) * g", "mean of the gradient"),
    Line("a", "b2 * a_old + (1 - b2) * g**2", "mean of its square"),
    Line("p", "-lr * sqrt(1 - b2**t) / (1 - b1**t) * m / (sqrt(a) + eps)", "the step"),
    decay="lr",
)
SGD = Formula(
    Given("b1", "momentum", "betas[0]"),
    Line("Lambda", "lr / (1 - b1)", "the SGD rate projected from Adam's steps"),
    Line("v", "b1 * v_old + g", "sum of past gradients"),
    Line("p", "-(1 - b1) * Lambda * v", "the step"),
    decay="Lambda",
)


class SWATS(Rule):
    """Keskar & Socher 2017, Algorithm 1, over the whole parameter vector w.

    Adam phase, step k:  m <- b1 m + (1-b1) g;   a <- b2 a + (1-b2) g^2
                         p = -lr sqrt(1-b2^k) / (1-b1^k)  m / (sqrt(a) + eps);   w <- w + p
                         if p.g != 0:   gamma = p.p / -(p.g);   lam <- b2 lam + (1-b2) gamma
                         if k > 1 and |lam/(1-b2^k) - gamma| < switch_eps:   Lambda = lam/(1-b2^k), and from the next
                         step on
    SGD phase:           v <- b1 v + g;   w <- w - (1-b1) Lambda v            v = 0 at first

    lr            learning rate of the Adam phase, or a schedule
    betas         (b1, b2), each in [0, 1)
    eps           > 0, in Adam's division. The paper writes one epsilon for this and for switch_eps, 1e-9
    switch_eps    absolute tolerance of the switch; with real data 1e-9 is almost never met
    switch_rtol   additional relative tolerance (None: none): |Lambda - gamma| < switch_rtol |Lambda| switches too
    weight_decay  lambda, decoupled as in AdamW, so it is not in p: w <- w - lr lambda w. The switch does not change
                  it: in the SGD phase lr here is still the rate of Adam's last step. With Lambda, which may be a
                  thousand times as large, the decay alone would wipe out the weights

    It does not switch while Lambda <= 0, a case that the paper leaves open. `lr` in the SGD phase is (1-b1) Lambda.
    State: m, a, then v (n,); lam, gamma and Lambda of each step in `projection`. Raises ValueError for a
    hyper-parameter out of range.
    """

    name = "swats"
    vectors: tuple[str, ...] = ("m", "a")
    m: Array
    a: Array
    v: Array
    _keeps_step = True  # for the projection

    def __init__(
        self,
        params: Params = None,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-9,
        switch_eps: float = 1e-9,
        switch_rtol: float | None = None,
        weight_decay: float = 0.0,
        **common: Unpack[Clipping],
    ) -> None:
        self.betas = two_fractions("betas", betas)
        self.eps = above("eps", eps, 0)
        self.switch: Condition = Projected(eps=above("switch_eps", switch_eps, 0))
        if switch_rtol is not None:
            self.switch = AnyOf((self.switch, Projected(rtol=above("switch_rtol", switch_rtol, 0))))
        super().__init__(params, lr, weight_decay=weight_decay, **common)
        self._as_built = self.rates()

    def bind(self, flat: FlatParameters) -> None:
        super().bind(flat)
        self.projection = Projection(self.betas[1])
        self.progress = Progress(gammas=self.projection.gammas, lambdas=self.projection.lambdas)

    @property
    def phase(self) -> str:
        return "adam" if self.switch_event is None else "sgd"

    @property
    def formula(self) -> Formula:
        return ADAM if self.switch_event is None else SGD

    def rule(self, g: Array, p: Array, lr: float, **state: Array) -> None:
        if self.switch_event is None:
            self._adam(g, p, lr, **state)
        else:
            self._sgd(g, p, lr, **state)

    def _adam(self, g: Array, p: Array, lr: float, m: Array, a: Array) -> None:
        xp, (b1, b2), k = xp_of(g), self.betas, self.t
        moments(g, p, m, a, b1, b2)
        xp.sqrt(a, out=p)
        p += self.eps
        xp.divide(m, p, out=p)
        p *= -lr * sqrt(1 - b2**k) / (1 - b1**k)

    def _sgd(self, g: Array, p: Array, lr: float, v: Array) -> None:
        v *= self.betas[0]
        v += g
        xp_of(g).multiply(v, -lr, out=p)  # lr = (1-b1) Lambda. v itself is not scaled: it would fade away

    def decayed(self, w: Array, g: Array, lr: float) -> Array:
        if self.weight_decay:
            rate = lr if self.switch_event is None else lr / (1 - self.betas[0])
            w *= 1 - rate * self.weight_decay
        return g

    def update(self) -> None:
        super().update()
        if self.switch_event is None:
            self.projection.measure(self.keep_step(), scaled(self, self._bound().g))

    def settle(self) -> None:
        self.progress.step += 1
        if self.switch_event is None:
            self.projection.add()
            if self.switch(self.progress):
                self._to_sgd(self.projection.lambdas[-1], self.switch.reason(self.progress))

    def _to_sgd(self, lam: float, reason: str) -> None:
        self.scale_decay(self.rate / lam)  # the formula has Lambda for lr
        self.lr = (1 - self.betas[0]) * lam
        self.switch_event = SwitchEvent(self.progress.step, self.progress.epoch, self.lr, reason)
        del self.m, self.a
        self.vectors = ("v",)
        self.v = self._bound().zeros()

    def report(self, epoch: int, **metrics: float) -> None:
        self.progress.epoch = epoch

    def verdict(self) -> str:
        """One sentence: when it switched and at what rate, or that it never did, and how close it came."""
        return verdict_of(self.switch_event, self.phase, self.progress, str(self.switch), self.projection)

    def state_dict(self) -> State:
        state, projection = super().state_dict(), self.projection.state_dict()
        state["vectors"] |= {f"projection.{name}": vector for name, vector in projection["vectors"].items()}
        state["scalars"] |= {
            "projection": projection["scalars"],
            "progress": {"step": self.progress.step, "epoch": self.progress.epoch},
            "switch": self.switch_event and self.switch_event._asdict(),
        }
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        flat, (vectors, scalars) = self._bound(), parts_of(state)
        event = scalars.get("switch")
        own, names = without(vectors, "projection."), ("m", "a") if event is None else ("v",)
        rates = self.rates()
        if event is None and self.switch_event is not None:  # back to before the switch, which is still to come
            rates = self._as_built
        self._check_state(own, scalars, names, rates["lr_or_schedule"])
        vars(self).update(rates)
        for name in {"m", "a", "v"} & set(vars(self)):
            delattr(self, name)
        for name in names:
            setattr(self, name, flat.zeros())
        self.vectors = names
        super().load_state_dict({"vectors": own, "scalars": scalars})
        self.projection.load_state_dict(
            {"vectors": within(state["vectors"], "projection."), "scalars": scalars["projection"]}
        )
        self.progress = Progress(**scalars["progress"], gammas=self.projection.gammas, lambdas=self.projection.lambdas)
        self.switch_event = SwitchEvent(**event) if event else None
