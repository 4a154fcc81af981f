"""Replay: a training run in one HTML file that you can step through, down to the values of a single weight.

Reading order: choose (which steps, which weights), layers (watching), keep (images), frame, recorder, pack, page.
"""

from minidl.trace.command import traced
from minidl.trace.page import PageError, check_replaceable, page, read, write
from minidl.trace.recorder import Recorder

__all__ = ["PageError", "Recorder", "check_replaceable", "page", "read", "traced", "write"]
