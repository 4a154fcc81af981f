"""What the network saw, as a PNG: the file, the image made from it, and the probabilities."""

from __future__ import annotations

import os
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minidl.backend import Array
from minidl.data.atomic import atomic_file
from minidl.data.outputs import picture_mark
from minidl.handwriting.look import Seen

MOST = 24  # the most rows for one PNG
LONGEST = 22  # letters of a class's name


def show(path: str | os.PathLike[str], rows: Sequence[tuple[Seen, Array]], names: Sequence[str] = ()) -> None:
    """Write a PNG with a row for each image: what it was cropped from, what the network saw, and its probabilities.

    names  of the classes; if empty, their numbers are shown
    """
    height = 2.6 * len(rows)  # inches; fixed margins, because computing them is slow with many rows
    figure = Figure(figsize=(8.4, height), dpi=100)
    margins = {"left": 0.02, "right": 0.96, "top": 1 - 0.35 / height, "bottom": 0.35 / height}
    names = [name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..." for name in names]
    room = 0.25 + 0.07 * max(map(len, names), default=1)  # inches, for the names before the bars
    spaces = {"hspace": 0.35, "wspace": 3 * room / (0.94 * 8.4 - 2 * room), "width_ratios": [1.2, 1, 1.3]}
    grid = figure.subplots(len(rows), 3, squeeze=False, gridspec_kw=margins | spaces)
    for (picture, pixels, bars), (image, chances) in zip(grid, rows, strict=True):
        _picture(picture, image)
        pixels.imshow(image.pixels, cmap="gray", vmin=0, vmax=1)
        pixels.set_title(f"what the network saw: {image.pixels.shape[0]}x{image.pixels.shape[1]}", fontsize=9)
        pixels.set_axis_off()
        _bars(bars, chances, names)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", metadata=picture_mark("predict"))


def _picture(axes: Axes, image: Seen) -> None:
    axes.set_axis_off()
    name = os.path.basename(image.name)
    axes.set_title(name if len(name) <= 34 else f"...{name[-31:]}", fontsize=9, parse_math=False)
    if image.picture is None:
        axes.text(0.5, 0.5, "from an IDX file,\nas is", ha="center", va="center", transform=axes.transAxes)
        return
    axes.imshow(image.picture, cmap="gray", vmin=0, vmax=1)
    if image.box:
        top, bottom, left, right = image.box
        size = max(2.0, max(image.picture.shape) / 100)
        place = (left - size, top - size)
        frame = Rectangle(place, right - left + 2 * size, bottom - top + 2 * size, fill=False, color="#ee6677")
        axes.add_patch(frame)


def _bars(axes: Axes, chances: Array, names: Sequence[str]) -> None:
    """The probability of each class; if there are many, of the ten most likely."""
    classes = sorted(chances.argsort()[::-1][:10].tolist())
    best = int(chances.argmax())
    called = [names[k] if k < len(names) else str(k) for k in range(len(chances))]
    places = range(len(classes))
    axes.barh(places, chances[classes], color=["#4477aa" if k == best else "#bbbbbb" for k in classes])
    axes.set_yticks(places, [called[k] for k in classes], parse_math=False, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"], fontsize=8)
    axes.set_title(f"{called[best]}, {chances[best]:.1%}", fontsize=9, parse_math=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
