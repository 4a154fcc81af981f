"""From runs to conclusions: each regime's final runs, its levels, and the comparisons with their verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from minidl.data.batches import steps_per_epoch
from minidl.study.claims import ACCURACY, GAP, LOSS, SIGNS, SPEED, Claim, claims_for
from minidl.study.contestants import Contestant, moment
from minidl.study.regimes import Regime
from minidl.study.statistics import OPEN, Interval, first_above, first_below, simultaneous, trimmed_mean
from minidl.study.store import Record
from minidl.study.study import MAPS, Plan, collapsed
from minidl.study.tuning import Tuned

REFERENCES = ("adam", "sgd")  # their final runs must show that a regime deserves its name
EASIER = 1.25  # the level for speed allows this many times the error of the weakest tuned winner
REACHED = 0.75  # share of the pairs that must reach a level: one of each pair for speed, both at equal training loss
ADAMS = ("swats", "swats-rel", "swats-tensor")  # until they switch, they are Adam, tuned from the same settings


@dataclass(frozen=True)
class Entry:
    """A contestant in a regime.

    tried      validation accuracy of every setting with the first tuning seed;   tuning  the winner's tuning runs
    finals     the final runs by seed;   collapsed  how many of them collapsed
    seeds      how many final runs there are once all are done and none has crashed
    """

    contestant: Contestant
    tuned: Tuned
    tried: tuple[float, ...]
    tuning: tuple[Record, ...]
    finals: dict[int, Record]
    collapsed: int
    seeds: int

    def results(self) -> list[dict[str, Any]]:
        """The results of the final runs, in the order of their seeds."""
        return [self.finals[seed]["result"] for seed in sorted(self.finals)]

    def middle(self, name: str) -> float:
        """The trimmed mean of one field of the final results."""
        return trimmed_mean([result[name] for result in self.results()])

    def tuned_accuracy(self) -> float:
        """The mean validation accuracy of the winner's tuning runs."""
        return sum(record["result"]["val_accuracy"] for record in self.tuning) / len(self.tuning)

    def tuned_loss(self) -> float | None:
        """The mean of those runs' last training losses; None if all diverged."""
        results = [record["result"] for record in self.tuning]
        found = [r["curve"][-1]["train_loss"] for r in results if r["diverged"] is None]
        return sum(found) / len(found) if found else None


@dataclass(frozen=True)
class Levels:
    """From tuning runs alone: the validation accuracy to reach and the training loss to compare at; None if none."""

    accuracy: float | None
    train_loss: float | None


@dataclass(frozen=True)
class Verdict:
    """A claim in a regime: the difference (positive is better) and the word for it."""

    claim: Claim
    regime: Regime
    interval: Interval
    word: str


@dataclass(frozen=True)
class Block:
    """A regime with its entries, in the order of the study.

    misses    the requirements it does not meet, in words; empty if it deserves its name
    complete  whether no final run is still to come, so the verdicts are final
    maps      by kind: {(moment, value): records}
    """

    regime: Regime
    entries: dict[str, Entry]
    levels: Levels
    misses: tuple[str, ...]
    complete: bool
    verdicts: tuple[Verdict, ...]
    maps: dict[str, dict[tuple[float, float], list[Record]]]

    @property
    def counted(self) -> bool:
        """Whether it takes part in the answer."""
        return self.complete and bool(self.entries) and not self.misses

    def word(self, claim: Claim) -> str | None:
        """The verdict on a claim; None if it was not asked."""
        return next((v.word for v in self.verdicts if v.claim == claim), None)


def analyse(plan: Plan) -> list[Block]:
    """All regimes, with the contestants whose final runs started. Intervals are simultaneous over all that count."""
    drafts = [_draft(plan, regime) for regime in plan.study.regimes]
    counted = [i for i, block in enumerate(drafts) if block.counted]
    asked = [_asked(draft.entries) for draft in drafts]
    differences = [[difference(d, claim) for claim in claims] for d, claims in zip(drafts, asked, strict=True)]
    found = dict(zip(counted, simultaneous([differences[i] for i in counted]), strict=True))
    for i in range(len(drafts)):
        if i not in found:  # outside the family: intervals of its own, and no part in the headlines
            found[i] = simultaneous([differences[i]])[0]
    return [
        replace(d, verdicts=tuple(_verdict(c, d.regime, x) for c, x in zip(asked[i], found[i], strict=True)))
        for i, d in enumerate(drafts)
    ]


