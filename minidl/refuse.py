"""Errors for names and arguments that minidl does not have, with what to write instead.

The advice for each is in elsewhere.py and arguments.py.

An unsupported argument is an error: otherwise a user might learn only after a training run that `dilation` was
ignored. With PyTorch's default value it changes nothing, and is accepted.
"""

from __future__ import annotations

import difflib
import dis
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl.arguments import BEYOND
from minidl.elsewhere import ELSEWHERE, MODELS, OWN


class Named:
    """A class on which users may look for PyTorch's names: the error for a missing one says what to write instead."""

    __slots__ = ()
    _otherwise = ""  # what to do about a name that is not listed here

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):  # a user's own property, which failed on another missing name
                return object.__getattribute__(self, name)
            known = [each for each in dir(type(self)) if each[0] != "_"] if type(self)._otherwise else ()
            table = ELSEWHERE if type(self)._otherwise == OWN else MODELS
            raise missing(type(self).__name__, name, type(self)._otherwise, known, table)


def missing(
    where: str, name: str, otherwise: str = OWN, known: Iterable[str] = (), table: Mapping[str, str] = ELSEWHERE
) -> AttributeError | ImportError:
    """The error for a name that `where`, such as minidl.ops, does not have: with what to write instead, or the most
    similar of the `known` names. table: whose advice it may be. To be raised in a __getattr__.

    For `from minidl.nn import GRU` it is an ImportError: the words of an AttributeError would not be shown there.
    """
    said = table.get(f"{where}.{name}") or table.get(name, "")  # some mean something else there
    if not said and otherwise == OWN and hasattr(np.ndarray, name) and not hasattr(np, name):
        said = f"arrays have it, t.numpy().{name}"  # also __array_interface__, for which Pillow asks
    if said or name.startswith("_"):
        remedy = said
    elif name.endswith("_") and otherwise:  # not scikit-learn's loss_curve_, of a Trainer
        new = ELSEWHERE.get(name[:-1]) or (f"t.{name[:-1]}" if name[:-1] in known else "t = t + 1")
        remedy = f"nothing is changed in place, but computed anew: {new}; p.data[...] = values sets a weight"
    elif near := _near(name, known):
        remedy = near
    elif otherwise == OWN and hasattr(np, name):
        remedy = f"np.{name}, without a gradient; for one {OWN}"
    else:
        remedy = otherwise
    words, user = f"{where} has no '{name}'" + (f": {remedy}" if remedy else ""), sys._getframe(2)
    imported = dis.opname[user.f_code.co_code[user.f_lasti]] == "IMPORT_FROM"
    return ImportError(words) if imported and f"{where}.{name}" not in sys.modules else AttributeError(words)


def listed(module: str) -> list[str]:
    """What dir() and completion list for a module of minidl: its public names and its parts, not what it imports."""
    names = vars(sys.modules[module])
    return sorted({*names["__all__"], *(name for name in names if f"{module}.{name}" in sys.modules)})


def _near(name: str, known: Iterable[str]) -> str:
    """The known name that differs only in capitals and underscores; else those that start with the name; else the most
    similar one."""
    plain = {each: each.replace("_", "").lower() for each in known}
    bare = name.replace("_", "").lower()
    same = [each for each in plain if plain[each] == bare]
    if same:
        return f"it is called {same[0]}"
    begin = [each for each in plain if len(bare) > 2 and plain[each].startswith(bare) and plain[each] != bare]
    letters = difflib.get_close_matches(bare, plain.values(), n=1, cutoff=0.8) if len(bare) > 4 else []
    found = begin or [each for each in plain if plain[each] in letters and plain[each] != bare]
    return f"did you mean {' or '.join(found)}?" if found else ""


def refuse(name: str, arguments: Mapping[str, Any], more: Sequence[Any] = ()) -> None:
    """Raise TypeError for the first of these arguments of `name` that would have an effect, and for `more`, positional
    ones."""
    if more:
        refuse_input(name, more[0])
        raise TypeError(f"{name}: {more[0]!r} is one positional argument too many; pass others by name, bias=False, "
                        "and leave out PyTorch's inplace=True")  # fmt: skip
    for argument, value in arguments.items():
        default, remedy = BEYOND.get(f"{name}.{argument}") or BEYOND.get(argument, (NotImplemented, ""))
        if not any(_is(value, same) for same in (default, (default, default))):
            raise TypeError(f"{name} has no argument '{argument}'" + (f": {remedy}" if remedy else ""))


