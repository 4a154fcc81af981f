"""The answer in three sentences, put together from the words of the claims: for a student, not for a statistician."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from minidl.study.analysis import Block
from minidl.study.claims import BOTH, COSINE, CUT, LOSS, SPEED, SWITCH, TITLE, Claim
from minidl.study.statistics import BETTER, EQUIVALENT, OPEN, WORSE


def answer(blocks: Sequence[Block], keys: Collection[str]) -> list[str]:
    """Three sentences on the regimes that deserve their names. keys: of the contestants that take part."""
    counted = [block for block in blocks if not block.misses and block.verdicts]
    if not {TITLE.a, TITLE.b} <= set(keys):
        return ["This study does not ask whether a switch does more than a cut of the rate; what it asks stands below."]
    if not any(block.word(TITLE) for block in counted):
        return ["The runs that tell the switch from a cut of Adam's rate are not done yet."]
    title = tally(counted, TITLE)
    told = title[BETTER], title[EQUIVALENT] + title[WORSE]
    if not told[0] and not told[1]:
        first = "These runs cannot tell whether the switch from Adam to SGD does more than a cut of Adam's rate"
    elif told[0] > told[1]:
        first = "Mostly yes: the switch from Adam to SGD did more than a cut of Adam's rate"
    elif told[1] > told[0]:
        first = "Mostly no: the switch from Adam to SGD did not do more than a cut of Adam's rate"
    else:
        first = "It depends: the switch from Adam to SGD and a cut of Adam's rate each had their regimes"
    return [
        f"{first} ({spelled(title)}).",
        f"Beside Adam at a constant rate, a cut was {spelled(tally(counted, CUT))}, the switch "
        f"{spelled(tally(counted, SWITCH))}; beside Adam with a cosine, "
        f"the switch was {spelled(tally(counted, COSINE))}, "
        f"the switch with a cosine {spelled(tally(counted, BOTH))}.",
        "To a good validation accuracy the switch was, beside the cut, "
        f"{spelled(tally(counted, _same(TITLE, SPEED)), sooner=True)}; its test loss was "
        f"{spelled(tally(counted, _same(TITLE, LOSS)))}.",
    ]


def _same(claim: Claim, measure: str) -> Claim:
    return Claim(claim.text, claim.a, claim.b, measure)


def tally(blocks: Sequence[Block], claim: Claim) -> dict[str, int]:
    """In how many regimes each word was found."""
    words = [block.word(claim) for block in blocks]
    return {word: words.count(word) for word in (BETTER, EQUIVALENT, WORSE, OPEN)}


def spelled(counts: dict[str, int], sooner: bool = False) -> str:
    """Such as: better in 2 of 5 regimes, equivalent in 1, undecided in 2."""
    names = {BETTER: "sooner" if sooner else "better", WORSE: "later" if sooner else "worse", OPEN: "undecided"}
    total = sum(counts.values())
    parts = [f"{names.get(word, word)} in {n}" for word, n in counts.items() if n]
    if not parts:
        return "not compared"
    if total == 1:
        return parts[0].replace("in 1", "in the one regime")
    parts[0] += f" of {total} regimes"
    return ", ".join(parts)
