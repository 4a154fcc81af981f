"""One run of the study: from its description to its result, both plain data.

The same description gives the same result, bit for bit, in any process. Its hash is the name under which the result is
stored.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from minidl.backend import moved, no_fast
from minidl.data import Dataset, load_mnist
from minidl.data.batches import steps_per_epoch
from minidl.data.idx import DataError
from minidl.data.splits import Examples, Splits, split
from minidl.evaluation import evaluate
from minidl.fast.malloc import tune_allocator
from minidl.fast.threads import use_threads
from minidl.nn import Module
from minidl.optim import SWATS, AfterSteps, Hybrid, Optimizer, Projected
from minidl.rng import seed
from minidl.study.contestants import Recipe, make_optimizer, moment
from minidl.study.curve import Curve, as_evaluated, digits
from minidl.study.made import made
from minidl.trainer import Trainer
from minidl.training.divergence import Diverged
from minidl.training.kept import Drawn
from minidl.training.loader import load
from minidl.training.models import network
from minidl.training.own import own_network
from minidl.training.own_file import is_own, telling
from minidl.training.run import BITS


@dataclass(frozen=True)
class Trial:
    """Everything that determines a run of the study.

    dataset   where to load it: a name or a folder;   sha256  the hash it must have
    network   None, or "file.py:Name" instead of filters and hidden
    recipe    the optimizer, see contestants.make_optimizer, as sorted pairs
    final     True: the run counts, its whole curve is kept, and the test split is read once, at its end.
              False: it is for tuning or a map, and only the validation split is read
    code      ("file.py:Name", sha256 of the file) of each class or function from a user's file
    """

    dataset: str
    sha256: str
    train_images: int
    val_images: int
    wrong_labels: float
    epochs: int
    batch_size: int
    filters: tuple[int, ...]
    hidden: tuple[int, ...]
    network: str | None
    recipe: tuple[tuple[str, Any], ...]
    seed: int
    final: bool
    looks: int
    code: tuple[tuple[str, str], ...] = ()

    @cached_property
    def key(self) -> str:
        """The run's key: a hash of everything that determines its result. Where data and files are does not."""
        content = {name: value for name, value in vars(self).items() if name not in ("dataset", "code", "key")}
        text = json.dumps([BITS, content], sort_keys=True)
        for own, sha256 in self.code:
            text = text.replace(json.dumps(own), json.dumps(f"{sha256}:{own.rpartition(':')[2]}"))
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def own_code(network: str | None, recipe: Recipe) -> list[str]:
    """The classes and functions of a run that are from a user's file, as "file.py:Name"."""
    return [text for text in (network, recipe["opt"]) if isinstance(text, str) and is_own(text)]


def trial_of(description: dict[str, Any]) -> Trial:
    """The Trial that a record's "run" describes, as read from JSON. Raises ValueError if it describes none."""
    names = {field.name for field in fields(Trial)}
    if strange := sorted(set(description) ^ names):
        raise ValueError(f"it does not describe a run of this version: {', '.join(strange)}")
    return Trial(**{name: _frozen(value) for name, value in description.items()})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def perform(run: Trial, numpy_alone: bool = False, device: str = "cpu") -> dict[str, Any]:
    """Carry out a run, on one core. Returns its record: the run, the result, the times and the environment.

    numpy_alone  do not use the extra `fast`
    device       where its arrays are; on a GPU, the core only launches the work

    Raises UserError if a user's own code fails, with its line.
    """
    began = time.perf_counter()
    forms = no_fast() if numpy_alone else nullcontext()
    own = telling(*own_code(run.network, dict(run.recipe)))
    with forms, use_threads(1), np.errstate(over="ignore", invalid="ignore"), own:
        result, times = _train(run, _load(run.dataset, run.sha256), device)
        times["seconds"] = round(time.perf_counter() - began, 3)
        return {"run": asdict(run), "result": result, "times": times, "made": made(device)}


@lru_cache(maxsize=1)  # once per worker
def _load(name: str, sha256: str) -> Dataset:
    tune_allocator()
    dataset = load_mnist(name=name)
    if dataset.sha256 != sha256:
        raise DataError(
            f"the data set {name} on this machine is not the study's (sha256 {dataset.sha256[:12]}..., not "
            f"{sha256[:12]}...): put the same files here"
        )
    return dataset


