"""What the study claims, one sentence each, and whether the numbers bear it out.

A claim is a comparison that is fixed before any number is known. Each sentence here is put together from the result:
what holds, what does not, and where the opposite was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minidl.study.analysis import Block, correct
from minidl.study.statistics import Paired

HOLDS, OPPOSITE, OPEN = "holds", "the opposite holds", "not shown"


@dataclass(frozen=True)
class Claim:
    """Contestant `a` has a larger (sign +1) or smaller (sign -1) value of a measure than contestant `b`."""

    text: str
    a: str
    b: str
    measure: str = "test_accuracy"
    sign: int = 1


CLAIMS = (
    Claim("The switch does more than a cut of Adam's rate at the same step", "hybrid", "adam-cut"),
    Claim("A cut of Adam's rate, without a switch, beats Adam at a constant rate", "adam-cut", "adam"),
    Claim("The tailored hybrid beats Adam", "hybrid", "adam"),
    Claim("The tailored hybrid beats SGD", "hybrid", "sgd"),
    Claim("The tailored hybrid beats SGD with its rate cut at the same step", "hybrid", "sgd-cut"),
    Claim("Adam then SGD beats SGD then Adam", "hybrid", "sgd-adam"),
    Claim("The tailored hybrid beats Adam with a cosine schedule", "hybrid", "adam-cosine"),
    Claim("The tailored hybrid beats SGD with a cosine schedule", "hybrid", "sgd-cosine"),
    Claim("The tailored hybrid has a smaller generalization gap than Adam", "hybrid", "adam", "gap", -1),
    Claim("The tailored hybrid has a smaller test loss than Adam", "hybrid", "adam", "test_loss", -1),
    Claim("SWATS with a relative tolerance beats Adam", "swats-rel", "adam"),
    Claim("GNMT's recipe beats Adam", "gnmt", "adam"),
    Claim("Blend beats Adam", "blend", "adam"),
)


@dataclass(frozen=True)
class Verdict:
    """A claim in a regime: its comparison, a minus b."""

    claim: Claim
    regime: str
    comparison: Paired

    @property
    def word(self) -> str:
        if not self.comparison.holds:
            return OPEN
        return HOLDS if self.comparison.difference.mean * self.claim.sign > 0 else OPPOSITE


def judge(blocks: Sequence[Block]) -> list[list[Verdict]]:
    """The verdicts on each claim, one for each regime where both are there. Holm's family: all claims in a regime."""
    verdicts: list[list[Verdict]] = [[] for _ in CLAIMS]
    for block in blocks:
        found = [(i, c, block.compare(c.a, c.b, c.measure)) for i, c in enumerate(CLAIMS)]
        there = [(i, claim, comparison) for i, claim, comparison in found if comparison is not None]
        adjusted = correct([comparison for _, _, comparison in there])
        for (i, claim, _), comparison in zip(there, adjusted, strict=True):
            verdicts[i].append(Verdict(claim, block.regime.name, comparison))
    return verdicts


def sentence(verdicts: Sequence[Verdict]) -> str:
    """Whether a claim holds, in words, for all regimes together."""
    if not verdicts:
        return "There are no results for it yet."
    if len(verdicts) > 1 and all(v.word == OPEN for v in verdicts):
        return "It is not shown in any regime."
    parts = []
    for word, phrase in ((HOLDS, "it holds for"), (OPPOSITE, "the opposite holds for"), (OPEN, "it is not shown for")):
        names = [v.regime for v in verdicts if v.word == word]
        if names:
            parts.append(f"{phrase} {_all(names, len(verdicts))}")
    return _capital("; ".join(parts)) + "."


def _all(names: Sequence[str], of: int) -> str:
    if len(names) == of and of > 1:
        return "both regimes" if of == 2 else f"all {of} regimes"
    return listed([f"the {name}" for name in names])


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


# ---- the first paragraph ----


def answer(blocks: Sequence[Block]) -> list[str]:
    """Does a cut of Adam's rate do the same as the switch? In sentences; the first is the answer."""
    switch, cutting = judge(blocks)[:2]
    if not switch:
        return ["The runs that tell the switch from a cut of Adam's rate are not done yet."]
    better, worse, same = ([v for v in switch if v.word == word] for word in (HOLDS, OPPOSITE, OPEN))
    lines = [_first(len(better), len(worse), len(same))]
    for found, phrase in (
        (better, "the switch ends higher than the cut"),
        (worse, "the cut ends higher than the switch"),
        (same, "after correction for many tests, the two can't be told apart"),
    ):
        if found:
            cases = [f"{v.regime} ({points(v.comparison)})" for v in found]
            lines.append(f"{_capital(phrase)} for {listed(cases)}.")
    helped = [v for v in cutting if v.word == HOLDS]
    if cutting:
        where = "in no regime" if not helped else f"for {_all([v.regime for v in helped], len(cutting))}"
        lines.append(f"The cut alone gives Adam a higher test accuracy than a constant rate {where}.")
    if uncut := [f"the {block.regime.name}" for block in blocks if _uncut(block)]:
        lines.append(
            f"For {listed(uncut)} tuning found no cut better than none: there, the control is Adam at a constant rate."
        )
    return lines


def _uncut(block: Block) -> bool:
    """Whether the factor that suits the cut of Adam's rate best is 1."""
    entry = block.entry(CLAIMS[0].b)
    return entry is not None and float(entry.contestant.space.values(entry.tuned.best)["factor"]) >= 1


def _first(better: int, worse: int, same: int) -> str:
    of = better + worse + same
    if same == of:
        return (
            "As far as these runs can tell, yes: Adam that goes on as Adam with its rate cut at the same step ends no "
            "differently from the switch to SGD."
        )
    if better == of:
        return "No: the switch to SGD gives more than a cut of Adam's rate at the same step, in every regime."
    if worse == of:
        return "A cut of Adam's rate does not the same but more: it ends above the switch to SGD in every regime."
    if not worse:
        return f"Not always: in {better} of {of} regimes the switch to SGD gives more than a cut of Adam's rate."
    if not better:
        return (
            f"As far as these runs can tell, yes, and in {worse} of {of} regimes it does more: nowhere does the switch "
            "to SGD end demonstrably above a cut of Adam's rate at the same step."
        )
    return (
        f"It depends: in {better} of {of} regimes the switch to SGD gives more than a cut of Adam's rate at the same "
        f"step, in {worse} it gives less."
    )


def points(comparison: Paired) -> str:
    """A difference of accuracies in percentage points with its interval."""
    d = comparison.difference
    return f"{100 * d.mean:+.2f} points, 95 % interval {100 * d.low:+.2f} to {100 * d.high:+.2f}"