def refuse_input(name: str, argument: Any) -> None:
    """Raise TypeError for an input in place of a layer's first argument, as in nn.Flatten(x)."""
    if getattr(argument, "shape", ()):
        called = f"nn.{name}()(logits, labels)" if name.endswith("Loss") else f"nn.{name}()(x)"
        raise TypeError(f"{name}: a layer is created first, and then called on its input: {called}")


def real(x: Any) -> float:
    """A number as a float; NaN for anything else, such as the text 1e-5 of a YAML file: no comparison is true of it."""
    try:
        return math.nan if isinstance(x, str) else float(x)
    except (TypeError, ValueError):
        return math.nan


def _is(value: Any, default: Any) -> bool:
    """Whether the value is this default, of the same type: arrays and pairs of arrays are not."""
    if isinstance(value, tuple) and isinstance(default, tuple):
        return len(value) == len(default) and all(map(_is, value, default))
    return type(value) is type(default) and bool(value == default)


def to_labels(labels: Any) -> str:
    """How to turn labels of another kind into whole numbers 0, 1, ..."""
    if labels.ndim > 2:
        return "the images come first, (images, labels); for images as targets, write a loop of your own"
    if labels.ndim == 2 and labels.shape[1] > 1:
        return "labels.argmax(1) for one-hot rows"
    if labels.dtype.kind in "OUS":
        return "np.unique(labels, return_inverse=True)[1] numbers the names"
    if labels.dtype.kind == "f" and bool((labels != labels).any()):
        return "some are NaN: leave out the examples without a label"
    if labels.dtype.kind == "f":
        return "labels.astype(int); for regression, write a loop of your own with ops.mse_loss"
    return "labels.ravel()" if labels.ndim == 2 else "labels.astype(int)"


def to_classes(labels: Any) -> str:
    """The same for cross_entropy, where labels may also be soft."""
    if labels.ndim == 2:
        return to_labels(labels) + "; for soft ones -(labels * ops.log_softmax(logits)).sum(1).mean()"
    other = labels.dtype.kind in "OUS" or bool((labels != labels).any())
    return to_labels(labels) if other else "give an array of integers, labels.astype(int), not a Tensor"


def to_examples(ndim: int) -> str:
    """How logits of one example, or of several positions in each, become rows of classes."""
    if ndim < 2:
        return ": logits[None] is one example; the logits come first, then the labels"
    order = (0, *range(2, ndim), 1)
    return f": logits.reshape(-1, classes), labels.reshape(-1), after logits.permute{order} where classes are axis 1"


def to_same(what: str, x: Any, target: Any) -> str:
    """Predictions and targets of different shapes, and how a column of one and a row of the other become the same."""
    words = f"{what} {x.shape} and target {target.shape} must have the same shape"
    if x.shape == (*target.shape, 1):
        return f"{words}: give target[..., None]"
    return f"{words}: give target[..., 0]" if target.shape == (*x.shape, 1) else words


def to_rows(x: Any, w: Any) -> str:
    """How images become the rows that a weight takes, and numbers a column, if they would fit."""
    if x.ndim == 1 and w.ndim == 2 and w.shape[1] == 1:
        return ": x[:, None] makes a column of it"
    fits = x.ndim > 2 and w.ndim == 2 and math.prod(x.shape[1:]) == w.shape[1]
    return ": nn.Flatten(), or x.flatten(1), makes rows of it" if fits else ""


def to_images(shape: tuple[int, ...]) -> str:
    """How a Trainer's rows become images, if they may be pixels of square ones."""
    side = math.isqrt(shape[-1])
    if len(shape) == 2 and side**2 == shape[1] and side > 4:
        return f"rows of pixels become images by x.reshape(-1, {side}, {side})"
    return "for rows of features write a loop of your own, as in tutorials/pages/from-pytorch.md"


def refuse_for_tensor(requires_grad: object, other: Mapping[str, Any]) -> None:
    """Raise TypeError for what Tensor(data, requires_grad, device) does not take."""
    refuse("Tensor", other)
    raise TypeError(
        f"Tensor: requires_grad must be True or False, got {requires_grad!r}: for a shape write np.zeros((3, 4)), "
        "for a dtype array.astype(dtype), for a device device='gpu'"
    )
