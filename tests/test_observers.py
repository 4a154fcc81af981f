"""Trainer.fit and its observers: who is told what, when, and what it may ask for."""

from __future__ import annotations

import copy
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidl import Tensor, load_run, reference_only
from minidl.trainer import Trainer
from minidl.training.config import Config, prepare
from minidl.training.divergence import Diverged
from minidl.training.observer import Observer, Step
from tests.commands import tiny_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def trainer_of(data: Path, **changes: Any) -> Trainer:
    settings = {"model": "goodfit", "opt": "adam", "batch_size": 60, "device": "cpu", **changes}
    return prepare(Config(dataset=str(data), **settings)).trainer  # three steps an epoch


class Notes(Observer):
    """Notes what it is told, and asks to stop where it is told to."""

    def __init__(self, stop_after: Any = None, notes: list[Any] | None = None) -> None:
        self.stop_after, self.notes = stop_after, [] if notes is None else notes

    def told(self, *what: Any) -> bool:
        self.notes.append(what)
        return what == self.stop_after

    def before_epoch(self) -> None:
        self.told("epoch begins")

    def before_step(self, step: Step) -> None:
        assert step.loss is step.logits is None
        self.told("before", step.number)

    def after_step(self, step: Step) -> bool:
        return self.told("after", step.number)

    def after_epoch(self, record: dict[str, Any]) -> bool:
        return self.told("epoch", record["epoch"])

    def close(self) -> None:
        self.told("closed")


def epoch(number: int, steps: range) -> list[Any]:
    return [("epoch begins",), *((when, k) for k in steps for when in ("before", "after")), ("epoch", number)]


def test_all_observers_are_told_everything_in_order(data):
    notes: list[Any] = []
    first, second, shared = Notes(), Notes(), [Notes(notes=notes), Notes(notes=notes)]
    trainer = trainer_of(data)
    metrics = trainer.train_to(2, [first, second, *shared])
    assert first.notes == second.notes == [*epoch(1, range(1, 4)), *epoch(2, range(4, 7)), ("closed",)]
    assert notes == [note for note in first.notes for _ in range(2)]
    assert metrics == trainer.progress.metrics
    assert len(metrics) == 2


@pytest.mark.parametrize("stop_after", [("after", 2), ("after", 3), ("epoch", 1), ("after", 5)])
def test_one_wish_stops_after_the_step_and_fit_goes_on_there_with_the_same_bits(data, stop_after):
    whole, parts = trainer_of(data), trainer_of(data)
    whole.train_to(3)
    stopper, witness = Notes(stop_after), Notes()
    parts.train_to(3, [stopper, witness])
    assert stopper.notes == witness.notes  # the others hear of that step too
    assert stopper.notes[-2:] == [stop_after, ("closed",)]
    parts.train_to(3, [witness])
    assert parts.optimizer.flat.w.tobytes() == whole.optimizer.flat.w.tobytes()
    records = [[{k: v for k, v in r.items() if k != "seconds"} for r in t.progress.metrics] for t in (whole, parts)]
    assert records[0] == records[1]


def test_steps_by_hand_are_the_same_training(data):
    whole, by_hand = trainer_of(data), trainer_of(data)
    whole.train_to(2)
    for first in (1, 4):
        assert list(by_hand.steps()) == [first, first + 1, first + 2]
        by_hand.finish_epoch()
    assert by_hand.optimizer.flat.w.tobytes() == whole.optimizer.flat.w.tobytes()


def test_a_step_comes_with_its_batch_loss_logits_and_gradients(data):
    trainer = trainer_of(data, model="linear")

    class Looks(Observer):
        def before_step(self, step: Step) -> None:
            self.w = [p.data.copy() for p in trainer.model.parameters()]

        def after_step(self, step: Step) -> None:
            w, b = self.w
            logits = step.x.data.reshape(len(step.labels), -1) @ w.T + b
            np.testing.assert_allclose(step.logits.data, logits, rtol=1e-4, atol=1e-5)
            p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            assert step.loss.item() == pytest.approx(-np.log(p[np.arange(len(p)), step.labels]).mean(), rel=1e-4)
            p[np.arange(len(p)), step.labels] -= 1
            gradients = [q.grad for q in trainer.model.parameters()]
            np.testing.assert_allclose(gradients[1], p.mean(0), rtol=1e-3, atol=1e-6)

    with reference_only():
        trainer.train_to(1, [Looks()])


def test_observers_are_closed_however_training_ends(data):
    class Fails(Notes):
        def after_step(self, step: Step) -> bool:
            raise OSError("disk full")

    first, last = Notes(), Notes()
    with pytest.raises(OSError, match="disk full"):
        trainer_of(data).train_to(1, [first, Fails(), last])
    assert first.notes[-2:] == [("after", 1), ("closed",)]
    assert last.notes[-2:] == [("before", 1), ("closed",)]
    with np.errstate(all="ignore"), pytest.raises(Diverged):
        trainer_of(data, opt="sgd", lr=1e30).train_to(2, [first])
    assert first.notes[-1] == ("closed",)


