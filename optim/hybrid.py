"""Two optimizers in sequence: an adaptive one for fast early progress, then SGD for a solution that generalizes.

Hybrid runs the first rule until the switch condition is met, after a whole step or a report; from then on the second
rule continues from the same weights. That leaves two choices: the second rule's learning rate (`lr_after`), and whether
it starts with momentum (`carry`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from minidl.backend import Array, to_numpy
from minidl.optim.adam import Adam
from minidl.optim.checks import at_least, number, parts_of, within
from minidl.optim.custom import options_of
from minidl.optim.explain import Look, Term
from minidl.optim.flat import FlatParameters
from minidl.optim.groups import ParamsOrGroups, read_groups, scaled
from minidl.optim.optimizer import Optimizer, State, SwitchEvent
from minidl.optim.phases import LrAfter, check_carry, check_decay, check_rules, checked_rate
from minidl.optim.progress import Progress
from minidl.optim.projection import Projection, dots64
from minidl.optim.rule import Rule
from minidl.optim.sgd import SGD
from minidl.optim.switch import Condition, Test, as_condition
from minidl.optim.switch_state import sum_of_conditions
from minidl.optim.verdict import verdict_of


class Hybrid(Optimizer):
    """`first` until `switch` is met, then `then`.

    params    the model's parameters, or groups of them (see Rule); a group's "lr" is on the first rule's scale, and
              keeps its ratio after the switch
    first     an unbound rule, such as Adam(lr=1e-3)
    then      an unbound rule, such as SGD(lr=0.1, momentum=0.9)
    switch    a condition (see switch.py) or any function of Progress that returns a bool; asked after each whole
              step and each report, so no step is ever split between the two
    lr_after  the learning rate of `then`:
              None         its own
              a number     that one
              "projected"  (1 - mu) Lambda, SWATS's rate for an SGD with momentum mu (Keskar & Socher 2017, sec. 2.2)
              "matched"    |p| / |g|, at which SGD's first step, for the last gradient, would be as long as the last
                           step. SWATS's authors tried it as their gamma, without success (sec. 2.1)
              a function   of Progress that returns the rate
              If `then` has a schedule, it multiplies this rate: write it with a peak of 1. With groups, g above is
              multiplied by each group's factor, as SGD's steps are
    carry     "nothing" (default): `then` starts fresh, as in SWATS, because Adam's average belongs to steps of another
              shape. "momentum": SGD's v starts at m / ((1 - b1^t) (1 - mu)), the sum that it would have if every
              gradient had been Adam's mean gradient

    decay_after    the weight decay of `then`. None: its own. "matched", for AdamW and an SGD with weight decay: it
                   shrinks the weights as much as the first rule's last step did, by lr lambda per step, at the peak of
                   `then`'s schedule (a warm-up starts below it). The same lambda for AdamW and SGD would not do this:
                   with lr 1e-3, and then lr 0.1 and mu 0.9, the weights shrink a thousand times as fast

    progress       steps, epochs, reports, and gamma and Lambda of each step where the condition or rate needs them
    switch_event   None until the switch

    Raises ValueError for choices that do not go together.
    """

    def __init__(
        self,
        params: ParamsOrGroups,
        first: Rule,
        then: Rule,
        switch: Test,
        lr_after: LrAfter = None,
        carry: str = "nothing",
        decay_after: str | None = None,
    ) -> None:
        check_rules(first, then)
        self.first, self.then = first, then
        self.switch: Condition = as_condition(switch)
        self.lr_after = checked_rate(lr_after, then)
        self.carry, self.decay_after = carry, decay_after
        check_carry(carry, first, then, lr_after)
        check_decay(decay_after, first, then)
        self.progress = Progress()
        self.projection: Projection | None = None
        if self.switch.needs_projection or lr_after == "projected" or callable(lr_after):
            self.projection = Projection(first.betas[1] if isinstance(first, Adam) else 0.999)
            self.progress.gammas, self.progress.lambdas = self.projection.gammas, self.projection.lambdas
        self._length_ratio: float | None = None  # |p| / |g| of the last step, for "matched" ...
        self._squares: Array | None = None  # ... once p.p and g.g have been read from the device
        self._measured: Array | None = None  # where update() leaves the two
        self.outside = 1.0  # a factor on the rate of `then`, by a scheduler of PyTorch: see torch.py
        self.switch_step: int | None = None  # steps before the switch; known to `then`'s schedule
        params, groups = read_groups(params, first.lr_or_schedule)
        first.groups = then.groups = groups
        if decay_after and first.weight_decay > 0:  # _decide scales from then's decay to first's: these are first's
            then.groups = [group.times(then.weight_decay / first.weight_decay) for group in groups]
        self._as_built = options_of(first) | first.rates()
        self._in_switch = sum_of_conditions(self.switch)
        self.flat: FlatParameters = FlatParameters.of(params)
        self.current = first
        first.bind(self.flat)
        if self.projection is not None or lr_after == "matched":
            first.keep_step()
        first._taken = then._taken = True

    # ---- the step and the switch ------------------------------------------------------------------------------

    @property
    def phase(self) -> str:
        return self.current.phase

    @property
    def active(self) -> Rule:
        return self.current

    @property
    def lr(self) -> float:
        return self.current.lr

    @lr.setter
    def lr(self, rate: float) -> None:
        self.current.lr = rate

    def advance(self) -> None:
        self.current.advance()

    def update(self) -> None:
        self.current.update()
        if self.switch_event is None:
            g = scaled(self.first, self.flat.g)
            if self.projection is not None:
                self.projection.measure(self.first.keep_step(), g)
            if self.lr_after == "matched":
                p = self.first.keep_step()
                self._measured = dots64((p, p), (g, g))

    def settle(self) -> None:
        self.current.settle()
        self.progress.step += 1
        if self.switch_event is None:
            if self.projection is not None:
                self.projection.add()
            if self.lr_after == "matched":
                self._squares = self._measured
            self._decide()

    def report(self, epoch: int, **metrics: float) -> None:
        if epoch < 1:  # else a condition on epochs would be met an epoch late
            raise ValueError(f"report(epoch) is given the number of finished epochs, 1 after the first, not {epoch}")
        self.current.report(epoch, **metrics)
        self.progress.epoch = epoch
        self.progress.reports.append({name: float(value) for name, value in metrics.items()})
        if self.switch_event is None:
            self._decide()

    def _decide(self) -> None:
        if not self.switch(self.progress):
            return
        rate = self._rate_after()
        if isinstance(self.lr_after, str) and (rate is None or not 0 < rate < math.inf):
            return  # a projected rate <= 0 would climb: wait until there is a positive one
        if callable(self.lr_after) and rate is not None:
            at_least("the learning rate that lr_after returned", rate, 0)
        reason = self.switch.reason(self.progress)
        self.switch_step = self.progress.step
        self._start_then()
        if rate is not None:
            self.then.set_peak(rate)
        peak = getattr(self.then.lr_or_schedule, "peak", self.then.lr) if rate is None else rate
        if self.decay_after and peak > 0:
            assert isinstance(self.then, SGD)  # see phases.py
            shrinks = peak * self.outside / (1 - self.then.momentum) * self.then.weight_decay
            self.then.scale_decay(self.first.rate * self.first.weight_decay / shrinks)
        self.switch_event = SwitchEvent(self.switch_step, self.progress.epoch, self.then.lr, reason)

    def _rate_after(self) -> float | None:
        if self.lr_after is None:
            return None
        if callable(self.lr_after):
            return number("the learning rate that lr_after returned", self.lr_after(self.progress))
        if not isinstance(self.lr_after, str):
            return float(self.lr_after)
        assert isinstance(self.then, SGD)  # see phases.py
        mu = self.then.momentum
        if self.lr_after == "projected":
            return None if self.progress.lam is None else (1 - mu) * self.progress.lam
        ratio = self._read_length_ratio()
        if ratio is None:
            return None
        return ratio / (1 + mu if self.then.nesterov else 1)  # Nesterov's first step is (1 + mu) g

    def _read_length_ratio(self) -> float | None:
        """|p| / |g| of the last step; waits for the device if it has not been read yet."""
        if self._squares is not None:
            pp, gg = to_numpy(self._squares).tolist()
            self._length_ratio, self._squares = math.sqrt(pp / gg) if gg > 0 else None, None
        return self._length_ratio

    def _bind(self, rule: Rule) -> None:
        """Bind the rule of the phase that begins, or that a state goes back to."""
        if rule is self.first:
            vars(rule).update(self._as_built)
        else:
            self._before = options_of(rule) | rule.rates()  # to go back to
        rule.bind(self.flat)

    def _start_then(self) -> None:
        self._bind(self.then)
        if self.carry == "momentum":
            assert isinstance(self.first, Adam)
            assert isinstance(self.then, SGD)
            unbiased = 1 - self.first.betas[0] ** self.first.t
            self.flat.xp.multiply(self.first.m, 1 / (unbiased * (1 - self.then.momentum)), out=self.then.v)
        self.first.release()  # its vectors are no longer needed
        self.current = self.then

    def terms(self, look: Look) -> list[Term]:
        terms = look.terms()
        if look.rule is not self.then or self.lr_after != "projected" or not self.switch_step:
            return terms
        assert isinstance(self.then, SGD)
        mu, lam = self.then.momentum, self.progress.lambdas[self.switch_step - 1]
        t, lr = (term for term in terms if term.symbol in ("t", "lr"))
        if lr.value is not look.lr or look.lr != (1 - mu) * lam:  # changed by groups, a schedule or the user
            return terms
        rest = [term for term in terms if term.symbol not in ("t", "lr", "mu")]
        return [
            t,
            Term("mu", mu, "", "momentum"),
            Term("Lambda", lam, "", "the SGD rate projected from Adam's steps"),
            lr._replace(formula="(1 - mu) * Lambda"),
            *rest,
        ]

    # ---- reports and state ---------------------------------------------------------------------------------

    def verdict(self) -> str:
        """One sentence: when and why it switched and at what rate, or that it never did, and how close it came."""
        sentence = verdict_of(self.switch_event, self.phase, self.progress, str(self.switch), self.projection)
        if self.never_heard and self.switch.needs_reports:
            sentence += "; no epoch was reported: call optimizer.report(epoch, val_loss=...) after each"
        return sentence

    @property
    def never_heard(self) -> bool:
        """Whether report() has not been called yet."""
        return self.progress.epoch == 0 and not self.progress.reports

    def state_dict(self) -> State:
        rule = self.current.state_dict()
        projection = self.projection.state_dict() if self.projection else {"vectors": {}, "scalars": {}}
        reports = [dict(report) for report in self.progress.reports]
        if sum_of_conditions(self.switch) != self._in_switch:
            self.flat.tell_once(
                "switch",
                f"the condition {self.switch} changes what it keeps in self, which is not saved, so a resumed run "
                "would start over with it: compute it from progress, as in progress.history('val_loss')",
            )
        return {
            "vectors": {
                **{f"rule.{name}": vector for name, vector in rule["vectors"].items()},
                **{f"projection.{name}": vector for name, vector in projection["vectors"].items()},
            },
            "scalars": {
                "rule": "hybrid",
                "current": rule["scalars"],
                "projection": projection["scalars"],
                "progress": {"step": self.progress.step, "epoch": self.progress.epoch, "reports": reports},
                "length_ratio": self._read_length_ratio(),
                "switch": self.switch_event and self.switch_event._asdict(),
                **({"last_rate": self.first.rate} if self.decay_after else {}),
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vectors, scalars = parts_of(state)
        if scalars["rule"] != "hybrid":
            raise ValueError(f"this state is of the rule '{scalars['rule']}', this optimizer is a hybrid: "
                             "build the one that was saved")  # fmt: skip
        if bool(scalars["projection"]) != (self.projection is not None):
            raise ValueError("this state was saved with another switch or lr_after: build the Hybrid as it was then")
        rule, other = (self.first, self.then) if scalars["switch"] is None else (self.then, self.first)
        if rule.flat is None:
            self._bind(rule)
        rule.load_state_dict({"vectors": within(vectors, "rule."), "scalars": scalars["current"]})
        if other.flat is not None:
            other.release()
            if other is self.then:  # the switch is still to come
                vars(other).update(self._before)
        self.current = rule
        progress = scalars["progress"]
        self.progress.step, self.progress.epoch = progress["step"], progress["epoch"]
        self.progress.reports = [dict(report) for report in progress["reports"]]
        if self.projection is not None:
            self.projection.load_state_dict(
                {"vectors": within(vectors, "projection."), "scalars": scalars["projection"]}
            )
            self.progress.gammas, self.progress.lambdas = self.projection.gammas, self.projection.lambdas
        self._length_ratio, self._squares = scalars["length_ratio"], None
        self.first.rate = scalars.get("last_rate", 0.0)
        self.switch_event = SwitchEvent(**scalars["switch"]) if scalars["switch"] else None
        self.switch_step = self.switch_event.step if self.switch_event else None
