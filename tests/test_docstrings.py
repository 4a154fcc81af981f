"""Each public name says in its docstring what it is, what each argument means, and which errors it raises.

Public are the names in `minidl`, `minidl.nn`, `minidl.ops`, `minidl.optim` and `minidl.data`, and the methods of their
classes. What a base class says of an argument or an error holds for its subclasses, and what `minidl.ops` says of all
operations holds for each.
"""

import ast
import inspect
import re
import textwrap

import pytest

import minidl
import minidl.data
import minidl.nn
import minidl.ops
import minidl.optim
from minidl import Tensor
from minidl.operators import Operators
from tutorials.site.reference import public

MODULES = (minidl, minidl.nn, minidl.ops, minidl.optim, minidl.data)
NAMES = sorted(f"{module.__name__}.{name}" for module in MODULES for name in public(module))


def thing(path):
    module, name = path.rsplit(".", 1)
    return getattr({each.__name__: each for each in MODULES}[module], name)


def texts(subject):
    """Its own docstring, and those of its base classes; of an operation, what its module says of all."""
    if inspect.isclass(subject):
        return "\n".join(base.__doc__ or "" for base in subject.__mro__ if base.__module__.startswith("minidl"))
    return (subject.__doc__ or "") + (minidl.ops.__doc__ if subject.__module__.startswith("minidl.ops") else "")


def arguments(subject):
    kinds = (inspect.Parameter.VAR_KEYWORD,)  # further arguments are those of a base class, or refused
    taken = [p for p in inspect.signature(subject).parameters.values() if p.kind not in kinds]
    return [p.name for p in taken if (p.name, p.kind) != ("more", inspect.Parameter.VAR_POSITIONAL)]  # refused too


def raises(subject):
    """The classes of the errors that a function, or the making of an object, raises in its own lines."""
    if inspect.isclass(subject):
        made = [vars(subject).get(name) for name in ("__init__", "__post_init__")]
        return set().union(*(raises(inspect.unwrap(each)) for each in made if inspect.isfunction(each)))
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(subject))))
    except (OSError, TypeError, SyntaxError, IndentationError):  # without a source, as a dataclass's __init__
        return set()
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {each.func.id for each in raised if isinstance(each.func, ast.Name) and each.func.id.endswith("Error")}


@pytest.mark.parametrize("path", NAMES)
def test_it_is_explained(path):
    subject = thing(path)
    if not callable(subject) or getattr(subject, "__origin__", None):  # a type's name, such as Schedule
        return
    assert (subject.__doc__ or "").strip(), "no docstring"
    if not isinstance(subject, type) or not issubclass(subject, BaseException):
        unnamed = [name for name in arguments(subject) if not re.search(rf"\b{name}\b", texts(subject))]
        assert not unnamed, f"says nothing of {unnamed}"
    silent = {error for error in raises(subject) if error not in texts(subject)}
    assert not silent, f"does not say that it raises {silent}"


@pytest.mark.parametrize("path", [path for path in NAMES if inspect.isclass(thing(path))])
def test_its_methods_are_explained(path):
    subject = thing(path)
    own = [name for name, method in vars(subject).items() if not name.startswith("_") and is_method(method)]
    silent = [name for name in own if name != "forward" and not inspect.getdoc(getattr(subject, name))]
    assert not silent


def test_the_methods_of_a_tensor_are_explained_by_their_operations():
    silent = [name for name in vars(Operators) if not name.startswith("_") and not getattr(Tensor, name).__doc__]
    assert not silent
    assert Tensor.sum.__doc__ == minidl.ops.sum.__doc__
    assert "reshape" in Tensor.view.__doc__


def is_method(method):
    return inspect.isfunction(method) or isinstance(method, property | classmethod | staticmethod)


def test_what_is_missing_is_found():
    def silent(x, limit=1):
        """Of x."""
        if x:
            raise ValueError("no")

    assert arguments(silent) == ["x", "limit"]
    assert raises(silent) == {"ValueError"}
    assert texts(silent) == "Of x."
    assert raises(minidl.nn.Dropout) == {"ValueError"}
    assert len(NAMES) > 120
