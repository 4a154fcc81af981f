"""From results to comparisons: every contestant against SGD and against Adam, and the controls against the hybrid.

Within a regime and a measure, all comparisons with the two references are one family for Holm's correction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from minidl.study.contestants import Contestant
from minidl.study.regimes import Regime
from minidl.study.results import Result, final_results
from minidl.study.statistics import Mean, Paired, Reached, holm, log_rank, mean_interval, paired, time_to
from minidl.study.study import Plan, Tuned

REFERENCES = ("sgd", "adam")
COMPARED = ("test_accuracy", "test_loss", "gap", "area")  # the measures that are compared
STEPS, SECONDS = 0, 1  # the two clocks of Result.reached


@dataclass(frozen=True)
class Entry:
    """A contestant in a regime: its tuning, its final runs, and the comparisons with the references.

    against  (reference, measure) -> comparison, positive where this contestant's value is the larger
    """

    contestant: Contestant
    tuned: Tuned
    results: tuple[Result, ...]
    against: dict[tuple[str, str], Paired]

    def values(self, measure: str) -> list[float]:
        return [result.measures[measure] for result in self.results]

    def mean(self, measure: str) -> Mean:
        return mean_interval(self.values(measure))

    @property
    def diverged(self) -> int:
        """How many of the final runs did."""
        return sum(result.diverged for result in self.results)

    def times(self, level: int, clock: int) -> tuple[list[float], list[bool]]:
        """For each run the time of the regime's level on that clock, or where it ended without; and which it is."""
        at = [result.reached[level] for result in self.results]
        times = [(hit or result.last)[clock] for hit, result in zip(at, self.results, strict=True)]
        return [float(t) for t in times], [hit is not None for hit in at]

    def reached(self, level: int, clock: int) -> Reached:
        """Time to a level over the runs."""
        return time_to(*self.times(level, clock))


@dataclass(frozen=True)
class Block:
    """A regime with all its entries, in the order of the study."""

    regime: Regime
    entries: tuple[Entry, ...]

    def entry(self, key: str) -> Entry | None:
        """The entry of a contestant; None if it does not take part or is not done."""
        return next((e for e in self.entries if e.contestant.key == key), None)

    def compare(self, a: str, b: str, measure: str) -> Paired | None:
        """Contestant a against b, seed by seed, without correction; None where one is missing or not done."""
        first, second = self.entry(a), self.entry(b)
        return None if first is None or second is None else compare(first.results, second.results, measure)

    def sooner(self, a: str, b: str, level: int) -> float | None:
        """p of the log-rank test between the steps that a and b need to a level."""
        first, second = self.entry(a), self.entry(b)
        if first is None or second is None:
            return None
        return log_rank(*first.times(level, STEPS), *second.times(level, STEPS))


def compare(a: tuple[Result, ...], b: tuple[Result, ...], measure: str) -> Paired | None:
    """Over the seeds that both have; None if these are fewer than two."""
    there = {result.seed: result for result in b}
    pairs = [(r.measures[measure], there[r.seed].measures[measure]) for r in a if r.seed in there]
    return paired([x for x, _ in pairs], [y for _, y in pairs]) if len(pairs) > 1 else None


def analyse(plan: Plan) -> list[Block]:
    """All regimes, with the contestants of which at least two final runs are done."""
    return [_block(plan, regime) for regime in plan.study.regimes]


def _block(plan: Plan, regime: Regime) -> Block:
    entries = []
    for contestant in plan.study.contestants:
        tuned, results = plan.tuned(regime, contestant), tuple(final_results(plan, regime, contestant))
        if tuned is not None and len(results) > 1:
            entries.append(Entry(contestant, tuned, results, {}))
    block = Block(regime, tuple(entries))
    for measure in COMPARED:
        family: list[tuple[Entry, str, Paired]] = []
        for i, reference in enumerate(REFERENCES):
            for entry in entries:
                key = entry.contestant.key
                if key in REFERENCES[: i + 1]:  # SGD against Adam is one test, not two
                    continue
                if comparison := block.compare(key, reference, measure):
                    family.append((entry, reference, comparison))
        adjusted = correct([comparison for *_, comparison in family])
        for (entry, reference, _), comparison in zip(family, adjusted, strict=True):
            entry.against[reference, measure] = comparison
    return block


def correct(family: list[Paired]) -> list[Paired]:
    """The comparisons of a family with Holm's corrected p."""
    return [replace(c, p_holm=p) for c, p in zip(family, holm([c.p for c in family]), strict=True)]
