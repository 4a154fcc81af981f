"""`w -= u` changes a weight in place. For any other Tensor, `t -= u` is `t = t - u`, a new Tensor."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable
from sys import _getframe, getrefcount
from typing import TYPE_CHECKING, Any

from minidl.grad_mode import is_recording
from minidl.numpy_functions import NumPyFunctions
from minidl.telling import tell

if TYPE_CHECKING:
    from types import FrameType

CHANGES: dict[str, Callable[[Any, Any], Any]] = {  # what these signs do to an array
    "+=": operator.iadd,
    "-=": operator.isub,
    "*=": operator.imul,
    "/=": operator.itruediv,
}


def is_weight(t: Any) -> bool:
    """Whether it is a trainable leaf, frozen or not."""
    return t.node is None and (t.parameter or t.requires_grad)


def in_place(weight: Any, sign: str, other: Any) -> Any:
    """The same weight with its values changed in place; as in PyTorch, only where no gradient is recorded."""
    learns = weight.requires_grad or getattr(other, "requires_grad", False)
    if is_recording() and learns:
        raise RuntimeError(f"w {sign} ... on a weight that requires grad: do it inside `with no_grad():`, or write "
                           f"w.data {sign} ...; w = w {sign[0]} u makes a new Tensor, with its gradient")  # fmt: skip
    CHANGES[sign](weight.data, other.data if isinstance(other, NumPyFunctions) else other)
    weight.version += 1  # a graph recorded before this can tell
    return weight


class _Alone:
    """Measures the reference count inside `t += u` of an object that only one name holds."""

    def __iadd__(self, other: Any) -> Any:
        return _references(self)


def _references(t: Any) -> int:
    return getrefcount(t)


_alone: Any = _Alone()
_alone += 0


def anew(t: Any, result: Any, sign: str) -> Any:
    """The result of t += u, a new Tensor. If t is also in a list, has another name, or is a view of a weight, PyTorch
    would have changed it there: then this warns. For an argument, such as forward's x, the new Tensor is meant."""
    shared = getrefcount(t) > _alone or (t.base is not None and is_weight(t.base))
    if shared and t.node is None and not result.requires_grad and not _expected(t, _getframe(2)):
        tell(f"t {sign} ... makes a new Tensor, and a list or a weight that holds t keeps the old values: "
             f"t.data {sign} ... changes those too")  # fmt: skip
    if t.node is not None and t.node.retains and result.node is not None:
        result.retain_grad()
    return result


def _expected(t: Any, user: FrameType) -> bool:
    """Whether t is an argument of the user's function, or a notebook (in Out, its _oh) or Python's prompt (in _) holds
    it, because it has shown it. Not part of anew: a function inside it that uses t would add to the count."""
    arguments = (user.f_locals.get(name) for name in user.f_code.co_varnames[: user.f_code.co_argcount])
    shown = user.f_globals.get("_oh", {}).values()
    return any(each is t for each in (*arguments, *shown, vars(builtins).get("_")))
