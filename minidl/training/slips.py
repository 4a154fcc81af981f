"""Mistakes with which training runs silently but learns nothing: checked once, when a Trainer is made.

What can't be intended is an error; what may be intended is a warning, with the numbers found.
"""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import numpy as np

from minidl.backend import Array, to_numpy
from minidl.data.splits import Splits
from minidl.init import crc_of
from minidl.module import BRIGHT, Module
from minidl.optim import Hybrid, Optimizer
from minidl.optim.grammar import unknown
from minidl.optim.switch_text import METRICS
from minidl.refuse import to_images, to_labels
from minidl.rng import CounterRng
from minidl.telling import tell
from minidl.tensor import Tensor

LOOK = 1000  # number of images checked, spread over all of them
MOVED_ON = (
    "this Trainer was moved on between two steps, by another fit, steps(), finish_epoch() or load_state(), and would "
    "see some of the epoch's examples twice and others never: take the next steps from a new steps(), and in an "
    "observer none"
)


def check_settings(model: Any, optimizer: Any, batch_size: Any, seed: Any, threads: Any) -> None:
    """Raise TypeError or ValueError for a Trainer's arguments of a wrong type, value or order."""
    check_model(model)
    if isinstance(optimizer, type):
        raise TypeError(f"the optimizer is the class {optimizer.__name__} itself: write "
                        f"{optimizer.__name__}(net.parameters())")  # fmt: skip
    if not isinstance(optimizer, Optimizer):
        what = f"a {type(optimizer).__name__}"
        raise TypeError(f"the optimizer must be one of minidl.optim, such as Adam(net.parameters()), not {what}")
    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("threads", threads, 1)):
        if value is None and name == "threads":
            continue
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            got = "an array: images and labels are one argument, (x, y)" if hasattr(value, "shape") else repr(value)
            raise ValueError(f"{name} must be a whole number, {least} or more, got {got}")


def check_model(model: Any) -> None:
    """Raise TypeError for a model that is not a Module, such as a Trainer or a run, which has one."""
    if isinstance(model, type) and issubclass(model, Module):
        raise TypeError(f"the model is the class {model.__name__} itself: write {model.__name__}()")
    if not isinstance(model, Module):
        held = ": give its .model" if isinstance(getattr(model, "model", None), Module) else ""
        raise TypeError(f"the model must be a Module of minidl.nn, not a {type(model).__name__}{held}")


def tell_slips(model: Module, optimizer: Optimizer, splits: Splits) -> None:
    """Check for all of them. Raises ValueError or TypeError for what can't be intended."""
    check_parameters(model, optimizer)
    check_metrics(optimizer, splits)
    check_labels(splits)
    tell_unscaled(splits.train.images)
    tell_dim(splits.train.images)
    tell_by_chance(model)


# ---- the optimizer ----


def check_parameters(model: Module, optimizer: Optimizer) -> None:
    """Check that the optimizer's parameters are the model's."""
    if optimizer.flat is None:
        raise ValueError("the optimizer has no parameters: write Adam(net.parameters()), with those of this model")
    own = {id(p) for p in model.parameters()}
    foreign = [p for p in optimizer.flat.params if id(p) not in own]
    if len(foreign) == len(optimizer.flat.params):
        raise ValueError(
            f"the optimizer has another model's parameters: none of its {len(foreign)} are of this "
            f"{type(model).__name__}. Make a new one with this model's parameters()"
        )
    if foreign:
        optimizer.flat.tell_once(
            "foreign",
            f"{len(foreign)} of the optimizer's {len(optimizer.flat.params)} parameters are not of this "
            f"{type(model).__name__}: are they of another model, or of a layer that was replaced? Make a new optimizer "
            "with this model's parameters()",
        )


def check_metrics(optimizer: Optimizer, splits: Splits) -> None:
    """Check that a switch condition uses metrics that a Trainer reports."""
    if not isinstance(optimizer, Hybrid):
        return
    for metric in optimizer.switch.metrics:
        if metric not in METRICS:
            raise ValueError(f"switch {optimizer.switch}: {unknown('metric', metric, METRICS)}")
        if metric.startswith("val_") and not len(splits.val):
            raise ValueError(
                f"switch {optimizer.switch} uses {metric}, but there are no validation examples: choose "
                "another condition, or split(data, val_fraction=0.1)"
            )


