"""The answer in three sentences, put together from the words of the claims: for a student, not for a statistician.

What else the runs say of the switch stands beside it, in smaller letters.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import median

from minidl.study.analysis import Block, decided_before, tuned_again
from minidl.study.claims import BOTH, COSINE, CUT, LOSS, SPEED, SWITCH, TITLE, Claim
from minidl.study.statistics import BETTER, EQUIVALENT, OPEN, WORSE


def answer(blocks: Sequence[Block], keys: Collection[str]) -> list[str]:
    """Three sentences on the regimes that take part in it. keys: of the contestants of the study."""
    counted = _counted(blocks)
    if not {TITLE.a, TITLE.b} <= set(keys):
        return ["This study does not ask whether a switch does more than a cut of the rate; what it asks stands below."]
    if not any(block.word(TITLE) for block in counted):
        return ["The runs that tell the switch from a cut of Adam's rate are not done yet."]

    title, switch, cut = (tally(counted, claim) for claim in (TITLE, SWITCH, CUT))
    return [
        f"{_title(title)} ({spelled(title)}{_failed(counted)}).",
        f"Against Adam at a constant rate, the switch was {spelled(switch)}, and such a cut {spelled(cut)}.",
        f"Tuned on validation images, the switch came {_moments(counted)}.",
    ]


def details(blocks: Sequence[Block]) -> str:
    """What the answer leaves out: Adam with a cosine, speed, the test loss. Empty while there is no answer."""
    counted = _counted(blocks)
    if not any(block.word(TITLE) for block in counted):
        return ""
    cosine, both, speed, loss = (
        tally(counted, claim) for claim in (COSINE, BOTH, _same(TITLE, SPEED), _same(TITLE, LOSS))
    )
    return (
        f"Against Adam with a cosine, the switch was {spelled(cosine)}, and the switch with a cosine after it "
        f"{spelled(both)}. Beside the cut, the switch's steps to a good validation accuracy were "
        f"{spelled(speed, way=True)}{_early(counted)}, and its test loss was {spelled(loss)}. Undecided means that "
        f"these runs cannot tell.{_luck(counted)}"
    )


def _early(blocks: Sequence[Block]) -> str:
    """Where the speed of the switch beside the cut was decided before either came."""
    claim = _same(TITLE, SPEED)
    names = [f"the {block.regime.name}" for block in blocks if block.word(claim) and decided_before(block, claim)]
    return f" (in {_list(names)} most runs were there before either had come)" if names else ""


def _luck(blocks: Sequence[Block]) -> str:
    """What tuning the same rule once more has brought."""
    found = [100 * difference for block in blocks for _, difference in tuned_again(block)]
    if not found:
        return ""
    return (
        f" How much is luck: where SWATS never switched it is Adam, tuned once more, and it ended {min(found):+.2f} to "
        f"{max(found):+.2f} points from Adam."
    )


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _counted(blocks: Sequence[Block]) -> list[Block]:
    return [block for block in blocks if block.counted and block.verdicts]


def _title(counts: dict[str, int]) -> str:
    """What the regimes say of the title's question, as the plan has it: a yes or no by most of those that tell."""
    yes, no, undecided = counts[BETTER], counts[EQUIVALENT] + counts[WORSE], counts[OPEN]
    if not yes and not no:
        return "These runs cannot tell whether the switch from Adam to SGD does more than a cut of Adam's rate"
    if yes == no:
        return "It depends: the switch from Adam to SGD and a cut of Adam's rate each had their regimes"
    word = "yes" if yes > no else "no"
    if undecided >= yes + no:
        begin = f"Where these runs can tell, {word}"
    elif undecided or (yes and no):
        begin = f"Mostly {word}"
    else:
        begin = word.capitalize()
    return f"{begin}: the switch from Adam to SGD {'did' if yes > no else 'did not do'} more than a cut of Adam's rate"


def _failed(blocks: Sequence[Block]) -> str:
    """Where the switch is better only than a cut that is worse than no cut at all."""
    count = sum(block.word(TITLE) == BETTER and block.word(CUT) == WORSE for block in blocks)
    return f"; but in {count} the cut did worse than Adam without one, and was no control" if count else ""


def _moments(blocks: Sequence[Block]) -> str:
    """When the tuned switch came, from the earliest to the latest regime, and at what rates SGD went on."""
    events = [
        [(r["switch"]["step"] / block.regime.steps, r["switch"]["lr"]) for r in block.entries[TITLE.a].results()]
        for block in blocks
        if TITLE.a in block.entries and all(r["switch"] for r in block.entries[TITLE.a].results())
    ]
    if not events:
        return "at no one moment"
    moments = sorted(median(at for at, _ in found) for found in events)
    rates = sorted(median(rate for _, rate in found) for found in events)
    return f"after {_range([100 * at for at in moments])} % of the run, with SGD's rate at {_range(rates)}"


def _range(values: Sequence[float]) -> str:
    low, high = f"{values[0]:.2g}", f"{values[-1]:.2g}"
    return low if low == high else f"{low} to {high}"


def _same(claim: Claim, measure: str) -> Claim:
    return Claim(claim.text, claim.a, claim.b, measure)


def tally(blocks: Sequence[Block], claim: Claim) -> dict[str, int]:
    """In how many regimes each word was found."""
    words = [block.word(claim) for block in blocks]
    return {word: words.count(word) for word in (BETTER, EQUIVALENT, WORSE, OPEN)}


def spelled(counts: dict[str, int], way: bool = False) -> str:
    """Such as: better in 2 of 5 regimes, equivalent in 1, undecided in 2. Or: better in all 5 regimes."""
    names = {BETTER: "fewer", WORSE: "more", EQUIVALENT: "as many"} if way else {}
    total, words = sum(counts.values()), {OPEN: "undecided"} | names
    parts = [f"{words.get(word, word)} in {n}" for word, n in counts.items() if n]
    if not parts:
        return "not compared"
    if len(parts) == 1:
        (only,) = (words.get(word, word) for word, n in counts.items() if n)
        return f"{only} in {'the one regime' if total == 1 else f'all {total} regimes'}"
    parts[0] += f" of {total} regimes"
    return ", ".join(parts)
