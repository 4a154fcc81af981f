"""The page: recordings packed into one HTML file, with its style and scripts, that opens anywhere without a network.

The files under web/ are plain HTML, CSS and JavaScript; here they are only inlined.
"""

from __future__ import annotations

import base64
import html as markup
import os
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from minidl.data.atomic import write_text
from minidl.data.outputs import LEFT_ALONE, PAGE, OutputError, check_place
from minidl.data.schema import WrongKind, anything, listed, mapping, maybe, table, text, whole, wrong
from minidl.trace.choose import BEFORE, DENSE
from minidl.trace.pack import pack, unpack

LIMIT = 8_000_000  # bytes of a page with one recording
LARGEST = 1 << 28  # bytes of a page to read: one that can't be thinned out further may be larger than LIMIT
FORMAT = 1  # of a recording; raised when its meaning changes
SCRIPTS = (
    "data.js", "draw.js", "charts.js", "timeline.js", "network.js", "lens.js", "whatif.js", "story.js", "switch.js",
    "tour.js", "app.js",
)  # fmt: skip
_BLOB = re.compile(r'<script type="text/plain" class="recording">([A-Za-z0-9+/=\s]*)</script>')


def _array(value: Any, where: str) -> None:
    if not isinstance(value, np.ndarray) or value.ndim != 1:
        raise wrong(where, "an array of one dimension", value)


_STEPS = listed(table({"step": whole()}, others=anything))
_RECORDING = table(  # what other parts of the program read of one; the rest is for the page's scripts
    {
        "format": whole(), "title": text(), "config": maybe(mapping(anything)), "first": whole(), "last": whole(),
        "loss": _array, "lr": _array, "phases": listed(listed(anything, 2, 2)), "layers": listed(anything),
        "frames": _STEPS, "history": _STEPS, "left_out": listed(text()),
        "switch": maybe(table({}, {"event": maybe(table({"step": whole()}, others=anything))}, anything)),
    },
    others=anything,
)  # fmt: skip


class PageError(ValueError):
    """A file that is not a replay page, or a place where none can be written. The message names it."""


@cache
def _file(name: str) -> str:
    return (files("minidl.trace") / "web" / name).read_text(encoding="utf-8")


def page(recordings: Sequence[dict[str, Any]], limit: int = LIMIT) -> str:
    """The HTML of one recording, or of two side by side. `limit` is in bytes per recording."""
    room = limit - sum(len(_file(name).encode()) for name in ("page.html", "page.css", *SCRIPTS))
    blobs = [base64.b64encode(fitting(recording, room * 3 // 4)).decode() for recording in recordings]
    scripts = "\n".join(_file(name) for name in SCRIPTS)
    parts = {
        "{{title}}": markup.escape(" | ".join(recording["title"] for recording in recordings)),
        "{{style}}": _file("page.css"),
        "{{recordings}}": "\n".join(f'<script type="text/plain" class="recording">{blob}</script>' for blob in blobs),
        "{{scripts}}": scripts,
    }
    return re.sub("|".join(map(re.escape, parts)), lambda match: parts[match[0]], _file("page.html"))


def fitting(recording: dict[str, Any], room: int) -> bytes:
    """The recording packed into `room` bytes: while it is larger, every other one of its sparse steps is dropped."""
    frames, data = recording["frames"], pack(recording)
    while len(data) > room:
        kept = thinned(recording, frames)
        if len(kept) == len(frames):
            break  # the steps left must stay
        frames = kept
        dropped = len(recording["frames"]) - len(frames)
        note = f"{dropped} of {len(recording['frames'])} recorded steps were dropped to keep the page small."
        data = pack({**recording, "frames": frames, "left_out": [*recording["left_out"], note]})
    return data


def thinned(recording: dict[str, Any], frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The frames without every other step of those far from the start, the switch and the end."""
    event = (recording["switch"] or {}).get("event")
    near = {recording["last"], *range(DENSE + 1)}
    if event:
        near |= set(range(event["step"] - BEFORE, event["step"] + DENSE + 1))
    far = [frame["step"] for frame in frames if frame["step"] not in near]
    dropped = set(far[1::2])
    return [frame for frame in frames if frame["step"] not in dropped]


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The recordings of a page. Raises PageError if the file is missing or not a replay page."""
    try:
        if not os.path.exists(path):
            raise PageError(f"there is no file {path}")
        if not os.path.isfile(path):
            raise PageError(f"{path} is not a regular file: give a page that minidl.train --trace wrote")
        if (size := os.path.getsize(path)) > LARGEST:
            raise PageError(f"{path} has {size:,} bytes: no replay page is that large")
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PageError(f"{path} can't be read as a replay page: {error}") from error
    try:
        recordings = [unpack(base64.b64decode("".join(blob.split()), validate=True)) for blob in _BLOB.findall(text)]
    except ValueError as error:
        raise PageError(f"{path} holds {error}") from error
    if not recordings:
        raise PageError(f"{path} is not a replay page: write one with python -m minidl.train --trace FILE.html")
    for recording in recordings:
        _check(recording, path)
    return recordings


def _check(recording: Any, path: str | os.PathLike[str]) -> None:
    if not isinstance(recording, dict) or recording.get("format") != FORMAT:
        raise PageError(f"{path} was written by another version of minidl: read it with that one")
    try:
        _RECORDING(recording, "")
    except WrongKind as error:
        raise PageError(f"{path} holds no recording of this version: {error}") from None
    steps = recording["last"] - recording["first"] + 1
    if not len(recording["loss"]) == len(recording["lr"]) == steps:
        raise PageError(f"{path} holds {len(recording['loss']):,} losses for {steps:,} steps: it is damaged")


def write(path: str | os.PathLike[str], html: str) -> None:
    """Write a page, whole or not at all."""
    write_text(path, html)


def check_replaceable(path: str | os.PathLike[str], pages: Sequence[str | os.PathLike[str]] = ()) -> None:
    """Raise PageError, before hours of training, if no page can be written there; or if the file there is not a valid
    replay page, or is one of the `pages` to be read: it may be the only copy of something."""
    path = Path(path)
    try:
        check_place(path, PAGE, str(path))
        if path.exists():
            read(path)
    except OutputError as error:
        raise PageError(str(error)) from None
    except PageError as error:
        raise PageError(f"{error}. {LEFT_ALONE}") from None
    if path.exists() and any(os.path.exists(page) and path.samefile(page) for page in pages):
        raise PageError(f"{path} is one of the pages to be read: give another name")


def inline(html: str) -> str:
    """The page in an iframe, for a notebook."""
    return f'<iframe srcdoc="{markup.escape(html)}" style="width:100%;height:900px;border:0" title="replay"></iframe>'