def _asked(entries: dict[str, Entry]) -> list[Claim]:
    """The claims about contestants that are there."""
    return claims_for([entry.contestant for entry in entries.values()])


def _verdict(claim: Claim, regime: Regime, interval: Interval) -> Verdict:
    word = interval.word(claim.margin(regime)) if math.isfinite(interval.estimate) else OPEN
    return Verdict(claim, regime, interval, word)


def _draft(plan: Plan, regime: Regime) -> Block:
    entries = {}
    for contestant in plan.study.taking_part(regime):
        tuned = plan.tuned(regime, contestant)
        finals = {record["run"]["seed"]: record for record in plan.records(plan.final_runs(regime, contestant, tuned))}
        if tuned.finished and len(finals) > 1:
            winner = contestant.recipe(tuned.winner)
            tuning = tuple(plan.records(plan.tuning_runs(regime, winner, plan.study.rounds[-1][1])))
            first = [plan.tuning_runs(regime, contestant.recipe(point), 1)[0] for point in tuned.points]
            tried = tuple(record["result"]["val_accuracy"] for record in plan.records(first))
            count = sum(collapsed(record, regime) for record in finals.values())
            entries[contestant.key] = Entry(contestant, tuned, tried, tuning, finals, count, len(plan.study.seeds))
    maps = {kind: {at: plan.records(runs) for at, runs in plan.map_runs(regime, kind).items()} for kind in MAPS}
    levels = _levels(entries, _asked(entries), 1 / plan.dataset.classes)
    return Block(regime, entries, levels, tuple(_misses(regime, entries)), _complete(plan, regime), (), maps)


def _complete(plan: Plan, regime: Regime) -> bool:
    """Whether every final run of a regime is known, and done or crashed."""
    contestants = [(c, plan.tuned(regime, c)) for c in plan.study.taking_part(regime)]
    finals = [run for c, tuned in contestants for run in plan.final_runs(regime, c, tuned)]
    ended = all(plan.store.get(run) or plan.store.error(run) for run in finals)
    return ended and all(tuned.finished for _, tuned in contestants)


def _levels(entries: dict[str, Entry], claims: Sequence[Claim], guessing: float) -> Levels:
    """The levels of a regime. The accuracy is None if it is at most `guessing`, which every run reaches from the start.

    A user's own optimizer does not change a level: the verdicts on the others would change with it.
    """

    def involved(measure: str) -> list[Entry]:
        keys = sorted({k for c in claims if c.measure == measure for k in (c.a, c.b)})
        return [entries[key] for key in keys if entries[key].contestant.block != "own"]

    speed, gap = involved(SPEED), involved(GAP)
    accuracy = 1 - EASIER * (1 - min((e.tuned_accuracy() for e in speed), default=0.0))
    loss = max((loss for e in gap if (loss := e.tuned_loss()) is not None), default=None)
    return Levels(accuracy if accuracy > guessing else None, loss)


def _misses(regime: Regime, entries: dict[str, Entry]) -> list[str]:
    """The requirements that a regime does not meet, in words."""
    shows, found = regime.shows, []
    for key in REFERENCES:
        if key not in entries:
            continue
        train, val, test = (entries[key].middle(f"{part}_accuracy") for part in ("train", "val", "test"))
        for words, value, (low, high), unit in (
            ("training accuracy", train, shows.train, "%"),
            ("gap", train - val, shows.gap, "points"),
            ("test accuracy", test, shows.test, "%"),
        ):
            if not low <= value <= high:
                found.append(f"{key}'s {words} is {100 * value:.2f}, not {100 * low:g} to {100 * high:g} {unit}")
    return found


