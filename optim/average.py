"""Adam with a running average of the weights: the noise of the last steps averages out, as with a decaying rate.

An exponential moving average, as in Polyak & Juditsky 1992 (there with equal weights) and in most image models since.
Training continues with the weights themselves; only an evaluation uses the average.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from minidl.backend import Array, backend_of, to_numpy
from minidl.optim.adam import Adam
from minidl.optim.checks import check_vectors, fraction, parts_of
from minidl.optim.flat import FlatParameters
from minidl.optim.optimizer import Rate, State
from minidl.optim.rule import Params


class AveragedAdam(Adam):
    """Adam, followed after each step by   a <- d a + (1-d) w;   the average is a / (1 - d^t)

    a starts at 0; the division corrects the bias towards zero that this causes, as for Adam's own moments.

    decay   d in [0, 1): the average remembers about 1 / (1-d) steps

    Evaluate inside `with optimizer.averaged():`. The other arguments are Adam's. State: Adam's, and `average` (n,).
    """

    def __init__(self, params: Params = None, lr: Rate = 1e-3, *, decay: float = 0.99, **adam: Any) -> None:
        self.decay = fraction("decay", decay)
        super().__init__(params, lr, **adam)

    def bind(self, flat: FlatParameters) -> None:
        super().bind(flat)
        self.average: Array = flat.zeros()

    def update(self) -> None:
        super().update()
        self.average *= self.decay
        self.average += (1 - self.decay) * self._bound().w

    def averaged(self) -> AbstractContextManager[None]:
        """Inside the block, the weights are their average so far; before the first step, the weights themselves."""
        flat = self._bound()
        return flat.showing(self.average / (1 - self.decay**self.t) if self.t else flat.w)

    def state_dict(self) -> State:
        state = super().state_dict()
        state["vectors"]["average"] = to_numpy(self.average).copy()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vectors = dict(parts_of(state)[0])
        average = vectors.pop("average", None)
        check_vectors({"average": average} if average is not None else {}, ["average"], self.average)
        super().load_state_dict({**state, "vectors": vectors})
        self.average[...] = backend_of(self.average).from_host(average)
