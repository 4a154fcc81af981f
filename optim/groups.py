"""Parameter groups with their own learning rate and weight decay, and parameters that rest.

For most models a step is one pass over all parameters. Three things split it into parts: the user gives groups; a
parameter rests, because it is frozen or has no gradient in this step; a parameter has rested before, so it has taken
fewer steps than the others. A part is the same rule over a slice of the same vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from minidl.backend import Array
from minidl.optim.checks import above, at_least
from minidl.optim.grammar import unknown
from minidl.tensor import Tensor

if TYPE_CHECKING:
    from minidl.optim.rule import Rule

# What read_groups takes.
ParamsOrGroups: TypeAlias = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[Mapping[str, Any]]
KEYS = ("params", "lr", "lr_scale", "weight_decay")


@dataclass(frozen=True, eq=False)
class Group:
    """Consecutive parameters in the flat vector. Equal groups stay apart: a rule may take a norm of each.

    count         number of parameters
    lr_scale      factor on the rule's learning rate, before and after the switch
    weight_decay  their own; None: the rule's
    """

    count: int
    lr_scale: float = 1.0
    weight_decay: float | None = None

    def times(self, factor: float) -> Group:
        """The same, with its own weight decay, if any, multiplied by the factor."""
        return self if self.weight_decay is None else replace(self, weight_decay=self.weight_decay * factor)

    def decay(self, rule: float, scale: float) -> float:
        """The group's weight decay, given the rule's, where a switch has multiplied all of them by `scale`."""
        return rule if self.weight_decay is None else self.weight_decay * scale


def read_groups(params: Any, lr: Any = None) -> tuple[list[Any], list[Group]]:
    """All parameters in one list, and their groups; no groups where none are given.

    params  an iterable of parameters; of (name, parameter), as from named_parameters(); or of dictionaries
            {"params": such an iterable, "lr": rate, "weight_decay": decay}; "lr_scale" is a factor in place of "lr"
    lr      the rule's learning rate, to which a group's "lr" is relative

    Raises TypeError or ValueError for anything else.
    """
    if isinstance(params, Tensor):
        raise TypeError("parameters must be a list, even if there is only one: SGD([w], lr=0.1)")
    if not isinstance(params, Iterable):
        raise TypeError(f"parameters come first, got {params!r}: write SGD(model.parameters(), lr=0.1)")
    given = list(params)
    if not given or not isinstance(given[0], Mapping):
        return _once(given), []
    listed = [_params(group, i) for i, group in enumerate(given)]
    rows = list(map(_once, listed))
    if len({isinstance(row[0], tuple) for row in listed if row}) > 1:
        raise ValueError("some groups have named parameters and some have none: give all or none")
    together = [p for row in rows for p in row]
    if len({id(p) for p in together}) < len(together):
        raise ValueError("a parameter is in two groups: it would be updated twice per step")
    groups = [_group(group, len(row), lr) for group, row in zip(given, rows, strict=True)]
    return together, groups


def _params(group: Any, i: int) -> list[Any]:
    if not isinstance(group, Mapping) or "params" not in group:
        raise TypeError(f'group {i} must be a dictionary such as {{"params": [...], "lr": 0.1}}, got {group!r}')
    for key in group:
        if key not in KEYS:
            raise ValueError(f"{unknown('option of a group', str(key), KEYS)}: all groups share the rule itself")
    found = group["params"]
    if isinstance(found, (set, frozenset)):
        raise TypeError("parameters need an order, which a set does not have: give a list")
    return [found] if isinstance(found, Tensor) else list(found)


def _once(params: list[Any]) -> list[Any]:
    """The parameters without their names, each once."""
    if len({isinstance(p, tuple) for p in params}) > 1:
        raise ValueError("some parameters have names and some have none: give all or none")
    bare = [p[1] if isinstance(p, tuple) and len(p) == 2 else p for p in params]
    return list({id(p): p for p in bare}.values())


def _group(group: Mapping[str, Any], count: int, lr: Any) -> Group:
    scale = at_least("lr_scale", group.get("lr_scale", 1.0), 0)
    if "lr" in group:
        if "lr_scale" in group:
            raise ValueError("a group has lr or lr_scale, not both")
        if callable(lr):
            raise ValueError("the learning rate is a schedule: give the group lr_scale, a factor on it")
        scale = at_least("a group's lr", group["lr"], 0) / above("the lr that a group's lr is relative to", lr, 0)
    decay = group.get("weight_decay")
    return Group(count, scale, None if decay is None else at_least("a group's weight_decay", decay, 0))


def described(rule: Rule) -> list[dict[str, float]]:
    """Each group's number of parameters, with its learning rate and weight decay as they are now."""
    return [
        {
            "parameters": group.count,
            "lr": float(f"{rule.lr * group.lr_scale:.6g}"),
            "weight_decay": float(f"{group.decay(rule.weight_decay, rule.decay_scale):.6g}"),
        }
        for group in rule.groups
    ]


# ---- the parts of a step ----


def scaled(rule: Rule, g: Array) -> Array:
    """The gradient times the factors on the rule's learning rate, which SGD's step at a measured rate has too."""
    if not rule.groups and rule.lr_factor == 1.0:
        return g
    found, params, start = g * rule.lr_factor, iter(rule._bound().params), 0
    for group in rule.groups:
        stop = start + sum(p.size for p in islice(params, group.count))
        found[start:stop] *= group.lr_scale
        start = stop
    return found


def count_steps(rule: Rule, resting: list[int]) -> None:
    """Update the step count of each parameter, where it is not the same for all."""
    if rule.own_t is None and resting:
        rule.own_t = [rule.t - 1] * len(rule._bound().params)
    if rule.own_t is not None:
        still = set(resting)
        rule.own_t = [t + (i not in still) for i, t in enumerate(rule.own_t)]


def parts(rule: Rule, resting: list[int]) -> list[Rule]:
    """The rule once for each slice that is updated alike, with its own step number, learning rate and weight decay."""
    flat, still = rule._bound(), set(resting)
    groups = [group for group in rule.groups for _ in range(group.count)]
    found: list[tuple[Any, int, int]] = []  # (a slice's own step number and group, its start, its stop)
    start = 0
    for i, p in enumerate(flat.params):
        stop = start + p.size
        if i not in still and p.size:
            group = groups[i] if groups else None
            own = (rule.t if rule.own_t is None else rule.own_t[i], group)
            if found and found[-1][0] == own and found[-1][2] == start:
                found[-1] = (own, found[-1][1], stop)
            else:
                found.append((own, start, stop))
        start = stop
    return [_part(rule, slice(start, stop), t, group) for (t, group), start, stop in found]


def _part(rule: Rule, stretch: slice, t: int, group: Group | None) -> Rule:
    part: Rule = object.__new__(type(rule))
    vars(part).update(vars(rule))
    vars(part).update({name: getattr(rule, name)[stretch] for name in rule.vectors})
    part.flat, part.t, part.whole = rule._bound().part(stretch), t, rule
    part.p = None if rule.p is None else rule.p[stretch]
    if group is not None:
        part.rate = rule.rate * group.lr_scale
        part.weight_decay = group.decay(rule.weight_decay, rule.decay_scale)
    return part
