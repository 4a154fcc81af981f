"""The report's figures, by matplotlib.

Text and axes have one colour, INK, which the report replaces with the page's own, so a figure is legible on a light and
on a dark page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from minidl.study.analysis import Block, Entry, Verdict
from minidl.study.statistics import BETTER, EQUIVALENT, WORSE, expected_best, trimmed
from minidl.study.study import collapsed
from minidl.teach.colours import BLUE, CYAN, GREEN, PURPLE, RED, YELLOW

INK = "#010203"  # looks black, and no other element has this colour
GREY = "#888888"
COLOURS = (BLUE, RED, GREEN, YELLOW, CYAN, PURPLE, GREY)
DASHES = ("-", "--", "-.", ":")
WIDTH = 6.4  # inches
WORDS = {BETTER: GREEN, WORSE: RED, EQUIVALENT: BLUE}

PANELS = {  # of the curves: the contestants that share a figure
    "the switch and its controls": ("adam", "adam-cut", "hybrid", "sgd", "sgd-cut", "sgd-adam"),
    "decay and averages": (
        "hybrid", "hybrid-cosine", "adam-cosine", "adam-linear", "sgd-cosine", "adam-ema", "schedule-free",
    ),
    "other switches": (
        "hybrid-20", "hybrid-40", "hybrid-80", "hybrid-plateau", "swats-window", "swats-tensor", "gnmt", "blend",
    ),
}  # fmt: skip
AUTOMATIC = ("hybrid-plateau", "swats-rel", "swats-tensor", "swats-window")  # their switches are listed below the maps
MAP_NAMES = {"hybrid": "SGD's learning rate", "adam-cut": "factor on Adam's learning rate"}

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


def _figure(height: float, width: float = WIDTH) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    ax = figure.subplots()
    ax.grid(color=GREY, alpha=0.25, linewidth=0.6)
    return figure, ax


# ---- the maps -----------------------------------------------------------------------------------------------------


def heat_map(block: Block, kind: str) -> Figure:
    """A map of a regime: mean validation accuracy of the runs that did not collapse, in per cent.

    A cell with collapsed runs says how many; one whose runs all collapsed has no colour. A ring marks the best cell.
    The two maps of a regime share a colour scale.
    """
    found = {k: _cells(block, records) for k, records in block.maps.items() if _known(records)}
    whole = np.concatenate([means[np.isfinite(means)] for means, _ in found.values()])
    whole = whole if len(whole) else np.zeros(1)  # all have collapsed, in both maps
    high = float(whole.max())
    low = max(float(whole.min()), high - 4 * (high - float(np.median(whole))) - 0.2)
    means, dead = found[kind]
    moments, values = _axes(block.maps[kind])
    with rc_context(STYLE):
        figure, ax = _figure(3.0, width=4.0)  # two side by side fill half the width of a page
        image = ax.imshow(means, origin="lower", aspect="auto", cmap="viridis", vmin=low, vmax=high)
        ax.grid(False)
        ax.set_xticks(range(len(moments)), [f"{100 * at:g}" for at in moments])
        ax.set_yticks(range(len(values)), [f"{v:g}" for v in values])
        ax.set(xlabel="moment, % of the run", ylabel=MAP_NAMES[kind])
        best = np.unravel_index(np.argmax(np.nan_to_num(means, nan=-1.0)), means.shape)
        for (row, column), mean in np.ndenumerate(means):
            _write_cell(ax, row, column, mean, int(dead[row, column]), mean > (low + high) / 2, (row, column) == best)
        figure.colorbar(image, ax=ax, shrink=0.9)
        return figure


def maps_of(block: Block) -> list[str]:
    """The kinds of maps of a regime that have something to show."""
    return [kind for kind, records in block.maps.items() if _known(records)]


def _known(records: dict[tuple[float, float], list[Any]]) -> bool:
    return bool(records) and all(records.values())


def _axes(records: dict[tuple[float, float], list[Any]]) -> tuple[list[float], list[float]]:
    """The moments, and the values after them."""
    return sorted({at for at, _ in records}), sorted({value for _, value in records})


def _cells(block: Block, records: dict[tuple[float, float], list[Any]]) -> tuple[Any, Any]:
    moments, values = _axes(records)
    means, dead = np.full((len(values), len(moments)), np.nan), np.zeros((len(values), len(moments)))
    for (at, value), runs in records.items():
        place = values.index(value), moments.index(at)
        alive = [100 * r["result"]["val_accuracy"] for r in runs if not collapsed(r, block.regime)]
        dead[place] = len(runs) - len(alive)
        if alive:
            means[place] = np.mean(alive)
    return means, dead


def _write_cell(ax: Any, row: int, column: int, mean: float, dead: int, bright: bool, best: bool) -> None:
    alive = np.isfinite(mean)
    text = f"{mean:.1f}" if alive else "all\ncoll."
    if alive and dead:
        text += f"\n{dead} coll."
    colour = INK if not alive else "#000000" if bright else "#ffffff"
    ax.text(column, row, text, ha="center", va="center", fontsize=8, color=colour, fontweight="bold" if best else None)
    if best and alive:
        ax.plot(column, row, "o", markersize=22, markerfacecolor="none", markeredgecolor=RED, markeredgewidth=1.6)


# ---- tuning -------------------------------------------------------------------------------------------------------


def budgets(block: Block, keys: Sequence[str]) -> Figure:
    """Expected best validation accuracy by the number of settings tried, with one seed each (Dodge et al. 2019)."""
    with rc_context(STYLE):
        figure, ax = _figure(3.8)
        ends = []
        for i, entry in enumerate(entries_of(block, keys)):
            curve = expected_best([100 * accuracy for accuracy in entry.tried])
            ends += curve[len(curve) // 4 :]
            style = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)]}
            ax.plot(range(1, len(curve) + 1), curve, label=entry.contestant.key, **style)
        if ends:
            low, high = min(ends), max(ends)
            ax.set_ylim(low - 0.1 * (high - low) - 0.01, high + 0.05 * (high - low) + 0.01)
        ax.set(xlabel="settings tried", ylabel="expected best validation accuracy, %")
        ax.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(loc="outside lower center", fontsize=9, ncols=4)
        return figure


# ---- curves -------------------------------------------------------------------------------------------------------


def entries_of(block: Block, keys: Sequence[str]) -> list[Entry]:
    """The entries that exist for these keys, in this order; a user's own always come first."""
    own = [key for key, entry in block.entries.items() if entry.contestant.block == "own"]
    return [block.entries[key] for key in (*own, *keys) if key in block.entries]


