"""Which ink is one digit? Connected strokes, joined where they belong together, separated where they clearly do not.

A 5 may have a detached bar and a 4 two strokes that do not meet: small pieces join their neighbour. Several digits are
found only where all are about equally tall and have paper between them; otherwise the one with the largest stroke is
used: a row of rings or letters is larger than a 1, but each of them is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from minidl.backend import Array
from minidl.handwriting.connected import label, spread_labels
from minidl.handwriting.filters import smoothed

MASK = 0.4  # of the darkest stroke: what counts as ink when pieces are made
PALE = 0.7  # of the darkest piece: what is paler everywhere is a shadow's edge or shows through from behind
SPECK = 0.12  # of the tallest piece: smaller ones are dust
TALL = 0.55  # of the tallest digit: shorter pieces are not digits by themselves
FRAMED = 0.3  # of a box around it: the minimum height of a digit in it; less may be dust in a 0
GAP = 0.1  # of the tallest digit: the minimum of paper between two
FLAT = 5  # times as wide as tall: a line, if it is under a digit
BROAD = 0.7  # of the height of that digit: the minimum width of the line; a shorter one may be the foot of a 1


@dataclass
class Piece:
    """Ink that belongs together: its box, rows top to bottom and columns left to right, ends exclusive; its labels.

    others  how many others were left out, where only the one with the largest stroke is read
    """

    top: int
    bottom: int
    left: int
    right: int
    labels: list[int]
    others: int = 0

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def joined(self, other: Piece) -> Piece:
        return Piece(
            min(self.top, other.top), max(self.bottom, other.bottom), min(self.left, other.left),
            max(self.right, other.right), self.labels + other.labels,
        )  # fmt: skip


def find_digits(strength: Array) -> list[tuple[Piece, Array]]:
    """The digits in this ink (H, W), line by line, left to right: the box of each, and its own ink, a little wider."""
    labels = label(strength > MASK)
    digits = split(dark_pieces(strength, labels), labels)
    return [(digit, own_ink(strength, labels, digit)) for digit in digits]


def dark_pieces(strength: Array, labels: Array) -> list[Piece]:
    """The connected pieces that are not pale everywhere."""
    pieces = pieces_of(labels)
    darkest = np.zeros(len(pieces) + 1, np.float32)
    np.maximum.at(darkest, labels.ravel(), smoothed(strength).ravel())
    return [piece for piece in pieces if darkest[piece.labels[0]] > PALE * darkest.max()]


def without_frames(strength: Array) -> Array:
    """Ink without a box, a table or a circle around a digit: a piece with ink on all four sides of another piece."""
    labels = label(strength > MASK)
    pieces = dark_pieces(strength, labels)

    def is_frame(outer: Piece) -> bool:
        return any(_encloses(outer, inner, labels) for inner in pieces if inner.height >= FRAMED * outer.height)

    frames = [piece.labels[0] for piece in pieces if is_frame(piece)]
    if not frames:
        return strength
    near = spread_labels(np.where(np.isin(labels, frames), labels, 0), max(2, max(labels.shape) // 200))
    return np.where((near > 0) & ~((labels > 0) & ~np.isin(labels, frames)), 0, strength)


def _encloses(outer: Piece, inner: Piece, labels: Array) -> bool:
    if not (outer.top < inner.top and outer.bottom > inner.bottom and outer.left < inner.left
            and outer.right > inner.right):  # fmt: skip
        return False
    y, x = (inner.top + inner.bottom) // 2, (inner.left + inner.right) // 2
    row, column = labels[y] == outer.labels[0], labels[:, x] == outer.labels[0]
    sides = (row[: inner.left], row[inner.right :], column[: inner.top], column[inner.bottom :])
    return all(side.any() for side in sides)


def own_ink(strength: Array, labels: Array, digit: Piece) -> Array:
    """The ink of a digit with its soft edge; nothing of its neighbours, nor of the paper around."""
    edge = max(2, max(digit.height, digit.width) // 20)
    rows = slice(max(0, digit.top - edge), digit.bottom + edge)
    columns = slice(max(0, digit.left - edge), digit.right + edge)
    near = spread_labels(labels[rows, columns], edge)
    return np.where(np.isin(near, digit.labels), strength[rows, columns], 0)


def split(pieces: list[Piece], labels: Array) -> list[Piece]:
    """The pieces joined into digits: several where that is clear, else the one with the largest stroke."""
    pieces = without_underlines(without_dirt(pieces, labels))
    if not pieces:
        return []
    tallest = max(max(p.height, p.width) for p in pieces)
    digits = join(pieces, tallest)
    if is_clear(digits):
        return in_reading_order(digits)
    area = {label: p.height * p.width for p in pieces for label in p.labels}
    largest = max(digits, key=lambda d: max(area[label] for label in d.labels))
    return [replace(largest, others=len(digits) - 1)]


def without_dirt(pieces: list[Piece], labels: Array) -> list[Piece]:
    """Without specks, and without the desk beside the paper: what runs along a side when other ink does not."""
    free = [p for p in pieces if not _sides(p, labels)]
    tallest_free = max(free, key=lambda p: p.height, default=None)
    if tallest_free is not None and tallest_free.height > 0.1 * min(labels.shape):
        pieces = [p for p in pieces if p in free or not _is_desk(p, labels, tallest_free)]
    tallest = max((max(p.height, p.width) for p in pieces), default=0)
    return [p for p in pieces if max(p.height, p.width) >= SPECK * tallest]


def without_underlines(pieces: list[Piece]) -> list[Piece]:
    """Without the lines drawn under digits: no digit has so broad and flat a stroke below all of its other ink."""

    def is_under(line: Piece, p: Piece) -> bool:
        below = p.bottom <= line.top and p.left < line.right and line.left < p.right
        return below and line.width > max(p.width, BROAD * p.height)

    return [p for p in pieces if p.width < FLAT * p.height or not any(is_under(p, other) for other in pieces)]


def _is_desk(piece: Piece, labels: Array, free: Piece) -> bool:
    """Whether what touches a side of the picture is no digit; `free` is the tallest that touches none."""
    (height, width), sides, tall = labels.shape, _sides(piece, labels), free.height
    covered, along = sum(n for n, _ in sides.values()), sum(m for _, m in sides.values())
    if covered > 0.8 * along or _encloses(piece, free, labels):  # a digit touches a side with a curve
        return True
    if len(sides) > 2 or tall > 0.6 * height:  # the picture was cropped close to the writing
        return False
    in_corner = len(set(sides) & {"top", "bottom"}) == len(set(sides) & {"left", "right"}) == 1
    return in_corner or piece.height >= 0.6 * height or piece.width >= 0.6 * width or TALL * piece.height > tall


def _sides(piece: Piece, labels: Array) -> dict[str, tuple[int, int]]:
    """The sides of the picture that a piece touches: with how many pixels, out of its length there."""
    own = labels[piece.top : piece.bottom, piece.left : piece.right] == piece.labels[0]
    at = {"top": piece.top == 0, "bottom": piece.bottom == labels.shape[0],
          "left": piece.left == 0, "right": piece.right == labels.shape[1]}  # fmt: skip
    lines = {"top": own[0], "bottom": own[-1], "left": own[:, 0], "right": own[:, -1]}
    return {side: (int(lines[side].sum()), len(lines[side])) for side, touches in at.items() if touches}


def join(pieces: list[Piece], tallest: int) -> list[Piece]:
    """Join pieces that touch, overlap from above, or are too small to be a digit and near one."""
    digits: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: -p.height):
        best = min(digits, key=lambda d: distance(d, piece), default=None)
        if best is not None and belongs(piece, best, tallest):
            digits[digits.index(best)] = best.joined(piece)
        else:
            digits.append(piece)
    return digits


def belongs(piece: Piece, digit: Piece, tallest: int) -> bool:
    """Whether a piece is a part of the digit beside it."""
    small = piece.height < TALL * tallest
    return distance(digit, piece) < (0.4 if small else GAP) * tallest


def distance(a: Piece, b: Piece) -> float:
    """The gap between two boxes, across or down, whichever is larger; 0 where they overlap."""
    across = max(a.left, b.left) - min(a.right, b.right)
    down = max(a.top, b.top) - min(a.bottom, b.bottom)
    return float(max(across, down, 0))


def is_clear(digits: list[Piece]) -> bool:
    """Whether these are digits beyond doubt: all of about one height."""
    tallest = max(d.height for d in digits)
    return all(d.height >= TALL * tallest for d in digits)


def in_reading_order(digits: list[Piece]) -> list[Piece]:
    """Line by line, each from left to right."""
    lines: list[list[Piece]] = []
    for digit in sorted(digits, key=lambda d: d.top + d.bottom):
        middle = (digit.top + digit.bottom) / 2
        if lines and middle < max(d.bottom for d in lines[-1]):
            lines[-1].append(digit)
        else:
            lines.append([digit])
    return [digit for line in lines for digit in sorted(line, key=lambda d: d.left)]


def pieces_of(labels: Array) -> list[Piece]:
    """The box of each label."""
    rows, columns = np.nonzero(labels)
    numbers = labels[rows, columns]
    n = int(labels.max(initial=0)) + 1
    low, high = np.full((2, n), 1 << 30), np.zeros((2, n), int)
    for axis, places in enumerate((rows, columns)):
        np.minimum.at(low[axis], numbers, places)
        np.maximum.at(high[axis], numbers, places + 1)
    return [Piece(int(low[0, i]), int(high[0, i]), int(low[1, i]), int(high[1, i]), [i]) for i in range(1, n)]
