"""The pictures of the report, as matplotlib figures.

Lines of text and axes have one colour, INK, which the report turns into that of the page: so a picture can be read on
a light and on a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from minidl.study.analysis import Block, Entry
from minidl.study.claims import Verdict
from minidl.study.statistics import mean_interval
from minidl.teach.colours import BLUE, CYAN, GREEN, PURPLE, RED, YELLOW
from minidl.training.search import Log

INK = "#010203"  # black to the eye, and like no other colour in the picture
COLOURS = (BLUE, RED, GREEN, YELLOW, CYAN, PURPLE, "#888888")
DASHES = ("-", "--", "-.", ":")
WIDTH = 6.4  # inches

CONTROLS = ("adam", "sgd", "hybrid", "adam-cut", "sgd-cut", "sgd-adam")
PANELS = {  # of the curves: who is drawn with whom
    "the switch and its controls": CONTROLS,
    "fixed moments": ("hybrid", "hybrid-20", "hybrid-40", "hybrid-80"),
    "other adaptive methods and blends": ("adam", "adamw", "rmsprop", "swats", "swats-rel", "gnmt", "blend"),
    "schedules": ("adam", "sgd", "hybrid", "adam-cosine", "sgd-cosine"),
}

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and the file is small
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def _figure(height: float, rows: int = 1, columns: int = 1, **kwargs: Any) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained", dpi=120)
    axes = list(np.atleast_1d(figure.subplots(rows, columns, **kwargs)).flat)
    for ax in axes:
        ax.grid(color=COLOURS[-1], alpha=0.25, linewidth=0.6)
    return figure, axes


# ---- curves -------------------------------------------------------------------------------------------------------


def curves(block: Block, keys: Sequence[str]) -> Figure:
    """Validation accuracy by step: the mean over the seeds, its 95 % band, and where each switched."""
    with rc_context(STYLE):
        figure, (ax,) = _figure(4.2)
        entries = [entry for key in keys if (entry := block.entry(key))]
        lows, highs = [], []
        for i, entry in enumerate(entries):
            steps, mean, low, high = _band(entry)
            colour = COLOURS[i % len(COLOURS)]
            ax.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
            ax.plot(steps, mean, color=colour, linestyle=DASHES[i % len(DASHES)], label=entry.contestant.key)
            _mark_switch(ax, entry, steps, mean, colour)
            if len(mean) > 1:
                lows.append(mean[len(mean) // 5])
                highs.append(high.max())
        if lows:  # the first steps would squeeze all that matters into the top of the picture
            low, high = float(np.quantile(lows, 0.25)), float(np.max(highs))
            ax.set_ylim(low, min(1.0, high + 0.05 * (high - low)))
        ax.set(xlabel="step", ylabel="validation accuracy")
        figure.legend(loc="outside lower center", fontsize=9, ncols=4)
        return figure


def _band(entry: Entry) -> tuple[Any, Any, Any, Any]:
    """Steps, mean, and the interval's ends. A run that diverged counts with its last look from there on."""
    curves = [[(look["step"], look["val_accuracy"]) for look in r.record["result"]["curve"]] for r in entry.results]
    longest = max(curves, key=len)
    steps = np.array([step for step, _ in longest])
    padded = [[a for _, a in c] + [c[-1][1] if c else 0.0] * (len(longest) - len(c)) for c in curves]
    intervals = [mean_interval(column) for column in zip(*padded, strict=True)]
    mean, low, high = (np.array([getattr(m, name) for m in intervals]) for name in ("mean", "low", "high"))
    return steps, mean, low, high


def _mark_switch(ax: Any, entry: Entry, steps: Any, mean: Any, colour: str) -> None:
    at = [r.switch["step"] for r in entry.results if r.switch]
    if at and len(steps):
        step = float(np.median(at))
        ax.plot(step, np.interp(step, steps, mean), "o", color=colour, markersize=7, markeredgecolor=INK, zorder=5)


# ---- box plots ----------------------------------------------------------------------------------------------------


