"""Recording a run of `python -m minidl.train`. If training diverges the page is written too: it is needed most then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minidl.telling import counted
from minidl.trace.page import PageError, page, read, write
from minidl.trace.recorder import Recorder
from minidl.training.divergence import Diverged
from minidl.training.own_file import bare, of_file, short
from minidl.training.results import full_summary
from minidl.training.run import Run


@contextmanager
def traced(run: Run) -> Iterator[list[Recorder]]:
    """Record the block's training if the run's options ask for it, and write the page. Yields the observer, if any.

    Raises PageError if the page can't be written in the end; the run itself is then complete.
    """
    path = run.options.trace
    if path is None or run.finished:
        yield []
        return
    recorder = Recorder(run.job.trainer, title_of(run), earlier(run, Path(path)))
    try:
        yield [recorder]
    except Diverged as error:
        recorder.facts["ending"] = str(error)
        write_page(run, recorder, Path(path))
        raise
    write_page(run, recorder, Path(path))


def write_page(run: Run, recorder: Recorder, path: Path) -> None:
    """Write the page, with what the run folder says about the run."""
    done = run.job.trainer.progress.epoch >= run.job.epochs and run.summary is not None
    facts = recorder.facts
    facts["config"] = without_folders(run.settings)
    facts["summary"] = without_folders(full_summary(run.state()) or {}) if done else None
    facts["ending"] = facts["ending"] or ("" if done else f"stopped after step {run.job.trainer.progress.step:,}")
    recording = recorder.recording()
    html = page([recording])
    try:
        write(path, html)
    except OSError as error:
        raise PageError(f"the replay page can't be written: {error}. The run itself is complete") from error
    steps = counted(len(recording["frames"]), "step")
    steps += f", from step {recording['first']:,} on" if recording["first"] > 1 else ""  # its earlier page is gone
    print(f"replay: {path} ({len(html) / 1e6:.1f} MB, {steps}): open it in a browser", flush=True)


def without_folders(told: dict[str, Any]) -> dict[str, Any]:
    """A run's settings or results, with files and data by name only: the page may be shared with a class."""
    told = {name: value for name, value in told.items() if name != "source"}  # the folder of the data
    told |= {option: of_file(told[option]) for option in ("model", "opt") if option in told}
    told |= {name: bare(told[name]) for name in ("dataset", "file") if name in told}
    if "files" in told:
        told["files"] = {bare(file): sha256 for file, sha256 in told["files"].items()}
    if told.get("parent"):
        told["parent"] = {**told["parent"], "run": bare(told["parent"]["run"])}
    return told


def title_of(run: Run) -> str:
    """What the page calls the run."""
    config = run.job.config
    dataset = bare(run.job.dataset.name)  # no path of a machine
    return f"{short(config.model)} on {dataset}, {short(config.opt)}, seed {config.seed}"


def earlier(run: Run, path: Path) -> dict[str, Any] | None:
    """The page's recording of this run up to where it is resumed; None if it has none that this run continues.

    Raises PageError if the file there is not a valid page.
    """
    step = run.job.trainer.progress.step
    if not step or not path.exists():
        return None
    recordings = read(path)
    same = [r for r in recordings if r["config"] and r["config"].get("run") == run.id]  # its data may have moved
    fits = [r for r in same if r["first"] <= step <= r["last"]]
    return fits[0] if fits else None
