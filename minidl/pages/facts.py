"""The content of a report: a run's record and, from the validation split, the network's mistakes.

The mistakes are not taken from the test split: a report is read to decide what to change, and choosing by the test
split overfits to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minidl.backend import Array, no_fast, to_numpy
from minidl.data.splits import Examples, Splits
from minidl.evaluation import predict
from minidl.module import Module
from minidl.nn import Conv2d, Linear
from minidl.program.load import Data, load_run
from minidl.telling import counted
from minidl.training.models import count_parameters, input_of
from minidl.training.own_file import bare, changed, short
from minidl.training.restore import EVENT
from minidl.training.results import disagreements, full_summary
from minidl.training.run import Run

NOTHING = (
    "This run has no validation split (--val-fraction 0), so its mistakes can't be shown: the test split is not used "
    "for that."
)
ARRAYS = (
    "This run was trained on arrays from a program, which are not in the folder. To see its mistakes, write the page "
    "from that program: report_page(facts_of_folder(folder, dataset=...)), both from minidl.pages."
)
WORST = 24  # mistakes in the gallery
UNITS = 32  # units of the first layer that are shown


@dataclass(frozen=True)
class Mistake:
    """A misclassified image of the validation split.

    index      in the validation split;   image  (H, W)
    label, predicted        classes
    p_label, p_predicted    their probabilities, according to the network
    """

    index: int
    image: Array
    label: int
    predicted: int
    p_label: float
    p_predicted: float


@dataclass(frozen=True)
class Validation:
    """The network's predictions on the validation split.

    confusion  (classes, classes) counts: rows are labels, columns predictions
    worst      mistakes, sorted by the probability of the label, lowest first
    """

    confusion: Array
    worst: list[Mistake]

    @property
    def accuracy(self) -> float:
        """Fraction of the images classified correctly."""
        return float(self.confusion.trace() / self.confusion.sum())

    @property
    def by_class(self) -> list[float | None]:
        """The same for each class; None for a class without images."""
        counts = self.confusion.sum(1)
        return [float(self.confusion[k, k] / n) if n else None for k, n in enumerate(counts)]

    def confused(self) -> list[tuple[int, int, int]]:
        """The five most frequent confusions: (label, prediction, count), most frequent first."""
        wrong = self.confusion - np.diag(self.confusion.diagonal())
        order = np.argsort(-wrong, axis=None, kind="stable")[:5]
        found = [(int(i), int(j), int(wrong[i, j])) for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)]
        return [each for each in found if each[2]]


@dataclass(frozen=True)
class FirstLayer:
    """The weights of the layer that sees the image itself, as pictures (units, H, W), and the layer's name."""

    name: str
    pictures: Array
    units: int


@dataclass(frozen=True)
class Facts:
    """All that a report shows. `summary` is None until the run is finished; without `validation`, `unseen` says why."""

    title: str
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    summary: dict[str, Any] | None
    switch: dict[str, Any] | None
    phases: list[str]
    model: str
    parameters: int
    pixels: str
    data: str
    class_names: tuple[str, ...]
    validation: Validation | None
    first: FirstLayer | None
    notes: list[str] = field(default_factory=list)
    unseen: str = ""


def facts_of_folder(folder: Path, model: str | None = None, dataset: Data = None) -> Facts:
    """The facts of a run's folder, written by the command line or a Trainer.

    model, dataset  where the network's class and the data are now, or the data themselves, if the folder can't tell

    Raises CheckpointError, DataError or UserError, which say what is needed.
    """
    run = load_run(folder, model=model, data=dataset)
    state = run.checkpoint.state
    notes = [f"{what}: taken from the checkpoint" for what in disagreements(folder, state)]
    if note := changed(model or run.config["model"], state.get("files") or {}, folder.name):
        notes.append(note)
    if dataset is None and run.own and run.config["split_seed"] is None:
        return _facts(run.model, state, notes, "not in the folder", None, ARRAYS)
    return _facts(run.model, state, notes, _data_of(run.splits), run.splits.val)


