"""The study's questions, one comparison each, fixed before any result was known (tutorials/study/PLAN.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from minidl.study.contestants import Contestant
from minidl.study.regimes import Regime

ACCURACY, SPEED, GAP, LOSS = "accuracy", "speed", "gap", "test loss"
SIGNS = {ACCURACY: 1, SPEED: -1, GAP: -1, LOSS: -1}  # of a difference in which a is better
OTHER_MARGIN = 0.05  # of the run's length for speed; of the logarithm of a loss


@dataclass(frozen=True)
class Claim:
    """Contestant `a` against contestant `b` by one measure; the verdict is about a."""

    text: str
    a: str
    b: str
    measure: str = ACCURACY

    def margin(self, regime: Regime) -> float:
        """Differences below this do not matter."""
        return regime.margin if self.measure == ACCURACY else OTHER_MARGIN


TITLE = Claim("the switch against a cut of Adam's rate", "hybrid", "adam-cut")
CUT = Claim("a cut of Adam's rate against Adam at a constant rate", "adam-cut", "adam")
SWITCH = Claim("the switch against Adam at a constant rate", "hybrid", "adam")
COSINE = Claim("the switch against Adam with a cosine", "hybrid", "adam-cosine")
BOTH = Claim("the switch and then a cosine against Adam with a cosine", "hybrid-cosine", "adam-cosine")
TITLE_SPEED, TITLE_LOSS = replace(TITLE, measure=SPEED), replace(TITLE, measure=LOSS)

CLAIMS = (
    TITLE,
    SWITCH,
    CUT,
    COSINE,
    BOTH,
    Claim("the switch against SGD", "hybrid", "sgd"),
    Claim("the switch against SGD with a cosine", "hybrid", "sgd-cosine"),
    Claim("the switch and then a cosine against SGD with a cosine", "hybrid-cosine", "sgd-cosine"),
    Claim("Adam then SGD against SGD then Adam", "hybrid", "sgd-adam"),
    Claim("an average of Adam's weights against the switch", "adam-ema", "hybrid"),
    Claim("schedule-free Adam against the switch", "schedule-free", "hybrid"),
    Claim("Adam, linear to zero, against the switch", "adam-linear", "hybrid"),
    Claim("SWATS with a window against Adam", "swats-window", "adam"),
    Claim("SWATS per tensor against Adam", "swats-tensor", "adam"),
    Claim("GNMT's recipe against Adam", "gnmt", "adam"),
    Claim("Blend against Adam", "blend", "adam"),
    TITLE_SPEED,
    replace(SWITCH, measure=SPEED),
    replace(COSINE, measure=SPEED),
    replace(BOTH, measure=SPEED),
    Claim("the switch against SGD", "hybrid", "sgd", SPEED),
    replace(TITLE, measure=GAP),
    replace(SWITCH, measure=GAP),
    Claim("SGD against Adam", "sgd", "adam", GAP),
    TITLE_LOSS,
    replace(SWITCH, measure=LOSS),
    replace(BOTH, measure=LOSS),
)


def claims_for(contestants: Sequence[Contestant]) -> list[Claim]:
    """The claims about these contestants, including those that a user's own optimizer adds."""
    keys = {c.key for c in contestants}
    own = [
        Claim(f"{c.name} against {words}", c.key, other, measure)
        for c in contestants
        if c.block == "own"
        for measure, other, words in (
            (ACCURACY, "adam", "Adam"),
            (ACCURACY, "adam-cosine", "Adam with a cosine"),
            (ACCURACY, "hybrid", "the switch"),
            (SPEED, "adam", "Adam"),
            (LOSS, "adam", "Adam"),
        )
    ]
    return [claim for claim in (*own, *CLAIMS) if {claim.a, claim.b} <= keys]