def tell_resting(step: int) -> bool:
    """Warn that eval() was called between two steps, without train(). Returns False, the network's training mode."""
    tell(f"after step {step} the network is in evaluation mode, and stays in it until the epoch ends: after "
         "net.eval(), in an observer for example, call net.train()")  # fmt: skip
    return False


# ---- the data ----


def check_labels(splits: Splits) -> None:
    """Check that there are training examples, and that all examples are images with labels as the Splits say."""
    if not len(splits.train):
        raise ValueError("there are no training examples")
    for images, labels in splits:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels")
        if not len(images):
            continue
        if images.ndim not in (3, 4):
            raise ValueError(
                f"images must be (N, H, W) or (N, C, H, W), these are {images.shape}: {to_images(images.shape)}"
            )
        if labels.dtype.kind not in "iu":
            raise ValueError(f"labels must be whole numbers, these are {labels.dtype}: {to_labels(labels)}")
        if isinstance(labels, np.ndarray) and (largest := int(labels.max())) >= splits.classes:  # no wait for a GPU
            raise ValueError(
                f"a label is {largest}, but these Splits have {splits.classes} classes: labels count from 0 to "
                f"{splits.classes - 1}"
            )
    if (size := splits.train.images.shape[-2:]) != splits.image_size:
        given = "x".join(map(str, splits.image_size))
        raise ValueError(
            f"these Splits are of images {given}, (height, width), but the images are {size[0]}x{size[1]}: give "
            "x.shape[-2:]; channels-last images become (N, C, H, W) by x.transpose(0, 3, 1, 2)"
        )


def tell_unscaled(images: Array) -> None:
    """Warn about unscaled pixels from 0 to 255. Bytes are scaled by `batches`; standardized pixels go below 0."""
    if images.dtype.name == "uint8" or not images.size:
        return
    low, high = _range(images)
    if high > BRIGHT and (low >= 0 or images.dtype.kind == "i"):  # integers were never standardized
        white = f"{high:g}" if 255 < high < math.inf else "255"
        give = "give bytes (uint8), which are divided by 255, or " if white == "255" else ""
        tell(f"the images range from {low:g} to {high:g} ({images.dtype}) and are not scaled: {give}divide them "
             f"yourself, x / {white}")  # fmt: skip


def tell_dim(images: Array) -> None:
    """Warn about bytes from 0 to 1, such as black and white images, which `batches` divides by 255 all the same. Not on
    a GPU, where looking would wait for the device."""
    if images.dtype.name != "uint8" or not images.size or not isinstance(images, np.ndarray):
        return
    if 0 < (high := _range(images)[1]) <= BRIGHT:
        tell(f"the images are bytes up to {high:g}, and bytes are divided by 255, so they are almost black: if {high:g}"
             " is white, give x.astype(np.float32), which is not scaled")  # fmt: skip


def _range(images: Array) -> tuple[float, float]:
    """The smallest and the largest pixel of some images, spread over all of them."""
    some = to_numpy(images[:: max(1, len(images) // LOOK)])
    return float(some.min()), float(some.max())


def tell_other_size(size: Any, learned: tuple[int, int]) -> None:
    """Warn about images of another height and width than those that a network was trained on."""
    tell(f"predict takes these for images of {size[0]}x{size[1]}, the network was trained on {learned[0]}x{learned[1]}:"
         ' for a colour picture give np.asarray(picture.convert("L")), for channels-last images '
         f"x.transpose(0, 3, 1, 2), for rows of pixels x.reshape(-1, {learned[0]}, {learned[1]})")  # fmt: skip


# ---- the weights ----


def tell_by_chance(model: Module) -> None:
    """Warn about weights or dropout masks drawn without a seed, except weights that were loaded or edited since."""
    drawn = []
    for path, module in model.named_modules():
        known, weight = getattr(module, "by_chance", None), getattr(module, "weight", None)
        weights = known is not None and isinstance(weight, Tensor) and crc_of(weight) == known
        masks = any(isinstance(value, CounterRng) and value.by_chance for value in vars(module).values())
        if weights or masks:
            drawn.append(path or type(module).__name__)
    if drawn:
        some = "layer " * drawn[0].isdigit() + ", ".join(drawn[:4]) + (", ..." if len(drawn) > 4 else "")
        tell(
            f"the random numbers of {some} were drawn without a seed, so this run is not reproducible: make the "
            f"network inside `with minidl.seed(0):`, or give each layer an rng"
        )
