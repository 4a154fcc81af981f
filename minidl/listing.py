"""A model as a table, for `print(net)`: each layer with its arguments, and the shapes and number of its weights."""

from __future__ import annotations

from typing import Any, TypeAlias

from minidl.tensor import Tensor

Module: TypeAlias = "Any"  # module.py imports this file


def listing(model: Module) -> str:
    """The table; for a layer without submodules one line, as written in a program: Linear(784, 10)."""
    if not list(model.named_children()) and not lost(model):
        return f"{type(model).__name__}({model.extra_repr()})"
    first: dict[Any, str] = {}  # the path under which each layer is listed in full
    for path, module in model._walk():
        first.setdefault(module, path)
    rows = [row for path, module in model._walk() if path for row in _rows(path, module, first[module])]
    rows = [*_own(model), *rows]
    wide = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    lines = [f"  {a:<{wide[0]}}  {b:<{wide[1]}}  {c:<{wide[2]}}  {d:>11}".rstrip() for a, b, c, d in rows]
    learned = sum(t.size for t in _learned(model))
    kind = f"{type(model).__name__}({model.extra_repr()})".removesuffix("()")
    return "\n".join([f"{kind}, {learned:,} parameters", *lines])


def lost(module: Module) -> list[tuple[str, str, Any]]:
    """Attributes that are a list, tuple, set or dict of layers or parameters, which would not be found there: name,
    type and the first such object of each. An object that is also an attribute by itself is not lost."""
    held = [(name, value, thing) for name, value in vars(module).items() for thing in _inside(value) if _learns(thing)]
    if not held:
        return []
    known = {id(value) for _, each in module.named_modules() for value in vars(each).values()} | {id(module)}
    found: dict[str, tuple[str, str, Any]] = {}
    for name, value, thing in held:
        if id(thing) not in known:
            found.setdefault(name, (name, type(value).__name__, thing))
    return list(found.values())


def _learns(thing: Any) -> bool:
    """Whether it is a layer or a parameter."""
    if isinstance(thing, Tensor):
        return thing.parameter
    return not isinstance(thing, type) and hasattr(thing, "named_modules")


def _inside(value: Any, depth: int = 0) -> list[Any]:
    """The objects in a list, tuple, set or dict, and in those nested in it."""
    if not isinstance(value, (list, tuple, set, frozenset, dict)) or depth > 8:
        return [] if depth == 0 else [value]
    things = value.values() if isinstance(value, dict) else value
    return [thing for each in things for thing in _inside(each, depth + 1)]


def _rows(path: str, module: Module, first: str) -> list[tuple[str, str, str, str]]:
    inside = list(module.named_children())
    what = type(module).__name__ if inside else f"{type(module).__name__}({module.extra_repr()})"
    if path != first:
        return [(path, f"{what}, the same as {first}", "", "")]
    tensors = [value for value in vars(module).values() if isinstance(value, Tensor) and value.parameter]
    shapes = ", ".join(_shape(t) for t in tensors)
    count = f"{sum(t.size for t in tensors):,}" if tensors else ""
    return [(path, what, shapes, count), *_lost_rows(path, module)]


def _own(model: Module) -> list[tuple[str, str, str, str]]:
    """Parameters of the model itself, besides those of its layers."""
    own = [(name, v) for name, v in vars(model).items() if isinstance(v, Tensor) and v.parameter]
    return [(name, "Parameter", _shape(t), f"{t.size:,}") for name, t in own] + _lost_rows("", model)


def _lost_rows(path: str, module: Module) -> list[tuple[str, str, str, str]]:
    return [
        (f"{path}.{name}" if path else name, f"a {kind}: its layers are not found, make it an nn.ModuleList", "", "")
        for name, kind, _ in lost(module)
    ]


def _shape(t: Tensor) -> str:
    return "x".join(map(str, t.shape)) if t.shape else "1"


def _learned(model: Module) -> list[Tensor]:
    """Each parameter once; unlike model.parameters(), this never raises."""
    found: dict[int, Tensor] = {}
    for _, module in model.named_modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and (value.parameter or value.requires_grad):
                found[id(value)] = value
    return list(found.values())
