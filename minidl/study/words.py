"""The answer in three sentences, composed from the verdicts on the claims: for a student, not for a statistician.

`details` has what else the runs say about the switch, in smaller print.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import median

from minidl.study.analysis import Block, decided_before, tuned_again
from minidl.study.claims import BOTH, COSINE, CUT, SWITCH, TITLE, TITLE_LOSS, TITLE_SPEED, Claim
from minidl.study.statistics import BETTER, EQUIVALENT, OPEN, WORSE


def answer(blocks: Sequence[Block], keys: Collection[str]) -> list[str]:
    """Three sentences on the regimes that count. keys: of the contestants of the study."""
    counted = _counted(blocks)
    if not {TITLE.a, TITLE.b} <= set(keys):
        return ["This study does not ask whether a switch does more than a learning-rate cut; what it asks is below."]
    if not any(block.word(TITLE) for block in counted):
        return ["The runs that compare the switch with a cut of Adam's learning rate are not done yet."]

    title, switch, cut = (tally(counted, claim) for claim in (TITLE, SWITCH, CUT))
    return [
        f"{_title(title)} ({spelled(title)}{_failed(counted)}).",
        f"Compared with Adam at a constant learning rate, the switch was {spelled(switch)}; "
        f"the cut was {spelled(cut)}.",
        f"Tuned on validation images, the switch came {_moments(counted)}.",
    ]


def details(blocks: Sequence[Block]) -> str:
    """What the answer leaves out: Adam with a cosine, speed, the test loss. Empty if there is no answer yet."""
    counted = _counted(blocks)
    if not any(block.word(TITLE) for block in counted):
        return ""
    cosine, both, speed, loss = (tally(counted, claim) for claim in (COSINE, BOTH, TITLE_SPEED, TITLE_LOSS))
    return (
        f"Compared with Adam on a cosine schedule, the switch was {spelled(cosine)}; the switch followed by a cosine "
        f"was {spelled(both)}. Compared with the cut, in steps to a good validation accuracy the switch was "
        f"{spelled(speed, way=True)}{_early(counted)}; in test loss it was {spelled(loss)}. Undecided means that "
        f"these runs cannot tell.{_luck(counted)}"
    )


def _early(blocks: Sequence[Block]) -> str:
    """The regimes in which the speed of switch and cut was decided before either came."""
    early = [block for block in blocks if block.word(TITLE_SPEED) and decided_before(block, TITLE_SPEED)]
    names = [f"the {block.regime.name}" for block in early]
    return f" (in {_list(names)} most runs got there before the switch or the cut)" if names else ""


def _luck(blocks: Sequence[Block]) -> str:
    """The differences that came from tuning the same rule again."""
    found = [100 * difference for block in blocks for _, difference in tuned_again(block)]
    if not found:
        return ""
    return (
        f" As a measure of luck: where SWATS never switched, it is Adam tuned again, and ended {min(found):+.2f} "
        f"to {max(found):+.2f} points from Adam."
    )


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _counted(blocks: Sequence[Block]) -> list[Block]:
    return [block for block in blocks if block.counted and block.verdicts]


def _title(counts: dict[str, int]) -> str:
    """The answer to the title's question, by the plan's rule: yes or no by the majority of regimes that can tell."""
    yes, no, undecided = counts[BETTER], counts[EQUIVALENT] + counts[WORSE], counts[OPEN]
    if not yes and not no:
        return "These runs cannot tell whether switching from Adam to SGD does more than cutting Adam's learning rate"
    if yes == no:
        half = "in half of the regimes that can tell"
        return f"It depends: {half}, switching from Adam to SGD did more than cutting Adam's learning rate"
    word = "yes" if yes > no else "no"
    if undecided >= yes + no:
        begin = f"Where these runs can tell, {word}"
    elif undecided or (yes and no):
        begin = f"Mostly {word}"
    else:
        begin = word.capitalize()
    return f"{begin}: switching from Adam to SGD did {'' if yes > no else 'no '}more than cutting Adam's learning rate"


def _failed(blocks: Sequence[Block]) -> str:
    """The regimes in which the switch only beats a cut that is worse than no cut."""
    count = sum(block.word(TITLE) == BETTER and block.word(CUT) == WORSE for block in blocks)
    return f"; but in {count} the cut did worse than Adam without one, and was no control" if count else ""


def _moments(blocks: Sequence[Block]) -> str:
    """When the tuned switch came, from the earliest to the latest regime, and SGD's learning rates after it."""
    events = [
        [(r["switch"]["step"] / block.regime.steps, r["switch"]["lr"]) for r in block.entries[TITLE.a].results()]
        for block in blocks
        if TITLE.a in block.entries and all(r["switch"] for r in block.entries[TITLE.a].results())
    ]
    if not events:
        return "at no single moment"
    moments = sorted(median(at for at, _ in found) for found in events)
    rates = sorted(median(rate for _, rate in found) for found in events)
    return f"after {_range([100 * at for at in moments])} % of the run, with SGD's learning rate at {_range(rates)}"


def _range(values: Sequence[float]) -> str:
    low, high = f"{values[0]:.2g}", f"{values[-1]:.2g}"
    return low if low == high else f"{low} to {high}"


def tally(blocks: Sequence[Block], claim: Claim) -> dict[str, int]:
    """The number of regimes with each verdict."""
    words = [block.word(claim) for block in blocks]
    return {word: words.count(word) for word in (BETTER, EQUIVALENT, WORSE, OPEN)}


def spelled(counts: dict[str, int], way: bool = False) -> str:
    """For example: better in 2 of 5 regimes, equivalent in 1, undecided in 2. Or: better in all 5 regimes."""
    names = {BETTER: "faster", WORSE: "slower", EQUIVALENT: "about as fast"} if way else {}
    total, words = sum(counts.values()), {OPEN: "undecided"} | names
    parts = [f"{words.get(word, word)} in {n}" for word, n in counts.items() if n]
    if not parts:
        return "not compared"
    if len(parts) == 1:
        (only,) = (words.get(word, word) for word, n in counts.items() if n)
        return f"{only} in {'the one regime' if total == 1 else f'all {total} regimes'}"
    parts[0] += f" of {total} regimes"
    return ", ".join(parts)
