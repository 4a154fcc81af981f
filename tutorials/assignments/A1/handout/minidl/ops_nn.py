"""The operations behind layers and losses: linear, normalization, dropout, softmax, cross-entropy.

Images are (N, C, H, W) and weights (out, in), as in PyTorch. Convolution and pooling are in ops_conv.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.backend import Array, accelerated, backend_of, same_bits, xp_of
from minidl.refuse import real, refuse, to_classes, to_examples, to_labels, to_rows, to_same
from minidl.rng import CounterRng
from minidl.telling import tell
from minidl.tensor import Reading, Tensor, alike, as_tensor, axes, record, total

# ---- layers ----


@same_bits
@accelerated
def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """x @ w.T + b, a fully connected layer. x (..., in), weight w (out, in), bias b (out,) or None -> (..., out)."""
    raise NotImplementedError("A1: linear is yours to write")


@accelerated
def batch_norm(
    x: Any,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalization (Ioffe & Szegedy 2015, Alg. 1): weight * (x - mean) / sqrt(var + eps) + bias, per channel.

    x                          (N, C) or (N, C, H, W)
    running_mean, running_var  (C,) Tensors without a gradient; in training, None keeps no running statistics
    weight, bias               (C,) each, or None for 1 and 0
    training                   True: use the batch's mean and (biased) variance, and move the running ones towards them,
                               with the unbiased variance, as in PyTorch. False: use the running ones
    momentum                   how far the running ones move, a fraction: new = (1 - momentum) old + momentum batch
    eps                        > 0, keeps the division finite

    Raises ValueError for any other shape of x, vectors not of length C, eps <= 0, fewer than two values per channel in
    training, and a running vector that is None in evaluation.
    """
    x = as_tensor(x)
    weight, bias = (None if t is None else as_tensor(t) for t in (weight, bias))
    alike("batch_norm", x, weight, bias, running_mean, running_var)
    if x.ndim not in (2, 4):
        raise ValueError(f"batch_norm: x {x.shape} must be (N, C) or (N, C, H, W)")
    if not real(eps) > 0:
        raise ValueError(f"batch_norm: eps must be above 0, got {eps!r}")
    for vector in (running_mean, running_var, weight, bias):
        if vector is not None and vector.shape != x.shape[1:2]:
            raise ValueError(
                f"batch_norm: x {x.shape} has {x.shape[1]} channels, but the vectors are for {vector.size}"
            )
    xp, channels = xp_of(x.data), x.shape[1]
    dims = (0,) if x.ndim == 2 else (0, 2, 3)  # all axes but the channels'
    column = (1, channels) + (1,) * (x.ndim - 2)  # a (C,) vector in the shape that broadcasts against x
    n = math.prod(x.shape[d] for d in dims)
    if training:
        if n < 2:
            raise ValueError(
                f"batch_norm: training needs more than one value per channel, x is {x.shape}: avoid a last batch of "
                "one, with batches(..., drop_last=True) or another batch size; to predict, call model.eval() first"
            )
        mu = total(x.data, dims, True, n)
        centred = x.data - mu
        var = total(centred * centred, dims, True, n)
        if running_mean is not None and running_var is not None:
            for running, new in ((running_mean.data, mu), (running_var.data, var * (n / (n - 1)))):
                running *= 1 - momentum
                running += momentum * new.reshape(-1)
    elif running_mean is None or running_var is None:
        raise ValueError("batch_norm: evaluation needs running_mean and running_var")
    else:
        centred, var = x.data - running_mean.data.reshape(column), running_var.data.reshape(column)
    inv_std = 1 / xp.sqrt(var + eps)
    x_hat = centred * inv_std

    def vjp_x(g: Array) -> Array:
        dx_hat = g if weight is None else g * weight.data.reshape(column)
        if training:  # mean and variance depend on x too: remove the parts that shift or scale all values together
            dx_hat = dx_hat - total(dx_hat, dims, True, n) - x_hat * total(dx_hat * x_hat, dims, True, n)
        return dx_hat * inv_std

    y = x_hat
    edges: list[Reading] = [(x, vjp_x) if weight is None else (x, vjp_x, weight)]
    if weight is not None:
        y = y * weight.data.reshape(column)
        edges.append((weight, lambda g: total(g * x_hat, dims)))
    if bias is not None:
        y = y + bias.data.reshape(column)
        edges.append((bias, lambda g: total(g, dims)))
    return record("batch_norm", y, *edges)


@accelerated
def dropout(x: Any, p: float, rng: np.random.Generator | CounterRng | None = None) -> Tensor:
    """x with each value set to 0 with probability p, and the others divided by 1 - p (Srivastava et al. 2014).

    p    in [0, 1)
    rng  draws the mask: a NumPy Generator, on the host, or a CounterRng, whose numbers every device can draw itself.
         Either way a seed gives the same mask on every device. Required: no operation has a hidden generator
    """
    x = as_tensor(x)
    if not 0 <= real(p) < 1:
        raise ValueError(f"dropout: p must be in [0, 1), got {p!r}")
    if rng is None or not hasattr(rng, "random"):
        raise TypeError(f"dropout: rng must be a generator, got {rng!r}; nn.Dropout knows whether it is training")
    keep = rng.random(x.shape, dtype=np.float32) >= p
    mask = backend_of(x.data).from_host((keep / (1 - p)).astype(x.dtype))
    return record("dropout", x.data * mask, (x, lambda g: g * mask))


