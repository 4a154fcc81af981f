"""A frame: everything the page shows of one step, copied during training and made into images and histograms later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl import ops
from minidl.backend import Array, backend_of, to_numpy
from minidl.grad_mode import no_grad
from minidl.nn import Module, ReLU
from minidl.optim.explain import Look
from minidl.optim.optimizer import Optimizer
from minidl.optim.projection import dots64
from minidl.tensor import Tensor
from minidl.trace import keep
from minidl.trace.choose import Grid
from minidl.trace.layers import WatchedLayer

IMAGES = 24  # of the minibatch that are shown, at most


class Frame:
    """One step: the weights under the lens and, once `add` is called, everything else."""

    def __init__(self, step: int, look: Look | None = None) -> None:
        self.step, self.look = step, look
        self.geometry: dict[str, float] | None = None
        self.batch: dict[str, Any] | None = None
        self.layers: list[dict[str, Any]] = []
        self.weights: list[dict[str, Any]] = []
        self.filters: Array | None = None

    def add(self, model: Module, grids: Sequence[Grid], seen: Sequence[WatchedLayer], x: Array, labels: Array) -> None:
        """Copy what the page shows of a step, while its arrays still exist. A step that failed has fewer."""
        logits = seen[-1].output if seen else None
        if logits is not None and logits.ndim == 2 and len(logits) == len(x):
            self.batch = worst_first(logits, x, labels)
        example = int(self.batch["order"][0]) if self.batch else 0
        self.layers = [_layer(one, example) for one in seen]
        parameters = list(model.parameters())
        self.weights = [
            {"weight": keep.sample(p.data), "gradient": None if p.grad is None else keep.sample(p.grad)}
            for p in parameters
        ]
        self.filters = first_filters(grids[0], parameters[0].data, x.shape[-2:])

    def measure(self, p: Array, g: Array) -> None:
        """How the step relates to the gradient: their norms, the angle between p and -g, and SWATS's gamma."""
        pp, pg, gg = to_numpy(dots64((p, p), (p, g), (g, g))).tolist()
        if pp > 0 and gg > 0:
            cos = max(-1.0, min(1.0, -pg / math.sqrt(pp * gg)))
            self.geometry = {
                "p": math.sqrt(pp),
                "g": math.sqrt(gg),
                "cos": cos,
                "degrees": math.degrees(math.acos(cos)),
                "gamma": pp / -pg if pg else math.nan,
            }

    def packed(self, optimizer: Optimizer) -> dict[str, Any]:
        """The frame in the page's form."""
        terms = [] if self.look is None else optimizer.terms(self.look)
        return {
            "step": self.step,
            "terms": [{**term._asdict(), "value": _number(term.value)} for term in terms],
            "geometry": self.geometry,
            "batch": self.batch,
            "layers": [
                {**layer, "dead": None if layer["dead"] is None else int(layer["dead"])}
                | {name: layer[name] and _shown(*layer[name]) for name in ("output", "gradient")}
                for layer in self.layers
            ],
            "weights": [
                {name: None if values is None else keep.histogram(values) for name, values in one.items()}
                for one in self.weights
            ],
            "filters": None if self.filters is None else keep.shades(self.filters),
        }


def _layer(seen: WatchedLayer, example: int) -> dict[str, Any]:
    g = seen.gradient
    return {
        "name": seen.name,
        "output": (keep.sample(seen.output), keep.maps(seen.output, example)),
        "gradient": None if g is None else (keep.sample(g), keep.maps(g, example)),
        "dead": keep.dead(seen.output) if isinstance(seen.layer, ReLU) else None,
    }


def _shown(values: Array, maps: Array) -> dict[str, Any]:
    return {"histogram": keep.histogram(values), "picture": keep.shades(maps)}


def _number(value: Any) -> Any:
    """A term's numbers as they were: float32 where the vectors are."""
    return value if isinstance(value, (int, float)) else np.asarray(to_numpy(value))


def worst_first(logits: Array, x: Array, labels: Array) -> dict[str, Any]:
    """The minibatch's examples by decreasing loss, with the images of the first IMAGES. If the network's output
    has NaN, the predicted class is -1."""
    with no_grad():
        log_p = to_numpy(ops.log_softmax(Tensor(logits)).data)
    truth, n = to_numpy(labels).astype(np.int32), len(log_p)
    loss = -log_p[np.arange(n), truth]
    order = np.argsort(-np.nan_to_num(loss, nan=np.inf), kind="stable")  # the worst first
    predicted, shown = log_p.argmax(1).astype(np.int32), order[:IMAGES]
    predicted[np.isnan(log_p).any(1)] = -1  # no class
    images = to_numpy(x[backend_of(x).from_host(shown)])
    return {
        "order": order.astype(np.int32),
        "correct": int((predicted == truth).sum()),
        "labels": truth[shown],
        "predicted": predicted[shown],
        "loss": loss[shown].astype(np.float32),
        "confidence": np.exp(log_p[shown, predicted[shown]]).astype(np.float32),
        "images": np.clip(np.round(images[:, 0] * 255), 0, 255).astype(np.uint8),  # exact where pixels were bytes
    }


def first_filters(grid: Grid, weight: Array, image: Sequence[int]) -> Array | None:
    """The first layer's weights as images (units, height, width); None if its inputs are not images."""
    rows = backend_of(weight).from_host(grid.outputs)
    if weight.ndim == 4:
        return to_numpy(weight[rows][:, 0])
    if weight.ndim == 2 and weight.shape[1] == math.prod(image):
        return to_numpy(weight[rows]).reshape(-1, *image)
    return None
