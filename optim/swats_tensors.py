"""SWATS as in public code: one gamma per tensor, and the first tensor that settles switches them all.

The paper projects the whole step on the whole gradient (swats.py). The PyTorch packages in use treat each tensor
separately, switch where Lambda and gamma are equal according to `torch.allclose`, and use that tensor's Lambda as the
learning rate of all. It is here because people compare with such code, not with the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any

from minidl.backend import Array
from minidl.optim.flat import FlatParameters
from minidl.optim.groups import scaled
from minidl.optim.optimizer import State
from minidl.optim.projection import dot64
from minidl.optim.swats import SWATS


class TensorSWATS(SWATS):
    """SWATS with a gamma and a Lambda for each tensor; SWATS's other arguments mean the same.

    It switches after the first step k > 1 at which a tensor has Lambda > 0 and |Lambda - gamma| <= atol + rtol |gamma|.

    rtol, atol  1e-6, which the packages pass to `allclose`, and 1e-8, its own default
    """

    def __init__(self, *args: Any, rtol: float = 1e-6, atol: float = 1e-8, **swats: Any) -> None:
        self.rtol, self.atol = rtol, atol
        super().__init__(*args, **swats)

    def bind(self, flat: FlatParameters) -> None:
        super().bind(flat)
        ends = [0, *accumulate(p.size for p in flat.params)]
        self.stretches = [slice(a, b) for a, b in pairwise(ends)]
        self.lam = [0.0] * len(self.stretches)  # of each tensor

    def settle(self) -> None:
        self.progress.step += 1
        if self.switch_event is not None:
            return
        self.projection.add()
        g = scaled(self, self._bound().g)
        found = [self._measured(i, stretch, g[stretch]) for i, stretch in enumerate(self.stretches)]
        settled = next(((i, lam) for i, lam in enumerate(found) if lam is not None), None)
        if settled is not None:
            i, lam = settled
            self._to_sgd(lam, f"Lambda = {lam:.4g} of tensor {i + 1} is its gamma to {self.rtol:g}")

    def _measured(self, i: int, stretch: slice, g: Array) -> float | None:
        """Add this step of a tensor; returns its Lambda where gamma has reached it."""
        p, b2, k = self.keep_step()[stretch], self.betas[1], self.progress.step
        pg = dot64(p, g)
        gamma = dot64(p, p) / -pg if pg != 0 else math.nan
        if not math.isfinite(gamma):
            return None
        self.lam[i] = b2 * self.lam[i] + (1 - b2) * gamma
        lam = self.lam[i] / (1 - b2**k)
        return lam if k > 1 and lam > 0 and abs(lam - gamma) <= self.atol + self.rtol * abs(gamma) else None

    def state_dict(self) -> State:
        state = super().state_dict()
        state["scalars"]["lam"] = list(self.lam)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.lam = list(state["scalars"]["lam"])
