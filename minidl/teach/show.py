"""Figures for a lesson or a program: digits with a model's predictions, arrays with their values, curves, a step's
geometry.

Each function returns its matplotlib figure, and shows it: in a notebook inline, in a program in a window if there is a
screen. `save="digits.png"` writes it to a file. Pass a `figure` or subfigure of your own to draw there instead, for a
figure of several parts. A lesson run as a script saves its figures in the folder pictures/ where it was started, and
prints their paths.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import FigureBase

from minidl.backend import Array
from minidl.teach.colours import BLUE, CYAN, GREEN, PURPLE, RED, YELLOW
from minidl.teach.where import shown

COLOURS = [BLUE, RED, GREEN, PURPLE, YELLOW, CYAN, "#777777"]
RIGHT, WRONG = GREEN, "#cc3311"
Save = str | os.PathLike[str] | None


@contextmanager
def drawing(figure: FigureBase | None, size: tuple[float, float], save: Save = None) -> Iterator[FigureBase]:
    """The figure to draw in: yours, or a new one that is shown at the block's end; saved if `save` names a file."""
    if figure is not None:
        yield figure
        if save is not None:
            figure.savefig(save)  # type: ignore[attr-defined]
        return
    import matplotlib.pyplot as plt  # only here: drawing into a figure of yours needs no window

    new = plt.figure(figsize=size, dpi=100, layout="constrained")
    try:
        yield new
        shown(new, save)
    finally:
        plt.close(new)


def digits(
    images: Array | Sequence[Array],
    labels: Sequence[Any] | Array | None = None,
    predictions: Sequence[Any] | Array | None = None,
    columns: int = 10,
    signed: bool = False,
    figure: FigureBase | None = None,
    save: Save = None,
) -> FigureBase:
    """Images (N, H, W) or (N, 1, H, W) in a grid. Raises ValueError for a number of labels that is not theirs.

    labels       a word or number above each
    predictions  a model's; green if it is the label, else red, with the label next to it
    signed       for values around 0, such as weights or gradients: negative ones blue, positive ones red
    """
    if np.shape(images)[1:] == (784,):
        raise ValueError("rows of 784 pixels are no pictures: show.digits(images.reshape(-1, 28, 28))")
    images = np.asarray(images).reshape(-1, *np.shape(images)[-2:])
    _same_number(images, labels=labels, predictions=predictions)
    columns = min(columns, max(1, len(images)))
    rows = max(1, math.ceil(len(images) / columns))
    cell = 0.95 if columns > 5 else 1.5  # inches
    titled = 0.25 if labels is not None or predictions is not None else 0.0
    with drawing(figure, (cell * columns, (cell + titled) * rows), save) as target:
        for i, axes in enumerate(target.subplots(rows, columns, squeeze=False).flat):
            axes.set_axis_off()
            if i < len(images):
                _image(axes, images[i], signed)
                text, colour = _title(i, labels, predictions)
                axes.set_title(text, color=colour, fontsize=9, pad=2)
            elif not len(images):
                axes.set_title("none", fontsize=9, pad=2)
    return target


def numbers(
    array: Array, decimals: int = 0, signed: bool = False, figure: FigureBase | None = None, save: Save = None
) -> FigureBase:
    """A small array (H, W) as an image with each value, to so many decimals, in its cell; `signed` as in `digits`."""
    array = np.atleast_2d(array)
    cell = min(0.42, 9.5 / array.shape[1])  # inches
    with drawing(figure, (cell * array.shape[1] + 0.2, cell * array.shape[0] + 0.2), save) as target:
        axes = target.subplots()
        axes.set_axis_off()
        _image(axes, array, signed)
        low, high = axes.images[0].get_clim()
        for (i, j), value in np.ndenumerate(array):
            dark = abs(value) > 0.6 * high if signed else value < (low + high) / 2
            colour, size = "white" if dark else "black", 19 * cell
            axes.text(j, i, f"{value:.{decimals}f}", ha="center", va="center", fontsize=size, color=colour)
    return target


