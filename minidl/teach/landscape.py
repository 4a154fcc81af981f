"""A loss of two weights is a landscape, and an optimizer's path through it can be drawn.

`descend` runs an optimizer; `paths` draws such walks over the contour lines. They are the same optimizers that train
the networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import FigureBase

from minidl.backend import Array
from minidl.optim import Optimizer
from minidl.teach.show import COLOURS, Save, drawing
from minidl.tensor import Tensor

Loss = Callable[[Tensor], Tensor]  # from w (2,) to a scalar


def ravine(w: Tensor) -> Tensor:
    """(x^2 + 25 y^2) / 2: a long valley, 25 times as steep across as along. Its lowest point is (0, 0)."""
    return (w[0] ** 2.0 + 25.0 * w[1] ** 2.0) / 2.0


def descend(loss: Loss, make: Callable[[list[Tensor]], Optimizer], start: Sequence[float], steps: int) -> Array:
    """Run an optimizer; returns the weights before the first step and after each, (steps + 1, 2).

    make  builds the optimizer from the list of parameters: lambda p: SGD(p, lr=0.1)
    """
    w = Tensor(np.array(start, dtype=np.float64), requires_grad=True)
    optimizer = make([w])
    path = [w.numpy().copy()]
    for _ in range(steps):
        optimizer.zero_grad()
        loss(w).backward()
        optimizer.step()
        path.append(w.numpy().copy())
    return np.array(path)


def paths(
    loss: Loss,
    walks: Mapping[str, Array],
    x: tuple[float, float] = (-2.5, 2.5),
    y: tuple[float, float] = (-1.2, 1.2),
    columns: int = 2,
    figure: FigureBase | None = None,
    save: Save = None,
) -> FigureBase:
    """Draw each walk (n, 2) over the contour lines of the loss, one panel each, limited to the ranges x and y.

    A star marks the lowest point shown. Returns the figure; `figure` and `save` as in show.py.
    """
    rows = -(-len(walks) // columns)
    with drawing(figure, (4.6 * columns, 2.6 * rows), save) as target:
        grid = target.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
        xs, ys = np.linspace(*x, 120), np.linspace(*y, 80)
        heights = np.array([[float(loss(Tensor(np.array([a, b])))) for a in xs] for b in ys])
        levels = np.geomspace(heights.min() + 0.01 * np.ptp(heights), heights.max(), 12)
        row, column = np.unravel_index(heights.argmin(), heights.shape)
        for axes, (name, walk), colour in zip(grid, walks.items(), COLOURS * len(walks), strict=False):
            axes.contour(xs, ys, heights, levels=levels, colors="#bbbbbb", linewidths=0.8)
            axes.plot(*np.asarray(walk).T, "o-", color=colour, ms=3, lw=1.2)
            axes.plot(xs[column], ys[row], "*", color="black", ms=9)
            axes.set(xlim=x, ylim=y, title=name)
        for axes in list(grid)[len(walks) :]:
            axes.set_axis_off()
    return target
