"""Networks and optimizers as JSON, to rebuild them from a run's folder: known layers and rules with their arguments,
so nothing in a file is executed. User-defined classes are not described: they must be given when the run is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minidl import nn, optim
from minidl.module import Module
from minidl.optim import Condition, Hybrid, Optimizer, parse_switch
from minidl.optim.checks import above
from minidl.optim.rule import Rule
from minidl.optim.schedule import MAKERS, Made
from minidl.tensor import Tensor

Described = dict[str, Any]
RULES = {each.__name__: each for each in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad,
                                          optim.Blend, optim.SWATS)}  # fmt: skip


class Unknown(Exception):
    """Something user-defined, in words: "the optimizer is Lion, a class of your own"."""


# ---- networks ----


def _weights(layer: Any, **arguments: Any) -> Described:
    return {**arguments, "bias": layer.bias is not None}


def _norm(layer: Any) -> Described:
    affine = layer.weight is not None
    return {"num_features": layer.running_mean.size, "eps": layer.eps, "momentum": layer.momentum, "affine": affine}


def _pool(layer: Any) -> Described:
    return {name: list(getattr(layer, name)) for name in ("kernel_size", "stride", "padding")}


LAYERS: dict[str, Callable[[Any], Described]] = {  # from a layer to the arguments of its constructor
    "Linear": lambda m: _weights(m, in_features=m.weight.shape[1], out_features=m.weight.shape[0]),
    "Conv2d": lambda m: _weights(
        m, in_channels=m.weight.shape[1], out_channels=m.weight.shape[0], kernel_size=list(m.weight.shape[2:]),
        stride=list(m.stride), padding=list(m.padding),
    ),
    "BatchNorm1d": _norm,
    "BatchNorm2d": _norm,
    "Dropout": lambda m: {"p": m.p},
    "Flatten": lambda m: {"start_dim": m.start_dim, "end_dim": m.end_dim},
    "MaxPool2d": _pool,
    "AvgPool2d": _pool,
    "LeakyReLU": lambda m: {"negative_slope": m.negative_slope},
    "GELU": lambda m: {"approximate": m.approximate},
    "Softmax": lambda m: {"dim": m.dim},
    **{name: lambda m: {} for name in ("ReLU", "Tanh", "Sigmoid")},
    "Standardize": lambda m: {"mean": m.mean.numpy().tolist(), "std": m.std.numpy().tolist()},
}  # fmt: skip


def describe_network(model: Module) -> Described | None:
    """A Sequential of known layers, perhaps nested; None if it contains a user-defined class."""
    kind = type(model)
    if kind is nn.Sequential:
        inside = {name: describe_network(layer) for name, layer in model.named_children()}
        tied = len({id(m) for m in model}) < len(model)  # type: ignore[arg-type, attr-defined]
        return None if None in inside.values() or tied else {"layer": "Sequential", "inside": inside}
    if kind.__name__ not in LAYERS or getattr(nn, kind.__name__, None) is not kind:
        return None
    return {"layer": kind.__name__, **{name: _plain(value) for name, value in LAYERS[kind.__name__](model).items()}}


def make_network(described: Described) -> Module:
    """The network, with arbitrary weights: the trained ones are loaded next."""
    given = dict(described)
    name = given.pop("layer")
    if name == "Sequential":
        return nn.Sequential({key: make_network(layer) for key, layer in given["inside"].items()})
    if name not in LAYERS:
        raise ValueError(f"there is no layer {name!r}")
    if name in ("Linear", "Conv2d", "Dropout"):
        given["rng"] = 0
    arguments = {key: tuple(value) if isinstance(value, list) and name != "Standardize" else value
                 for key, value in given.items()}  # fmt: skip
    made: Module = getattr(nn, name)(**arguments)
    return made


# ---- optimizers ----


def describe_optimizer(optimizer: Optimizer) -> Described:
    """A built-in optimizer with its current options. Raises Unknown for anything user-defined."""
    if isinstance(optimizer, Hybrid):
        return _describe_hybrid(optimizer)
    if not isinstance(optimizer, Rule):
        raise Unknown(f"the optimizer is {type(optimizer).__name__}, a class of your own")
    if optimizer.groups:
        raise Unknown("the optimizer has parameter groups")
    kind = type(optimizer)
    if RULES.get(kind.__name__) is not kind:
        raise Unknown(f"the optimizer is {kind.__name__}, a class of your own")
    if "v" in optimizer.vectors and getattr(optimizer, "momentum", 1) == 0:
        raise Unknown("the optimizer's momentum was set to 0 after it was created with another")
    given = {name: getattr(optimizer, name) for name in _arguments(kind) if hasattr(optimizer, name)}
    given |= {"weight_decay": optimizer.weight_decay, "max_norm": optimizer.max_norm}
    if optimizer.decay_scale not in (0, 1):  # a switch has multiplied the decay by it; after 0 the decay is 0
        given["decay_scale"] = optimizer.decay_scale
    given["lr"] = _describe_rate(optimizer.lr_or_schedule)
    if isinstance(optimizer, optim.SWATS):
        given["switch"] = _describe_switch(optimizer.switch)
    return {"rule": kind.__name__, **{name: _plain(value) for name, value in given.items()}}


def _arguments(kind: type) -> list[str]:
    words = inspect.signature(kind).parameters.values()
    return [p.name for p in words if p.name != "params" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _describe_hybrid(hybrid: Hybrid) -> Described:
    if callable(hybrid.lr_after):
        raise Unknown("its lr_after is a function of your own")
    if hybrid.first.groups:
        raise Unknown("the optimizer has parameter groups")
    first, then = _describe_phase("first", hybrid.first), _describe_phase("then", hybrid.then)
    how = {"lr_after": hybrid.lr_after, "carry": hybrid.carry, "decay_after": hybrid.decay_after}
    return {"rule": "Hybrid", "first": first, "then": then, "switch": _describe_switch(hybrid.switch), **how}


def _describe_phase(part: str, rule: Rule) -> Described:
    try:
        return describe_optimizer(rule)
    except Unknown as error:  # the user must give the whole Hybrid, not this part of it
        raise Unknown(f"the optimizer is a Hybrid, and in its part {part!r} {error}") from None


def _describe_switch(condition: Condition) -> str:
    text = str(condition)
    try:
        parse_switch(text)
    except ValueError:
        raise Unknown(f"the switch's condition, {text}, is a function of your own") from None
    return text


def _describe_rate(rate: Any) -> Any:
    if not callable(rate):
        return rate
    if not isinstance(rate, Made):
        raise Unknown("the learning rate is a function of your own")
    return {
        "schedule": rate.make.__name__,
        "how": [_describe_rate(each) for each in rate.how],
        "named": {name: _describe_rate(each) for name, each in rate.named.items()},
    }


def _plain(value: Any) -> Any:
    """The value as JSON types."""
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def make_optimizer(described: Described, params: Iterable[Tensor] | None) -> Optimizer:
    """The optimizer, in its initial state."""
    given = dict(described)
    name = given.pop("rule")
    if name == "Hybrid":
        first, then = (make_optimizer(given.pop(part), None) for part in ("first", "then"))
        assert params is not None
        return Hybrid(params, first, then, parse_switch(given.pop("switch")), **given)  # type: ignore[arg-type]
    if name not in RULES:
        raise ValueError(f"there is no rule {name!r}")
    given["lr"], scale = _make_rate(given["lr"]), above("decay_scale", given.pop("decay_scale", 1.0), 0)
    switch = given.pop("switch", None)
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    made: Rule = RULES[name](params, **arguments)  # type: ignore[arg-type]
    if isinstance(made, optim.SWATS) and switch is not None:
        made.switch = parse_switch(switch)
    made.decay_scale = scale  # the decay is scaled already: loading the state, which comes next, must not do it again
    return made


def _make_rate(rate: Any) -> Any:
    if not isinstance(rate, dict):
        return rate
    if rate["schedule"] not in MAKERS:
        raise ValueError(f"there is no schedule {rate['schedule']!r}")
    make = MAKERS[rate["schedule"]]
    return make(*map(_make_rate, rate["how"]), **{name: _make_rate(each) for name, each in rate["named"].items()})