def boxes(block: Block) -> Figure:
    """Test accuracy of every final run, a row for each contestant."""
    with rc_context(STYLE):
        entries = list(reversed(block.entries))
        figure, (ax,) = _figure(0.8 + 0.27 * len(entries))
        values = [[100 * v for v in entry.values("test_accuracy")] for entry in entries]
        line = {"color": INK, "linewidth": 0.8}
        ax.boxplot(
            values,
            orientation="horizontal",
            widths=0.6,
            showfliers=False,
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            medianprops={"color": RED},
        )
        for i, row in enumerate(values):
            offsets = np.linspace(-0.18, 0.18, len(row))
            ax.plot(row, i + 1 + offsets, "o", color=BLUE, markersize=3, alpha=0.7)
        ax.set_yticks(range(1, len(entries) + 1), [entry.contestant.key for entry in entries])
        flat = sorted(v for row in values for v in row)
        if flat:  # a run that went astray must not squeeze the others; it is in the table
            low = flat[max(0, len(flat) // 50)]
            ax.set_xlim(low - 0.1 * (flat[-1] - low) - 1e-3, flat[-1] + 0.1 * (flat[-1] - low) + 1e-3)
        ax.set(xlabel="test accuracy, %")
        return figure


# ---- sensitivity --------------------------------------------------------------------------------------------------


def sensitivity(block: Block) -> Figure:
    """Validation accuracy in tuning against each contestant's first rate; of settings that share it, the best."""
    groups: dict[str, list[Entry]] = {}
    for entry in block.entries:
        groups.setdefault(_panel(entry), []).append(entry)
    with rc_context(STYLE):
        rows = math.ceil(len(groups) / 2)
        figure, axes = _figure(2.9 * rows, rows, 2)
        for ax, (name, entries) in zip(axes, groups.items(), strict=False):
            for i, entry in enumerate(entries):
                x, y = _profile(entry)
                style = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)]}
                ax.plot(x, y, marker="o", markersize=4, label=entry.contestant.key, **style)
            best = max((y for entry in entries for y in _profile(entry)[1]), default=1.0)
            ax.set_ylim(max(0.0, best - 0.12), best + 0.01)
            ax.set_xscale("log")
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set(xlabel=name, ylabel="validation accuracy")
            ax.legend(fontsize=8)
        for ax in axes[len(groups) :]:
            ax.remove()
        return figure


def _panel(entry: Entry) -> str:
    axis = _rate_axis(entry)
    if axis == "factor":
        return "factor of the cut"
    if len(entry.contestant.space.axes) == 1:
        sgd = dict(entry.contestant.fixed)["opt"] in ("momentum", "blend")
        return "rate of SGD and Blend" if sgd else "rate of the adaptive method"
    return "rate after the switch"


def _rate_axis(entry: Entry) -> str:
    return next(axis.name for axis in entry.contestant.space.axes if isinstance(axis, Log))


def _profile(entry: Entry) -> tuple[list[float], list[float]]:
    best: dict[float, float] = {}
    for point, rank in entry.tuned.ranks.items():
        x = entry.contestant.space.values(point)[_rate_axis(entry)]
        if rank is not None:
            best[x] = max(best.get(x, 0.0), -rank[0])
    return sorted(best), [best[x] for x in sorted(best)]


# ---- the whole study ----------------------------------------------------------------------------------------------


def differences(rows: Sequence[Sequence[Verdict]], labels: Sequence[str]) -> Figure:
    """For each of some claims about test accuracy and each regime: the difference with its interval.

    Filled where it is beyond doubt after Holm's correction, hollow where not.
    """
    regimes = list(dict.fromkeys(v.regime for row in rows for v in row))
    with rc_context(STYLE):
        lines = math.ceil(len(rows) / 2)
        figure, axes = _figure(lines * (0.8 + 0.2 * len(regimes)), lines, 2)
        for i, (ax, row, label) in enumerate(zip(axes, rows, labels, strict=False)):
            ax.axvline(0, color=INK, linewidth=0.8)
            for v in row:
                y, d = len(regimes) - regimes.index(v.regime), v.comparison.difference
                colour = GREEN if d.mean > 0 else RED
                ax.plot([100 * d.low, 100 * d.high], [y, y], color=colour, linewidth=1.5)
                face = colour if v.comparison.holds else "none"
                ax.plot(100 * d.mean, y, "o", markersize=6, markeredgecolor=colour, markerfacecolor=face)
            ax.set_yticks(range(1, len(regimes) + 1), regimes[::-1] if i % 2 == 0 else [""] * len(regimes))
            ax.set_ylim(0.4, len(regimes) + 0.6)
            ax.set_title(label, fontsize=10, loc="left")
            ax.set_xlabel("points of test accuracy")
        for ax in axes[len(rows) :]:
            ax.remove()
        return figure
