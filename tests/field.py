"""Networks that people train, each described once and built for minidl, PyTorch and JAX.

`NETWORKS` is the list; each network states its source, its input and its layers in order. Where a source leaves a
detail open or uses a layer that minidl does not have (dropout of whole channels, depthwise convolutions), the nearest
one here replaces it. `minidl_net` and `torch_net` build a Sequential from it, `jax_net` (field_jax.py) two plain
functions. All three name their weights alike and use the same layout ("0.weight", (out, in, height, width)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from minidl import nn

Pair = tuple[int, int]


class Layer(NamedTuple):
    """One layer: its class in minidl.nn and torch.nn, and its sizes; its input size follows from the layer before."""

    kind: str
    out: int = 0  # features or channels
    kernel: int | Pair = 0
    stride: int | Pair = 1
    padding: int | Pair = 0
    p: float = 0.0


class Network(NamedTuple):
    """A network as its source trains it."""

    name: str
    source: str
    shape: tuple[int, ...]  # of one example
    batch: int
    layers: list[Layer]
    classes: int = 10


def dense(out: int) -> Layer:
    return Layer("Linear", out)


def conv(out: int, kernel: int | Pair, stride: int | Pair = 1, padding: int | Pair = 0) -> Layer:
    return Layer("Conv2d", out, kernel, stride, padding)


def max_pool(kernel: int | Pair = 2, stride: int | Pair | None = None, padding: int | Pair = 0) -> Layer:
    return Layer("MaxPool2d", 0, kernel, kernel if stride is None else stride, padding)


def avg_pool(kernel: int | Pair = 2, stride: int | Pair | None = None, padding: int | Pair = 0) -> Layer:
    return Layer("AvgPool2d", 0, kernel, kernel if stride is None else stride, padding)


def dropout(p: float) -> Layer:
    return Layer("Dropout", p=p)


RELU, TANH, SIGMOID, FLATTEN = Layer("ReLU"), Layer("Tanh"), Layer("Sigmoid"), Layer("Flatten")
GELU, LEAKY = Layer("GELU"), Layer("LeakyReLU")
NORM = Layer("BatchNorm")  # of features or of channels, by its input


def mlp(*widths: int, act: Layer = RELU, between: tuple[Layer, ...] = ()) -> list[Layer]:
    """Dense layers of these widths, each but the last followed by `act` and `between`."""
    return [layer for w in widths[:-1] for layer in (dense(w), act, *between)] + [dense(widths[-1])]


def conv_norm(out: int, kernel: int, stride: int = 1, padding: int = 0) -> list[Layer]:
    return [conv(out, kernel, stride, padding), NORM, RELU]


def norm_conv(out: int, kernel: int, stride: int = 1, padding: int = 0) -> list[Layer]:
    """As Keras users write it: the normalization after the ReLU."""
    return [conv(out, kernel, stride, padding), RELU, NORM]


DIGIT, FLAT, COLOUR = (1, 28, 28), (784,), (3, 32, 32)

NETWORKS = [
    # what minidl's benchmark and its review measured
    Network("mlp", "minidl's bench", FLAT, 128, mlp(256, 128, 10)),
    Network("mlp1024", "minidl's bench", FLAT, 128, mlp(1024, 1024, 10)),
    Network("cnn", "minidl's bench", DIGIT, 128, [
        conv(16, 3, padding=1), RELU, max_pool(), conv(32, 3, padding=1), RELU, max_pool(), FLATTEN, *mlp(128, 10)]),
    Network("lenet5", "LeNet-5 in its modern form", DIGIT, 64, [
        conv(6, 5, padding=2), RELU, max_pool(), conv(16, 5), RELU, max_pool(), FLATTEN, *mlp(120, 84, 10)]),
    Network("lenet5-tanh", "LeCun et al. 1998, all maps connected", DIGIT, 64, [
        conv(6, 5, padding=2), TANH, avg_pool(), conv(16, 5), TANH, avg_pool(), FLATTEN, *mlp(120, 84, 10, act=TANH)]),
    Network("pytorch", "pytorch/examples, mnist", DIGIT, 64, [
        conv(32, 3), RELU, conv(64, 3), RELU, max_pool(), dropout(0.25), FLATTEN,
        *mlp(128, 10, between=(dropout(0.5),))]),
    Network("keras", "keras.io, simple MNIST convnet", DIGIT, 128, [
        conv(32, 3), RELU, max_pool(), conv(64, 3), RELU, max_pool(), FLATTEN, dropout(0.5), dense(10)]),
    Network("race", "tuomaso/train_mnist_fast, 99 % in one epoch", DIGIT, 256, [
        conv(24, 5), max_pool(), RELU, conv(32, 3), max_pool(), RELU, FLATTEN, *mlp(256, 10)]),
    Network("bn-cnn", "two convolutions with batch norm", DIGIT, 128, [
        *conv_norm(32, 3, padding=1), *conv_norm(32, 3, padding=1), max_pool(), FLATTEN, dense(10)]),
    Network("cifar", "tensorflow.org's CIFAR tutorial, padded", COLOUR, 64, [
        conv(32, 3, padding=1), RELU, max_pool(), conv(32, 3, padding=1), RELU, max_pool(),
        conv(64, 3, padding=1), RELU, max_pool(), FLATTEN, *mlp(64, 10)]),
    Network("dropout-mlp", "Keras's mnist_mlp", FLAT, 128, mlp(512, 512, 10, between=(dropout(0.2),))),
    Network("nielsen", "Nielsen, Neural Networks and Deep Learning", FLAT, 10, mlp(30, 10, act=SIGMOID)),
    Network("mlp50", "a student's first network", FLAT, 64, mlp(50, 10)),
    # more perceptrons
    Network("softmax", "d2l.ai, softmax regression", FLAT, 256, mlp(10)),
    Network("bn-mlp", "six layers of 256 with batch norm (cs231n, assignment 2)", FLAT, 128, [
        *[layer for _ in range(6) for layer in (dense(256), NORM, RELU)], dense(10)]),
    Network("tanh-mlp", "the Theano deep-learning tutorials, smaller", FLAT, 100, mlp(100, 10, act=TANH)),
    Network("lenet-300-100", "LeCun et al. 1998; the lottery tickets' MLP", FLAT, 512, mlp(300, 100, 10)),
    Network("digits-mlp", "scikit-learn's digits, MLPClassifier", (64,), 32, mlp(32, 10)),
    # more convolutions
    Network("digits-cnn", "scikit-learn's digits", (1, 8, 8), 32, [
        conv(8, 3, padding=1), RELU, max_pool(), conv(16, 3, padding=1), RELU, FLATTEN, dense(10)]),
    Network("blitz", "pytorch.org, 60-minute blitz", COLOUR, 4, [
        conv(6, 5), RELU, max_pool(), conv(16, 5), RELU, max_pool(), FLATTEN, *mlp(120, 84, 10)]),
    Network("d2l-lenet", "d2l.ai, LeNet", DIGIT, 256, [
        conv(6, 5, padding=2), SIGMOID, avg_pool(), conv(16, 5), SIGMOID, avg_pool(), FLATTEN,
        *mlp(120, 84, 10, act=SIGMOID)]),
    Network("fastai", "the fastai book, chapter 13", DIGIT, 512, [
        *conv_norm(8, 5, 2, 2), *conv_norm(16, 3, 2, 1), *conv_norm(32, 3, 2, 1), *conv_norm(64, 3, 2, 1),
        conv(10, 3, 2, 1), FLATTEN]),
    Network("fedavg", "McMahan et al. 2017", DIGIT, 50, [
        conv(32, 5, padding=2), RELU, max_pool(), conv(64, 5, padding=2), RELU, max_pool(), FLATTEN, *mlp(512, 10)]),
    Network("deotte", "Deotte, 25 million images, Kaggle", DIGIT, 64, [
        *norm_conv(32, 3), *norm_conv(32, 3), *norm_conv(32, 5, 2, 2), dropout(0.4),
        *norm_conv(64, 3), *norm_conv(64, 3), *norm_conv(64, 5, 2, 2), dropout(0.4),
        FLATTEN, dense(128), RELU, NORM, dropout(0.4), dense(10)]),
    Network("fashion", "Kaggle, Fashion-MNIST with PyTorch", DIGIT, 100, [
        *conv_norm(32, 3, padding=1), max_pool(), *conv_norm(64, 3), max_pool(), FLATTEN,
        dense(600), dropout(0.25), *mlp(120, 10)]),
    Network("lecun1989", "LeCun et al. 1989, as reimplemented by Karpathy", (1, 16, 16), 32, [
        conv(12, 5, 2, 2), TANH, conv(12, 5, 2, 2), TANH, FLATTEN, *mlp(30, 10, act=TANH)]),
    Network("strided", "the discriminator of tensorflow.org's DCGAN, with ReLU and ten classes", DIGIT, 256, [
        conv(64, 5, 2, 2), RELU, dropout(0.3), conv(128, 5, 2, 2), RELU, dropout(0.3), FLATTEN, dense(10)]),
    Network("all-conv", "Springenberg et al. 2014, a third as wide", COLOUR, 128, [
        conv(32, 3, padding=1), RELU, conv(32, 3, padding=1), RELU, conv(32, 3, 2, 1), RELU,
        conv(64, 3, padding=1), RELU, conv(64, 3, padding=1), RELU, conv(64, 3, 2, 1), RELU,
        conv(64, 3), RELU, conv(64, 1), RELU, conv(10, 1), RELU, avg_pool(6), FLATTEN]),
    Network("nin", "Lin et al. 2013, a quarter as wide", COLOUR, 128, [
        conv(48, 5, padding=2), RELU, conv(40, 1), RELU, conv(24, 1), RELU, max_pool(3, 2, 1), dropout(0.5),
        conv(48, 5, padding=2), RELU, conv(48, 1), RELU, conv(48, 1), RELU, avg_pool(3, 2, 1), dropout(0.5),
        conv(48, 3, padding=1), RELU, conv(48, 1), RELU, conv(10, 1), RELU, avg_pool(8), FLATTEN]),
    Network("vgg", "two blocks of VGG with batch norm", COLOUR, 64, [
        *conv_norm(32, 3, padding=1), *conv_norm(32, 3, padding=1), max_pool(),
        *conv_norm(64, 3, padding=1), *conv_norm(64, 3, padding=1), max_pool(), FLATTEN, *mlp(128, 10)]),
    Network("stem", "ResNet's stem and one convolution", DIGIT, 128, [
        *conv_norm(64, 7, 2, 3), max_pool(3, 2, 1), *conv_norm(64, 3, padding=1), avg_pool(7), FLATTEN, dense(10)]),
    Network("letters", "EMNIST, balanced", DIGIT, 128, [
        conv(32, 3), RELU, max_pool(), conv(64, 3), RELU, max_pool(), FLATTEN, *mlp(256, 47)], classes=47),
    Network("odd", "none: sizes that nothing divides", (1, 31, 29), 33, [
        conv(13, (5, 3), (2, 1)), RELU, max_pool(3, 2), conv(21, 3), TANH, avg_pool((2, 3)), FLATTEN, *mlp(37, 7)],
        classes=7),
    # ten and more that were chosen after the loops had been written
    Network("quickstart", "tensorflow.org, quickstart for beginners", FLAT, 32, mlp(128, 10, between=(dropout(0.2),))),
    Network("gelu-mlp", "an MLP with the activation of transformers", FLAT, 128, mlp(512, 512, 10, act=GELU)),
    Network("encoder", "an autoencoder's layers, with its 784 pixels as classes", FLAT, 128,
            mlp(256, 64, 256, 784, act=SIGMOID), classes=784),
    Network("moons", "scikit-learn's two moons", (2,), 32, mlp(16, 16, 2, act=TANH), classes=2),
    Network("keras-cifar", "Keras's cifar10_cnn", COLOUR, 32, [
        conv(32, 3, padding=1), RELU, conv(32, 3), RELU, max_pool(), dropout(0.25),
        conv(64, 3, padding=1), RELU, conv(64, 3), RELU, max_pool(), dropout(0.25),
        FLATTEN, *mlp(512, 10, between=(dropout(0.5),))]),
    Network("flax", "Flax's MNIST example", DIGIT, 128, [
        conv(32, 3, padding=1), RELU, avg_pool(), conv(64, 3, padding=1), RELU, avg_pool(), FLATTEN, *mlp(256, 10)]),
    Network("howard", "pytorch.org, what is torch.nn really?", DIGIT, 64, [
        conv(16, 3, 2, 1), RELU, conv(16, 3, 2, 1), RELU, conv(10, 3, 2, 1), RELU, avg_pool(4), FLATTEN]),
    Network("simard", "Simard et al. 2003", DIGIT, 64, [
        conv(5, 5, 2, 2), TANH, conv(50, 5, 2, 2), TANH, FLATTEN, *mlp(100, 10, act=TANH)]),
    Network("leaky", "the discriminator of tensorflow.org's DCGAN, with ten classes", DIGIT, 256, [
        conv(64, 5, 2, 2), LEAKY, dropout(0.3), conv(128, 5, 2, 2), LEAKY, dropout(0.3), FLATTEN, dense(10)]),
    Network("gelu-cnn", "the bench's CNN with GELU, one dense layer", DIGIT, 64, [
        conv(16, 3, padding=1), GELU, max_pool(), conv(32, 3, padding=1), GELU, max_pool(), FLATTEN, dense(10)]),
    Network("squeeze", "SqueezeNet's layers in a row", COLOUR, 64, [
        conv(32, 3, padding=1), RELU, max_pool(3, 2), conv(16, 1), RELU, conv(64, 3, padding=1), RELU,
        conv(16, 1), RELU, conv(64, 3, padding=1), RELU, max_pool(3, 2), conv(32, 1), RELU,
        conv(128, 3, padding=1), RELU, conv(10, 1), RELU, avg_pool(7), FLATTEN]),
    Network("mobile", "MobileNet's sequence of 1x1 and 3x3, small", DIGIT, 64, [
        *conv_norm(16, 3, 2, 1), *conv_norm(32, 1), *conv_norm(32, 3, 2, 1), *conv_norm(64, 1), avg_pool(7), FLATTEN,
        dense(10)]),
    Network("vgg-plain", "VGG-11's first four convolutions", COLOUR, 64, [
        conv(64, 3, padding=1), RELU, max_pool(), conv(128, 3, padding=1), RELU, max_pool(),
        conv(128, 3, padding=1), RELU, conv(128, 3, padding=1), RELU, max_pool(), FLATTEN, *mlp(256, 10)]),
    Network("large-image", "AlexNet's layer order, for 64 x 64 pixels", (3, 64, 64), 32, [
        conv(24, 7, 2, 3), RELU, max_pool(3, 2, 1), conv(48, 3, 2, 1), RELU, conv(48, 1), RELU, avg_pool(8), FLATTEN,
        dense(10)]),
]  # fmt: skip
BY_NAME = {network.name: network for network in NETWORKS}


def examples(network: Network, batch: int) -> list[tuple[Any, Any]]:
    """Some batches of random images and labels, the same for every framework."""
    rng = np.random.default_rng(0)
    count = max(1, min(16, 2048 // batch))
    return [
        (rng.random((batch, *network.shape), dtype=np.float32), rng.integers(0, network.classes, batch))
        for _ in range(count)
    ]


def pair(size: int | Pair) -> Pair:
    return (size, size) if isinstance(size, int) else size


def shapes(network: Network) -> list[tuple[int, ...]]:
    """The shape of one example at the input of each layer, and at the output of the last."""
    found = [network.shape]
    for layer in network.layers:
        shape = found[-1]
        if layer.kind == "Flatten":
            shape = (int(np.prod(shape)),)
        elif layer.kernel:
            windows = zip(shape[1:], pair(layer.kernel), pair(layer.stride), pair(layer.padding), strict=True)
            shape = (layer.out or shape[0], *((n + 2 * p - k) // s + 1 for n, k, s, p in windows))
        elif layer.out:
            shape = (layer.out,)
        found.append(shape)
    assert found[-1] == (network.classes,), f"{network.name} ends with {found[-1]}"
    return found


def sizes(network: Network) -> list[int]:
    """The number of input features or channels of each layer."""
    return [shape[0] for shape in shapes(network)[:-1]]


EARLIER = {"kaiming": "he", "xavier": "glorot"}  # their names in checkouts before 585521f: `tests.bench --before`


def sequential(network: Network, library: Any, drop: bool, seeded: bool) -> Any:
    """The network, built from a library whose layers have PyTorch's names and arguments."""
    layers: list[Any] = []
    for i, (layer, n) in enumerate(zip(network.layers, sizes(network), strict=True)):
        more: dict[str, Any] = {"rng": i} if seeded else {}
        if layer.kind in ("Linear", "Conv2d") and seeded:
            init = "kaiming" if RELU in network.layers else "xavier"
            more["init"] = EARLIER[init] if library.Linear.__init__.__kwdefaults__["init"] == "he" else init
        kind = layer.kind
        if kind == "BatchNorm":
            images = not any(before.kind in ("Flatten", "Linear") for before in network.layers[:i])
            layers.append((library.BatchNorm2d if images else library.BatchNorm1d)(n))
        elif kind == "Linear":
            layers.append(library.Linear(n, layer.out, **more))
        elif kind == "Conv2d":
            layers.append(library.Conv2d(n, layer.out, layer.kernel, layer.stride, layer.padding, **more))
        elif kind == "Dropout":
            layers.append(library.Dropout(layer.p if drop else 0.0, **more))
        elif kind in ("MaxPool2d", "AvgPool2d"):
            layers.append(getattr(library, kind)(layer.kernel, layer.stride, layer.padding))
        else:
            layers.append(getattr(library, kind)())
    return library.Sequential(*layers)


def minidl_net(network: Network, drop: bool = True) -> nn.Sequential:
    """The network in minidl. Without `drop`, all dropout probabilities are 0."""
    from minidl import nn  # imported here, so that the benchmark's PyTorch processes run without it

    return sequential(network, nn, drop, seeded=True)


def torch_net(network: Network, drop: bool = True) -> Any:
    """See minidl_net; the weights are initialized by PyTorch (call torch.manual_seed first)."""
    import torch

    return sequential(network, torch.nn, drop, seeded=False)