def _train(run: Trial, dataset: Dataset, device: str) -> tuple[dict[str, Any], dict[str, Any]]:
    splits = sent_to(device, draw_splits(run, dataset))
    model = make_network(run, splits.image_size, splits.classes).to(device)
    each = steps_per_epoch(run.train_images, run.batch_size)
    steps = run.epochs * each
    _check_code(run)
    optimizer = make_optimizer(dict(run.recipe), model.parameters(), steps, each)
    trainer = Trainer(model, optimizer, splits, run.batch_size, run.seed)
    curve = Curve(trainer, steps, run.looks, every_look=run.final)
    diverged = None
    try:
        trainer.train_to(run.epochs, [curve, Drawn(trainer)], validate=listens(optimizer))
    except Diverged as error:
        diverged = str(error)
    result: dict[str, Any] = {"steps": trainer.progress.step, "switch": _switch(run, trainer, steps)}
    parts = ("val", "train", "test") if run.final else ("val",)
    with as_evaluated(optimizer):
        found = {part: evaluate(model, getattr(splits, part)) for part in parts if diverged is None}
        result["weights"] = fingerprint(model)
    if not all(math.isfinite(loss) for loss, _ in found.values()):  # in the last step, which no step's loss has shown
        diverged = f"training diverged at step {steps}: the loss after it is not finite"
    for part in parts:
        loss, accuracy = found[part] if diverged is None else chance(splits.classes)
        result |= {f"{part}_accuracy": accuracy, f"{part}_loss": digits(loss)}
    result["diverged"] = diverged
    return {**result, "curve": curve.points}, {"cpu_seconds": curve.clock(), "curve": curve.seconds}


# ---- what is trained on what ----


def draw_splits(run: Trial, dataset: Dataset) -> Splits:
    """Training and validation images drawn by the run's seed, with a share of wrong labels if the run has one."""
    splits = split(dataset, seed=run.seed, counts=(run.train_images, run.val_images))
    if not run.wrong_labels:
        return splits
    rng = np.random.default_rng([run.seed, 7])
    train, val = (mislabel(part, run.wrong_labels, splits.classes, rng) for part in (splits.train, splits.val))
    return replace(splits, train=train, val=val)


def sent_to(device: str, splits: Splits) -> Splits:
    """The same splits on a device."""

    def sent(part: Examples) -> Examples:
        return Examples(moved(part.images, device), moved(part.labels, device))

    return replace(splits, train=sent(splits.train), val=sent(splits.val), test=sent(splits.test))


def mislabel(examples: Examples, share: float, classes: int, rng: np.random.Generator) -> Examples:
    """The examples with exactly this share of their labels replaced, each by another class, all equally likely."""
    n = len(examples)
    wrong = rng.permutation(n)[: round(share * n)]
    labels = np.array(examples.labels)
    labels[wrong] = (labels[wrong].astype(np.int64) + rng.integers(1, classes, len(wrong))) % classes
    return replace(examples, labels=labels)


def make_network(run: Trial, image_size: tuple[int, int], classes: int) -> Module:
    """The network of a run, its weights drawn by the run's seed."""
    if run.network is not None:
        with seed(run.seed):
            return own_network(load(run.network), image_size, classes)
    rng = np.random.default_rng([run.seed, 0])
    return network(image_size, classes, rng, filters=run.filters, hidden=run.hidden)


def _check_code(run: Trial) -> None:
    for text, sha256 in run.code:
        if load(text).sha256 != sha256:
            file = Path(text.rpartition(":")[0])
            raise ValueError(f"{file} has changed since the study was started: start the study again")


# ---- what is kept ----


def listens(optimizer: Optimizer) -> bool:
    """Whether it may read the validation split after each epoch. Of the conditions, only two surely do not."""
    if isinstance(optimizer, Hybrid):
        return type(optimizer.switch) not in (AfterSteps, Projected)
    return type(optimizer).report is not Optimizer.report and not isinstance(optimizer, SWATS)


def fingerprint(model: Module) -> str:
    """A hash of all weights: equal for equal bits."""
    found = hashlib.sha256()
    for name, array in sorted(model.state_dict().items()):
        found.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _switch(run: Trial, trainer: Trainer, steps: int) -> dict[str, Any] | None:
    """Step and learning rate of the switch or, for a control without one, of the cut. None if there was neither."""
    recipe, event = dict(run.recipe), trainer.optimizer.switch_event
    if event is not None:
        return {"step": event.step, "lr": event.lr}
    if "factor" in recipe and not is_own(recipe["opt"]) and trainer.progress.step > moment(recipe["at"], steps):
        return {"step": moment(recipe["at"], steps), "lr": recipe["lr"] * recipe["factor"]}
    return None


def chance(classes: int) -> tuple[float, float]:
    """Loss and accuracy of guessing, scored to a run that diverged."""
    return math.log(classes), 1 / classes