def facts_of_run(run: Run) -> Facts:
    """The facts of a run that has just ended."""
    splits, state = run.job.trainer.splits, run.state()
    state["optimizer"] = run.job.trainer.optimizer.state_dict()["scalars"]
    return _facts(run.job.model, state, [], _data_of(splits), splits.val)


def _data_of(splits: Splits) -> str:
    parts = (splits.train, "training"), (splits.val, "validation"), (splits.test, "test")
    return ", ".join(f"{len(part):,} {name}" for part, name in parts) + " images"


def _facts(
    model: Module, state: dict[str, Any], notes: list[str], data: str, val: Examples | None, unseen: str = NOTHING
) -> Facts:
    config, metrics, summary = state["config"], state["trainer"]["metrics"], full_summary(state)
    name, classes = state["data"]["name"], state["model"]["classes"]
    return Facts(
        title=f"{short(config['model'])} on {bare(name)}, {short(config['opt'])}, seed {config['seed']}",
        config=config,
        metrics=metrics,
        summary=summary,
        switch=switch_of(state),
        phases=list(dict.fromkeys(record["phase"] for record in metrics)),
        model=repr(model),
        parameters=count_parameters(model),
        pixels=input_of(model),
        data=f"{bare(name)}: {data}, {classes} class{'es' * (classes != 1)}",
        class_names=tuple(state["data"].get("class_names") or map(str, range(classes))),
        validation=validate(model, val, classes) if val else None,
        first=first_layer(model, tuple(state["model"]["image_size"])),
        notes=notes + _within_an_epoch(state["trainer"]),
        unseen=unseen,
    )


def switch_of(state: dict[str, Any]) -> dict[str, Any] | None:
    """The run's switch. A user's own optimizer may keep something else under this name in its state."""
    found: dict[str, Any] | None = state["optimizer"].get("switch")
    try:
        EVENT(found, "switch")
    except ValueError:
        return (full_summary(state) or {}).get("switch")
    return found


def _within_an_epoch(position: dict[str, Any]) -> list[str]:
    """A note that the network is ahead of the record, if the run stopped within an epoch; or that it is untrained."""
    epoch, batch = position["epoch"], position["batch"]
    if not batch:
        return [] if epoch else ["the network is not trained yet: the mistakes and weights shown are its first ones"]
    record = f"the accuracy above and the curves end with epoch {epoch}; " if epoch else ""
    steps = counted(batch, "step")
    return [f"the run is {steps} into epoch {epoch + 1}: {record}the mistakes and weights shown are the current ones"]


def validate(model: Module, val: Examples, classes: int) -> Validation:
    """Compare predictions with labels, using NumPy alone: compiling loops takes longer than one evaluation."""
    with no_fast():
        probabilities, labels = predict(model, val), to_numpy(val.labels)
    predicted = probabilities.argmax(1)
    size = max(classes, probabilities.shape[1])
    confusion = np.zeros((size, size), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    places = np.arange(len(labels))
    p_label, p_predicted = probabilities[places, labels], probabilities[places, predicted]
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.lexsort((-p_predicted[wrong], p_label[wrong]))][:WORST]
    images: Any = to_numpy(val.images[order]) if len(order) else []
    mistakes = [
        Mistake(int(i), image, int(labels[i]), int(predicted[i]), float(p_label[i]), float(p_predicted[i]))
        for i, image in zip(order, images, strict=True)
    ]
    return Validation(confusion, mistakes)


def first_layer(model: Module, size: tuple[int, ...]) -> FirstLayer | None:
    """The first layer with weights, if each of its units can be shown as a picture; else None."""
    for path, layer in model.named_modules():
        if isinstance(layer, Conv2d):
            weights = layer.weight.numpy()
            return FirstLayer(f"{path}, {layer!r}", weights[:UNITS, 0], len(weights))
        if isinstance(layer, Linear):
            weights = layer.weight.numpy()
            if weights.shape[1] != np.prod(size):
                return None
            return FirstLayer(f"{path}, {layer!r}", weights[:UNITS].reshape(-1, *size), len(weights))
    return None
