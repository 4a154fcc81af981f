"""How good a model is on examples that it was not trained on, and what it predicts for an image."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from minidl import ops
from minidl.backend import Array, read_together, same_bits, xp_of
from minidl.data.batches import batches
from minidl.data.splits import Examples, examples_of, plain_array
from minidl.fast.threads import use_threads
from minidl.grad_mode import no_grad
from minidl.module import device_of, dtype_of, evaluating
from minidl.nn import Module
from minidl.training.slips import check_model, tell_other_size, tell_unscaled

PIXELS_AT_A_TIME = 1 << 19  # some 670 images of MNIST


class Result(NamedTuple):
    """Mean loss, and accuracy as a fraction."""

    loss: float
    accuracy: float


def evaluate(
    model: Module, examples: Examples | tuple[Any, Any], batch_size: int | None = None, threads: int | None = None
) -> Result:
    """Mean loss and accuracy (a fraction) of the model on held-out examples, as (loss, accuracy).

    examples    Examples, such as `split(data).test`, or a pair of arrays (images, labels)
    batch_size  examples at a time; None: more than in training if they are small, which saves a third of the time
    threads     to compute with; None: one per core

    Waits for the device once. Raises ValueError if there are no examples.
    """
    check_model(model)
    examples = examples_of(examples)
    tell_unscaled(examples.images)
    with threads_or_as_before(threads):
        return measure(model, examples, batch_size)


@same_bits
def measure(model: Module, examples: Examples, batch_size: int | None = None) -> Result:
    """Like `evaluate`, but without warnings, for a loop that calls it after each epoch."""
    if not len(examples):
        raise ValueError("there are no examples to evaluate on: val_fraction=0, or a Trainer's (x, y), leaves that "
                         "split empty")  # fmt: skip
    if batch_size is None:
        batch_size = max(128, PIXELS_AT_A_TIME // max(1, math.prod(examples.images.shape[1:])))
    xp = xp_of(examples.labels)
    loss_sum = correct = xp.zeros(())
    with evaluating(model), no_grad():
        for x, labels in batches(examples.images, examples.labels, batch_size, dtype=dtype_of(model)):
            logits = model(x)
            loss_sum = loss_sum + ops.cross_entropy(logits, labels).data.astype(np.float64) * len(labels)
            correct = correct + ops.count_right(logits, labels)
    mean_loss, accuracy = read_together(xp, [loss_sum / len(examples), correct / len(examples)])
    return Result(mean_loss, accuracy)


@same_bits
def predict(model: Module, images: Any, batch_size: int = 500, image_size: tuple[int, int] | None = None) -> Array:
    """The probability of each class, a NumPy array (N, classes), for images (N, H, W), (N, C, H, W) or one (H, W).

    model       from images to logits; evaluated in eval mode
    images      bytes (scaled by 1/255), or other numbers, scaled as in training; Examples are accepted too
    batch_size  images at a time
    image_size  (height, width) of the training images: other sizes, such as (H, W, RGB), give a warning

    `.argmax(1)` gives the most likely class of each image. Raises ValueError if the network's output is not
    (N, classes), and TypeError for anything but pixels, such as a file name.
    """
    check_model(model)
    given = images.images if isinstance(images, Examples) else plain_array(images)
    if given.dtype.kind in "OSUMmc" or (given.ndim < 2 and given.size):
        what = f"{given.dtype} of shape {given.shape}" if given.ndim else f"a {type(images).__name__}"
        raise TypeError(f"predict takes the pixels of images, (N, H, W), (N, C, H, W) or one (H, W), not {what}; read "
                        'an image file with np.asarray(PIL.Image.open(file).convert("L"))')  # fmt: skip
    given = given[None] if given.ndim == 2 else given
    if not len(given) and given.ndim > 2:  # none: the output for a blank one has the number of classes
        return predict(model, np.zeros((1, *given.shape[1:]), given.dtype))[:0]
    tell_unscaled(given)
    if image_size and len(given) and given.shape[-2:] != image_size:
        tell_other_size(given.shape[-2:], image_size)
    device = device_of(model)
    parts: list[Array] = []
    with evaluating(model), no_grad():
        for x, _ in batches(given, np.zeros(len(given), np.int64), batch_size, dtype=dtype_of(model)):
            logits = model(x.to(device))
            shape = getattr(logits, "shape", ())
            if len(shape) != 2 or len(logits) != len(x):
                gave = shape or type(logits).__name__
                raise ValueError(f"predict: the network gave {gave} for images {x.shape}, not (N, classes); "
                                 "for rows (N, F), net(x).softmax(1) gives probabilities")  # fmt: skip
            parts.append(ops.softmax(logits).numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def threads_or_as_before(n: int | None) -> AbstractContextManager[None]:
    """`use_threads(n)`; for None nothing changes."""
    return nullcontext() if n is None else use_threads(n)
