"""The experiment: regimes x contestants x seeds, each contestant tuned first, and maps; and the runs that it needs.

What to do next depends only on the results so far, so an interrupted study can continue, and an edited one makes only
the new runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from minidl.data import Dataset
from minidl.nn import Module
from minidl.ops import cross_entropy
from minidl.optim import Optimizer
from minidl.study.contestants import Contestant, Recipe, make_optimizer
from minidl.study.fair import check_regimes, check_seeds
from minidl.study.made import differing, to_be_made
from minidl.study.regimes import Regime
from minidl.study.runs import Trial, make_network, own_code
from minidl.study.store import Record, Store
from minidl.study.tuning import Round, Tuned, tune
from minidl.tensor import Tensor
from minidl.training.loader import load
from minidl.training.own_file import telling
from minidl.training.search import Rank, draw, rank, values

COLLAPSED = 1.0  # added to the rank of a setting with a collapsed run, which puts it behind all others
MAPS = ("hybrid", "adam-cut")  # mapped over the moment and the value after it
SEARCH_SEED = 20261127  # for drawing the settings


@dataclass(frozen=True)
class Study:
    """An experiment.

    seeds         of the final runs
    tuning_seeds  of the tuning runs; no seed may be in both
    rounds        of the tuning: (settings, seeds) each; see tuning.py
    pinned        whether the runs are made with the pins of made.py, so any machine with AVX2 can repeat them; one
                  without AVX2 makes them as it is
    """

    name: str
    dataset: str
    regimes: tuple[Regime, ...]
    contestants: tuple[Contestant, ...]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    rounds: tuple[Round, ...]
    pinned: bool = False

    def __post_init__(self) -> None:
        for what, seeds in (("seeds", self.seeds), ("tuning_seeds", self.tuning_seeds)):
            check_seeds(what, seeds)
        check_regimes(self.regimes, [contestant.key for contestant in self.contestants])
        if shared := set(self.seeds) & set(self.tuning_seeds):
            raise ValueError(f"the seeds {sorted(shared)} are used both for tuning and for final runs: choose others")
        if len(self.seeds) < 2 or not self.tuning_seeds:
            raise ValueError("a study needs at least two seeds for its final runs, and one for tuning")
        if bare := [regime.name for regime in self.regimes if regime.val_images < 1]:
            raise ValueError(f"{bare[0]} has no validation images, on which its settings would be chosen: give it some")
        keys = [contestant.key for contestant in self.contestants]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(
                f"two contestants have the key {min(twice)!r}: give one of them another (for a Rule, its `name`)"
            )
        counts, numbers = [r[0] for r in self.rounds], [r[1] for r in self.rounds]
        if not counts or counts[-1] < 1 or counts != sorted(counts, reverse=True) or numbers != sorted(numbers):
            raise ValueError(f"each round of tuning must have fewer settings and more seeds, got {self.rounds}")
        if numbers[0] < 1 or numbers[-1] > len(self.tuning_seeds):
            raise ValueError(f"the rounds ask for {numbers[-1]} tuning seeds, there are {len(self.tuning_seeds)}")

    def taking_part(self, regime: Regime) -> list[Contestant]:
        """The contestants of a regime."""
        return [c for c in self.contestants if regime.contestants is None or c.key in regime.contestants]

    def runs_of(self, regime: Regime) -> int:
        """How many runs a regime needs in all; runs shared by two contestants or maps count twice."""
        there, rounds = self.taking_part(regime), list(pairwise(((0, 0), *self.rounds)))
        tuning = sum((n if c.axes else 1) * (seeds - before) for c in there for (_, before), (n, seeds) in rounds)
        keys, contestants = {c.key for c in there}, tuning + len(there) * len(self.seeds)
        m = regime.map
        if m is None:
            return contestants
        cells = ("hybrid" in keys) * len(m.rates) + ("adam-cut" in keys) * len(m.factors)
        return contestants + len(m.moments) * cells * len(m.seeds)


@dataclass(repr=False)
class Plan:
    """A study on its data set, with the results so far: what is tuned, what was chosen, what is still to be done."""

    study: Study
    dataset: Dataset
    store: Store
    made: dict[str, Any] = field(default_factory=dict)  # the environment of its runs from now on, see made.py
    code: dict[str, str] = field(default_factory=dict)  # the hash of each class or function of a user's, by file:name
    given_up: set[str] = field(default_factory=set)  # keys of runs that crashed since the study was started

    def __repr__(self) -> str:
        wanted = {run.key for _, run in self.wanted()}
        done = len(wanted & self.store.all().keys())
        return f"<study {self.study.name} in {self.store.folder}: {done:,} runs done of {len(wanted):,} known so far>"

    @property
    def largest(self) -> int:
        """The weights of the largest network."""
        size, classes = self.dataset.train_images.shape[1:], self.dataset.classes
        runs = [self.run(regime, {"opt": "adam"}, 0, final=False) for regime in self.study.regimes]
        return max(sum(p.size for p in make_network(run, size, classes).parameters()) for run in runs)

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each finished run, with the columns of results.csv."""
        from minidl.study.results import rows  # it stands above this file

        return rows(self)

    def check_alike(self) -> None:
        """Raise ValueError if finished runs were made in another environment than the runs to come."""
        for _, run in self.wanted():
            record = self.store.get(run)
            if record is not None and (others := differing(record["made"], self.made)):
                raise ValueError(
                    f"the runs in {self.store.folder} were made in another environment than this one "
                    f"({'; '.join(others)}): one report must not mix the two. Use the --device and the version "
                    "that made them, or another --out"
                )

    def run(self, regime: Regime, recipe: Recipe, seed: int, final: bool) -> Trial:
        """The description of one run."""
        return Trial(
            dataset=self.study.dataset,
            sha256=self.dataset.sha256,
            train_images=regime.train_images,
            val_images=regime.val_images,
            wrong_labels=regime.wrong_labels,
            epochs=regime.epochs,
            batch_size=regime.batch_size,
            filters=regime.filters,
            hidden=regime.hidden,
            network=regime.network,
            recipe=tuple(sorted(recipe.items())),
            seed=seed,
            final=final,
            looks=regime.looks,
            code=tuple((text, self._sha256(text)) for text in own_code(regime.network, recipe)),
        )

    def _sha256(self, text: str) -> str:
        """The hash of a user's file at the start of the study: a run fails if the file was edited since."""
        if text not in self.code:
            self.code[text] = load(text).sha256
        return self.code[text]

    def tuned(self, regime: Regime, contestant: Contestant) -> Tuned:
        """The state of a contestant's tuning. One with nothing to tune has one setting, but still has tuning runs."""
        count = self.study.rounds[0][0]
        points = draw(contestant.axes, count, SEARCH_SEED)

        def judge(i: int, seeds: int) -> Rank | None:
            return self._rank(regime, self.tuning_runs(regime, contestant.recipe(points[i]), seeds))

        return tune(points, self.study.rounds, judge)

    def tuning_runs(self, regime: Regime, recipe: Recipe, seeds: int) -> list[Trial]:
        """The runs by which a setting is judged, with the first `seeds` tuning seeds."""
        return [self.run(regime, recipe, seed, final=False) for seed in self.study.tuning_seeds[:seeds]]

    def _rank(self, regime: Regime, runs: list[Trial]) -> Rank | None:
        """Mean validation accuracy, then the lower validation loss; behind all others if a run collapsed."""
        if any(run.key in self.given_up for run in runs):
            return 2 * COLLAPSED, 0.0
        records = self.records(runs)
        if len(records) < len(runs):
            return None
        results = [record["result"] for record in records]
        accuracy, loss = (sum(r[name] for r in results) / len(results) for name in ("val_accuracy", "val_loss"))
        first, second = rank(accuracy, loss)
        return first + COLLAPSED * any(collapsed(record, regime) for record in records), second

    def final_runs(self, regime: Regime, contestant: Contestant, tuned: Tuned) -> list[Trial]:
        """The runs that count; none until the tuning, whose state is `tuned`, is finished."""
        if not tuned.finished:
            return []
        recipe = contestant.recipe(tuned.winner)
        return [self.run(regime, recipe, seed, final=True) for seed in self.study.seeds]

    def known_runs(self, regime: Regime, contestant: Contestant) -> list[Trial]:
        """Every run of a contestant that is known to be needed so far, done or not: its tuning, then the final runs."""
        tuned = self.tuned(regime, contestant)
        tuning = {
            run.key: run
            for i, seeds in tuned.needed
            for run in self.tuning_runs(regime, contestant.recipe(tuned.points[i]), seeds)
        }
        return list(tuning.values()) + self.final_runs(regime, contestant, tuned)

    def map_runs(self, regime: Regime, kind: str) -> dict[tuple[float, float], list[Trial]]:
        """The runs of a heat map by (moment, value after it); none until the tuning that it builds on is finished.

        kind  "hybrid": SGD's learning rate after the switch; "adam-cut": the factor on Adam's learning rate
        """
        contestant = next((c for c in self.study.taking_part(regime) if c.key == kind), None)
        if regime.map is None or contestant is None or not (tuned := self.tuned(regime, contestant)).finished:
            return {}
        name, places = ("lr_sgd", regime.map.rates) if kind == "hybrid" else ("factor", regime.map.factors)
        recipe = contestant.recipe(tuned.winner)
        if kind == "hybrid":
            recipe["momentum"] = 0.9  # so that the learning rates of one map are comparable
        return {
            (at, value): [self.run(regime, recipe | {"at": at, name: value}, s, final=False) for s in regime.map.seeds]
            for at in regime.map.moments
            for value in places
        }

    def wanted_of(self, regime: Regime) -> Iterator[Trial]:
        """Every run of a regime that is known to be needed so far, done or not."""
        for contestant in self.study.taking_part(regime):
            yield from self.known_runs(regime, contestant)
        for kind in MAPS:
            yield from (run for runs in self.map_runs(regime, kind).values() for run in runs)

    def wanted(self) -> Iterator[tuple[Regime, Trial]]:
        """The same of all regimes."""
        for regime in self.study.regimes:
            yield from ((regime, run) for run in self.wanted_of(regime))

    def missing(self) -> list[Trial]:
        """The runs of the first unfinished regime that can be made now, without those that crashed."""
        for regime in self.study.regimes:
            runs = {run.key: run for run in self.wanted_of(regime)}
            missing = [r for key, r in runs.items() if self.store.get(r) is None and key not in self.given_up]
            if missing:
                return missing
        return []

    def crashed(self) -> dict[str, str]:
        """The error of each run that crashed at its last attempt, by the run's key."""
        return {run.key: error for _, run in self.wanted() if (error := self.store.error(run))}

    def records(self, runs: list[Trial]) -> list[Record]:
        """The records of those of the runs that are done."""
        return [record for run in runs if (record := self.store.get(run))]


