"""load_run: load a run's folder, to predict with its model, plot its metrics, or resume training.

It takes any run's folder, written by `python -m minidl.train` or by a Trainer. The data are loaded and the
Trainer is built when they are first used: to predict, neither is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from minidl.backend import Array
from minidl.data import Dataset, load_mnist
from minidl.data.batches import steps_per_epoch
from minidl.data.splits import Examples, Origin, Splits, split, splits_of
from minidl.evaluation import Result, evaluate, predict
from minidl.module import Module
from minidl.optim import Optimizer
from minidl.program.describe import make_network, make_optimizer
from minidl.program.folder import Settings, TrainerRun, origin_of
from minidl.telling import counted, tell
from minidl.trainer import Trainer
from minidl.training.checkpoint import Checkpoint, CheckpointError
from minidl.training.config import Config, Job, Options, prepare
from minidl.training.history import History
from minidl.training.kept import put_numbers, put_states
from minidl.training.models import build_model, count_parameters
from minidl.training.observer import Observer
from minidl.training.own import own_network, own_optimizer
from minidl.training.own_file import bare, check_there, of_file
from minidl.training.restore import give_weights, is_from_python, load_run_checkpoint, must_fit, restore_training
from minidl.training.results import CHECKPOINT, full_summary

Model: TypeAlias = Module | Callable[..., Any] | str | None
Data: TypeAlias = Splits | Dataset | Examples | tuple[Any, Any] | str | os.PathLike[str] | None


class LoadedRun:
    """A run loaded from its folder; `load_run` makes it.

    folder, config, metrics, summary  as in its files; the summary is {} while the run is not finished
    checkpoint  its weights, the optimizer's state and the position of training
    model       the trained network; `fit` and `save` use its weights as they are, with any changes made to them
    data        the data it was trained on: a data set or its name; None: those that the run names
    optimizer   what makes the optimizer, if it is your own, see `load_run`
    trainer     a Trainer at the position of the checkpoint; it loads the data
    fit, evaluate, predict, save  those of the trainer or the model
    """

    def __init__(self, folder: Path, checkpoint: Checkpoint, model: Model, data: Data, optimizer: Any) -> None:
        self.folder, self.checkpoint = folder.absolute(), checkpoint  # absolute: the program may call chdir
        self.config: dict[str, Any] = dict(checkpoint.state["config"])
        self.image_size: tuple[int, int] = tuple(checkpoint.state["model"]["image_size"])
        self.classes: int = checkpoint.state["model"]["classes"]
        self._data, self._optimizer = data, optimizer
        self.model: Module = model_of(folder, checkpoint, model)

    @property
    def own(self) -> bool:
        """Whether it was written by a Trainer, not by the command line."""
        return is_from_python(self.config)

    @property
    def metrics(self) -> History:
        """The record of each finished epoch."""
        if "trainer" in vars(self):
            return self.trainer.metrics
        return History(self.checkpoint.state["trainer"]["metrics"])

    @property
    def summary(self) -> dict[str, Any]:
        """The results, as in summary.json."""
        if "trainer" in vars(self):
            return full_summary(self.trainer.run.state()) or {}
        return full_summary(self.checkpoint.state) or {}

    @cached_property
    def splits(self) -> Splits:
        """The data that it was trained on."""
        return data_of(self.folder, self.checkpoint, self._data)

    @cached_property
    def trainer(self) -> Trainer:
        """A Trainer that resumes the run with the same bits, in the same folder."""
        return _trainer(self)

    def fit(
        self,
        epochs: int,
        observers: Observer | Iterable[Observer] = (),
        validate: bool = True,
        *,
        verbose: bool = True,
        threads: int | None = None,
        **other: Any,
    ) -> History:
        """Train `epochs` more epochs: see Trainer.fit."""
        return self.trainer.fit(epochs, observers, validate, verbose=verbose, threads=threads, **other)

    def evaluate(self, examples: Examples | tuple[Any, Any] | None = None, batch_size: int | None = None) -> Result:
        """Loss and accuracy on these examples; default: the test split."""
        return evaluate(self.model, self.splits.test if examples is None else examples, batch_size)

    def predict(self, images: Any) -> Array:
        """The probability of each class (N, classes) for images (N, H, W) or (N, C, H, W)."""
        return predict(self.model, images, image_size=self.image_size)

    def save(self, folder: str | os.PathLike[str] | None = None) -> Path:
        """Write everything that `load_run(folder)` needs to resume; returns the folder.

        folder  a new one; None: the run's own. To write the weights alone: run.model.save(path)
        """
        return self.trainer.save(folder)

    def __repr__(self) -> str:
        c = self.config
        accuracy = self.summary.get("test_accuracy")
        end = f", test accuracy {accuracy:.4f}" if accuracy is not None else ""
        name = of_file(c["model"])
        weights = f"{count_parameters(self.model):,} weights"
        opt = of_file(c["opt"])
        epochs = f"{counted(len(self.metrics), 'epoch')} done"
        return f"run {self.folder}: {name} ({weights}) on {c['dataset']} by {opt}, {epochs}{end}"


def load_run(
    folder: str | os.PathLike[str], model: Model = None, data: Data = None, *, optimizer: Any = None
) -> LoadedRun:
    """Load a run from its folder.

        run = load_run("runs/lenet", model=LeNet)
        run.predict(images)
        run.fit(3)                  # three more epochs, with the same bits as a run that never stopped

    model      the network's class, an instance of it, or "file.py:Name"; needed if the run is a Trainer's and the
               class is your own
    data       the data set or splits that it was trained on, or the name or folder of a data set; needed if they
               were your own arrays, or if the files have moved
    optimizer  a class or function that takes the parameters; needed to resume if the optimizer is your own

    Raises CheckpointError or ValueError, with a message that says what is needed.
    """
    path = Path(folder)
    return LoadedRun(path, load_run_checkpoint(path / CHECKPOINT), model, data, optimizer)


# ---- the network ----


def model_of(folder: Path, checkpoint: Checkpoint, model: Model = None) -> Module:
    """The trained network of a checkpoint. Raises CheckpointError, with the class's name, if it must be given."""
    config, facts = checkpoint.state["config"], checkpoint.state["model"]
    size, classes = tuple(facts["image_size"]), facts["classes"]
    made: Module
    if isinstance(model, Module):
        made = model
    elif model is not None:
        grey = not is_from_python(config)  # a Trainer takes images of any number of channels
        made = (
            build_model(model, size, classes, grey=grey)
            if isinstance(model, str)
            else own_network(model, size, classes, grey)
        )
    elif not is_from_python(config):
        check_there(config["model"], str(folder))
        made = build_model(config["model"], size, classes)
    elif config["network"] is not None:
        with must_fit(folder / CHECKPOINT):
            made = make_network(config["network"])
    else:
        name, file = config["model"], bare(config["file"]) or "FILE.py"
        raise CheckpointError(
            f"the network of {folder} is {name}, a class of your own: give it, load_run(folder, model={name}), or "
            f"--model {file}:{name} on the command line"
        )
    if made is not model and is_from_python(config):  # the program may have called .to(dtype=...)
        name, weight = next(made.named_parameters())
        if (dtype := checkpoint.model.get(name, weight).dtype) != weight.dtype:
            made.to(dtype=dtype)
    try:
        give_weights(made, checkpoint.model)
        put_numbers(made, checkpoint.state["trainer"].get("numbers", {}))
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"the weights of {folder} do not fit {type(made).__name__}: {error}") from error
    frozen = config.get("frozen")  # a Trainer's run has it
    if frozen is not None and made is not model:
        for name, p in made.named_parameters():
            p.requires_grad = name not in frozen
    return made


