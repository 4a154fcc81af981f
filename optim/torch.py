"""The same optimizers for a PyTorch model: `wrap` lays its parameters in our flat vector, where PyTorch sees them.

    optimizer = wrap(SWATS, model.parameters(), lr=1e-3)
    loss.backward(); optimizer.step(); optimizer.zero_grad()

Parameter and vector share memory, so nothing is copied but the gradients. This is the only file that imports PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from minidl.backend import Array, get_backend
from minidl.optim.flat import FlatParameters
from minidl.optim.optimizer import Optimizer, SwitchEvent
from minidl.tensor import Tensor


def wrap(optimizer_class: Callable[..., Optimizer], params: Iterable[torch.Tensor], **kwargs: Any) -> Wrapped:
    """A torch.optim.Optimizer that takes the steps of optimizer_class(params, **kwargs).

    optimizer_class  SGD, Adam, SWATS, Hybrid, ... from this package
    params           parameters of one dtype (float32, float64) and one device, CPU or CUDA (which needs CuPy)

    Build it after model.to(...). All parameters are one group; its "lr" is the rate of the next step, and a PyTorch
    scheduler may change it: from then on the rate is constant but for the scheduler. At a switch the rate becomes the
    next phase's, so use schedulers that multiply it (StepLR, ExponentialLR, ReduceLROnPlateau), not those that
    set it from the initial one (LambdaLR). A parameter whose .grad is None counts as having gradient zero.
    """
    return Wrapped(optimizer_class, list(params), kwargs)


class Wrapped(torch.optim.Optimizer):
    """See wrap. `inner` is the optimizer of this package; report, verdict, phase and switch_event are its own."""

    def __init__(
        self, optimizer_class: Callable[..., Optimizer], params: list[torch.Tensor], kwargs: dict[str, Any]
    ) -> None:
        if params and isinstance(params[0], dict):
            raise ValueError("wrap takes one group of parameters: pass model.parameters()")
        self._mirror = [Tensor(_as_array(p), requires_grad=True) for p in params]  # the same memory, as our Tensors
        flat = FlatParameters.of(self._mirror)
        for p, own in zip(params, self._mirror, strict=True):
            p.data = _as_torch(own.data)
        self._addresses = [p.data_ptr() for p in params]
        self.inner = optimizer_class(self._mirror, **kwargs)
        assert self.inner.flat is flat  # the same list gives the same vectors
        self._closed = False
        super().__init__(params, {"lr": self.inner.lr})
        self._closed = True
        self._lr_told = self.inner.lr  # what param_groups was last told

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
        group = self.param_groups[0]
        if group["lr"] != self._lr_told:  # a scheduler or the user has changed it
            self.inner.lr = float(group["lr"])
        for i, (p, own) in enumerate(zip(group["params"], self._mirror, strict=True)):
            if p.data_ptr() != self._addresses[i]:
                raise RuntimeError(
                    f"parameter {i}, shape {tuple(p.shape)}: its data was replaced. Set it with p.data.copy_(values), "
                    "and wrap the optimizer after model.to(...)"
                )
            own.grad = None if p.grad is None else _as_array(p.grad)
        self.inner.step()
        self._lr_told = group["lr"] = self.inner.lr
        return loss

    # ---- the inner optimizer's own ----------------------------------------------------------------------------

    @property
    def phase(self) -> str:
        return self.inner.phase

    @property
    def switch_event(self) -> SwitchEvent | None:
        return self.inner.switch_event

    def report(self, epoch: int, **metrics: float) -> None:
        """Tell a hybrid the metrics after an epoch, such as val_loss=0.3."""
        self.inner.report(epoch, **metrics)
        self._lr_told = self.param_groups[0]["lr"] = self.inner.lr  # a report may switch

    def verdict(self) -> str | None:
        """Whether and when it switched."""
        return self.inner.verdict()

    # ---- saving and loading -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """{"state": the inner optimizer's, its vectors as CPU tensors, "param_groups": as in PyTorch}."""
        state = self.inner.state_dict()
        vectors = {name: torch.from_numpy(vector) for name, vector in state["vectors"].items()}
        groups = [{**group, "params": list(range(len(group["params"])))} for group in self.param_groups]
        return {"state": {"vectors": vectors, "scalars": state["scalars"]}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vectors = {name: np.asarray(vector) for name, vector in state_dict["state"]["vectors"].items()}
        self.inner.load_state_dict({"vectors": vectors, "scalars": state_dict["state"]["scalars"]})
        options = {key: value for key, value in state_dict["param_groups"][0].items() if key != "params"}
        self.param_groups[0].update(options)
        self._lr_told = self.inner.lr


def _as_array(p: torch.Tensor) -> Array:
    """The tensor's memory as a NumPy array, or a CuPy array for CUDA."""
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
