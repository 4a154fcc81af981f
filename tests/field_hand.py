"""Networks with a handwritten forward, not a list of layers: the same code runs in minidl and in PyTorch.

`nn` is minidl.nn or torch.nn, `f` minidl.ops or torch: they have the same names. Fusing the layers of a Sequential does
not help here: each product, sum and activation is a separate operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Written(NamedTuple):
    """A network, with those fields of tests/field.py's networks that the benchmarks use."""

    name: str
    source: str
    shape: tuple[int, ...]  # of one example
    batch: int
    make: Callable[[Any, Any], Any]  # (nn, f) -> the network
    classes: int = 10


def weight(nn: Any, *shape: int) -> Any:
    """A random parameter, the same for both libraries; its rows are the inputs."""
    return parameter(nn, np.random.default_rng(sum(shape)).normal(0, shape[0] ** -0.5, shape).astype(np.float32))


def parameter(nn: Any, values: Any) -> Any:
    """A parameter with these values, float32."""
    if nn.__name__.startswith("torch"):
        import torch

        return nn.Parameter(torch.from_numpy(values))
    return nn.Parameter(values)


def products(nn: Any, f: Any) -> Any:
    class Perceptron(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w1, self.b1 = weight(nn, 784, 256), weight(nn, 256)
            self.w2, self.b2 = weight(nn, 256, 128), weight(nn, 128)
            self.w3, self.b3 = weight(nn, 128, 10), weight(nn, 10)

        def forward(self, x: Any) -> Any:
            h = f.relu(x @ self.w1 + self.b1)
            return f.relu(h @ self.w2 + self.b2) @ self.w3 + self.b3

    return Perceptron()


def norm_by_hand(nn: Any, f: Any) -> Any:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w1, self.g1, self.b1 = weight(nn, 784, 200), weight(nn, 1, 200), weight(nn, 1, 200)
            self.w2, self.g2, self.b2 = weight(nn, 200, 100), weight(nn, 1, 100), weight(nn, 1, 100)
            self.w3 = weight(nn, 100, 10)

        def forward(self, x: Any) -> Any:
            for w, g, b in (self.w1, self.g1, self.b1), (self.w2, self.g2, self.b2):
                x = x @ w
                x = f.tanh((x - x.mean(0, keepdim=True)) / (x.var(0, keepdim=True) + 1e-5).sqrt() * g + b)
            return x @ self.w3

    return Normed()


def residual_perceptron(nn: Any, f: Any) -> Any:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(128, 128), nn.Linear(128, 128)

        def forward(self, x: Any) -> Any:
            return f.relu(x + self.b(f.relu(self.a(x))))

    return nn.Sequential(nn.Linear(784, 128), Block(), Block(), Block(), nn.Linear(128, 10))


def resnet(nn: Any, f: Any) -> Any:
    class Block(nn.Module):
        def __init__(self, c_in: int, c: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.norm1 = nn.Conv2d(c_in, c, 3, stride, 1, bias=False), nn.BatchNorm2d(c)
            self.conv2, self.norm2 = nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c)
            self.shortcut = nn.Conv2d(c_in, c, 1, stride, bias=False) if stride > 1 else None

        def forward(self, x: Any) -> Any:
            y = self.norm2(self.conv2(f.relu(self.norm1(self.conv1(x)))))
            return f.relu(y + (x if self.shortcut is None else self.shortcut(x)))

    stem = nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
    blocks = Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)
    return nn.Sequential(*stem, *blocks, nn.AvgPool2d(7), nn.Flatten(), nn.Linear(64, 10))


def densenet(nn: Any, f: Any) -> Any:
    class Block(nn.Module):
        def __init__(self, c_in: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(c_in, 8, 3, 1, 1)

        def forward(self, x: Any) -> Any:
            return f.cat([x, f.relu(self.conv(x))], dim=1)

    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 1, 1), Block(8), Block(16), nn.MaxPool2d(2), Block(24), Block(32), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(40 * 49, 10),
    )  # fmt: skip


def swish(nn: Any, f: Any) -> Any:
    class Swish(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * f.sigmoid(x)

    return nn.Sequential(nn.Linear(784, 256), Swish(), nn.Linear(256, 256), Swish(), nn.Linear(256, 10))


def by_rows(nn: Any, f: Any) -> Any:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.given, self.state, self.out = nn.Linear(28, 64), nn.Linear(64, 64), nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            h = f.tanh(self.given(x[:, 0]))
            for row in range(1, 28):
                h = f.tanh(self.given(x[:, row]) + self.state(h))
            return self.out(h)

    return Recurrent()


def transformer(nn: Any, f: Any) -> Any:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.o = (weight(nn, 64, 64) for _ in range(4))
            self.w1, self.w2 = weight(nn, 64, 256), weight(nn, 256, 64)

        def heads(self, x: Any) -> Any:
            return x.reshape(len(x), 28, 4, 16).permute(0, 2, 1, 3)

        def forward(self, x: Any) -> Any:
            q, k, v = self.heads(x @ self.q), self.heads(x @ self.k), self.heads(x @ self.v)
            seen = f.softmax(q @ k.permute(0, 1, 3, 2) / 4, dim=-1) @ v
            x = x + seen.permute(0, 2, 1, 3).reshape(len(x), 28, 64) @ self.o
            return x + f.relu(x @ self.w1) @ self.w2

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows, self.places, self.out = weight(nn, 28, 64), weight(nn, 28, 64), weight(nn, 64, 10)
            self.blocks = nn.Sequential(Block(), Block())

        def forward(self, x: Any) -> Any:
            return self.blocks(x @ self.rows + self.places).mean(1) @ self.out

    return Transformer()


def mixer(nn: Any, f: Any) -> Any:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.shift = (parameter(nn, np.full(64, v, np.float32)) for v in (1, 0))

        def forward(self, x: Any) -> Any:
            mean, var = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
            return (x - mean) / (var + 1e-5).sqrt() * self.scale + self.shift

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList([Normed(), Normed()])
            self.places = nn.Sequential(nn.Linear(49, 32), nn.GELU(), nn.Linear(32, 49))
            self.channels = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))

        def forward(self, x: Any) -> Any:
            x = x + self.places(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
            return x + self.channels(self.norms[1](x))

    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.out = nn.Conv2d(1, 64, 4, 4), nn.Linear(64, 10)
            self.blocks = nn.Sequential(Block(), Block())

        def forward(self, x: Any) -> Any:
            return self.out(self.blocks(self.patches(x).flatten(2).transpose(1, 2)).mean(1))

    return Mixer()


ROWS = (28, 28)
WRITTEN = [
    Written("products", "an MLP of matrix products, x @ w + b", (784,), 128, products),
    Written("norm-by-hand", "batch norm from mean and var", (784,), 128, norm_by_hand),
    Written("residual", "an MLP with three residual blocks", (784,), 128, residual_perceptron),
    Written("resnet", "He et al. 2016: three residual blocks, batch norm, 16 to 64 channels", (1, 28, 28), 64, resnet),
    Written("densenet", "Huang et al. 2017: four blocks that concatenate channels", (1, 28, 28), 64, densenet),
    Written("swish", "a custom activation, x * sigmoid(x)", (784,), 128, swish),
    Written("by-rows", "a recurrent network that reads a digit row by row", ROWS, 64, by_rows),
    Written("mixer", "Tolstikhin et al. 2021: two blocks over 49 patches", (1, 28, 28), 64, mixer),
    Written("transformer", "two blocks of attention over a digit's rows", ROWS, 32, transformer),
]
BY_NAME = {network.name: network for network in WRITTEN}