def learners(block: Block, keys: Sequence[str]) -> list[Entry]:
    """Those of them with at least two runs that did not diverge; a curve is the mean of such runs."""
    found = entries_of(block, keys)
    return [entry for entry in found if sum(r["diverged"] is None for r in entry.results()) > 1]


def curves(block: Block, keys: Sequence[str]) -> Figure:
    """Validation accuracy by step: the trimmed mean over the seeds; a dot marks the median switch, if most switched."""
    with rc_context(STYLE):
        figure, ax = _figure(4.0)
        starts, tops = [], []
        for i, entry in enumerate(learners(block, keys)):
            points = [r["curve"] for r in entry.results() if r["diverged"] is None]
            steps = [look["step"] for look in points[0]]
            mean, _ = trimmed(np.array([[100 * p["val_accuracy"] for p in curve] for curve in points]).T)
            colour = COLOURS[i % len(COLOURS)]
            ax.plot(steps, mean, color=colour, linestyle=DASHES[i % len(DASHES)], label=entry.contestant.key)
            _mark_switch(ax, entry, steps, mean, colour)
            starts.append(mean[len(mean) // 5])
            tops.append(float(mean.max()))
        if tops:  # the first steps would squeeze everything else into the top of the figure
            low, high = float(np.quantile(starts, 0.25)), max(tops)
            ax.set_ylim(low, high + 0.05 * (high - low) + 0.01)
        ax.set(xlabel="step", ylabel="validation accuracy, %")
        figure.legend(loc="outside lower center", fontsize=9, ncols=4)
        return figure


def _mark_switch(ax: Any, entry: Entry, steps: Sequence[int], mean: Any, colour: str) -> None:
    at = [r["switch"]["step"] for r in entry.results() if r["switch"]]
    if 2 * len(at) > len(entry.finals):
        step = float(np.median(at))
        ax.plot(step, np.interp(step, steps, mean), "o", color=colour, markersize=6)


# ---- the claims ---------------------------------------------------------------------------------------------------


def differences(verdicts: Sequence[Verdict], label: str) -> Figure:
    """Each comparison with its simultaneous interval, times 100, in the colour of its verdict; the margin as a band.

    Outliers would squeeze the others: an arrowhead at the end of the axis marks an interval that continues beyond it.
    """
    with rc_context(STYLE):
        figure, ax = _figure(0.7 + 0.24 * len(verdicts))
        ax.axvline(0, color=INK, linewidth=0.8)
        reach = np.quantile(
            [abs(v.interval.estimate) for v in verdicts if np.isfinite(v.interval.estimate)] or [1], 0.8
        )
        widest = 100 * max(4 * reach, 3 * max(v.claim.margin(v.regime) for v in verdicts))
        far = False
        for i, v in enumerate(reversed(verdicts)):
            x, colour = v.interval, WORDS.get(v.word, GREY)
            margin = 100 * v.claim.margin(v.regime)
            ax.plot([-margin, margin], [i, i], color=GREY, alpha=0.25, linewidth=9, solid_capstyle="butt")
            if np.isfinite(x.estimate):
                low, high = (float(np.clip(100 * end, -widest, widest)) for end in (x.low, x.high))
                ax.plot([low, high], [i, i], color=colour, linewidth=1.6)
                if abs(100 * x.estimate) <= widest:
                    ax.plot(100 * x.estimate, i, "o", markersize=5, color=colour)
                beyond = [100 * x.low < -widest, 100 * x.high > widest]
                for end, head, drawn in zip((-widest, widest), "<>", beyond, strict=True):
                    if drawn:
                        ax.plot(end, i, head, markersize=6, color=colour)
                far |= any(beyond)
        ax.set_yticks(range(len(verdicts)), [v.regime.name for v in reversed(verdicts)])
        ax.set_ylim(-0.6, len(verdicts) - 0.4)
        ax.set_xlabel(f"{label}; arrowheads: beyond the axis" if far else label)
        handles = [ax.plot([], [], "o-", color=c, label=word)[0] for word, c in {**WORDS, "cannot tell": GREY}.items()]
        figure.legend(handles=handles, loc="outside lower center", fontsize=9, ncols=4)
        return figure
