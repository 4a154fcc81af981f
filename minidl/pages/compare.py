"""Comparison of runs: in the terminal as a table, and as a page with their curves.

All numbers are read from the checkpoints: nothing is recomputed, and the data are not needed. Runs that differ only
in the seed are also summarized, by mean and standard deviation. Runs on different data, or with different validation
splits, are shown with a note that their numbers are not comparable.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from minidl.pages.facts import switch_of
from minidl.pages.html import Cell, Html, figure, figures, note, page, section, table
from minidl.pages.report import percent, points, switch_mark, switch_words, value_words
from minidl.pages.svg import Polyline, chart
from minidl.training.own_file import bare, of_file, short
from minidl.training.restore import load_run_checkpoint
from minidl.training.results import CHECKPOINT, disagreements, full_summary

COLOURS = 6  # run-0 to run-5 in the style sheet
IDENTITY = ("dataset", "network", "optimizer", "file", "asked", "kind", "device", "model", "opt")  # shown elsewhere
USUAL = (None, False, 0, "nothing", 1e-8)  # values of a Trainer's optimizer that are not shown: off, or the default eps
HEAD = ("", "run", "data", "network", "optimizer", "epochs", "validation", "best", "test", "switch", "time")


@dataclass(frozen=True)
class Compared:
    """A run in the comparison. `letter` is its name in tables and legends."""

    letter: str
    folder: Path
    state: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        return self.state["config"]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name, including those of a Trainer's optimizer, and the number of weights."""
        found = {name: value for name, value in self.config.items() if name not in IDENTITY}
        return {**found, **_flat(self.config.get("optimizer")), "weights": self.summary.get("parameters")}

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return self.state["trainer"]["metrics"]

    @property
    def summary(self) -> dict[str, Any]:
        """{} while the run is not finished."""
        return full_summary(self.state) or {}

    @property
    def switch(self) -> dict[str, Any] | None:
        return switch_of(self.state)

    @property
    def name(self) -> str:
        return f"{short(self.config['model'])}, {short(self.config['opt'])}, seed {self.config['seed']}"

    @property
    def final(self) -> float | None:
        """Validation accuracy after the last finished epoch; None without a validation split or a finished epoch."""
        return self.metrics[-1]["val_accuracy"] if self.metrics else None

    @property
    def best(self) -> dict[str, Any] | None:
        """The epoch with the highest validation accuracy; ties go to the first."""
        known = [record for record in self.metrics if record["val_accuracy"] is not None]
        return max(known, key=lambda record: record["val_accuracy"], default=None)

    @property
    def notes(self) -> list[str]:
        return [f"{what}: taken from the checkpoint" for what in disagreements(self.folder, self.state)]