# ---- what is compared -----------------------------------------------------------------------------------------------


def difference(block: Block, claim: Claim) -> list[float]:
    """a minus b for each seed of the regime, positive where a is better; NaN where the comparison can't be made.

    To twelve decimals: rounding errors beyond that would make equal differences unequal.
    """
    a, b = block.entries[claim.a].finals, block.entries[claim.b].finals
    seeds = sorted(a.keys() & b.keys())
    x = [measured(a[seed], claim.measure, block.levels) for seed in seeds]
    y = [measured(b[seed], claim.measure, block.levels) for seed in seeds]
    found = [round(SIGNS[claim.measure] * (p - q), 12) for p, q in zip(x, y, strict=True)]
    if claim.measure == SPEED:
        told = sum(min(p, q) < 1 for p, q in zip(x, y, strict=True))  # if neither gets there, neither is sooner
    else:
        told = sum(math.isfinite(d) for d in found)
    by_seed = dict(zip(seeds, found, strict=True)) if told >= REACHED * len(found) else {}
    every = sorted({seed for entry in block.entries.values() for seed in entry.finals})
    return [by_seed.get(seed, math.nan) for seed in every]


def measured(record: Record, measure: str, levels: Levels) -> float:
    """A final run by one measure.

    accuracy   on the test split;   test loss  the logarithm of the loss there
    speed      the share of the run until the level is reached; 1 if it never is
    gap        the logarithm of the validation loss where the training loss has fallen to its level; NaN if never
    """
    result = record["result"]
    curve = result["curve"]
    if measure == ACCURACY:
        return float(result["test_accuracy"])
    if measure == LOSS:
        return math.log(max(result["test_loss"], 1e-12))
    if measure == SPEED:
        level = math.inf if levels.accuracy is None else levels.accuracy
        reached = first_above([p["step"] for p in curve], [p["val_accuracy"] for p in curve], level)
        return 1.0 if reached is None else reached / planned_steps(record)
    if levels.train_loss is None:
        return math.nan
    losses = [p["train_loss"] for p in curve]
    there = first_below(losses, [math.log(max(p["val_loss"], 1e-12)) for p in curve], levels.train_loss)
    return math.nan if there is None else there


def planned_steps(record: Record) -> int:
    """The steps of a whole run, whether or not it diverged."""
    run = record["run"]
    return int(run["epochs"]) * steps_per_epoch(run["train_images"], run["batch_size"])


def decided_before(block: Block, claim: Claim) -> bool:
    """Whether, in most pairs, both reached the level for speed before either left its first learning rate."""
    moments = [step for key in (claim.a, claim.b) if (step := _moment(block, key)) is not None]
    first = min(moments, default=0)
    a, b = (block.entries[key].finals for key in (claim.a, claim.b))
    seeds = a.keys() & b.keys()
    reached = [max(measured(r[s], SPEED, block.levels) * planned_steps(r[s]) for r in (a, b)) for s in seeds]
    return sum(step <= first for step in reached) > len(seeds) / 2


def _moment(block: Block, key: str) -> int | None:
    """The step at which a contestant switches or cuts, where that was tuned."""
    entry = block.entries[key]
    at = dict(entry.contestant.recipe(entry.tuned.winner)).get("at")
    return None if at is None else moment(float(at), block.regime.steps)


def tuned_again(block: Block) -> list[tuple[Entry, float]]:
    """The SWATS variants that never switched in a final run, with their test accuracy minus Adam's, as in a claim.

    They are then Adam, tuned from the same settings: the difference shows how much the luck of one tuning can matter.
    """
    if "adam" not in block.entries:
        return []
    kinds = [key for key in ADAMS if key in block.entries]
    never = [key for key in kinds if not any(result["switch"] for result in block.entries[key].results())]
    against = {key: [d for d in difference(block, Claim("", key, "adam")) if math.isfinite(d)] for key in never}
    return [(block.entries[key], trimmed_mean(found)) for key, found in against.items() if found]
