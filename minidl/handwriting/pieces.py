"""Which ink is one digit? Connected strokes, joined where they belong together, parted where they clearly do not.

A 5 may have its bar beside it and a 4 two strokes that do not meet: small pieces join their neighbour. Several digits
are found only where all are about as tall as each other and have paper between them; else the largest is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minidl.backend import Array
from minidl.handwriting.connected import label, spread_labels
from minidl.handwriting.filters import smoothed

MASK = 0.4  # of the darkest stroke: what counts as ink when pieces are made
PALE = 0.7  # of the darkest piece: what is paler everywhere is a shadow's edge or shows through from behind
SPECK = 0.12  # of the tallest piece: smaller ones are dust
TALL = 0.55  # of the tallest digit: pieces of less are no digit by themselves
GAP = 0.1  # of the tallest digit: so much paper between two


@dataclass
class Piece:
    """Ink that belongs together: its box, rows top to bottom and columns left to right, ends left out; its labels."""

    top: int
    bottom: int
    left: int
    right: int
    labels: list[int]

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
    pieces = pieces_of(labels)
    darkest = np.zeros(len(pieces) + 1, np.float32)
    np.maximum.at(darkest, labels, smoothed(strength))
    pieces = [piece for piece in pieces if darkest[piece.labels[0]] > PALE * darkest.max()]
    return [(digit, own_ink(strength, labels, digit)) for digit in split(pieces, strength.shape)]


def own_ink(strength: Array, labels: Array, digit: Piece) -> Array:
    """The ink of a digit with its soft edge; nothing of its neighbours, nor of the paper around."""
    edge = max(2, max(digit.height, digit.width) // 20)
    rows = slice(max(0, digit.top - edge), digit.bottom + edge)
    columns = slice(max(0, digit.left - edge), digit.right + edge)
    near = spread_labels(labels[rows, columns], edge)
    return np.where(np.isin(near, digit.labels), strength[rows, columns], 0)


def split(pieces: list[Piece], shape: tuple[int, ...]) -> list[Piece]:
    """The pieces joined into digits: several where that is clear, else the largest."""
    pieces = without_dirt(pieces, shape)
    if not pieces:
        return []
    tallest = max(max(p.height, p.width) for p in pieces)
    digits = join(pieces, tallest)
    if is_clear(digits):
        return in_reading_order(digits)
    return [max(digits, key=lambda d: d.height * d.width)]


def without_dirt(pieces: list[Piece], shape: tuple[int, ...]) -> list[Piece]:
    """Without specks, and without the desk beside the paper: what runs along a side when there is ink that does not."""
    height, width = shape
    free = [p for p in pieces if p.top > 0 and p.left > 0 and p.bottom < height and p.right < width]
    if free and max(p.height for p in free) > 0.1 * min(shape):
        pieces = [p for p in pieces if p in free or (p.height < 0.6 * height and p.width < 0.6 * width)]
    tallest = max((max(p.height, p.width) for p in pieces), default=0)
    return [p for p in pieces if max(p.height, p.width) >= SPECK * tallest]


def join(pieces: list[Piece], tallest: int) -> list[Piece]:
    """Join what touches, overlaps from above, or is too small to be a digit and near one."""
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
    """How much paper is between two boxes, across or down, whichever is more; 0 where they overlap."""
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