def read_run(folder: Path, place: int) -> Compared:
    """Read a run's folder. Raises CheckpointError if its checkpoint is missing or damaged."""
    letter = string.ascii_uppercase[place % 26] + (str(place // 26) if place >= 26 else "")
    return Compared(letter, folder, load_run_checkpoint(folder / CHECKPOINT).state)


# ---- in words ----


def rows(runs: Sequence[Compared]) -> list[list[str]]:
    """A row for each run, in the order of HEAD."""
    return [_row(run) for run in runs]


def _row(run: Compared) -> list[str]:
    best, summary = run.best, run.summary
    done, wanted = len(run.metrics), run.config["epochs"]
    rate = run.settings.get("lr")
    return [
        run.letter,
        str(run.folder),
        bare(run.state["data"]["name"]),
        of_file(run.config["model"]),
        of_file(run.config["opt"]) + (f" {rate:g}" if isinstance(rate, float) else ""),
        str(done) if done == wanted else f"{done} of {wanted}",
        percent(run.final) or ("none" if run.metrics else ""),
        f"{percent(best['val_accuracy'])} ({best['epoch']})" if best else "",
        percent(summary.get("test_accuracy")),
        switch_words(run.switch, []) if run.switch else "",
        f"{run.state['trainer']['seconds']:.1f} s",
    ]


def winners(runs: Sequence[Compared]) -> list[Compared]:
    """The runs with the highest final validation accuracy; none if the runs are not comparable."""
    known = [run.final for run in runs if run.final is not None]
    if len(known) < 2 or warnings(runs):
        return []
    return [run for run in runs if run.final == max(known)]


def warnings(runs: Sequence[Compared]) -> list[str]:
    """Why the numbers of these runs are not comparable."""
    found = []
    if len({run.state["data"]["sha256"] for run in runs}) > 1:
        found.append("the runs were trained on different data, so their numbers are not comparable")
    if len({run.config.get("val_fraction") for run in runs}) > 1:
        found.append("the runs have validation splits of different sizes")
    if any(len(run.metrics) < run.config["epochs"] for run in runs):
        found.append("not all runs are finished")
    return found


def groups(runs: Sequence[Compared]) -> list[tuple[list[Compared], str]]:
    """Groups of runs that differ only in the seed, one run per seed, each with its summary."""
    by_key: dict[str, dict[int, Compared]] = {}
    for run in runs:
        key = {name: value for name, value in run.config.items() if name not in ("seed", "split_seed", "device")}
        alike = by_key.setdefault(repr((key, run.state["data"]["sha256"], run.state.get("files"))), {})
        alike.setdefault(run.config["seed"], run)  # counting the same run twice would narrow the spread
    several = [list(alike.values()) for alike in by_key.values() if len(alike) > 1]
    return [(each, _together(each)) for each in several]


def _together(runs: Sequence[Compared]) -> str:
    words = []
    for name, values in (
        ("validation", [run.final if run.summary else None for run in runs]),
        ("test", [run.summary.get("test_accuracy") for run in runs]),
    ):
        known = [100 * value for value in values if value is not None]
        if len(known) == len(runs):
            words.append(f"{name} {mean(known):.2f} ± {stdev(known):.2f} %")
    letters = ", ".join(run.letter for run in runs)
    told = f"{', '.join(words)} (mean ± standard deviation)" if words else "not all are finished"
    hidden = any(run.config.get(part, part) is None for run in runs for part in ("network", "optimizer"))
    limits = ", as far as their folders record your own code" if hidden else ""
    return f"{letters} differ only in the seed{limits}: {told}"


def differences(runs: Sequence[Compared]) -> list[list[str]]:
    """The settings that differ between the runs: name, and the value in each run."""
    settings = [run.settings for run in runs]
    if len({each["weights"] for each in settings} - {None}) < 2:  # None for a run that is not finished
        for each in settings:
            del each["weights"]
    names = list(dict.fromkeys(name for each in settings for name in each))
    values = {name: [value_words(each.get(name)) for each in settings] for name in names}
    return [[name.replace("_", "-"), *each] for name, each in values.items() if len(set(each)) > 1]


def _flat(optimizer: dict[str, Any] | None, part: str = "") -> dict[str, Any]:
    """The options in `describe_optimizer`'s output, flattened; those of a hybrid's rules as first_lr, then_lr, ..."""
    found: dict[str, Any] = {}
    for name, value in (optimizer or {}).items():
        if isinstance(value, dict) and "rule" in value:
            found |= _flat(value, f"{name}_")
        elif value not in USUAL and (part or name != "rule"):
            found[part + name] = value
    return found


def compare_table(runs: Sequence[Compared]) -> str:
    """The comparison as lines of text. A star marks the highest final validation accuracy."""
    best, lines = winners(runs), rows(runs)
    for run, row in zip(runs, lines, strict=True):
        row[6] += " *" if run in best else ""
    shown = [i for i in range(len(HEAD)) if any(row[i] for row in lines)]
    wide = [max(len(HEAD[i]), *(len(row[i]) for row in lines)) for i in shown]
    told = ["  ".join(row[i].ljust(w) for i, w in zip(shown, wide, strict=True)).rstrip() for row in [HEAD, *lines]]
    told += ["* the highest final validation accuracy"] if best else []
    changed = differences(runs)
    if changed:
        told += ["", "settings that differ:"]
        told += [f"  {name}: {_each(runs, values)}" for name, *values in changed]
    told += [""] if groups(runs) else []
    told += [words for _, words in groups(runs)]
    told += [f"note: {each}" for each in (*warnings(runs), *(words for run in runs for words in run.notes))]
    return "\n".join(told)


def _each(runs: Sequence[Compared], values: Sequence[str]) -> str:
    return ", ".join(f"{run.letter} {value or 'none'}" for run, value in zip(runs, values, strict=True))


# ---- as a page ----


def compare_page(runs: Sequence[Compared]) -> str:
    """The same as a page, with the curves of all runs in one plot per quantity."""
    best = winners(runs)
    lines = [[_cell(i, cell, run in best) for i, cell in enumerate(_row(run))] for run in runs]
    told = [*warnings(runs), *(words for run in runs for words in run.notes)]
    lead = f"{len(runs)} runs: " + "; ".join(f"{run.letter} {run.name}" for run in runs) + "."
    changed = differences(runs)
    parts = [
        section("Results", *(note(f"Note: {each}.") for each in told), table(HEAD, lines),
                note("Best: the highest validation accuracy, with its epoch. Choose by validation accuracy; use test "
                     "accuracy only once, to measure what you have chosen."),
                *(note(f"{words}.") for _, words in groups(runs))),
        _curves(runs),
    ]  # fmt: skip
    if changed:
        head = ["setting", *(f"{run.letter}: {run.name}" for run in runs)]
        parts.append(section("Settings that differ", table(head, changed)))
    return page("compare", " | ".join(f"{run.letter} {short(run.config['opt'])}" for run in runs)[:120], lead, parts)


def _cell(i: int, value: str, best: bool) -> object:
    if i == HEAD.index("validation") and best:
        return Cell(value, "best")
    return Cell(value, "word") if 0 < i < 5 or HEAD[i] == "switch" else value


def _curves(runs: Sequence[Compared]) -> Html:
    looks = [f"run-{i % COLOURS}{' dashed' if i >= COLOURS else ''}" for i in range(len(runs))]
    legend = {f"{run.letter} {run.name}": look for run, look in zip(runs, looks, strict=True)}
    marks = [mark for run, look in zip(runs, looks, strict=True)
             for mark in switch_mark(run.metrics, run.switch, look.split()[0])]  # fmt: skip
    drawn = []
    for name, words in (("val_accuracy", "validation accuracy"), ("val_loss", "validation loss"),
                        ("train_loss", "training loss"), ("lr", "learning rate at the end of each epoch")):  # fmt: skip
        lines = [Polyline(run.name, points(run.metrics, name), look) for run, look in zip(runs, looks, strict=True)]
        drawn.append(figure(chart(lines, f"{words} by epoch", marks), words, legend))
    told = "A dashed vertical line marks the switch of the run with that colour." if marks else ""
    return section("Curves", figures(*drawn), note(told) if told else "")
