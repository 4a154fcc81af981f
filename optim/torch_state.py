"""The state that PyTorch's own optimizers save, and the options in their groups, for the same rules here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from minidl.backend import to_numpy
from minidl.optim.checks import above, at_least, fraction, two_fractions
from minidl.optim.hybrid import Hybrid
from minidl.optim.optimizer import Optimizer, State
from minidl.optim.rule import Rule

OPTIONS = (  # of a rule, under PyTorch's names; shown in each group
    "betas", "eps", "weight_decay", "momentum", "nesterov", "alpha", "lr_decay", "amsgrad",
)  # fmt: skip

ABSENT = ("maximize", "centered", "dampening")  # PyTorch's options that rules here do not have

# PyTorch's names for our state vectors, by rule. Its other state has no counterpart here.
VECTORS: dict[str, dict[str, str]] = {
    "adam": {"m": "exp_avg", "v": "exp_avg_sq", "vmax": "max_exp_avg_sq"},
    "adamw": {"m": "exp_avg", "v": "exp_avg_sq", "vmax": "max_exp_avg_sq"},
    "sgd": {"v": "momentum_buffer"},
    "rmsprop": {"s": "square_avg", "v": "momentum_buffer"},
    "adagrad": {"s": "sum"},
}


def set_option(rule: Rule, name: str, value: Any) -> None:
    """Change an option of the rule while it is in use."""
    match name:
        case "betas":
            rule.betas = two_fractions(name, value)  # type: ignore[attr-defined]
        case "momentum":
            _set_momentum(rule, fraction("momentum", value))
        case "weight_decay":
            rule.weight_decay = at_least(name, value, 0)
        case "lr_decay":
            setattr(rule, name, at_least(name, value, 0))
        case "alpha":
            setattr(rule, name, fraction(name, value))
        case "eps":
            setattr(rule, name, above(name, value, 0))
        case _:
            raise ValueError(f"{name} can't change once the optimizer is built")


def _set_momentum(rule: Any, mu: float) -> None:
    """Set the momentum, and add or remove its vector."""
    rest = tuple(name for name in rule.vectors if name != "v")
    if mu > 0 and "v" not in rule.vectors and rule.name != "blend":
        rule.vectors, rule.v = (*rest, "v"), rule.flat.zeros()
    elif mu == 0 and "v" in rule.vectors:
        rule.vectors = rest
        del rule.v
    rule.momentum = mu


def own_state(state_dict: Mapping[str, Any], inner: Optimizer) -> State:
    """The state for our optimizer, from what `Wrapped` saved or from what PyTorch's optimizer for its rule saved.

    Raises ValueError, with the reason, where it can't resume from that.
    """
    state = state_dict["state"]
    if "vectors" in state and "scalars" in state and not _gone_on(state, inner):
        return {"vectors": {name: np.asarray(v) for name, v in state["vectors"].items()}, "scalars": state["scalars"]}
    rule, state = inner.active, {i: row for i, row in state.items() if isinstance(i, int)}
    _check(state_dict, inner)
    vectors, own_t = state_of(rule, state)
    current = rule.state_dict()
    scalars = {**current["scalars"], "t": max(own_t, default=0), "own_t": own_t if len(set(own_t)) > 1 else None}
    if not isinstance(inner, Hybrid):
        return {"vectors": vectors, "scalars": scalars}
    whole = inner.state_dict()
    return {
        "vectors": {f"rule.{name}": vector for name, vector in vectors.items()},
        "scalars": {
            **whole["scalars"],
            "current": scalars,
            "progress": {**whole["scalars"]["progress"], "step": scalars["t"]},
        },
    }


def _gone_on(state: Mapping[Any, Any], inner: Optimizer) -> bool:
    """Whether PyTorch's optimizer, which keeps entries that it does not know, has continued from what was saved."""
    scalars, rows = state["scalars"], [row for i, row in state.items() if isinstance(i, int) and row]
    steps = scalars.get("current", scalars)["t"]
    names, prefix = VECTORS.get(inner.active.name, {}), "rule." if isinstance(inner, Hybrid) else ""
    for name in inner.active.vectors:
        theirs = [row[names[name]].ravel().cpu() for row in rows if names.get(name) in row]
        if theirs and not torch.equal(torch.cat(theirs), torch.as_tensor(state["vectors"][prefix + name])):
            return True
    return any(row["step"] > steps for row in rows)