# ---- the data ----


def data_of(folder: Path, checkpoint: Checkpoint, data: Data) -> Splits:
    """The splits that a run was trained on, loaded again and compared by hash."""
    config, known = checkpoint.state["config"], checkpoint.state["data"]
    data, own = _loaded(data), is_from_python(config)
    if data is None:
        if own and config["split_seed"] is None:
            raise CheckpointError(
                f"{folder} was trained on arrays of your own: give them, load_run(folder, data=...), as they were "
                "given to the Trainer"
            )
        data = load_mnist(config["dataset"])
    if isinstance(data, Dataset):
        found = data.sha256
        data = _split(config, data) if not own or config["split_seed"] is not None else splits_of(data)
    else:
        data = splits_of(data)
        origin, asked = origin_of(data), _drawn(config)
        found, now = origin.sha256, {name: getattr(origin, name) for name in asked}
        if found == known["sha256"] and now != asked:
            raise CheckpointError(
                f"{folder} was trained on {known['name']} split by {asked}, these data are split by {now}: give the "
                "data set itself, load_run(folder, data=load_mnist(...))"
            )
    _check_data(folder, known, found)
    return data


def _loaded(data: Data) -> Data:
    """The data set of a name or folder; other data unchanged."""
    return load_mnist(os.fspath(data)) if isinstance(data, (str, os.PathLike)) else data


