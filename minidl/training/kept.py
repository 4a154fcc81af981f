"""What a network keeps in itself besides weights and buffers: random generators, and numbers that `forward` changes.

A checkpoint holds them too: otherwise a resumed run would draw its noise again from the start, or count from zero.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Mapping
from random import getstate
from typing import Any

import numpy as np

from minidl.module import Module
from minidl.optim.custom import NOISE, can_be_stored, sum_of
from minidl.rng import CounterRng
from minidl.telling import tell
from minidl.training.observer import Observer, Step

OURS = ("training", "by_chance", "_results")  # what every Module or layer has there


# ---- generators ----


def states(model: Module) -> dict[str, Any]:
    """The state, as JSON, of each generator that a module has as an attribute: a CounterRng, such as dropout's, or one
    made by np.random.default_rng."""
    return {name: g.state() if isinstance(g, CounterRng) else g.bit_generator.state for name, g in _generators(model)}


def put_states(model: Module, saved: Mapping[str, Any]) -> None:
    """Go back to what `states` returned."""
    for name, generator in _generators(model):
        if isinstance(generator, CounterRng):
            generator.load_state(saved[name])
        else:
            generator.bit_generator.state = saved[name]


def _generators(model: Module) -> Iterator[tuple[str, Any]]:
    for name, value in _attributes(model):
        if isinstance(value, CounterRng) or can_be_stored(value):
            yield name, value


# ---- numbers ----


def numbers(model: Module) -> dict[str, Any]:
    """The numbers, strings and None that modules have as attributes, as JSON; NumPy's with their dtype."""
    found: dict[str, Any] = {}
    for name, value in _attributes(model):
        if isinstance(value, (np.bool_, np.integer, np.floating)):
            found[name] = [value.dtype.name, value.item()]
        elif type(value) in (int, float, bool, str, type(None)) and name.rpartition(".")[2] not in OURS:
            found[name] = value
    return found


def put_numbers(model: Module, saved: Mapping[str, Any]) -> None:
    """Set these attributes to what `numbers` returned. Raises KeyError or ValueError if the network can't have them."""
    modules = dict(model.named_modules())
    for path, value in saved.items():
        module, name = modules[path.rpartition(".")[0]], path.rpartition(".")[2]
        if hasattr(type(module), name) or isinstance(vars(module).get(name), (Module, np.ndarray)):
            raise ValueError(f"{path} of this network is not a number")
        vars(module)[name] = np.dtype(value[0]).type(value[1]) if isinstance(value, list) else value


def _attributes(model: Module) -> Iterator[tuple[str, Any]]:
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            yield f"{path}.{name}" if path else name, value


# ---- generators elsewhere ----


class Drawn(Observer):
    """Warns if a Trainer's next step draws from a generator that no checkpoint holds: np.random.rand(),
    random.random(), or one that is a global variable where a class of the network or the optimizer is defined."""

    def __init__(self, trainer: Any) -> None:
        kinds = {type(thing) for thing in (*(module for _, module in trainer.model.named_modules()), trainer.optimizer)}
        self.places = [vars(sys.modules[kind.__module__]) for kind in kinds if kind.__module__ in sys.modules]
        self.before = self._now()

    def _now(self) -> dict[str, Any]:
        numpys = np.random.get_state(legacy=False)  # noqa: NPY002 (to find out whether it is used)
        found: dict[str, Any] = {"np.random": pickle.dumps(numpys), "random": pickle.dumps(getstate())}
        for place in self.places:
            found |= {name: sum_of(value) for name, value in place.items() if isinstance(value, NOISE)}
        return found

    def after_step(self, step: Step) -> None:
        if not self.before:
            return
        moved = [name for name, state in self._now().items() if state != self.before.get(name, state)]
        self.before = {}  # the steps to come do the same
        for name in moved:
            tell(f"step {step.number} draws from {name}, whose state is not saved: this run can't be resumed with the "
                 "same bits, nor repeated unless the program seeds it. Draw from a generator in the network, "
                 "self.rng = np.random.default_rng(0)")  # fmt: skip
