"""The experiment: regimes x contestants x seeds, each contestant tuned first; and which runs that needs.

What to do next follows from the results so far and from nothing else, so a study that was interrupted goes on, and one
that was edited makes only the runs that are new.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minidl.data import Dataset
from minidl.study.contestants import Contestant
from minidl.study.regimes import Regime
from minidl.study.runs import Trial
from minidl.study.store import Record, Store
from minidl.study.tuning import settings
from minidl.training.search import Point, Rank, by_rank, rank

TAILORED_KEY = "hybrid"  # the contestant whose tuned moment the controls take over
WORST: Rank = (1.0, 0.0)  # of a setting whose run crashed: below any accuracy


@dataclass(frozen=True)
class Study:
    """An experiment.

    seeds, tuning_seeds  of the final runs and of the tuning; no seed may be in both
    grid, tuning_runs    settings that every contestant begins its tuning with, and has in all
    """

    name: str
    dataset: str
    regimes: tuple[Regime, ...]
    contestants: tuple[Contestant, ...]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    grid: int
    tuning_runs: int

    def __post_init__(self) -> None:
        if shared := set(self.seeds) & set(self.tuning_seeds):
            raise ValueError(f"the seeds {sorted(shared)} are both for tuning and for final runs: choose others")
        if len(self.seeds) < 2 or not self.tuning_seeds:
            raise ValueError("a study needs at least two seeds for its final runs, and one for tuning")
        if bare := [regime.name for regime in self.regimes if regime.val_images < 1]:
            raise ValueError(f"{bare[0]} has no validation images, by which its settings would be chosen: give it some")
        if not 1 <= self.grid <= self.tuning_runs:
            raise ValueError(f"needs 1 <= grid <= tuning_runs, got {self.grid} and {self.tuning_runs}")
        if any(c.follows for c in self.contestants) and TAILORED_KEY not in {c.key for c in self.contestants}:
            raise ValueError(f"the controls take the moment of {TAILORED_KEY!r}: let that take part too")

    def runs_of(self, regime: Regime) -> int:
        """How many runs a regime needs in all."""
        per_contestant = self.tuning_runs * len(self.tuning_seeds) + len(self.seeds)
        return per_contestant * len(self.contestants)


@dataclass
class Tuned:
    """How the tuning of a contestant in a regime stands.

    tried     the settings, in the order in which they were chosen;   ranks  of those that are known
    finished  whether there is nothing left to try
    """

    tried: list[Point]
    ranks: dict[Point, Rank | None]
    finished: bool
    at: float | None = None  # the moment taken over from the tailored hybrid

    @property
    def ordered(self) -> list[Point]:
        """The settings, best first."""
        return by_rank(self.ranks)

    @property
    def best(self) -> Point:
        return self.ordered[0]


@dataclass
class Plan:
    """A study on its data set, with the results so far: what is tuned, what is chosen, what is to be done."""

    study: Study
    dataset: Dataset
    store: Store
    given_up: set[str] = field(default_factory=set)  # keys of runs that crashed since the study was started

    def run(self, regime: Regime, recipe: dict[str, Any], seed: int, final: bool) -> Trial:
        """The description of one run."""
        return Trial(
            dataset=self.study.dataset,
            sha256=self.dataset.sha256,
            train_images=regime.train_images,
            val_images=regime.val_images,
            epochs=regime.epochs,
            batch_size=regime.batch_size,
            filters=regime.filters,
            hidden=regime.hidden,
            recipe=tuple(sorted(recipe.items())),
            seed=seed,
            final=final,
            evaluations=regime.evaluations,
        )

    def tuning_runs(self, regime: Regime, contestant: Contestant, point: Point, at: float | None) -> list[Trial]:
        """The runs by which a setting is judged."""
        recipe = contestant.recipe(point, at)
        return [self.run(regime, recipe, seed, final=False) for seed in self.study.tuning_seeds]

    def tuned(self, regime: Regime, contestant: Contestant) -> Tuned | None:
        """How the tuning stands. None: it waits for the moment that it is to take over."""
        at = None
        if contestant.follows:
            leader = next(c for c in self.study.contestants if c.key == TAILORED_KEY)
            led = self.tuned(regime, leader)
            if led is None or not led.finished:
                return None
            at = leader.recipe(led.best)["at"]
        ranks: dict[Point, Rank | None] = {}

        def judge(point: Point) -> Rank | None:
            ranks[point] = self._rank(self.tuning_runs(regime, contestant, point, at))
            return ranks[point]

        tried, finished = settings(contestant.space, self.study.grid, self.study.tuning_runs, judge)
        return Tuned(tried, ranks, finished, at)

    def _rank(self, runs: list[Trial]) -> Rank | None:
        """Mean validation accuracy, and of equals the smaller validation loss."""
        if any(run.key in self.given_up for run in runs):
            return WORST
        records = [record for run in runs if (record := self.store.get(run))]
        if len(records) < len(runs):
            return None
        accuracy, loss = (
            sum(record["result"][name] for record in records) / len(records) for name in ("val_accuracy", "val_loss")
        )
        return rank(accuracy, loss)

    def final_runs(self, regime: Regime, contestant: Contestant, tuned: Tuned | None) -> list[Trial]:
        """The runs that count; none while the tuning is not finished."""
        if tuned is None or not tuned.finished:
            return []
        recipe = contestant.recipe(tuned.best, tuned.at)
        return [self.run(regime, recipe, seed, final=True) for seed in self.study.seeds]

    def known_runs(self, regime: Regime, contestant: Contestant) -> list[Trial]:
        """Every run of a contestant that is known to be needed so far, done or not: its tuning, then the final runs."""
        tuned = self.tuned(regime, contestant)
        if tuned is None:
            return []
        tuning = [run for point in tuned.tried for run in self.tuning_runs(regime, contestant, point, tuned.at)]
        return tuning + self.final_runs(regime, contestant, tuned)

    def wanted(self) -> Iterator[tuple[Regime, Trial]]:
        """Every run that is known to be needed so far, done or not."""
        for regime in self.study.regimes:
            for contestant in self.study.contestants:
                yield from ((regime, run) for run in self.known_runs(regime, contestant))

    def missing(self) -> list[Trial]:
        """The runs that can be made now, without those that crashed."""
        missing = {
            run.key: run for _, run in self.wanted() if self.store.get(run) is None and run.key not in self.given_up
        }
        return list(missing.values())

    def crashed(self) -> dict[str, str]:
        """The error of each run that crashed when it was last tried, by the run's key."""
        return {run.key: error for _, run in self.wanted() if (error := self.store.error(run))}

    def records(self, runs: list[Trial]) -> list[Record]:
        """The results of those of the runs that are done."""
        return [record for run in runs if (record := self.store.get(run))]


def open_plan(study: Study, dataset: Dataset, folder: Path) -> Plan:
    """The study as it stands in a folder; a new folder begins it. Raises ValueError where the data are too few."""
    largest, there = max(r.train_images + r.val_images for r in study.regimes), len(dataset.train_labels)
    if largest > there:
        raise ValueError(
            f"the study {study.name!r} needs {largest:,} training images, {dataset.name} has {there:,}: "
            "choose another preset or data set"
        )
    return Plan(study, dataset, Store(folder))
