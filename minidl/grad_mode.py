"""Whether operations are recorded for backward(): yes, except inside `with no_grad():`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from minidl.telling import block, holding

# Whether operations are recorded. A context variable is per thread: no_grad() in one does not affect the others.
recording: ContextVar[bool] = ContextVar("recording", default=True)


@block
@contextmanager
def no_grad() -> Iterator[None]:
    """`with no_grad():` operations are not recorded, which saves time and memory when no gradient is needed.

    `@no_grad()` does the same for a whole function.
    """
    with holding(recording, False):
        yield


@block
@contextmanager
def enable_grad() -> Iterator[None]:
    """`with enable_grad():` operations are recorded, inside no_grad() too."""
    with holding(recording, True):
        yield


def is_recording() -> bool:
    """Whether operations are recorded here: False inside `with no_grad():`."""
    return recording.get()