def curves(
    lines: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    xlabel: str = "step",
    ylabel: str = "loss",
    log: bool = False,
    marks: Mapping[str, float] | None = None,
    ylim: tuple[float, float] | None = None,
    figure: FigureBase | None = None,
    save: Save = None,
) -> FigureBase:
    """Draw lines over a common axis: {"training": losses}, or {"validation": (steps, losses)}.

    Given a run's record instead, trainer.metrics or what `fit` returned, it draws loss and accuracy by epoch. Epochs
    count from 1; an axis of epochs or steps has whole numbers only.

    log    a logarithmic vertical axis
    marks  vertical dashed lines, by name: {"switch": 120}
    ylim   the range of the vertical axis, if a few outliers would flatten the rest
    """
    if not isinstance(lines, Mapping):
        if not isinstance(lines, Sequence) or not all(isinstance(each, Mapping) for each in lines):
            raise TypeError('curves takes lines with names, {"loss": losses}, or trainer.metrics')
        return _record(lines, figure, save)
    first = 1 if xlabel.startswith("epoch") else 0
    with drawing(figure, (7.2, 3.4), save) as target:
        axes = target.subplots()
        for colour, (name, line) in zip(COLOURS * len(lines), lines.items(), strict=False):
            x, y = line if isinstance(line, tuple) else (range(first, first + len(line)), line)
            axes.plot(x, y, color=colour, label=name, lw=1.5, marker="o" if len(x) < 30 else None, ms=3.5)
        for name, place in (marks or {}).items():
            axes.axvline(place, color="black", ls="--", lw=1, label=name)
        axes.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear", ylim=ylim)
        _whole(axes, xlabel)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9, ncols=math.ceil(len(axes.lines) / 10) or 1)
    return target


def bars(
    groups: Mapping[str, Mapping[str, float]],
    ylabel: str = "accuracy",
    figure: FigureBase | None = None,
    save: Save = None,
) -> FigureBase:
    """Draw bars side by side: {"sgd": {"training": 1.0, "unseen": 0.9}, "adam": {...}}. A missing value has no bar."""
    with drawing(figure, (7.2, 3.2), save) as target:
        axes = target.subplots()
        names = list(dict.fromkeys(name for group in groups.values() for name in group))
        width = 0.8 / len(names)
        for k, (name, colour) in enumerate(zip(names, COLOURS * len(names), strict=False)):
            places = np.arange(len(groups)) + (k - (len(names) - 1) / 2) * width
            heights = [group.get(name, math.nan) for group in groups.values()]
            drawn = axes.bar(places, heights, width * 0.92, color=colour, label=name)
            axes.bar_label(drawn, fmt="%.3g", fontsize=8, padding=2)
        axes.set_xticks(range(len(groups)), list(groups))
        axes.set_ylabel(ylabel)
        axes.margins(y=0.15)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return target


def dots(
    groups: Mapping[str, Any], xlabel: str = "accuracy", figure: FigureBase | None = None, save: Save = None
) -> FigureBase:
    """A row of dots for each name, one dot per value, with a bar at their mean: {"adam": [0.97, 0.98], ...}.

    If there are values on both sides of 0, a dotted line marks 0.
    """
    with drawing(figure, (7.2, 0.42 * len(groups) + 0.9), save) as target:
        axes = target.subplots()
        for row, (colour, values) in enumerate(zip(COLOURS * len(groups), groups.values(), strict=False)):
            axes.plot(values, np.full(len(values), row), "o", color=colour, ms=5, alpha=0.6)
            if len(values):
                axes.plot(np.mean(values), row, "|", color=colour, ms=20, mew=2.5)
        if axes.get_xlim()[0] < 0 < axes.get_xlim()[1]:
            axes.axvline(0, color="black", lw=1, ls=":")
        axes.set_yticks(range(len(groups)), list(groups))
        axes.invert_yaxis()
        axes.margins(y=0.15)
        axes.set_xlabel(xlabel)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return target


