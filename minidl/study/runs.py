"""One run of the study: from its description, which is plain data, to its result, which is plain data too.

The same description gives the same result, bit for bit, in whatever process it is carried out. Its hash is the
name under which the result is kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from minidl import __version__, fast
from minidl.backend import no_fast
from minidl.data import Dataset, load_mnist
from minidl.data.batches import split, steps_per_epoch
from minidl.data.idx import DataError
from minidl.evaluation import evaluate
from minidl.fast.malloc import tune_allocator
from minidl.fast.threads import use_threads
from minidl.study.contestants import make_optimizer, moment
from minidl.trainer import Trainer
from minidl.training.divergence import Diverged
from minidl.training.models import network
from minidl.training.observer import Observer, Step

VERSION = 3  # raise it when a change of the code changes results: all runs are then made again


@dataclass(frozen=True)
class Trial:
    """All that decides a run of the study.

    dataset   where to load it: a name or a folder;   sha256  what must be in it
    recipe    the optimizer, see contestants.make_optimizer, as sorted pairs
    final     True: the run counts, curves are kept and the test split is read, once, at its end.
              False: it is for tuning and is judged by the validation split
    """

    dataset: str
    sha256: str
    train_images: int
    val_images: int
    epochs: int
    batch_size: int
    filters: tuple[int, ...]
    hidden: tuple[int, ...]
    recipe: tuple[tuple[str, Any], ...]
    seed: int
    final: bool
    evaluations: int

    @cached_property
    def key(self) -> str:
        """The run's address: a hash of all that decides its result. Where the data lie does not."""
        content = {name: value for name, value in asdict(self).items() if name != "dataset"}
        return hashlib.sha256(json.dumps([VERSION, content], sort_keys=True).encode()).hexdigest()[:24]


def perform(run: Trial, numpy_alone: bool = False) -> dict[str, Any]:
    """Carry out a run, on one core. Returns its record: the run, the result, the times and where it was made.

    numpy_alone  leave the extra `fast` out
    """
    began = time.perf_counter()
    forms = no_fast() if numpy_alone else nullcontext()
    with forms, use_threads(1), np.errstate(over="ignore", invalid="ignore"):
        result, times = _train(run, _load(run.dataset, run.sha256))
        times["seconds"] = round(time.perf_counter() - began, 3)
        return {"run": asdict(run), "result": result, "times": times, "made": environment()}


@lru_cache(maxsize=1)  # once in each worker
def _load(name: str, sha256: str) -> Dataset:
    tune_allocator()
    dataset = load_mnist(name=name)
    if dataset.sha256 != sha256:
        raise DataError(
            f"the data set {name} of this machine is not the study's (sha256 {dataset.sha256[:12]}..., not "
            f"{sha256[:12]}...): put the same files here"
        )
    return dataset


def _train(run: Trial, dataset: Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
    splits = split(dataset, seed=run.seed, counts=(run.train_images, run.val_images))
    rng = np.random.default_rng([run.seed, 0])
    model = network(splits.image_size, splits.classes, rng, filters=run.filters, hidden=run.hidden)
    each = steps_per_epoch(run.train_images, run.batch_size)
    steps = run.epochs * each
    optimizer = make_optimizer(dict(run.recipe), model.parameters(), steps, each)
    trainer = Trainer(model, optimizer, splits, run.batch_size, run.seed)
    curve = ValidationCurve(trainer, steps, run.evaluations if run.final else 1)
    diverged = None
    try:
        trainer.train_to(run.epochs, [curve], validate=False)
    except Diverged as error:
        diverged = str(error)
    result: dict[str, Any] = {
        "steps": trainer.progress.step,
        "diverged": diverged,
        "switch": _switch(run, trainer, steps),
    }
    for part in ("val", "train", "test") if run.final else ("val",):
        loss, accuracy = evaluate(model, getattr(splits, part)) if diverged is None else chance(splits.classes)
        result |= {f"{part}_accuracy": accuracy, f"{part}_loss": finite(loss)}
    return {**result, "curve": curve.points}, {"cpu_seconds": curve.clock(), "curve": curve.seconds}


class ValidationCurve(Observer):
    """Evaluates on the validation split at evenly spaced steps; its clock leaves out the time which that takes."""

    def __init__(self, trainer: Trainer, steps: int, evaluations: int) -> None:
        self.trainer = trainer
        due = (max(1, round(steps * (i + 1) / evaluations)) for i in range(evaluations))
        self.due = set(due) if evaluations > 1 else set()
        self.points: list[dict[str, float]] = []
        self.seconds: list[float] = []
        self._losses: list[tuple[float, int]] = []  # of the steps since the last evaluation, and their examples
        self._evaluating = 0.0
        self._start = time.thread_time()

    def clock(self) -> float:
        """CPU seconds of this thread spent on training: on a machine that is shared, others do not count."""
        return round(time.thread_time() - self._start - self._evaluating, 4)

    def after_step(self, step: Step) -> None:
        assert step.loss is not None
        self._losses.append((step.loss.item(), len(step.labels)))
        if step.number not in self.due:
            return
        seconds, began = self.clock(), time.thread_time()
        trainer = self.trainer
        loss, accuracy = evaluate(trainer.model, trainer.splits.val)
        self.points.append(
            {
                "step": step.number,
                "val_accuracy": accuracy,
                "val_loss": finite(loss),
                "train_loss": sum(loss * n for loss, n in self._losses) / sum(n for _, n in self._losses),
                "lr": trainer.optimizer.lr,
            }
        )
        self.seconds.append(seconds)
        self._losses.clear()
        self._evaluating += time.thread_time() - began


def _switch(run: Trial, trainer: Trainer, steps: int) -> dict[str, Any] | None:
    """Step and rate of the switch; for a control without a switch, of the cut. None where there was neither."""
    recipe, event = dict(run.recipe), trainer.optimizer.switch_event
    if event is not None:
        return {"step": event.step, "lr": event.lr}
    if "factor" in recipe and trainer.progress.step > moment(recipe["at"], steps):
        return {"step": moment(recipe["at"], steps), "lr": recipe["lr"] * recipe["factor"]}
    return None


def chance(classes: int) -> tuple[float, float]:
    """Loss and accuracy of who knows nothing: what a run counts that diverged."""
    return math.log(classes), 1 / classes


def finite(x: float) -> float:
    """x, or the largest float where it is not finite, for JSON has no infinity."""
    return x if math.isfinite(x) else float(np.finfo(np.float64).max)


def environment() -> dict[str, str | None]:
    """What may change the last bits of a result."""
    return {
        "minidl": __version__,
        "numpy": np.__version__,
        "fast": fast.version(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
