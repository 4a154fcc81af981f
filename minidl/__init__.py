"""minidl: a deep-learning framework small enough to read in an afternoon and exact enough to trust.

    from minidl import Trainer, evaluate, load_mnist, load_run, nn, seed, split
    from minidl.optim import Adam

    data = split(load_mnist("mnist5k"))                      # 5,000 digits that come with minidl; "mnist" for all
    with seed(0):                                            # the same weights in each run
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10, init="xavier"))
    trainer = Trainer(net, Adam(net.parameters()), data, folder="runs/first")
    trainer.fit(5)                                           # five epochs; call it again for five more
    print(evaluate(net, data.test))                          # loss and accuracy on images that it never saw
    net.save("net.safetensors")                              # the weights alone, for PyTorch too; net.load(...)
    load_run("runs/first").predict(data.test.images[:3])     # later, in another program; .fit(2) continues

A network of your own is a subclass of nn.Module: `__init__` creates its layers as attributes, and `forward(self, x)`
computes logits (N, 10) from a batch of images (N, 1, 28, 28). For the rest see help(minidl.Trainer), help(minidl.nn),
help(minidl.optim) and help(minidl.data). minidl.teach.show draws digits, curves and mistakes.
`python -m minidl` lists the commands.

tutorials/pages/read-it.md gives an order for reading the source.
"""

from __future__ import annotations

from minidl.cli import early as _early  # noqa: F401 (handles Ctrl-C from here on, if this is a command)

# isort: split
import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if os.path.isfile(os.path.join(__path__[0], "..", "optim", "flat.py")):  # a clone: minidl.optim lies beside minidl
    __path__.append(os.path.dirname(__path__[0]))

from minidl import fast as _fast  # noqa: F401 (registers the faster forms)
from minidl import nn, ops
from minidl.backend import DeviceError, no_fast, reference_only
from minidl.fast.threads import use_threads
from minidl.grad_mode import no_grad
from minidl.gradcheck import GradientError, gradcheck
from minidl.refuse import listed, missing
from minidl.rng import seed
from minidl.tensor import Tensor

if TYPE_CHECKING:
    from minidl.data import load_mnist
    from minidl.data.batches import batches
    from minidl.data.splits import Examples, Splits, split
    from minidl.evaluation import evaluate, predict
    from minidl.program import LoadedRun, load_run
    from minidl.trainer import Trainer
    from minidl.training.observer import Observer

__version__ = "0.1.0"
__all__ = [
    "DeviceError", "Examples", "GradientError", "LoadedRun", "Observer", "Splits", "Tensor", "Trainer", "batches",
    "evaluate", "gradcheck", "load_mnist", "load_run", "nn", "no_fast", "no_grad", "ops", "predict",
    "reference_only", "seed", "split", "use_threads",
]  # fmt: skip
_LATER = {  # layers above the engine are imported on first use
    "Examples": "minidl.data.splits",
    "LoadedRun": "minidl.program",
    "Observer": "minidl.training.observer",
    "Splits": "minidl.data.splits",
    "Trainer": "minidl.trainer",
    "batches": "minidl.data.batches",
    "evaluate": "minidl.evaluation",
    "load_mnist": "minidl.data",
    "load_run": "minidl.program",
    "predict": "minidl.evaluation",  # the function; the module of that name, once imported, can be called like it
    "split": "minidl.data.splits",
}


class _NoFunction(ModuleType):
    def __call__(self, *values: Any, **other: Any) -> Any:
        raise TypeError(
            f"{self.__name__} is a module: Tensor(values) makes a Tensor, which shares a float array's memory"
        )


sys.modules["minidl.tensor"].__class__ = _NoFunction  # users of PyTorch may call it

_PARTS = ("data", "optim", "study", "teach", "trace")  # `import minidl` is enough for minidl.data.batches and the like


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"minidl.{name}")
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    for part in () if name.startswith("_") else ("ops", "nn", "optim"):
        if name in importlib.import_module(f"minidl.{part}").__all__:
            raise missing("minidl", name, otherwise=f"it is minidl.{part}.{name}")
    raise missing("minidl", name, otherwise=f"np.{name}" if hasattr(np, name) else "", known=__all__)


def __dir__() -> list[str]:
    return sorted({*listed(__name__), *_PARTS, "__version__"})
