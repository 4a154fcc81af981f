"""The end of a run: its curves as a plot, its results as a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minidl.data.atomic import atomic_file
from minidl.teach.colours import BLUE, GREEN, RED
from minidl.telling import counted


def plot_curves(
    metrics: Sequence[dict[str, Any]], summary: dict[str, Any], path: str | os.PathLike[str], place: int | None = None
) -> None:
    """Plot loss and accuracy by epoch, for training and validation, with the switch marked, as a PNG file.

    metrics  a record per epoch, as in metrics.jsonl
    summary  as in summary.json; its run id is stored in the PNG's metadata
    place    a file descriptor of the folder, see `atomic_file`
    """
    from matplotlib.figure import Figure  # takes half a second, so only when needed

    epochs = [r["epoch"] for r in metrics]
    figure = Figure(figsize=(10, 4), dpi=130)
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.12, top=0.88, wspace=0.18)  # automatic margins draw twice
    what = f"{summary['model']} on {Path(summary['dataset']).name}, {summary['optimizer']}, seed {summary['seed']}"
    figure.suptitle(f"{what}: test accuracy {summary['test_accuracy']:.4f}", parse_math=False)  # a name may have $
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, line, color, label in (("train", "o-", BLUE, "training"), ("val", "s-", RED, "validation")):
            values = [r[f"{part}_{quantity}"] for r in metrics]
            if None not in values:  # a run may have no validation split
                axes.plot(epochs, values, line, color=color, ms=4, label=label)
        if summary["switch"]:
            _mark_switch(axes, metrics, summary["switch"])
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend()
    with atomic_file(path, place) as file:
        how = {"compress_level": 4}  # 1 % larger than with 6, the default, and twice as fast: a fifth of the plotting
        figure.savefig(file, format="png", metadata={"run": summary.get("run", "")}, pil_kwargs=how)


def _mark_switch(axes: Any, metrics: Sequence[dict[str, Any]], switch: dict[str, Any]) -> None:
    steps_per_epoch = metrics[-1]["step"] / metrics[-1]["epoch"]
    phases = [r["phase"] for r in metrics]
    axes.axvline(
        switch["step"] / steps_per_epoch,
        color=GREEN,
        ls="--",
        label=f"switch {phases[0]} to {phases[-1]}" if phases[0] != phases[-1] else "switch",
    )


def closing_table(summary: dict[str, Any], folder: Path, verdict: str | None) -> str:
    """The results of a run as lines of text. `verdict` is the optimizer's sentence about its switch, if it has any."""
    val = summary["val_accuracy"]
    rows = {
        "data": f"{summary['dataset']} ({summary['source']})",
        "model": f"{summary['model']}, {summary['parameters']:,} weights",
        "optimizer": summary["optimizer"],
        "switch": verdict or "none",
        "accuracy": f"train {summary['train_accuracy']:.4f}   validation {'none' if val is None else f'{val:.4f}'}   "
        f"test {summary['test_accuracy']:.4f}",
        "loss": f"train {summary['train_loss']:.4f}   test {summary['test_loss']:.4f}",
        "time": f"{summary['seconds']:.1f} s for {counted(summary['epochs'], 'epoch')}, "
        f"{summary['samples_per_second']:,.0f} training samples/s on {summary['device']}",
        "written to": str(folder),
    }
    return "\n".join(f"{name:>12}  {value}" for name, value in rows.items())
