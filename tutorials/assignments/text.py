"""Converts source files to an encoding that Python can read."""

from __future__ import annotations

import codecs
import re

_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*[-\w.]+")  # PEP 263, in the first two lines
_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
          codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip


def as_utf8(data: bytes) -> bytes:
    """The source in UTF-8, if an editor has saved it as UTF-16 or UTF-32, or in Windows code page 1252.

    A file that declares its encoding or is UTF-8 is unchanged, and so is a file that is not text.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return _encoded(data, encoding)
    if data[1::2].count(0) > len(data) // 3:
        return _encoded(data, "utf-16-le")
    if data[::2].count(0) > len(data) // 3:
        return _encoded(data, "utf-16-be")
    if any(_COOKIE.match(each) for each in data.splitlines()[:2]):
        return data
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return _encoded(data, "cp1252")
    return data


def _encoded(data: bytes, encoding: str) -> bytes:
    try:
        return data.decode(encoding).encode("utf-8")
    except UnicodeError:
        return data