def rows_of(inner: Optimizer, vectors: Mapping[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    """The same state in the format of PyTorch's own optimizer for the rule, per parameter: views of the vectors, so a
    checkpoint is no larger. PyTorch's optimizer resumes from it or, if it is of another rule, stops."""
    rule, prefix = inner.active, "rule." if isinstance(inner, Hybrid) else ""
    assert rule.flat is not None
    rows, start = {}, 0
    for i, p in enumerate(rule.flat.params):
        stretch, names = slice(start, start + p.size), VECTORS.get(rule.name, {})
        row = {names.get(v, v): vectors[prefix + v][stretch].view(p.shape) for v in rule.vectors}
        rows[i] = {"step": torch.tensor(float(rule.own_t[i] if rule.own_t else rule.t)), **row} if row else {}
        start += p.size
    return rows


def check_fixed(groups: Iterable[Mapping[str, Any]], told: Mapping[str, Any]) -> None:
    """Raise ValueError where a checkpoint's groups differ from `told` in an option that can't change."""
    for group in groups:
        for name in ("nesterov", "amsgrad"):
            if name in told and group.get(name, told[name]) != told[name]:
                raise ValueError(f"the checkpoint has {name}={group[name]}: build the optimizer with that")


def _check(state_dict: Mapping[str, Any], inner: Optimizer) -> None:
    rule, groups = inner.active, state_dict["param_groups"]
    begin = "can't resume from this checkpoint of PyTorch's own optimizer"
    if inner.switch_event is not None:
        raise ValueError(f"{begin}: this optimizer has already switched")
    if rule.name not in VECTORS or getattr(inner, "projection", None) is not None:
        raise ValueError(
            f"{begin}: {type(inner).__name__} needs the projected rate, or a state, that PyTorch does not keep. Load "
            "the model only, and start with a new optimizer"
        )
    missing = [name for name in ("betas", "alpha", "lr_decay") if hasattr(rule, name) and name not in groups[0]]
    if missing:
        raise ValueError(f"{begin}: it is of a rule without {missing[0]}, this one is '{rule.name}'")
    for name in ABSENT:
        if any(group.get(name) for group in groups):
            raise ValueError(f"{begin}: it has {name}, which '{rule.name}' does not have")
    if rule.name in ("adam", "adamw"):
        for group in groups:
            theirs = "adamw" if group.get("decoupled_weight_decay") else "adam"
            if group.get("weight_decay") and theirs != rule.name:
                raise ValueError(f"{begin}: its weight decay is that of '{theirs}', this one is '{rule.name}'")


def state_of(rule: Rule, state: Mapping[int, Mapping[str, Any]]) -> tuple[dict[str, Any], list[int]]:
    """PyTorch's state of each parameter as our vectors, and the steps of each. One without state never moved."""
    assert rule.flat is not None
    names, params = VECTORS[rule.name], rule.flat.params
    keeps = {key for row in state.values() for key, value in row.items() if value is not None} - {"step"}
    wanted = {names[name] for name in rule.vectors}
    if keeps and keeps != wanted:
        raise ValueError(
            f"the checkpoint has {', '.join(sorted(keeps))}, but '{rule.name}' built like this keeps "
            f"{', '.join(sorted(wanted)) or 'nothing'}: build it with the options of the saved one"
        )
    vectors = {}
    for name in rule.vectors:
        rows = []
        for i, p in enumerate(params):
            value = state.get(i, {}).get(names[name])
            row = np.zeros(p.size, p.dtype) if value is None else np.asarray(torch.as_tensor(value).cpu()).ravel()
            if row.size != p.size:
                raise ValueError(f"parameter {i} has {p.size} elements, its {names[name]} in the checkpoint {row.size}")
            rows.append(row.astype(p.dtype, copy=False))
        vectors[name] = to_numpy(np.concatenate(rows))
    return vectors, [int(state.get(i, {}).get("step", 0)) for i in range(len(params))]
