"""The built-in models, by name. Each adapts to the image size and the number of classes of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.random import Generator

from minidl.backend import Array
from minidl.data.batches import statistics
from minidl.nn import Conv2d, Dropout, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential, Standardize
from minidl.optim.grammar import unknown
from minidl.rng import seed as random_seed
from minidl.training.loader import load
from minidl.training.own import own_network
from minidl.training.own_file import is_own

ImageSize = tuple[int, int]


def linear(size: ImageSize, classes: int, rng: Generator) -> Sequential:
    """Softmax regression: one layer, no hidden units."""
    return perceptron(size, [], classes, rng)


def mlp(size: ImageSize, classes: int, rng: Generator) -> Sequential:
    """The standard perceptron: on MNIST 784-256-128-10, 235,146 weights."""
    return perceptron(size, [256, 128], classes, rng)


def cnn(size: ImageSize, classes: int, rng: Generator) -> Sequential:
    """Two convolutions of 16 and 32 filters, each with max-pooling, then 128 hidden units: on MNIST 206,922 weights."""
    return network(size, classes, rng, filters=(16, 32), hidden=(128,))


def race(size: ImageSize, classes: int, rng: Generator) -> Sequential:
    """For 99 % in one epoch (github.com/tuomaso/train_mnist_fast): 24 filters of 5x5, 32 of 3x3, 256 hidden units.

    Its input is standardized; its convolutions are not padded. On MNIST 215,194 weights.
    """
    height, width = (((n - 4) // 2 - 2) // 2 for n in size)
    if height < 1 or width < 1:
        raise ValueError(f"images of {size[0]}x{size[1]} are too small for race: use images of 12x12 or more")
    own: dict[str, Any] = {"init": "pytorch", "rng": rng}  # "kaiming" ends 0.2 points lower
    return Sequential(
        Standardize(),
        Conv2d(1, 24, 5, **own), MaxPool2d(2), ReLU(),
        Conv2d(24, 32, 3, **own), MaxPool2d(2), ReLU(),
        Flatten(), Linear(32 * height * width, 256, **own), ReLU(), Linear(256, classes, **own),
    )  # fmt: skip


def underfit(size: ImageSize, classes: int, rng: Generator) -> Sequential:
    """Too small to fit even its training set: 6 hidden units."""
    return perceptron(size, [6], classes, rng)


def goodfit(size: ImageSize, classes: int, rng: Generator) -> Sequential:
    """Large enough to fit, regularized by dropout: 512-256 hidden units."""
    return perceptron(size, [512, 256], classes, rng, dropout=0.3)


def overfit(size: ImageSize, classes: int, rng: Generator) -> Sequential:
    """Large enough to memorize the training set, without regularization: 1024-1024 hidden units."""
    return perceptron(size, [1024, 1024], classes, rng)


MODELS: dict[str, Callable[[ImageSize, int, Generator], Sequential]] = {
    model.__name__: model for model in (linear, mlp, cnn, race, underfit, goodfit, overfit)
}


def build_model(name: str, size: ImageSize, classes: int, seed: int = 0, grey: bool = True) -> Module:
    """The model of that name for images of `size` (height, width), with weights drawn from `seed`.

    name  one of MODELS, or a user's own network: "mine.py:Net" (see own.py)
    grey  of a network of one's own: see own_network

    Raises ValueError for an unknown name, or images too small for the model.
    """
    if is_own(name):
        with random_seed(seed):  # for layers without an rng
            return own_network(load(name), size, classes, grey)
    if name not in MODELS:
        raise ValueError(unknown("model", name, MODELS))
    return MODELS[name](size, classes, np.random.default_rng([seed, 0]))


def standardize(model: Module, images: Array) -> None:
    """Set the model's Standardize layers to the mean and standard deviation of these images, its training set."""
    for layer in standards(model):
        mean, std = statistics(images)
        layer.load_state_dict({"mean": np.asarray(mean), "std": np.asarray(std or 1.0)})  # 1 if all pixels are equal


def input_of(model: Module) -> str:
    """The preprocessing of a pixel before the model, as a formula with its numbers."""
    words = "byte / 255"
    for layer in standards(model):
        words = f"({words} - {layer.mean.numpy()}) / {layer.std.numpy()}"
    return words


def standards(model: Module) -> list[Standardize]:
    """The layers that standardize the model's input."""
    return [module for _, module in model.named_modules() if isinstance(module, Standardize)]


def network(
    size: ImageSize,
    classes: int,
    rng: Generator,
    *,
    filters: Sequence[int] = (),
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
) -> Sequential:
    """A network from images of `size` to `classes` logits, with weights drawn from `rng`.

    filters  number of filters of each convolution: 3x3, padded, followed by ReLU and 2x2 max-pooling
    hidden   units of each fully connected layer, followed by ReLU, and by dropout unless it is 0

    Raises ValueError for images that are too small for the pooling.
    """
    layers: list[Module] = []
    channels, (height, width) = 1, size
    for n in filters:
        layers += [Conv2d(channels, n, 3, padding=1, rng=rng), ReLU(), MaxPool2d(2)]
        channels, height, width = n, height // 2, width // 2
    if not height or not width:
        least = 2 ** len(filters)
        raise ValueError(
            f"images of {size[0]}x{size[1]} are too small for {len(filters)} pooling layers, which each halve them: "
            f"use images of {least}x{least} or more, or fewer convolutions"
        )
    widths = [channels * height * width, *hidden]
    layers.append(Flatten())
    for i, o in pairwise(widths):
        layers += [Linear(i, o, rng=rng), ReLU()]
        if dropout:
            layers.append(Dropout(dropout, rng=rng.spawn(1)[0]))
    return Sequential(*layers, Linear(widths[-1], classes, init="xavier", rng=rng))


def perceptron(
    size: ImageSize, hidden: Sequence[int], classes: int, rng: Generator, dropout: float = 0.0
) -> Sequential:
    """A multilayer perceptron: a network without convolutions."""
    return network(size, classes, rng, hidden=hidden, dropout=dropout)


def count_parameters(model: Module) -> int:
    """The number of the model's weights."""
    return sum(p.size for p in model.parameters())
