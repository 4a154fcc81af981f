"""MNIST's digits as people hand them in: written on a sheet, photographed, cut out, on lined paper."""

from collections.abc import Callable

import numpy as np
from PIL import Image

Digit = np.ndarray  # uint8 (28, 28), light on dark
Rng = np.random.Generator


def enlarged(digit: Digit, side: int) -> np.ndarray:
    """The digit's ink, 0 to 1, as a square of that side with soft edges."""
    big = Image.fromarray(digit.astype(np.float32) / 255).resize((side, side), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(big), 0, 1)


def placed(ink: np.ndarray, shape: tuple[int, int], rng: Rng) -> np.ndarray:
    """Somewhere on a sheet of that shape."""
    sheet = np.zeros(shape, np.float32)
    (h, w), (height, width) = ink.shape, shape
    y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    sheet[y : y + h, x : x + w] = ink
    return sheet


def written(ink: np.ndarray, paper: float = 0.96, pen: float = 0.12) -> np.ndarray:
    """Brightness, of ink 0 to 1 on paper."""
    return paper - (paper - pen) * ink


def light(shape: tuple[int, int], rng: Rng, loss: float = 0.6) -> np.ndarray:
    """Light that falls off across the picture, in some direction, by that share."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    return 1 - loss * (along - along.min()) / np.ptp(along)


def closely(ink: np.ndarray) -> np.ndarray:
    """Nothing but the box of the ink."""
    rows, columns = np.flatnonzero((ink > 0.02).any(1)), np.flatnonzero((ink > 0.02).any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


SHEET = (800, 600)


def on_sheet(digit: Digit, rng: Rng) -> np.ndarray:
    return written(placed(enlarged(digit, int(rng.integers(200, 420))), SHEET, rng))


def uneven(digit: Digit, rng: Rng) -> np.ndarray:
    return on_sheet(digit, rng) * light(SHEET, rng)


def tight(digit: Digit, rng: Rng) -> np.ndarray:
    return written(closely(enlarged(digit, 280)))


def strip(digit: Digit, rng: Rng) -> np.ndarray:
    return written(placed(enlarged(digit, 240), (280, 600), rng))


def light_on_dark(digit: Digit, rng: Rng) -> np.ndarray:
    return written(placed(enlarged(digit, 300), SHEET, rng), paper=0.08, pen=0.95)


ASKED: dict[str, Callable[[Digit, Rng], np.ndarray]] = {
    "sheet": on_sheet, "uneven": uneven, "tight": tight, "strip": strip, "light on dark": light_on_dark,
}  # fmt: skip


def grey_and_noisy(digit: Digit, rng: Rng) -> np.ndarray:
    return written(placed(enlarged(digit, 300), SHEET, rng), 0.55, 0.3) + rng.normal(0, 0.02, SHEET)


def dim_and_noisy(digit: Digit, rng: Rng) -> np.ndarray:
    return uneven(digit, rng) + rng.normal(0, 0.04, SHEET)


def lined(digit: Digit, rng: Rng) -> np.ndarray:
    """Lines as dark as the pen."""
    sheet = on_sheet(digit, rng)
    for y in range(40, SHEET[0], 60):
        sheet[y : y + 3] = np.minimum(sheet[y : y + 3], 0.15)
    return sheet


def squared(digit: Digit, rng: Rng) -> np.ndarray:
    """Squared paper."""
    sheet = on_sheet(digit, rng)
    for start in range(20, max(SHEET), 40):
        sheet[start : start + 2] = np.minimum(sheet[start : start + 2], 0.6)
        sheet[:, start : start + 2] = np.minimum(sheet[:, start : start + 2], 0.6)
    return sheet


def half_in_shadow(digit: Digit, rng: Rng) -> np.ndarray:
    """A large picture, a soft-edged shadow over everything beyond a straight line."""
    shape = (2000, 1500)
    sheet = written(placed(enlarged(digit, 600), shape, rng), 0.85, 0.2)
    ramp = light(shape, rng, 1.0)
    return sheet * (0.55 + 0.45 * np.clip((ramp - 0.5) / 0.04, 0, 1)) + rng.normal(0, 0.02, shape)


def coloured(digit: Digit, rng: Rng) -> np.ndarray:
    """Red, blue, green, yellow or orange."""
    pens = [[0.85, 0.1, 0.1], [0.1, 0.2, 0.8], [0.1, 0.6, 0.2], [0.95, 0.85, 0.1], [0.95, 0.5, 0.1]]
    ink = placed(enlarged(digit, 300), SHEET, rng)[..., None]
    return 0.97 - (0.97 - np.array(pens[rng.integers(len(pens))])) * ink


def turned(digit: Digit, rng: Rng) -> np.ndarray:
    big = Image.fromarray(enlarged(digit, 400)).rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC)
    return written(placed(np.clip(np.asarray(big), 0, 1), SHEET, rng))


def thin_pen(digit: Digit, rng: Rng) -> np.ndarray:
    """The middle of the strokes, three pixels wide on a digit of some 230."""
    skeleton = thinned(enlarged(digit, 320) > 0.5).astype(np.float32)
    for axis in (0, 1):
        skeleton = np.maximum(np.maximum(np.roll(skeleton, 1, axis), np.roll(skeleton, -1, axis)), skeleton)
    return written(placed(skeleton, SHEET, rng), 0.95, 0.2)


def from_one_side(picture: np.ndarray, rng: Rng, amount: float = 0.05) -> np.ndarray:
    """A picture (H, W) seen in perspective and turned by up to three degrees, its own tone around it."""
    height, width = picture.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    seen = corners + rng.uniform(-amount, amount, (4, 2)) * [width, height]
    rows, wanted = [], []
    for (x, y), (u, v) in zip(seen, corners, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    how, around = np.linalg.solve(np.array(rows), np.array(wanted)), int(255 * np.median(picture))
    image = Image.fromarray(eight_bits(picture)).transform(
        (width, height), Image.Transform.PERSPECTIVE, how, Image.Resampling.BICUBIC, fillcolor=around
    )
    return np.asarray(image.rotate(rng.uniform(-3, 3), Image.Resampling.BICUBIC, fillcolor=around)) / 255


def rim(shape: tuple[int, int], loss: float = 0.35) -> np.ndarray:
    """Light that falls off to all sides, as behind a phone's lens."""
    y, x = (np.linspace(-1, 1, n) for n in shape)
    return 1 - loss * (y[:, None] ** 2 + x**2) / 2


