"""Parameters that a step treats alike: groups with a rate and a decay of their own, and what rests.

Most models have one kind of parameters, and a step is one pass over all of them. Three things cut it into parts: the
user gives groups; a parameter rests, because it is frozen or has no gradient in this step; a parameter has rested
before, so that it counts fewer steps than the others. A part is the same rule over a stretch of the same vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from minidl.optim.checks import above, at_least
from minidl.optim.grammar import unknown
from minidl.tensor import Tensor

if TYPE_CHECKING:
    from minidl.optim.rule import Rule

Given: TypeAlias = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[Mapping[str, Any]]  # see read_groups
KEYS = ("params", "lr", "lr_scale", "weight_decay")


@dataclass(frozen=True, eq=False)
class Group:
    """Some parameters that follow each other in the flat vector. One alike is another: a rule may take a norm of each.

    count         how many they are
    lr_scale      their rate is the rule's times this, before the switch and after it
    weight_decay  theirs; None: the rule's
    """

    count: int
    lr_scale: float = 1.0
    weight_decay: float | None = None

    def times(self, factor: float) -> Group:
        """The same, with a decay of its own that many times as large."""
        return self if self.weight_decay is None else replace(self, weight_decay=self.weight_decay * factor)

    def decay(self, rule: float, scale: float) -> float:
        """Their weight decay, where that of the rule is this, and a switch has multiplied all by `scale`."""
        return rule if self.weight_decay is None else self.weight_decay * scale


def read_groups(params: Any, lr: Any = None) -> tuple[list[Any], list[Group]]:
    """All parameters in a row, and their groups; no groups where all are alike.

    params  an iterable of parameters; of (name, parameter), as named_parameters() gives them; or of dictionaries
            {"params": such an iterable, "lr": rate, "weight_decay": decay}, the rate perhaps as "lr_scale", a factor
    lr      the rate of the rule, of which a group's "lr" is a part

    Raises TypeError or ValueError for what can't be read.
    """
    if isinstance(params, Tensor):
        raise TypeError("parameters are a list, also of one: SGD([w], lr=0.1)")
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
            raise ValueError(f"{unknown('option of a group', str(key), KEYS)}: the rule itself is one for all groups")
    found = group["params"]
    if isinstance(found, (set, frozenset)):
        raise TypeError("parameters need an order, which a set has not: give a list")
    return [found] if isinstance(found, Tensor) else list(found)


def _once(params: list[Any]) -> list[Any]:
    """Each parameter once, by itself or after its name."""
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
            raise ValueError("the rate is a schedule: give the group its rate as lr_scale, a factor on it")
        scale = at_least("a group's lr", group["lr"], 0) / above("lr, beside that of a group,", lr, 0)
    decay = group.get("weight_decay")
    return Group(count, scale, None if decay is None else at_least("a group's weight_decay", decay, 0))


# ---- the parts of a step ----


def count_steps(rule: Rule, resting: list[int]) -> None:
    """Bring up to date how many steps each parameter has taken, where that is not the same for all."""
    if rule.own_t is None and resting:
        rule.own_t = [rule.t - 1] * len(rule._bound().params)
    if rule.own_t is not None:
        still = set(resting)
        rule.own_t = [t + (i not in still) for i, t in enumerate(rule.own_t)]


def parts(rule: Rule, resting: list[int]) -> list[Rule]:
    """The rule once for each stretch that moves and is alike, with its own step number, rate and decay."""
    flat, still = rule._bound(), set(resting)
    groups = [group for group in rule.groups for _ in range(group.count)]
    found: list[tuple[Any, int, int]] = []  # (what a stretch has of its own, where it starts, where it stops)
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