def projection(p: Array, g: Array, figure: FigureBase | None = None, save: Save = None) -> FigureBase:
    """The step p and the gradient g, in their common plane: how SWATS finds its learning rate (optim/projection.py).

    The dotted line is perpendicular to p. It meets the direction of -g at the SGD step -gamma g, whose projection on p
    is p itself. p and -gamma g are drawn to scale; -g is drawn as long as p.
    """
    p, g = np.asarray(p, dtype=np.float64).reshape(-1), np.asarray(g, dtype=np.float64).reshape(-1)
    length, norm = float(np.linalg.norm(p)), float(np.linalg.norm(g))
    if length == 0 or norm == 0:
        raise ValueError("projection: p and g must not be zero: a zero vector has no direction")
    cosine = float(-(p @ g) / (length * norm))
    sine = math.sqrt(max(0.0, 1 - cosine**2))
    gamma = float(p @ p) / -float(p @ g) if p @ g else math.inf
    ends = {"p, the step taken": (1.0, 0.0), "-g (same length as p)": (cosine, sine)}
    if math.isfinite(gamma) and 0 < gamma * norm / length < 8:
        ends["-gamma g, the SGD step"] = (1.0, sine / cosine)
    with drawing(figure, (5.6, 3.8), save) as target:
        axes = target.subplots()
        for (name, (x, y)), colour, width in zip(ends.items(), COLOURS, (3.5, 5.0, 1.5), strict=False):
            axes.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": width})
            axes.plot([], [], color=colour, lw=width, label=name)
        if "-gamma g, the SGD step" in ends:
            axes.plot([1, 1], [0, sine / cosine], ":", color="black", label="right angle on p")
        xs, ys = [0.0, *(x for x, _ in ends.values())], [0.0, *(y for _, y in ends.values())]
        axes.set(xlim=(min(xs) - 0.15, max(xs) + 0.15), ylim=(min(ys) - 0.2, max(ys) + 0.2), aspect="equal")
        angle = math.degrees(math.atan2(sine, cosine))
        told = f"angle between p and -g: {angle:.1f} degrees    gamma = {gamma:.4g}"
        target.suptitle(told, fontsize=10)  # the axes may be narrower
        axes.set_axis_off()
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return target


def mistakes(
    images: Array,
    labels: Array,
    probabilities: Array,
    n: int = 20,
    columns: int = 10,
    figure: FigureBase | None = None,
    save: Save = None,
) -> FigureBase:
    """A model's worst mistakes: the n misclassified images whose label got the lowest probability, the worst first.

    probabilities  (N, classes), as trainer.predict(images) gives them
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    _same_number(images, labels=labels, predictions=probabilities)
    given = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    worst = wrong[np.argsort(given[wrong], kind="stable")][:n]
    guesses = probabilities[worst].argmax(1)
    return digits(np.asarray(images)[worst], labels[worst], guesses, columns, figure=figure, save=save)


# ---- helpers ----


def _same_number(images: Any, **others: Any) -> None:
    for name, given in others.items():
        if given is not None and len(given) != len(images):
            raise ValueError(f"{len(images)} images but {len(given)} {name}: choose the same of both")


def _record(metrics: Sequence[Mapping[str, Any]], figure: FigureBase | None, save: Save) -> FigureBase:
    """Loss and accuracy by epoch, for training and, if there is any, for validation."""
    epochs = [r["epoch"] for r in metrics]
    with drawing(figure, (9.6, 3.4), save) as target:
        for axes, quantity in zip(target.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for part, colour, name in (("train", BLUE, "training"), ("val", RED, "validation")):
                values = [r[f"{part}_{quantity}"] for r in metrics]
                if None not in values:
                    axes.plot(epochs, values, "o-", color=colour, label=name, lw=1.5, ms=3.5)
            for before, after in pairwise(metrics):
                if before["phase"] != after["phase"]:
                    name = f"switch to {after['phase']}"
                    axes.axvline(before["epoch"], color="black", ls="--", lw=1, label=name)
            axes.set(xlabel="epoch", ylabel=quantity)
            _whole(axes, "epoch")
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize=9)
    return target


def _whole(axes: Any, xlabel: str) -> None:
    """Ticks at whole epochs or steps, never at 1.25."""
    if xlabel.startswith(("epoch", "step")):
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _image(axes: Any, image: Array, signed: bool) -> None:
    """Black is 0, or the lowest value if that is negative; values that are not finite do not affect the scale."""
    finite = image[np.isfinite(image)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if signed:
        limit = max(-low, high) or 1.0
        axes.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
    else:
        axes.imshow(image, cmap="gray", vmin=min(low, 0.0), vmax=max(high, 1e-12))


def _title(i: int, labels: Any, predictions: Any) -> tuple[str, str]:
    label = None if labels is None else labels[i]
    if predictions is None:
        return ("" if label is None else str(label)), "black"
    if label is None:
        return str(predictions[i]), "black"
    right = predictions[i] == label
    return (f"{label}", RIGHT) if right else (f"{predictions[i]} not {label}", WRONG)