def collapsed(record: Record, regime: Regime) -> bool:
    """Whether a run diverged, or ended below what its regime calls a collapse."""
    result = record["result"]
    return result["diverged"] is not None or result["val_accuracy"] < regime.floor


def open_plan(study: Study, dataset: Dataset, folder: Path, numpy_alone: bool = False, device: str = "cpu") -> Plan:
    """The study with the results in a folder, which may be new. Its missing runs are to be made on this device.

    Raises ValueError, before any run, if there are too few images or a network or an optimizer can't be made.
    """
    largest, there = max(r.train_images + r.val_images for r in study.regimes), len(dataset.train_labels)
    if largest > there:
        raise ValueError(
            f"the study {study.name!r} needs {largest:,} training images, {dataset.name} has {there:,}: "
            "choose another preset or data set"
        )
    if (dataset.train_labels == dataset.train_labels[0]).all():
        raise ValueError(f"{dataset.name} has one class: every network is right, and there is nothing to compare")
    plan = Plan(study, dataset, Store(folder), to_be_made(study.pinned, numpy_alone, device))
    for regime in study.regimes:
        _try_out(plan, regime)
    return plan


def _try_out(plan: Plan, regime: Regime) -> None:
    """Make each network and each optimizer once, so that their errors are reported now.

    A user's own code also takes a training step, on noise.
    """
    dataset = plan.dataset
    size = (dataset.train_images.shape[1], dataset.train_images.shape[2])
    for contestant in plan.study.taking_part(regime):
        run = plan.run(regime, contestant.recipe(tuple(0.5 for _ in contestant.axes)), 0, final=False)
        model = make_network(run, size, dataset.classes)
        try:
            optimizer = make_optimizer(dict(run.recipe), model.parameters(), regime.steps, regime.steps_per_epoch)
        except TypeError as error:  # an axis, or a fixed part, that its optimizer does not have
            raise ValueError(f"the contestant {contestant.key!r} can't be made: {error}") from None
        if run.code:
            with telling(*(text for text, _ in run.code)):
                _one_step(model, optimizer, size, dataset.classes)
            if not all(np.isfinite(value).all() for value in model.state_dict().values()):
                raise ValueError(
                    f"the first step of {contestant.key!r} on {regime.name} makes weights that are not finite, at "
                    f"{values(contestant.axes, tuple(0.5 for _ in contestant.axes))}"
                )


def _one_step(model: Module, optimizer: Optimizer, size: tuple[int, int], classes: int) -> None:
    rng = np.random.default_rng(0)
    x, labels = Tensor(rng.random((4, 1, *size), np.float32)), rng.integers(classes, size=4)
    with np.errstate(all="ignore"):
        cross_entropy(model(x), labels).backward()
        optimizer.step()
