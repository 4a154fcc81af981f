"""Bring your own: `python -m minidl.study --with mine.py`, or run_study(QUICK, "out", own="mine.py").

The file may define:

- Rules, each with the axes along which it is tuned, as in  axes = {"lr": (1e-5, 1e-2)}.  A pair gives the ends of a
  range on a logarithmic scale; Log and Remainder (training/search.py) say more
- Modules, and functions annotated to return one (`def net(classes) -> nn.Module`): networks to train, each in a regime
  with the images, epochs and batches of the preset's last. One is called as `Net()`, or with `image_size` and `classes`
  if its parameters have these names. If there is one, the preset's own networks are not used
- a list `contestants` of Contestants, for anything beyond that

An optimizer joins those of the preset, tuned on the same budget, and has claims of its own (claims.py).
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

from minidl.data import Dataset
from minidl.nn import Module
from minidl.optim import Optimizer
from minidl.study.contestants import Contestant
from minidl.study.regimes import Regime, Shows
from minidl.study.study import Study
from minidl.training.loader import UserError, load, own_things
from minidl.training.search import Axis, Log, Remainder

LONGEST = 60  # characters of a contestant's name
VAL_SHARE = 0.2  # of a data set that is smaller than a regime needs


def with_own(study: Study, file: str | Path, dataset: Dataset) -> Study:
    """The study with the contents of a file added, and its regimes reduced to the size of the data set.

    Raises UserError, a ValueError, if the file can't be used.
    """
    path = Path(file).expanduser().absolute()
    things = own_things(path)
    optimizers = [t for t in things.values() if _is(t, Optimizer) and getattr(t, "axes", None) is not None]
    makers = {name: t for name, t in things.items() if _is(t, Module) or _returns_one(t)}
    networks = [name for name, t in makers.items() if not _wants(t)]
    parts = [(name, _wants(t)) for name, t in makers.items() if _wants(t)]
    listed = things.get("contestants", ())
    if not isinstance(listed, (list, tuple)):
        raise UserError(f"{path.name}: `contestants` must be a list of Contestant, not {type(listed).__name__}")
    listed = list(listed)
    if bare := [t.__name__ for t in things.values() if _is(t, Optimizer) and t not in optimizers and not listed]:
        raise UserError(f'{path.name}: say what is tuned in {bare[0]}, as in  axes = {{"lr": (1e-5, 1e-2)}}')
    if parts and not networks:
        name, wants = parts[0]
        raise UserError(
            f"{path.name}: {name} requires {', '.join(wants)}, but a study passes a network only image_size and "
            "classes: give its other parameters defaults"
        )
    if not optimizers and not networks and not listed:
        functions = [name for name, t in things.items() if inspect.isfunction(t)]
        hint = f". If {functions[0]} makes a network, say so: def {functions[0]}(...) -> nn.Module" if functions else ""
        raise UserError(f"{path.name} defines no optimizer (a Rule with `axes`), no network and no `contestants`{hint}")
    if strange := [c for c in listed if not isinstance(c, Contestant)]:
        raise UserError(
            f"{path.name}: `contestants` must be a list of Contestant, but has a {type(strange[0]).__name__}"
        )
    contestants = [_contestant(path, optimizer) for optimizer in optimizers]
    contestants += [replace(contestant, block="own") for contestant in listed]
    regimes = tuple(_regime(study.regimes[-1], path, name) for name in networks) or study.regimes
    return replace(study, contestants=(*study.contestants, *contestants), regimes=fit(regimes, dataset, contestants))


def _is(thing: Any, kind: type) -> bool:
    return isinstance(thing, type) and issubclass(thing, kind)


def _returns_one(thing: Any) -> bool:
    """Whether it is a function annotated to return a network."""
    if not inspect.isfunction(thing):
        return False
    try:
        return _is(inspect.signature(thing, eval_str=True).return_annotation, Module)
    except Exception:  # an annotation may be any text: this one does not name a network
        return False


def _wants(network: Any) -> list[str]:
    """The arguments it requires besides image_size and classes; with any, it is a part of another network."""
    takes = inspect.signature(network).parameters.values()
    needed = [p.name for p in takes if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [name for name in needed if name not in ("image_size", "classes")]


def _contestant(path: Path, optimizer: Any) -> Contestant:
    if not isinstance(optimizer.axes, dict):
        raise UserError(
            f'{path.name}: the axes of {optimizer.__name__} must be a dict, as in  axes = {{"lr": (1e-5, 1e-2)}}, '
            f"not {type(optimizer.axes).__name__}"
        )
    try:
        axes = tuple(_axis(str(name), given) for name, given in optimizer.axes.items())
    except (TypeError, ValueError) as error:
        raise UserError(f"{path.name}: the axes of {optimizer.__name__} can't be read: {error}") from None
    words = ((optimizer.__doc__ or "").strip() or optimizer.__name__).splitlines()[0].rstrip(".")
    words = words if len(words) <= LONGEST else words[: LONGEST - 3] + "..."
    key = str(getattr(optimizer, "name", "") or optimizer.__name__).lower()
    return Contestant(key, words, "own", (("opt", f"{path}:{optimizer.__name__}"),), axes)


def _axis(name: str, given: Any) -> Axis:
    if isinstance(given, (Log, Remainder)):
        return replace(given, name=name)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise ValueError(f"{name!r} is {given!r}, but must be a pair (low, high)")
    return Log(name, float(given[0]), float(given[1]))


def _regime(like: Regime, path: Path, name: str) -> Regime:
    own = f"{path}:{name}"
    load(own)
    bare = replace(like, name=name, network=own, filters=(), hidden=(), shows=Shows(), contestants=None)
    return replace(bare, floor=Regime.floor)  # what the preset's network can do says nothing about this one


def fit(regimes: tuple[Regime, ...], dataset: Dataset, own: list[Contestant]) -> tuple[Regime, ...]:
    """The regimes with no more images than there are. What they must show is only required for MNIST."""
    there, fitted = len(dataset.train_labels), []
    for regime in regimes:
        val = min(regime.val_images, round(VAL_SHARE * there))
        found = replace(regime, val_images=val, train_images=min(regime.train_images, there - val))
        if found.contestants is not None:
            found = replace(found, contestants=(*found.contestants, *(c.key for c in own)))
        if dataset.name not in ("mnist", "mnist5k"):  # a folder of the user's may be called mnist-letters
            found = replace(found, shows=Shows(), floor=min(regime.floor, 1.5 / dataset.classes))
        fitted.append(found)
    return tuple(fitted)