class Looks(Observer):
    """Puts the network into evaluation mode for a look, and may forget to put it back."""

    def __init__(self, model: Any, forgets: bool) -> None:
        self.model, self.forgets = model, forgets

    def after_step(self, step: Step) -> None:
        self.model.eval()
        self.model.train(not self.forgets)


def test_a_network_that_is_left_in_evaluation_mode_is_told(data):
    trainer = trainer_of(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.fit(1, [Looks(trainer.model, forgets=False)], verbose=False)
        trainer.model.eval()  # between two epochs it does no harm
        trainer.fit(1, verbose=False)
    with pytest.warns(UserWarning, match="after step 7 the network is in evaluation mode") as told:
        trainer.fit(1, [Looks(trainer.model, forgets=True)], verbose=False)
    assert len(told) == 1


def test_without_validation_nothing_is_evaluated(data, monkeypatch):
    trainer, validated = trainer_of(data), trainer_of(data)
    validated.train_to(2)
    monkeypatch.setattr("minidl.trainer.measure", lambda *args: pytest.fail("evaluated"))
    metrics = trainer.train_to(2, validate=False)
    assert [(r["val_loss"], r["val_accuracy"]) for r in metrics] == [(None, None)] * 2
    assert [r["train_loss"] for r in metrics] == [r["train_loss"] for r in validated.progress.metrics]
    assert trainer.optimizer.flat.w.tobytes() == validated.optimizer.flat.w.tobytes()


def test_one_fit_at_a_time(data):
    """Two would mix their steps, as where a page that starts a training is asked for twice; each may have its own."""
    straight, trainer, other, said = trainer_of(data), trainer_of(data), trainer_of(data), []

    class Fits(Observer):
        def after_step(self, step: Step) -> None:
            other.fit(0, verbose=False)
            with pytest.raises(RuntimeError, match=r"in thread MainThread, and two at once would mix their steps"):
                trainer.fit(1, verbose=False)
            thread = threading.Thread(target=self.fit)
            thread.start()
            thread.join()

        def fit(self) -> None:
            try:
                trainer.fit(1, verbose=False)
            except RuntimeError as error:
                said.append(str(error))

    straight.fit(2, verbose=False)
    trainer.fit(1, [Fits()], verbose=False)
    assert len(said) == 3
    trainer.fit(1, verbose=False)
    assert trainer.progress.step == 6
    assert trainer.optimizer.flat.w.tobytes() == straight.optimizer.flat.w.tobytes()


@pytest.mark.parametrize("answer", [2.3, 1, {"epoch": 1}, np.ones(2, bool), "stop"])
@pytest.mark.parametrize("method", ["after_step", "after_epoch"])
def test_only_true_asks_to_stop(data, method, answer):
    """A loss that a method returns, as by habit, ended the training after one step."""
    trainer = trainer_of(data)
    observer = type("Answers", (Observer,), {method: lambda self, what: answer})()
    with pytest.raises(
        TypeError, match=f"Answers.{method} returned a value of type {type(answer).__name__}: return True to stop"
    ):
        trainer.fit(2, [observer], verbose=False)
    for goes_on in (np.float32(2) > 3, 0):  # 0: of `return self.waited and self.waited > 3`
        setattr(type(observer), method, lambda self, what, answer=goes_on: answer)
        trainer.fit(1, [observer], verbose=False)
    setattr(type(observer), method, lambda self, what: np.asarray(3) > 2)
    before = trainer.progress.step
    trainer.fit(2, [observer], verbose=False)
    assert trainer.progress.step == before + (1 if method == "after_step" else 3)


def test_a_record_is_the_runs_own(data, tmp_path):
    """Values that an observer put there made a checkpoint that nobody could read again."""
    trainer = trainer_of(data)

    class Adds(Observer):
        def after_epoch(self, record: dict[str, Any]) -> None:
            record["f1"] = np.ones(3)
            record["lr"] = 7.0
            del record["val_loss"]

    with pytest.warns(UserWarning, match=r"changed \['val_loss', 'lr', 'f1'\] in its copy of the record") as told:
        trainer.fit(1, [Adds(), notes := Notes()], verbose=False)
    assert len(told) == 1
    assert set(trainer.metrics[0]) >= {"val_loss", "lr"}
    assert trainer.metrics[0]["lr"] != 7
    assert "f1" not in trainer.metrics[0]
    assert notes.notes[-2] == ("epoch", 1)
    trainer.save(tmp_path / "run")
    assert load_run(tmp_path / "run", data=str(data)).metrics == trainer.metrics


def test_what_a_program_adds_to_the_records_it_was_given_is_its_own(data, tmp_path):
    """history[-1]["test_accuracy"] = ... made a checkpoint that nobody could read again."""
    trainer = trainer_of(data)
    history, records, state = trainer.fit(1, verbose=False), trainer.train_to(2), trainer.state()
    list(trainer.steps())
    given = [history[0], records[1], trainer.metrics[1], trainer.finish_epoch()]
    for record in given:
        record.update(f1=np.float32(0.5), train_loss=99.0)
    run = load_run(trainer.save(tmp_path / "run"), data=str(data))
    run.metrics[0]["f1"] = 0.5
    for _ in range(2):
        assert [set(record) for record in run.metrics] == [set(history[0]) - {"f1"}] * 3
        assert all(record["train_loss"] < 99 for record in run.metrics)
        run.trainer  # noqa: B018 (the run now shows its records)
    for _ in range(2):  # a state, too, is as it was
        trainer.load_state(state)
        assert [record["epoch"] for record in trainer.metrics] == [1, 2]
        trainer.train_to(3)


def test_a_trainer_that_was_moved_on_between_two_steps_says_so(data):
    """The rest of an epoch in an older order trained on some examples twice, and the counts looked right."""
    straight, trainer = trainer_of(data), trainer_of(data)
    straight.train_to(2)
    older = trainer.steps()
    next(older)
    next(trainer.steps())
    with pytest.raises(RuntimeError, match=r"moved on between two steps.*a new steps\(\)"):
        next(older)
    trainer.fit(1, verbose=False)
    with pytest.raises(RuntimeError, match="no step of this epoch"):
        trainer.finish_epoch()
    older = trainer.steps()
    next(older)
    trainer.load_state(trainer.state())
    with pytest.raises(RuntimeError, match="moved on"):
        next(older)
    trainer.train_to(2)
    assert trainer.optimizer.flat.w.tobytes() == straight.optimizer.flat.w.tobytes()
    for what in (lambda: trainer.train_to(4), lambda: next(trainer.steps()), lambda: trainer.finish_epoch()):

        class Moves(Observer):
            def after_step(self, step: Step, what: Any = what) -> None:
                what()

        with pytest.raises(RuntimeError, match=r"moved on|no step of this epoch"):
            trainer.fit(1, Moves(), verbose=False)


def test_another_thread_saves_no_half_step(data, tmp_path):
    """In the middle of a step some weights are new and others old; an observer saves between two."""
    trainer, said = trainer_of(data), []

    class Saves(Observer):
        def before_step(self, step: Step) -> None:
            thread = threading.Thread(target=self.save)
            thread.start()
            thread.join()

        def after_step(self, step: Step) -> None:
            trainer.save(tmp_path / f"step{step.number}")

        def save(self) -> None:
            try:
                trainer.save(tmp_path / "torn")
            except RuntimeError as error:
                said.append(str(error))

    trainer.fit(1, [Saves()], verbose=False)
    assert len(said) == 3
    assert "thread MainThread is training this Trainer" in said[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step1", "step2", "step3"]


def test_only_steps_that_nobody_wants_whole_run_in_one_piece(data, monkeypatch):
    """Here the one piece is the usual step: a GPU's captured one is compared with it in tests/test_gpu_graph.py."""
    trainer, plain, pieces = trainer_of(data), trainer_of(data), []
    plain.train_to(2)

    def captured(x: Any, labels: Any) -> Any:
        pieces.append(trainer.progress.step + 1)
        _, loss, correct = trainer._forward(Tensor(x), labels)
        trainer.optimizer.zero_grad()
        loss.backward()
        trainer.optimizer.step()
        return loss, correct

    class Wants(Notes):
        def __init__(self, *steps: int) -> None:
            super().__init__()
            self.steps, self.whole, self.losses = steps, set(), []

        def wants(self, step: int) -> bool:
            return step in self.steps

        def after_step(self, step: Step) -> bool:
            self.losses.append(step.loss.item())
            if step.logits is not None:
                self.whole.add(step.number)
            return super().after_step(step)

    monkeypatch.setattr(trainer, "_captured", captured)
    one, other = Wants(1, 4), Wants(5)
    trainer.train_to(2, [one, other])
    assert pieces == [2, 3, 6]
    assert one.whole == other.whole == {1, 4, 5}
    assert len(one.losses) == len([note for note in one.notes if note[0] == "after"]) == 6
    assert trainer.optimizer.flat.w.tobytes() == plain.optimizer.flat.w.tobytes()


def test_a_copy_that_an_observer_makes_trains_by_itself(data: Path) -> None:
    class Ahead(Observer):
        """Trains a copy for an epoch more."""

        def after_epoch(self, record: dict[str, Any]) -> None:
            self.copy = copy.deepcopy(trainer)
            self.copy.fit(1, verbose=False)

    trainer, ahead = trainer_of(data), Ahead()
    trainer.fit(1, [ahead], verbose=False)
    assert (trainer.progress.epoch, ahead.copy.progress.epoch) == (1, 2)
    trainer.fit(1, verbose=False)
    for name, right in trainer.model.state_dict().items():
        np.testing.assert_array_equal(ahead.copy.model.state_dict()[name], right)