def lined_from_one_side(digit: Digit, rng: Rng) -> np.ndarray:
    """Dark lines that are neither level nor quite parallel."""
    sheet = written(placed(enlarged(digit, int(rng.integers(220, 400))), SHEET, rng))
    for y in range(40, SHEET[0], int(rng.integers(40, 80))):
        sheet[y : y + 3] = np.minimum(sheet[y : y + 3], 0.35)
    return from_one_side(sheet, rng) * rim(SHEET) + rng.normal(0, 0.01, SHEET)


def squared_and_turned(digit: Digit, rng: Rng) -> np.ndarray:
    sheet = on_sheet(digit, rng)
    for start in range(7, max(SHEET), 45):
        sheet[start : start + 2] = np.minimum(sheet[start : start + 2], 0.45)
        sheet[:, start : start + 2] = np.minimum(sheet[:, start : start + 2], 0.45)
    return from_one_side(sheet, rng, 0.0) + rng.normal(0, 0.01, SHEET)


def on_a_dark_desk(digit: Digit, rng: Rng) -> np.ndarray:
    """A sheet with a noisy desk on two of its sides, one of them across a corner."""
    sheet = written(placed(enlarged(digit, 300), (600, 450), rng), 0.85, 0.2)
    picture = np.pad(sheet, ((150, 50), (100, 50)), constant_values=0.85)
    y, x = np.mgrid[: SHEET[0], : SHEET[1]]
    desk = (x + 0.3 * y < rng.uniform(60, 140)) | (y + 0.2 * x > SHEET[0] + rng.uniform(30, 80))
    return np.where(desk, 0.13 + rng.normal(0, 0.03, SHEET), picture) * rim(SHEET) + rng.normal(0, 0.02, SHEET)


