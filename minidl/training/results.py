"""The results in a run folder: the checkpoint holds all of them, and the other files repeat them in readable form.

If they disagree, the checkpoint is right: it is written first, under one checksum. So load_run and the pages read a
run's numbers from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minidl.data.proof import Damaged, checksum, read_json
from minidl.training.config import Config, Job
from minidl.training.own_file import hashes, is_own, short

CHECKPOINT = "checkpoint.safetensors"
ELSEWHERE = ("dataset", "device")  # settings that may change when a run is resumed


def stranger(folder: Path, state: Mapping[str, Any]) -> str | None:
    """A warning if config.json exists and belongs to another run than the checkpoint; else None."""
    try:
        config = read_json(folder / "config.json")
    except Damaged:
        return None
    other = config.get("run", state["run"]) if isinstance(config, dict) else None
    if other == state["run"]:
        return None
    return f"{folder / 'config.json'} is of run {other!r:.40}, the checkpoint, which is used, of {state['run']!r:.40}"


def full_summary(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """The content of summary.json, from a checkpoint's state: the results, and the times counted by the Trainer."""
    p = state["trainer"]
    if state.get("summary") is None:
        return None
    speed = round(p["samples"] / p["train_seconds"], 1) if p["train_seconds"] else 0.0
    return {**state["summary"], "seconds": round(p["seconds"], 3), "samples_per_second": speed}


def decides(config: Config) -> dict[str, Any]:
    """What determines a result in these settings, for a hash: without the location of data and files."""
    named = {name: value for name, value in asdict(config).items() if name != "dataset"}
    named |= {name: short(named[name]) for name in ("model", "opt")}
    return {"config": named, "files": sorted(hashes(config.model, config.opt).values())}


def identity(job: Job, versions: Mapping[str, Any], parent: Mapping[str, Any] | None) -> str:
    """A run's id: a hash of everything that determines its result."""
    others = {"data": job.dataset.sha256, "versions": versions, "parent": parent}
    return checksum(decides(job.config) | others)[:16]


def metrics_text(run: str, metrics: Sequence[Mapping[str, Any]]) -> str:
    """The content of metrics.jsonl: a line per epoch, with the run's id."""
    return "".join(json.dumps({**record, "run": run}) + "\n" for record in metrics)


def disagreements(folder: Path, state: Mapping[str, Any]) -> list[str]:
    """A sentence for each file of a run folder that disagrees with the checkpoint's `state`."""
    checks = (
        (_config, folder / "config.json"),
        (_metrics, folder / "metrics.jsonl"),
        (_summary, folder / "summary.json"),
    )
    found = []
    for check, path in checks:
        try:
            check(path, state)
        except Damaged as error:
            found.append(str(error))
    return found


def _config(path: Path, state: Mapping[str, Any]) -> None:
    if not path.exists() and not state["trainer"]["step"]:
        return  # the run was interrupted before it was written
    fixed = {name: value for name, value in state["config"].items() if name not in ELSEWHERE}
    wanted = {name: value for name, value in fixed.items() if name not in ("model", "opt") or not is_own(value)}
    _compare(path, {**wanted, "run": state["run"]})


def _metrics(path: Path, state: Mapping[str, Any]) -> None:
    metrics = state["trainer"]["metrics"]
    if not path.exists():
        if metrics:
            raise Damaged(f"{path} is missing")
        return  # the run was interrupted before it was written
    most = 2 * len(metrics_text(state["run"], metrics)) + 1000  # with any whitespace; a larger file is not read
    found = path.read_bytes() if path.is_file() and path.stat().st_size <= most else b"too large"
    may_be = [metrics]
    if state.get("summary") is None:  # it may have been interrupted between the checkpoint and the line for it
        may_be.append(metrics[:-1])
    if all(found.split() != metrics_text(state["run"], part).encode().split() for part in may_be):
        raise Damaged(f"{path} is damaged, or of another run: it does not agree with the checkpoint")


def _summary(path: Path, state: Mapping[str, Any]) -> None:
    summary = full_summary(state)
    if summary is not None:
        _compare(path, summary)
    elif path.exists():
        raise Damaged(f"{path} is not from this run, which is not finished")


def _compare(path: Path, wanted: Mapping[str, Any]) -> None:
    """Raise Damaged unless the JSON file has these values; it may have others too."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise Damaged(f"{path} is damaged: it is not a JSON object")
    for name, value in wanted.items():
        if name not in found or (found[name], type(found[name])) != (value, type(value)):
            raise Damaged(f"{path} says {name} {found.get(name)!r:.60}, the checkpoint {value!r:.60}")
