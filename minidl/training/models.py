"""The models that the programs know by name. Each takes the image size and the number of classes from the data."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from minidl.nn import Conv2d, Dropout, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential

ImageSize = tuple[int, int]
Rng = np.random.Generator


def linear(size: ImageSize, classes: int, rng: Rng) -> Sequential:
    """Softmax regression: one layer, no hidden units."""
    return perceptron(size, [], classes, rng)


def mlp(size: ImageSize, classes: int, rng: Rng) -> Sequential:
    """The standard perceptron: on MNIST 784-256-128-10, 235,146 weights."""
    return perceptron(size, [256, 128], classes, rng)


def cnn(size: ImageSize, classes: int, rng: Rng) -> Sequential:
    """Two convolutions of 16 and 32 filters, each with a pool, then 128 hidden units: on MNIST 206,922 weights."""
    height, width = size[0] // 4, size[1] // 4  # each pool halves the image
    if not height or not width:
        raise ValueError(f"model cnn: images of {size[0]}x{size[1]} are too small for two pools, it needs 4x4 or more")
    return Sequential(
        Conv2d(1, 16, 3, padding=1, rng=rng), ReLU(), MaxPool2d(2),
        Conv2d(16, 32, 3, padding=1, rng=rng), ReLU(), MaxPool2d(2),
        Flatten(),
        Linear(32 * height * width, 128, rng=rng), ReLU(),
        Linear(128, classes, init="glorot", rng=rng),
    )  # fmt: skip


def underfit(size: ImageSize, classes: int, rng: Rng) -> Sequential:
    """Too small to fit even its training set: 6 hidden units."""
    return perceptron(size, [6], classes, rng)


def goodfit(size: ImageSize, classes: int, rng: Rng) -> Sequential:
    """Large enough to fit, held back by dropout: 512-256 hidden units."""
    return perceptron(size, [512, 256], classes, rng, dropout=0.3)


def overfit(size: ImageSize, classes: int, rng: Rng) -> Sequential:
    """Large enough to learn the training set by heart, nothing to hold it back: 1024-1024 hidden units."""
    return perceptron(size, [1024, 1024], classes, rng)


MODELS: dict[str, Callable[[ImageSize, int, Rng], Sequential]] = {
    model.__name__: model for model in (linear, mlp, cnn, underfit, goodfit, overfit)
}


def build_model(name: str, size: ImageSize, classes: int, seed: int = 0) -> Sequential:
    """The model of that name for images of `size` (height, width), with weights drawn by `seed`.

    Raises ValueError for an unknown name, or images too small for the model.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    return MODELS[name](size, classes, np.random.default_rng([seed, 0]))


def perceptron(size: ImageSize, hidden: list[int], classes: int, rng: Rng, dropout: float = 0.0) -> Sequential:
    """Fully connected layers with a ReLU, and dropout if wanted, after each but the last."""
    widths = [size[0] * size[1], *hidden]
    layers: list[Module] = [Flatten()]
    for i, o in pairwise(widths):
        layers += [Linear(i, o, rng=rng), ReLU()]
        if dropout:
            layers.append(Dropout(dropout, rng=rng.spawn(1)[0]))
    return Sequential(*layers, Linear(widths[-1], classes, init="glorot", rng=rng))


def count_parameters(model: Module) -> int:
    """How many numbers the model learns."""
    return sum(p.size for p in model.parameters())