# ---- softmax and losses ----


@accelerated
def softmax(x: Any, dim: int = -1, **other: Any) -> Tensor:
    """e^x / sum(e^x) along `dim`, in x's shape: positive numbers that sum to 1."""
    raise NotImplementedError("A1: softmax is yours to write")


@accelerated
def log_softmax(x: Any, dim: int = -1, **other: Any) -> Tensor:
    """log(softmax(x)) along `dim`, in x's shape, without ever forming a softmax that could round to 0."""
    raise NotImplementedError("A1: log_softmax is yours to write")


@accelerated
def cross_entropy(logits: Any, labels: Any, *, reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:
    """Mean of -log softmax(logits)[label] over the batch, a scalar; reduction="sum" sums, "none" gives losses (N,).

    logits (N, classes); labels (N,) integers in [0, classes): a NumPy array, a list, or an array on the device.
    Labels on the host are checked; checking them on the device would have to wait for it.
    label_smoothing e: the target is 1 - e for the label plus e/classes for each class (Szegedy et al. 2016, sec. 7).
    """
    raise NotImplementedError("A1: cross_entropy is yours to write")


@accelerated
def count_right(logits: Any, labels: Any) -> Array:
    """How many rows of logits (N, classes) are largest at their label, labels (N,): integer array () on the device."""
    return (as_tensor(logits).data.argmax(1) == labels).sum()


def mse_loss(prediction: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """Mean of (prediction - target)^2 over all elements, a scalar; `reduction` as for cross_entropy.

    prediction and target have the same shape.
    """
    prediction = as_tensor(prediction)
    target = as_tensor(target, like=prediction)
    alike("mse_loss", prediction, target, dtype=False)
    if prediction.shape != target.shape:
        raise ValueError(f"mse_loss: {to_same('prediction', prediction, target)}")
    d = prediction.data - target.data
    y, share = _reduced("mse_loss", d * d, reduction)
    scale = 2 * share
    return record("mse_loss", y, (prediction, lambda g: g * scale * d), (target, lambda g: -g * scale * d))


def binary_cross_entropy_with_logits(z: Any, target: Any, *, reduction: str = "mean", **other: Any) -> Tensor:
    """-y log s(z) - (1-y) log(1 - s(z)), s the sigmoid: the loss for yes-or-no questions, from logits.

    z and target have the same shape, target in [0, 1]: 0 for no, 1 for yes. reduction: as for cross_entropy.
    It is computed as max(z, 0) - z y + log(1 + e^-|z|), which can't overflow.
    """
    op, z = "binary_cross_entropy_with_logits", as_tensor(z)
    refuse(op, other)
    if z.node is not None and z.node.name in SOFTENED:
        tell_softened(z.node.name, "sigmoid")
    target = as_tensor(target, like=z)
    alike(op, z, target, dtype=False)
    if z.shape != target.shape:
        raise ValueError(f"{op}: {to_same('logits', z, target)}")
    xp, y = xp_of(z.data), target.data
    e = xp.exp(-xp.abs(z.data))
    yes = xp.where(z.data < 0, e, 1) / (1 + e)  # s(z)
    loss, share = _reduced(op, xp.maximum(z.data, 0) - z.data * y + xp.log1p(e), reduction)
    return record(op, loss, (z, lambda g: g * share * (yes - y), target), (target, lambda g: -g * share * z.data, z))


# ---- helpers ----

SOFTENED = ("softmax", "sigmoid")


def tell_softened(name: str, taken: str = "softmax") -> None:
    """A softmax of a softmax weakens the gradient, and so does a sigmoid of a sigmoid."""
    tell(f"the network ends with a {name}, and the loss, cross-entropy, applies the {taken} itself: remove "
         f"the {name}, so that the network ends with its last Linear")  # fmt: skip


def _log_softmax(x: Array, dims: tuple[int, ...]) -> Array:
    raise NotImplementedError("A1: _log_softmax is yours to write")


def _reduced(op: str, losses: Array, reduction: str) -> tuple[Array, float]:
    """The mean or the sum of the losses, or the losses themselves; and the weight of each in it."""
    if reduction == "none":
        return losses, 1.0
    if reduction not in ("mean", "sum"):
        raise ValueError(f"{op}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    n = losses.size if reduction == "mean" else 1
    return total(losses, n=n), 1 / max(n, 1)


def _labels(logits: Tensor, labels: Any) -> Array:
    """Checked integer labels on the device of the logits."""
    labels = labels if isinstance(labels, (np.ndarray, Tensor, type(logits.data))) else np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: labels must be integers, not {labels.dtype}: {to_classes(labels)}")
    n, classes = logits.shape
    if labels.shape != (n,):
        hint = f": {to_labels(labels)}" if labels.ndim == 2 else ""
        raise ValueError(f"cross_entropy: logits {logits.shape} need labels of shape ({n},), got {labels.shape}{hint}")
    if not isinstance(labels, np.ndarray):
        return labels
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(f"cross_entropy: label {labels[i]} at position {i} is not in [0, {classes}): labels count "
                         "from 0, and the network needs an output for each")  # fmt: skip
    return backend_of(logits.data).from_host(labels.copy())  # they may be changed before backward()
