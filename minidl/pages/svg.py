"""Line charts as SVG, without matplotlib: importing it takes longer than a whole report may take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 250
RIGHT, TOP, BOTTOM = 16, 12, 34
LETTER = 6.6  # width of a digit in pixels, at the style sheet's font size


@dataclass(frozen=True)
class Polyline:
    """A curve: (x, y) points and a name. `look` is its class in the style sheet: run-0, dashed, ..."""

    name: str
    points: Sequence[tuple[float, float]]
    look: str


@dataclass(frozen=True)
class Mark:
    """A vertical line at x, such as the switch."""

    x: float
    name: str
    look: str = "switch"


def chart(lines: Sequence[Polyline], title: str, marks: Sequence[Mark] = ()) -> str:
    """Lines by epoch, as an <svg>. Points that are not finite are skipped; "" if none remain."""
    kept = [Polyline(each.name, _finite(each.points), each.look) for each in lines]
    points = [point for each in kept for point in each.points]
    if not points:
        return ""
    xs = [x for x, _ in points] + [mark.x for mark in marks]
    plot = _Plot((min(xs), max(xs)), _span([y for _, y in points]))
    parts = [plot.grid()]
    parts += [plot.mark(mark) for mark in marks]
    parts += [plot.line(each) for each in kept]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(y)]


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The lowest and highest value, with a small margin."""
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return max(low - room, 0.0) if low >= 0 else low - room, high + room


def ticks(low: float, high: float, most: int = 6, whole: bool = False) -> list[float]:
    """At most `most` round numbers from low to high, in steps of 1, 2 or 5 times a power of ten."""
    width = max(high - low, 1.0 if whole else 1e-300)
    power = math.floor(math.log10(width / most))
    steps = (factor * 10.0 ** (power + k) for k in range(3) for factor in (1, 2, 5))
    fit = [step for step in steps if width / step <= most and (not whole or step >= 1)]
    step = fit[0]
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def labelled(values: Sequence[float]) -> dict[float, str]:
    """Ticks with their labels, which have enough digits to tell one from the next."""
    step = values[1] - values[0] if len(values) > 1 else max(map(abs, values), default=1.0)
    last = math.floor(math.log10(step or 1.0) + 1e-9)  # the decimal place in which they differ
    needed = (math.floor(math.log10(abs(v)) + 1e-9) - last + 1 if v else 1 for v in values)
    return {v: f"{v:.{max(4, n)}g}" for v, n in zip(values, needed, strict=True)}


class _Plot:
    """The axes: maps values to pixels."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.xs, self.ys = x if x[1] > x[0] else (x[0] - 0.5, x[1] + 0.5), y
        self.levels = labelled(ticks(*y))
        self.left = round(max(46, 12 + LETTER * max(map(len, self.levels.values()), default=0)), 1)

    def x(self, value: float) -> float:
        low, high = self.xs
        return round(self.left + (value - low) / (high - low) * (WIDTH - self.left - RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.ys
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def grid(self) -> str:
        parts = []
        for value, words in self.levels.items():
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{self.left} {y}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text x="{self.left - 6:g}" y="{y + 4}" text-anchor="end">{words}</text>')
        for value in ticks(*self.xs, most=8, whole=True):
            parts.append(
                f'<text x="{self.x(value)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:.0f}</text>'
            )
        middle = (self.left + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">epoch</text>')
        return "".join(parts)

    def mark(self, mark: Mark) -> str:
        x = self.x(mark.x)
        return (
            f'<path class="mark {mark.look}" d="M{x} {TOP}V{HEIGHT - BOTTOM}"><title>{escape(mark.name)}</title></path>'
        )

    def line(self, line: Polyline) -> str:
        places = [(self.x(x), self.y(y)) for x, y in line.points]
        path = "M" + "L".join(f"{x} {y}" for x, y in places) if places else ""
        dots = "".join(f'<circle cx="{x}" cy="{y}" r="2.2"/>' for x, y in places) if len(places) <= 40 else ""
        return f'<g class="line {line.look}"><title>{escape(line.name)}</title><path d="{path}"/>{dots}</g>'