def _check_data(folder: Path, known: dict[str, Any], sha256: str) -> None:
    if sha256 != known["sha256"]:
        raise CheckpointError(
            f"{folder} was trained on other data: {known['name']} (sha256 {known['sha256'][:12]}...), these are "
            f"{sha256[:12]}...: give the original ones, with --dataset or load_run(folder, data=...)"
        )


def _drawn(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments with which `split` drew the examples."""
    counts, own = config.get("counts"), is_from_python(config)
    seed = config["split_seed" if own else "seed"]
    return {"val_fraction": config["val_fraction"], "seed": seed, "counts": counts and tuple(counts)}


def _split(config: dict[str, Any], dataset: Dataset) -> Splits:
    drawn = _drawn(config)
    return split(dataset, drawn["val_fraction"] or 0.0, drawn["seed"], counts=drawn["counts"])


# ---- resuming ----


def _trainer(run: LoadedRun) -> Trainer:
    checkpoint, folder = run.checkpoint, run.folder
    with must_fit(folder / CHECKPOINT):
        put_states(run.model, checkpoint.state["trainer"]["generators"])  # a Trainer asks whether they have a seed
    job = _trainers_job(run) if run.own else _job(run)
    with must_fit(folder / CHECKPOINT):
        restore_training(job, checkpoint)
        options = Options(**checkpoint.state["options"])
    made = TrainerRun(job, folder, options)
    made.take_over(checkpoint.state)
    made.saved_checksum = checkpoint.sha256
    if moved := made.moved():
        tell(f"{folder} was {moved}")
    trainer = job.trainer
    trainer.run, trainer.threads = made, made.options.threads
    return trainer


def _trainers_job(run: LoadedRun) -> Job:
    """The Job of a Trainer's run, in its initial state."""
    config = {**run.config, "counts": run.config["counts"] and tuple(run.config["counts"])}
    settings, splits = Settings(**config), run.splits
    if own := settings.trainer:
        tell(
            f"{run.folder} was trained by {own}, a Trainer of your own, and continues with a plain one: if yours "
            f"changes what a step does, write run.trainer.__class__ = {own} before run.fit"
        )
    made = _optimizer(run, settings)
    trainer = Trainer(run.model, made, splits, settings.batch_size, settings.seed)
    origin: Any = splits.origin or Origin("arrays", "arrays of the program", run.checkpoint.state["data"]["sha256"])
    return Job(settings, origin, settings.epochs, trainer)  # type: ignore[arg-type]


def _optimizer(run: LoadedRun, settings: Settings) -> Optimizer:
    params, given = list(run.model.parameters()), run._optimizer
    if isinstance(given, Optimizer):
        return given
    if given is not None:
        steps = steps_per_epoch(len(run.splits.train), settings.batch_size)
        return own_optimizer(given, params, total_steps=steps * max(1, settings.epochs), steps_per_epoch=steps)
    if settings.optimizer is None:
        raise CheckpointError(
            f"{run.folder}: {settings.asked}. To resume, give it as a function of the parameters: "
            "load_run(folder, optimizer=lambda params: ...), or --opt FILE.py:NAME on the command line"
        )
    with must_fit(run.folder / CHECKPOINT):
        return make_optimizer(settings.optimizer, params)


def _job(run: LoadedRun) -> Job:
    """The Job of a command-line run, with the network that is already loaded."""
    data = _loaded(run._data)
    dataset = data if isinstance(data, Dataset) else None
    if data is not dataset:
        data_of(run.folder, run.checkpoint, data)  # raises if these are not the run's own splits
    job = prepare(Config(**run.config), dataset, run.model)
    _check_data(run.folder, run.checkpoint.state["data"], job.dataset.sha256)
    return job