def a_sheet_on_a_desk(digit: Digit, rng: Rng) -> np.ndarray:
    """All four edges of the sheet are seen, and the desk's grain around them."""
    sheet = written(placed(enlarged(digit, int(rng.integers(220, 340))), (580, 430), rng), 0.92, 0.15)
    grain = 0.35 + 0.05 * np.sin(np.arange(SHEET[1]) / rng.uniform(3, 8)) + rng.normal(0, 0.02, SHEET)
    grain[110:690, 85:515] = sheet
    return from_one_side(grain, rng, 0.04) * rim(SHEET) + rng.normal(0, 0.015, SHEET)


def in_a_box(digit: Digit, rng: Rng) -> np.ndarray:
    """In the printed box of a form."""
    sheet = np.full(SHEET, 0.95)
    top, left = rng.integers(20, 300), rng.integers(20, 180)
    sheet[top : top + 420, left : left + 360] = 0.15
    sheet[top + 4 : top + 416, left + 4 : left + 356] = written(
        placed(enlarged(digit, 300), (412, 352), rng), 0.95, 0.2
    )
    return sheet


def by_flash(digit: Digit, rng: Rng) -> np.ndarray:
    """Too bright in the middle, dark at the rim."""
    y, x = (np.linspace(-1, 1, n) for n in SHEET)
    bright = 0.3 + 0.75 * np.exp(-(y[:, None] ** 2 + x**2) / 0.7)
    return np.clip(written(placed(enlarged(digit, 300), SHEET, rng)) * bright, 0, 1) + rng.normal(0, 0.015, SHEET)


def underlined(digit: Digit, rng: Rng) -> np.ndarray:
    """With a line of the pen below it, not quite level, wider than the digit."""
    ink = np.pad(enlarged(digit, 250), ((60, 120), (60, 60)))
    bottom = np.flatnonzero(ink.max(1) > 0.1)[-1]
    for column in range(40, ink.shape[1] - 40):
        row = bottom + 20 + round(column * 0.04)
        ink[row : row + 9, column] = 1
    return written(ink)


def in_a_notebook(digit: Digit, rng: Rng) -> np.ndarray:
    """Rings of a spiral binding along the left side, and a printed line of small letters at the top."""
    sheet = placed(enlarged(digit, 250), (600, 500), rng)
    for row in range(20, 580, 40):
        sheet[row : row + 14, 8:38] = 1
    for column in range(60, 480, 24):
        sheet[20 : 20 + rng.integers(14, 24), column : column + 14] = 1
    return written(sheet)


HARDER: dict[str, Callable[[Digit, Rng], np.ndarray]] = {
    "grey paper, noise": grey_and_noisy, "dim light, noise": dim_and_noisy, "dark lines": lined,
    "squared paper": squared, "half in shadow": half_in_shadow,
    "coloured": coloured, "turned": turned, "thin pen": thin_pen, "lined, from one side": lined_from_one_side,
    "squared, turned": squared_and_turned, "dark desk": on_a_dark_desk, "sheet on a desk": a_sheet_on_a_desk,
    "in a box": in_a_box, "by flash": by_flash,
    "underlined": underlined, "in a notebook": in_a_notebook,
}  # fmt: skip


def thinned(mask: np.ndarray) -> np.ndarray:
    """The middle line of a shape, one pixel wide: Zhang and Suen 1984."""
    m = np.pad(mask, 1).astype(np.int8)
    moves = ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
    while True:
        before = m.sum()
        for half in (0, 1):
            p = [np.roll(m, move, (0, 1)) for move in moves]  # the pixel above, above right, right, ...
            steps = sum(((p[i] == 0) & (p[(i + 1) % 8] == 1)).astype(int) for i in range(8))
            sides = (p[0] * p[2] * p[4], p[2] * p[4] * p[6]) if half == 0 else (p[0] * p[2] * p[6], p[0] * p[4] * p[6])
            gone = (steps == 1) & (sum(p) >= 2) & (sum(p) <= 6) & (sides[0] == 0) & (sides[1] == 0)
            m = np.where(gone, 0, m).astype(np.int8)
        if m.sum() == before:
            return m[1:-1, 1:-1] > 0


def eight_bits(picture: np.ndarray) -> np.ndarray:
    """Brightness 0 to 1 as uint8."""
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
