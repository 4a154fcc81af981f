"""Names and arguments that minidl does not have are refused by name, with what to write instead.

What is said of each is in elsewhere.py and arguments.py.

An argument that has no meaning here is refused by its name. Otherwise a user would learn after a training run that a
`dilation` was ignored. At the value that PyTorch gives it by default it changes nothing, and passes.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minidl.arguments import BEYOND
from minidl.elsewhere import ELSEWHERE, OWN


class Named:
    """A class in which users may look for PyTorch's names: a missing one says what to write instead."""

    __slots__ = ()
    _otherwise = ""  # what to do about a name that is not listed here

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):  # a property of the user's, in which another name is missing
                return object.__getattribute__(self, name)
            known = [each for each in dir(type(self)) if each[0] != "_"] if type(self)._otherwise else ()
            raise missing(type(self).__name__, name, type(self)._otherwise, known)


def missing(where: str, name: str, otherwise: str = OWN, known: Iterable[str] = ()) -> AttributeError:
    """The error for a name that `where`, such as minidl.ops, does not have: with what to write instead, or which of
    the `known` names is like it."""
    said = ELSEWHERE.get(f"{where}.{name}") or ELSEWHERE.get(name, "")  # some mean another thing there
    if said or name.startswith("_"):
        remedy = said
    elif name.endswith("_") and otherwise:  # not scikit-learn's loss_curve_, of a Trainer
        remedy = "nothing is changed in place: t = t + 1 makes a new one, p.data[...] = values sets a weight"
    elif near := _near(name, known):
        remedy = near
    else:
        remedy = otherwise
    return AttributeError(f"{where} has no '{name}'" + (f": {remedy}" if remedy else ""))


def _near(name: str, known: Iterable[str]) -> str:
    """Which of the names is meant, where they differ in capitals and underscores only; else those that begin with it;
    else the one with most of its letters."""
    plain = {each: each.replace("_", "").lower() for each in known}
    bare = name.replace("_", "").lower()
    same = [each for each in plain if plain[each] == bare]
    if same:
        return f"it is called {same[0]}"
    begin = [each for each in plain if len(bare) > 2 and plain[each].startswith(bare) and plain[each] != bare]
    letters = difflib.get_close_matches(bare, plain.values(), n=1, cutoff=0.8) if len(bare) > 4 else []
    found = begin or [each for each in plain if plain[each] in letters and plain[each] != bare]
    return f"nearest to it is {' or '.join(found)}" if found else ""


def refuse(name: str, arguments: Mapping[str, Any], more: Sequence[Any] = ()) -> None:
    """Raise TypeError for the first of these arguments of `name` that would change something, and for `more` that have
    no name."""
    if more and hasattr(more[0], "shape"):
        raise TypeError(f"{name}: a layer is made first, and then called with what it computes of: nn.{name}()(x)")
    if more:
        raise TypeError(f"{name}: {more[0]!r} is one positional argument too many; others have names, bias=False, "
                        "and PyTorch's inplace=True is left out")  # fmt: skip
    for argument, value in arguments.items():
        default, remedy = BEYOND.get(f"{name}.{argument}") or BEYOND.get(argument, (NotImplemented, ""))
        if not any(_is(value, same) for same in (default, (default, default))):
            raise TypeError(f"{name} has no argument '{argument}'" + (f": {remedy}" if remedy else ""))


def _is(value: Any, default: Any) -> bool:
    """Whether the value is this default, with its type: arrays and pairs of arrays are none."""
    if isinstance(value, tuple) and isinstance(default, tuple):
        return len(value) == len(default) and all(map(_is, value, default))
    return type(value) is type(default) and bool(value == default)


def to_labels(labels: Any) -> str:
    """What makes whole numbers 0, 1, ... of an array of labels of another kind."""
    if labels.ndim > 2:
        return "the images come first, (images, labels)"
    if labels.ndim == 2 and labels.shape[1] > 1:
        return "labels.argmax(1) of one-hot rows"
    if labels.dtype.kind in "OUS":
        return "np.unique(labels, return_inverse=True)[1] numbers the names"
    if labels.dtype.kind == "f" and bool((labels != labels).any()):
        return "some are NaN: leave out the examples that have no label"
    if labels.dtype.kind == "f":
        return "labels.astype(int); to learn numbers, write a loop of your own with ops.mse_loss"
    return "labels.ravel()" if labels.ndim == 2 else "labels.astype(int)"


def to_classes(labels: Any) -> str:
    """The same for a cross-entropy, which soft labels have too."""
    if labels.ndim == 2:
        return to_labels(labels) + "; with soft ones -(labels * ops.log_softmax(logits)).sum(1).mean()"
    names = labels.dtype.kind in "OUS"
    return to_labels(labels) if names else "give an array of them, labels.astype(int), and no Tensor"


def to_examples(ndim: int) -> str:
    """How logits of one example, or of many places in each, become rows of classes."""
    if ndim < 2:
        return ": logits[None] is one example"
    order = (0, *range(2, ndim), 1)
    return f": logits.reshape(-1, classes), labels.reshape(-1), after logits.permute{order} where classes are axis 1"


def to_rows(x: Any, w: Any) -> str:
    """How images become the rows that a weight takes, where they would fit."""
    fits = x.ndim > 2 and w.ndim == 2 and math.prod(x.shape[1:]) == w.shape[1]
    return ": nn.Flatten(), or x.flatten(1), makes rows of it" if fits else ""


def refuse_for_tensor(requires_grad: object, other: Mapping[str, Any]) -> None:
    """Raise TypeError for what Tensor(data, requires_grad, device) does not take."""
    refuse("Tensor", other)
    raise TypeError(
        f"Tensor: requires_grad must be True or False, got {requires_grad!r}: sizes go to np.zeros((3, 4)), "
        "a dtype is the array's own, array.astype(dtype), a device has its name, device='gpu'"
    )
