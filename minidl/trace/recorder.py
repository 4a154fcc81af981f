"""The Recorder is an observer that keeps what a page needs to replay a run.

It changes nothing: training gives the same bits with and without it. At every step it notes the loss, the learning rate
and the values of the weights under the lens; steps selected by choose.py are recorded in full.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import ExitStack
from typing import Any

import numpy as np

from minidl.backend import Array, backend_of, to_numpy
from minidl.fast.fuse import in_one_piece
from minidl.grad_mode import no_grad
from minidl.optim.explain import Look
from minidl.tensor import Tensor
from minidl.trace import choose, keep
from minidl.trace.conditions import note_of, switch_of
from minidl.trace.frame import IMAGES, Frame
from minidl.trace.layers import WatchedLayer, describe, watched_layers
from minidl.trace.page import FORMAT, inline, page, write
from minidl.trainer import Trainer
from minidl.training.observer import Observer, Step


class Recorder(Observer):
    """Records a Trainer's steps: `recorder = Recorder(trainer)`, then `trainer.fit(epochs, observers=[recorder])`.

    trainer   the Trainer
    title     what the page calls the run
    earlier   the recording of the same run up to where this Trainer stands, for a run that was resumed

    `recording()` is what was recorded, `save(path)` writes the page, and a notebook shows a Recorder as its page. Its
    steps follow one another: after a `fit` without it, `fit` raises RuntimeError, and a new Recorder is needed.
    """

    def __init__(self, trainer: Trainer, title: str = "", earlier: dict[str, Any] | None = None) -> None:
        self.trainer, self.title, self.earlier = trainer, title, earlier
        self.facts: dict[str, Any] = {"config": None, "summary": None, "ending": ""}  # of the run, for the page
        self.frames: list[dict[str, Any]] = []  # ready for the page
        self._raw: list[Frame] = []  # not yet
        self._recent: deque[Frame] = deque(maxlen=choose.BEFORE)  # the last steps that were not chosen: the lens only
        self._losses: list[Array] = []  # 0-d, on the device
        self._rates: list[float] = []
        self._phases: list[list[Any]] = []  # [first step, phase]
        self._history: list[dict[str, Any]] = []  # the switch's condition at recorded steps
        self._layers: list[dict[str, Any]] = []
        self._first = trainer.progress.step + 1
        self._event = trainer.optimizer.switch_event
        self._look: Look | None = None  # of the current step, as the next three
        self._step: Step | None = None
        self._seen: list[WatchedLayer] = []
        self._watching = ExitStack()
        self._wanted = False
        on_cpu = backend_of(trainer.splits.train.images).name == "cpu"
        self._always = on_cpu and not in_one_piece(trainer.model)  # watching costs nothing, and a switch may come
        self._find_weights()

    def _find_weights(self) -> None:
        splits, flat = self.trainer.splits, self.trainer.optimizer.active.flat
        assert flat is not None, "a Trainer's optimizer has the model's parameters"
        start: dict[int, int] = {}
        at = 0
        for p in flat.params:
            start[id(p)], at = at, at + p.size
        named = list(self.trainer.model.named_parameters())
        self.grids = [choose.grid(name, p.shape, splits.image_size) for name, p in named]
        places = [grid.places + start[id(p)] for grid, (_, p) in zip(self.grids, named, strict=True)]
        self.places = backend_of(flat.w).from_host(np.concatenate(places))

    # ---- called by the Trainer -----------------------------------------------------------------------------------

    def wants(self, step: int) -> bool:
        """Whether this step will have a frame, as far as can be known."""
        progress, since = self.trainer.progress, None if self._event is None else self._event.step
        return choose.wanted(step, since, progress.batch + 1 == self.trainer.steps_per_epoch)

    def before_step(self, step: Step) -> None:
        optimizer, rule = self.trainer.optimizer, self.trainer.optimizer.active
        last, now = self._first + len(self._losses) - 1, self.trainer.progress.step
        if not last == now == step.number - 1:
            raise RuntimeError(
                f"a Recorder's steps are one Trainer's, without a gap: this one has those to {last:,}, its Trainer has "
                f"taken {now:,}, and it is given step {step.number:,}: make a new one, Recorder(trainer)"
            )
        self._step, self._look = step, Look(optimizer, self.places)
        self._vectors = (rule.keep_step(), rule._bound().g)  # which a switch takes from the rule
        self._note_phase(step.number, optimizer.phase)
        self._wanted = self.wants(step.number)
        if self._wanted or self._always:
            self._seen = self._watching.enter_context(watched_layers(self.trainer.model))

    def after_step(self, step: Step) -> None:
        assert self._look is not None
        assert step.loss is not None
        optimizer, look = self.trainer.optimizer, self._look
        self._watching.close()
        look.end()
        self._losses.append(step.loss.data)
        self._rates.append(look.lr)
        switched = optimizer.switch_event != self._event
        if switched:
            self._recent_to_frames()
        if switched or self._wanted:
            frame = Frame(step.number, look)
            frame.measure(*self._vectors)
            self._add(frame, step)
            self._note_condition(step.number)
        else:
            self._recent.append(Frame(step.number, look))
        self._event, self._look, self._step, self._seen = optimizer.switch_event, None, None, []

    def _add(self, frame: Frame, step: Step) -> None:
        frame.add(self.trainer.model, self.grids, self._seen, step.x.data, step.labels)
        self._raw.append(frame)
        if not self._layers:
            self._layers = [describe(seen) for seen in self._seen]

    def after_epoch(self, record: dict[str, Any]) -> None:  # the optimizer was told of it, and may have switched
        if self.trainer.optimizer.switch_event != self._event:
            self._recent_to_frames()
        self._note_condition(record["step"])
        self._event = self.trainer.optimizer.switch_event
        self._ready()

    def close(self) -> None:
        """Training is over: keep what exists of a step that failed. It has outputs, but no gradient and no update."""
        self._watching.close()
        if self._step is not None:
            self._recent_to_frames()
            trained = [i for i, seen in enumerate(self._seen, start=1) if seen.trains]
            del self._seen[max(trained, default=len(self._seen)) :]  # noted again by the search for the first NaN
            if not self._seen:  # then compute them again: this step is the one to look at
                with no_grad(), watched_layers(self.trainer.model) as self._seen:
                    self.trainer.model(Tensor(self._step.x.data))
            self._add(Frame(self._step.number), self._step)
            self._look, self._step, self._seen = None, None, []
        self._ready()

    # ---- notes ---------------------------------------------------------------------------------------------------

    def _note_phase(self, step: int, phase: str) -> None:
        if not self._phases or self._phases[-1][1] != phase:
            self._phases.append([step, phase])

    def _note_condition(self, step: int) -> None:
        note = note_of(self.trainer.optimizer, step)
        if note is not None and self._event is None:  # else there is nothing to switch, or it has switched
            self._history.append(note)

    def _recent_to_frames(self) -> None:
        self._raw.extend(self._recent)
        self._recent.clear()

    def _ready(self) -> None:
        """Convert the frames to the page's form: work that was deferred during training."""
        self.frames.extend(frame.packed(self.trainer.optimizer) for frame in self._raw)
        self._raw.clear()

    # ---- the recording ---------------------------------------------------------------------------------------------

    def recording(self) -> dict[str, Any]:
        """All that was recorded, as nested dictionaries and lists with NumPy arrays: what `pack` takes."""
        self._ready()
        trainer, p = self.trainer, self.trainer.progress
        earlier = self.earlier or {"first": self._first, "frames": [], "history": [], "phases": [], "layers": []}
        before = self._first - earlier["first"]  # steps that the earlier recording has of this run
        phases = [item for item in earlier["phases"] if item[0] < self._first]
        phases += [item for item in self._phases if not phases or item[1] != phases[-1][1]]
        notes = [note for note in earlier["history"] if note["step"] < self._first] + self._history
        by_step = {note["step"]: note for note in notes}  # the end of an epoch updates the note of its last step
        losses = np.array([float(to_numpy(loss)) for loss in self._losses], np.float32)
        rates = np.array(self._rates, np.float64)
        if before:
            losses = np.concatenate([earlier["loss"][:before], losses])
            rates = np.concatenate([earlier["lr"][:before], rates])
        return {
            "format": FORMAT,
            "title": self.title or f"{type(trainer.optimizer).__name__}, {len(self._layers)} layers",
            **self.facts,
            "first": earlier["first"],
            "last": p.step,
            "steps_per_epoch": trainer.steps_per_epoch,
            "loss": losses,
            "lr": rates,
            "phases": phases,
            "epochs": list(p.metrics),
            "layers": self._layers or earlier["layers"],
            "weights": [
                {"name": g.name, "shape": list(g.shape), "outputs": g.outputs.astype(np.int32),
                 "inputs": g.inputs.astype(np.int32)}
                for g in self.grids
            ],
            "image": list(trainer.splits.image_size),
            "switch": switch_of(trainer.optimizer),
            "history": list(by_step.values()),
            "frames": [f for f in earlier["frames"] if f["step"] < self._first]
            + sorted(self.frames, key=lambda frame: int(frame["step"])),
            "left_out": self._left_out(),
        }  # fmt: skip

    def _left_out(self) -> list[str]:
        """What is not on the page, in sentences."""
        weights, resumed = sum(math.prod(grid.shape) for grid in self.grids), self._first > 1 and not self.earlier
        lost = f"Steps 1 to {self._first - 1:,}, before the run was resumed, were not recorded."
        return [
            f"Of {self.trainer.progress.step:,} steps, those marked on the timeline are recorded: the first "
            f"{choose.DENSE} and the first {choose.DENSE} after a switch, then at intervals that grow by a fifth, and "
            f"the last of each epoch; of the {choose.BEFORE} steps before a switch, only the weights under the lens. "
            "Loss and learning rate are recorded at every step.",
            f"Of {weights:,} weights, {len(self.places):,} are under the lens, spread over all layers, with all digits "
            "of their float32 values.",
            f"Images have {keep.SHADES} shades and show up to {keep.MAPS} of a layer's channels; histograms are of up "
            f"to {keep.SAMPLE:,} values at random positions; of the minibatch, the {IMAGES} worst examples are shown.",
            *([lost] if resumed else []),
        ]

    def html(self) -> str:
        """The page."""
        return page([self.recording()])

    def save(self, path: Any) -> None:
        """Write the page to a file, whole or not at all."""
        write(path, self.html())

    def _repr_html_(self) -> str:
        return inline(self.html())
