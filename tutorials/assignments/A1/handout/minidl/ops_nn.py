"""The operations that layers and losses are made of: linear, normalization, dropout, softmax, cross-entropy.

Images are (N, C, H, W) and weights (out, in), as in PyTorch. Convolution and pooling are in ops_conv.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import Array, accelerated, backend_of, xp_of
from minidl.rng import CounterRng
from minidl.tensor import Tensor, as_tensor, record, same_device

# ---- layers ----


@accelerated
def linear(x: Any, w: Any, b: Any = None) -> Tensor:
    """x @ w.T + b, a fully connected layer. x (N, in), w (out, in), b (out,) or None -> (N, out)."""
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
    """Batch normalization (Ioffe & Szegedy 2015, Alg. 1): weight * (x - mean) / sqrt(var + eps) + bias, by channel.

    x is (N, C) or (N, C, H, W); weight, bias and the running statistics are (C,). In training the statistics are
    the batch's (with the biased variance), and the running ones move towards them by `momentum` (towards the
    unbiased variance, as in PyTorch); otherwise the running ones are used.
    """
    x = as_tensor(x)
    if x.ndim not in (2, 4):
        raise ValueError(f"batch_norm: x {x.shape} must be (N, C) or (N, C, H, W)")
    xp, channels = xp_of(x.data), x.shape[1]
    dims = (0,) if x.ndim == 2 else (0, 2, 3)  # all axes but the channels'
    column = (1, channels) + (1,) * (x.ndim - 2)  # a (C,) vector in the shape that broadcasts against x
    n = x.size // channels
    if training:
        if n < 2:
            raise ValueError(f"batch_norm: training needs more than one value per channel, x is {x.shape}")
        mu, var = x.data.mean(dims, keepdims=True), x.data.var(dims, keepdims=True)
        if running_mean is not None and running_var is not None:
            running_mean.data += momentum * (mu.reshape(-1) - running_mean.data)
            running_var.data += momentum * (var.reshape(-1) * (n / (n - 1)) - running_var.data)
    elif running_mean is None or running_var is None:
        raise ValueError("batch_norm: evaluation needs running_mean and running_var")
    else:
        mu, var = running_mean.data.reshape(column), running_var.data.reshape(column)
    inv_std = 1 / xp.sqrt(var + eps)
    x_hat = (x.data - mu) * inv_std

    def vjp_x(g: Array) -> Array:
        dx_hat = g if weight is None else g * as_tensor(weight).data.reshape(column)
        if training:  # mean and variance depend on x too: take out what moves all values alike, and what scales them
            dx_hat = dx_hat - dx_hat.mean(dims, keepdims=True) - x_hat * (dx_hat * x_hat).mean(dims, keepdims=True)
        return dx_hat * inv_std

    y, edges = x_hat, [(x, vjp_x)]
    if weight is not None:
        weight = as_tensor(weight)
        y = y * weight.data.reshape(column)
        edges.append((weight, lambda g: (g * x_hat).sum(dims)))
    if bias is not None:
        bias = as_tensor(bias)
        y = y + bias.data.reshape(column)
        edges.append((bias, lambda g: g.sum(dims)))
    return record("batch_norm", y, *edges)


@accelerated
def dropout(x: Any, p: float, rng: np.random.Generator | CounterRng) -> Tensor:
    """Each value set to 0 with probability p, the others divided by 1 - p (Srivastava et al. 2014).

    rng  draws the mask: a NumPy Generator, on the host; or a CounterRng, whose numbers every device can draw itself.
         Either way a seed gives the same mask on every device
    """
    x = as_tensor(x)
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p must be in [0, 1), got {p}")
    keep = rng.random(x.shape, dtype=np.float32) >= p
    mask = backend_of(x.data).from_host((keep / (1 - p)).astype(x.dtype))
    return record("dropout", x.data * mask, (x, lambda g: g * mask))


# ---- softmax and losses ----


def softmax(x: Any, dim: int = -1) -> Tensor:
    """e^x / sum(e^x) along `dim`: positive numbers that sum to 1."""
    raise NotImplementedError("A1: softmax is yours to write")


def log_softmax(x: Any, dim: int = -1) -> Tensor:
    """log(softmax(x)) along `dim`, without ever forming a softmax that could round to 0."""
    raise NotImplementedError("A1: log_softmax is yours to write")


@accelerated
def cross_entropy(logits: Any, labels: Any) -> Tensor:
    """Mean of -log softmax(logits)[label] over the batch, a scalar.

    logits (N, classes); labels (N,) integers in [0, classes): a NumPy array, a list, or an array on the device.
    Labels on the host are checked. Those on the device are not, which would have to wait for it: check them
    before they are sent there, as `minidl.data.batches` does.
    """
    raise NotImplementedError("A1: cross_entropy is yours to write")


@accelerated
def count_right(logits: Any, labels: Any) -> Array:
    """How many rows of logits (N, classes) are largest at their label: a 0-d array of integers on their device."""
    return (as_tensor(logits).data.argmax(1) == labels).sum()


def mse_loss(prediction: Any, target: Any) -> Tensor:
    """Mean of (prediction - target)^2 over all elements, a scalar. The shapes must be equal."""
    prediction = as_tensor(prediction)
    target = as_tensor(target, like=prediction)
    same_device("mse_loss", prediction, target)
    if prediction.shape != target.shape:
        raise ValueError(f"mse_loss: prediction {prediction.shape} and target {target.shape} must have one shape")
    d = prediction.data - target.data
    scale = 2 / d.size
    return record("mse_loss", (d * d).mean(), (prediction, lambda g: g * scale * d), (target, lambda g: -g * scale * d))


# ---- helpers ----


def _log_softmax(x: Array, dim: int) -> Array:
    raise NotImplementedError("A1: _log_softmax is yours to write")


def _labels(logits: Tensor, labels: Any) -> Array:
    """Checked integer labels on the device of the logits."""
    labels = np.asarray(labels) if isinstance(labels, (list, tuple)) else labels
    if labels.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: labels must be integers, these have dtype {labels.dtype}")
    n, classes = logits.shape
    if labels.shape != (n,):
        raise ValueError(f"cross_entropy: logits {logits.shape} need labels of shape ({n},), got {labels.shape}")
    if not isinstance(labels, np.ndarray):
        return labels
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(f"cross_entropy: label {labels[i]} at position {i} is not in [0, {classes})")
    return backend_of(logits.data).from_host(labels)
