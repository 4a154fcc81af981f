"""The drawing page: one HTML file with trained networks in it, which run in the browser as you draw."""

from __future__ import annotations

import html as markup
import json
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from minidl.data.atomic import write_text
from minidl.data.polarity import DARK_ON_LIGHT
from minidl.handwriting.layers import described
from minidl.handwriting.look import frame_of
from minidl.program.load import LoadedRun
from minidl.training.models import count_parameters
from minidl.training.own_file import bare, of_file

SCRIPTS = ("network.js", "drawing.js", "view.js")


def write_page(path: str | os.PathLike[str], runs: Sequence[LoadedRun]) -> None:
    """Write the page of one run, or of two side by side. Raises NotOnPage for a network that it can't run.

    Raises ValueError where two runs take images of different sizes, OSError where the file can't be written.
    """
    sizes = {run.image_size for run in runs}
    if len(sizes) > 1:
        told = " and ".join(f"{run.folder} {run.image_size[0]}x{run.image_size[1]}" for run in runs)
        raise ValueError(f"the networks take images of different sizes, so they can't share a drawing: {told}")
    known = [facts(run) for run in runs]
    if len({each["title"] for each in known}) < len(known):
        for each, run in zip(known, runs, strict=True):
            each["title"] += f" ({run.folder.name})"
    write_text(path, page(known))


def facts(run: LoadedRun) -> dict[str, Any]:
    """What the page contains of a run: nothing about the machine that it was trained on."""
    model, data = run.model.to("cpu").eval(), run.checkpoint.state["data"]
    frame = frame_of(data)
    return {
        "title": f"{of_file(run.config['model'])}, {of_file(run.config['opt'])}",
        "about": _about(run, bare(str(data["name"]))),
        "size": run.image_size,
        "frame": frame and {"box": frame.box, "byMass": frame.by_mass},
        "darkOnLight": data.get("polarity") == DARK_ON_LIGHT,
        "classes": [_class(data, k) for k in range(run.classes)],
        "layers": described(model, run.image_size),
    }


def _class(data: dict[str, Any], k: int) -> str:
    names = data.get("class_names") or ()
    return str(names[k] if k < len(names) else k)


def _about(run: LoadedRun, data: str) -> str:
    accuracy = run.summary.get("test_accuracy")
    right = f", test accuracy {accuracy:.1%}" if accuracy is not None else ""
    switch = run.summary.get("switch")
    switched = f", switched after step {switch['step']:,}" if switch else ""
    done = run.checkpoint.state["trainer"]
    trained = "trained" if done["epoch"] or done["batch"] else "not yet trained"
    return f"{count_parameters(run.model):,} weights, {trained} on {data}{switched}{right}"


def page(runs: Sequence[dict[str, Any]]) -> str:
    """The HTML of one run's facts, or of two."""
    title = " | ".join(run["title"] for run in runs)
    digits = all(len(name) == 1 and name in "0123456789" for run in runs for name in run["classes"])
    parts = {
        "{{what}}": "a digit" if digits else "something",
        "{{title}}": markup.escape(title),
        "{{style}}": _file("draw.css"),
        "{{runs}}": json.dumps(runs).replace("<", "\\u003c"),  # so that no name can close the script tag
        "{{scripts}}": "\n".join(_file(name) for name in SCRIPTS),
    }
    return re.sub("|".join(map(re.escape, parts)), lambda match: parts[match[0]], _file("draw.html"))


def _file(name: str) -> str:
    return (files("minidl.handwriting") / "web" / name).read_text(encoding="utf-8")
