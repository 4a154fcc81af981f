"""The same optimizers for a PyTorch model: `wrap` moves its parameters into our flat vector, where PyTorch sees them.

    optimizer = wrap(SWATS, model.parameters(), lr=1e-3)
    loss.backward(); optimizer.step(); optimizer.zero_grad()

Parameter and vector share memory, so only the gradients are copied. Only this file and torch_state.py import
PyTorch.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from minidl.backend import Array, get_backend
from minidl.optim.checks import at_least, refuse
from minidl.optim.flat import SLIPS, FlatParameters
from minidl.optim.groups import Group
from minidl.optim.hybrid import Hybrid
from minidl.optim.optimizer import Optimizer, SwitchEvent
from minidl.optim.phases import MEASURED
from minidl.optim.rule import Rule
from minidl.optim.swats import SWATS
from minidl.optim.torch_state import ABSENT, OPTIONS, check_fixed, own_state, rows_of, set_option
from minidl.tensor import Tensor

PATIENCE = 1000  # steps without a report before a hybrid that waits for one warns


def wrap(optimizer_class: Callable[..., Optimizer], params: Iterable[Any], **kwargs: Any) -> Wrapped:
    """A torch.optim.Optimizer that takes the steps of optimizer_class(params, **kwargs).

    optimizer_class  SGD, Adam, SWATS, Hybrid, ... from this package
    params           parameters of one dtype (float32, float64) and one device, CPU or CUDA (which needs CuPy); or
                     named_parameters(); or groups, {"params": ..., "lr": ..., "weight_decay": ...} each

    Build it after model.to(...). As with PyTorch's own optimizers, a parameter that is frozen or whose .grad is None is
    not updated.

    Each group's "lr" is the rate of its next step in the first phase, and any scheduler may change it. After a switch
    it stays on that scale: the second phase's rate is its own times group["lr"] / initial_lr, where initial_lr is what
    a scheduler started from, else the rate that the group was built with. So StepLR, LambdaLR, cosine and all others
    continue across the switch. OneCycleLR starts at max_lr / div_factor: for it, give SGD the rate to start from. A
    "projected" or "matched" rate is that of the switch itself, and continues from the group["lr"] of that step.
    Options that a scheduler cycles, "momentum" or "betas", apply in the first phase.

    After each epoch call `report(epoch, val_loss=...)`: conditions on epochs or metrics have no other source.
    """
    return Wrapped(optimizer_class, params, kwargs)


class Wrapped(torch.optim.Optimizer):
    """See wrap. `inner` is the optimizer of this package; report, verdict, phase and switch_event come from it."""

    def __init__(
        self, optimizer_class: Callable[..., Optimizer], params: Iterable[Any], kwargs: dict[str, Any]
    ) -> None:
        self._closed = False
        _check_kind(optimizer_class)
        params = list(params)
        if not params:
            raise ValueError("wrap needs at least one parameter, this list is empty (model.parameters() used up?)")
        super().__init__(params, {})  # parses groups and names, and rejects what PyTorch rejects
        self._closed = True
        mirror = [
            [Tensor(_as_array(p), requires_grad=p.requires_grad) for p in group["params"]]
            for group in self.param_groups
        ]
        flat = FlatParameters.of([p for row in mirror for p in row])
        self.inner = optimizer_class(_groups(self.param_groups, mirror), **kwargs)
        assert self.inner.flat is flat  # the same list gives the same vectors
        flat.told.update(SLIPS)  # PyTorch does not warn about these, and its users rely on that
        self._tell_groups()
        self._lay_out()

    def _tell_groups(self) -> None:
        """Show the rule's options in the groups, as PyTorch's optimizers do."""
        rule = self.inner.active
        options = {name: getattr(rule, name) for name in OPTIONS if hasattr(rule, name)}
        scales = [group.lr_scale for group in rule.groups] or [1.0]
        self.defaults.update(lr=rule.lr, **options)
        for group, scale in zip(self.param_groups, scales, strict=True):
            for name, value in {"lr": rule.lr * scale, **options}.items():
                group.setdefault(name, value)
        self._built = [float(group["lr"]) for group in self.param_groups]  # the rates on the first phase's scale
        self._scales, self._told, self._steps = scales, options, 0

    def _lay_out(self) -> None:
        """Make each parameter share memory with its slice of the flat vector."""
        flat = self.inner.flat
        assert flat is not None
        self._pairs = list(zip([p for group in self.param_groups for p in group["params"]], flat.params, strict=True))
        for p, own in self._pairs:
            p.data = _as_torch(own.data)
        self._addresses = [p.data_ptr() for p, _ in self._pairs]
        if _waits_for_reports(self.inner):
            weakref.finalize(self, _complain_at_the_end, self.inner)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if getattr(self, "_closed", True):
            raise ValueError("the parameters lie in one flat vector: wrap all of them at once, none can be added")
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update. A closure, if given, is called first; its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._hear_groups()
        for i, (p, own) in enumerate(self._pairs):
            if p.data_ptr() != self._addresses[i]:
                raise RuntimeError(
                    f"parameter {i}, shape {tuple(p.shape)}: its data was replaced. Set it with p.data.copy_(values), "
                    "and wrap the optimizer after model.to(...)"
                )
            own.requires_grad = p.requires_grad
            own.grad = None if p.grad is None else _as_array(p.grad)
        if self.inner.switch_event is None and _measures(self.inner):
            for group in self.param_groups:
                group["switch_lr"] = group["lr"]
        self.inner.step()
        self._steps += 1
        if self._steps == PATIENCE and _waits_for_reports(self.inner):
            warnings.warn(_reminder(self.inner, f"{PATIENCE:,} steps and no report yet"), stacklevel=3)
        return loss

    # ---- rates and other options, which PyTorch keeps in the groups ---------------------------------------------

    def _hear_groups(self) -> None:
        """Pass the rule the rates, and in the first phase the options, that a scheduler or the user has set."""
        rule, rates = self.inner.active, [at_least("lr", float(group["lr"]), 0) for group in self.param_groups]
        for group in self.param_groups:
            refuse(type(rule).__name__, {name: group[name] for name in ABSENT if name in group})
        in_first = self.inner.switch_event is None
        if in_first:
            self._hear_options(rule)
        begun = [group.get("initial_lr", built) for group, built in zip(self.param_groups, self._built, strict=True)]
        ratios = [rate / start if start else 1.0 for rate, start in zip(rates, begun, strict=True)]
        scales, highest = [a * b for a, b in zip(ratios, self._scales, strict=True)], max(rates)
        constant = in_first and not callable(rule.lr_or_schedule)
        if isinstance(self.inner, Hybrid) and in_first:
            included = _measures(self.inner) or (rule.groups and not constant)
            self.inner.outside = 1.0 if included else scales[rates.index(highest)]
        if constant:
            rule.lr = highest
        elif not in_first and "switch_lr" in self.param_groups[0]:
            highest = max(float(group["switch_lr"]) for group in self.param_groups)  # what it was measured at
        else:
            return self._set_scales(rule, scales, in_first)
        self._set_scales(rule, [rate / highest if highest else 1.0 for rate in rates], in_first)

    def _hear_options(self, rule: Rule) -> None:
        for name, told in self._told.items():
            values = [group[name] for group in self.param_groups]
            if name == "weight_decay" and rule.groups:  # one for each group: see _set_scales
                continue
            if any(value != values[0] for value in values):
                raise ValueError(f"all groups share one rule: set {name} to one value, not {values}")
            if values[0] != told:
                set_option(rule, name, values[0])
                self._told[name] = values[0]

    def _set_scales(self, rule: Rule, scales: list[float], in_first: bool) -> None:
        if not rule.groups:
            rule.lr_factor = scales[0]
            return
        rule.groups = [
            Group(own.count, scale, group["weight_decay"] if in_first else own.weight_decay)
            for own, scale, group in zip(rule.groups, scales, self.param_groups, strict=True)
        ]

    # ---- the inner optimizer's own ----------------------------------------------------------------------------

    @property
    def phase(self) -> str:
        return self.inner.phase

    @property
    def switch_event(self) -> SwitchEvent | None:
        return self.inner.switch_event

    @property
    def lr(self) -> float:
        """The learning rate of the next step, in either phase; that of the first group."""
        self._hear_groups()
        rule = self.inner.active
        return rule.lr * (rule.groups[0].lr_scale if rule.groups else rule.lr_factor)

    def report(self, epoch: int, **metrics: float) -> None:
        """Tell a hybrid the metrics after an epoch, such as val_loss=0.3."""
        self.inner.report(epoch, **metrics)

    def verdict(self) -> str | None:
        """Whether and when it switched."""
        return self.inner.verdict()

    # ---- saving and loading -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """{"state": the inner optimizer's, its vectors as CPU tensors, and the same by parameter, in the format of
        PyTorch's own optimizer for the rule; "param_groups": as in PyTorch}."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        state, start, groups = self.inner.state_dict(), 0, []
        vectors = {name: torch.from_numpy(vector) for name, vector in state["vectors"].items()}
        for group in self.param_groups:
            stop = start + len(group["params"])
            mine = {"dampening": 0} if self.inner.active.name == "sgd" else {}  # which PyTorch's SGD asks for
            groups.append({**mine, **group, "params": list(range(start, stop))})
            start = stop
        found: dict[str, Any] = {
            "state": {**rows_of(self.inner, vectors), "vectors": vectors, "scalars": state["scalars"]},
            "param_groups": groups,
        }
        for after in self._optimizer_state_dict_post_hooks.values():
            found = after(self, found) or found
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the optimizer from its own state_dict(), or from that of PyTorch's optimizer for the same rule.

        Raises ValueError, and changes nothing, where it can't resume from that.
        """
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = hook(self, state_dict) or state_dict
        groups = state_dict["param_groups"]
        if [len(group["params"]) for group in groups] != [len(group["params"]) for group in self.param_groups]:
            raise ValueError("the state has different parameter groups from this optimizer")
        check_fixed(groups, self._told)
        self.inner.load_state_dict(own_state(state_dict, self.inner))
        for own, group in zip(self.param_groups, groups, strict=True):
            own.update({key: value for key, value in group.items() if key not in ("params", "param_names")})
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        mine = ("inner", "_closed", "_built", "_scales", "_told", "_steps")
        return {**super().__getstate__(), **{name: vars(self)[name] for name in mine}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._lay_out()


def _check_kind(kind: Any) -> None:
    """Raise TypeError where this is an optimizer that is already built, or one of PyTorch's."""
    if isinstance(kind, Optimizer) or not callable(kind):
        what = f"an {type(kind).__name__} that is already built" if isinstance(kind, Optimizer) else repr(kind)
        raise TypeError(f"wrap takes the class and its arguments, as in wrap(Adam, params, lr=1e-3), not {what}")
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
        raise TypeError(
            f"wrap takes an optimizer of minidl.optim, this {kind.__name__} is PyTorch's own: use it directly"
        )


def _groups(groups: list[dict[str, Any]], mirror: list[list[Tensor]]) -> Any:
    """The parameters as our optimizers take them: in groups only where a group has options of its own."""
    own = [{k: v for k, v in group.items() if k not in ("params", "param_names", "initial_lr")} for group in groups]
    if len(groups) == 1 and not own[0]:
        return mirror[0]
    return [{"params": row, **options} for row, options in zip(mirror, own, strict=True)]


def _measures(inner: Any) -> bool:
    """Whether the rate after the switch is measured in the first phase, whose rate the groups tell."""
    measures = isinstance(inner, SWATS) or getattr(inner, "lr_after", None) in MEASURED
    return measures and not callable(inner.active.lr_or_schedule)


# ---- reports that are never made ----


def _waits_for_reports(inner: Optimizer) -> bool:
    """Whether it can switch only after a report, and has had none."""
    return isinstance(inner, Hybrid) and inner.never_heard and inner.switch.needs_reports


def _reminder(inner: Any, how_long: str) -> str:
    return f"{how_long}: '{inner.switch}' waits for optimizer.report(epoch, val_loss=...) after each epoch"


def _complain_at_the_end(inner: Any) -> None:
    if inner.progress.step and _waits_for_reports(inner):
        warnings.warn(
            _reminder(inner, f"never switched in {inner.progress.step:,} steps, without a report"), stacklevel=2
        )


# ---- shared memory ----


def _as_array(p: torch.Tensor) -> Array:
    """The tensor's memory as a NumPy array, or a CuPy array for CUDA."""
    if p.layout is not torch.strided:
        raise TypeError("wrap needs dense gradients, this one is sparse: build the layer with sparse=False")
    if p.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"wrap needs float32 or float64 parameters, got {p.dtype}: keep a float32 copy of the weights")
    if p.device.type == "cpu":
        array: Array = p.detach().numpy()
        return array
    return get_backend("gpu").xp.from_dlpack(p.detach())


def _as_torch(array: Array) -> torch.Tensor:
    """The array's memory as a tensor on its device."""
    if isinstance(array, np.ndarray):
        return torch.from_numpy(array)
    return torch.from_dlpack(array)
