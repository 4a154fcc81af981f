"""A recording as compressed bytes: nested lists and dictionaries, with NumPy arrays among them.

Everything but the arrays is JSON; for an array, the JSON has the offset of its bytes, which follow the JSON. A page's
data.js reads this in a few lines, and so does `unpack`.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import zlib
from typing import Any

import numpy as np

LARGEST = 1 << 30  # bytes of a recording, decompressed
ALIGN = 8  # bytes: JavaScript can only make typed arrays at such offsets
TYPES = ("uint8", "int32", "float32", "float64")


def pack(value: Any) -> bytes:
    """The value as bytes. Arrays keep their dtype, one of TYPES; values that JSON lacks, such as NaN, are kept."""
    arrays: list[bytes] = []
    length = 0

    def plain(value: Any) -> Any:
        nonlocal length
        if isinstance(value, np.ndarray):
            name = value.dtype.name
            if name not in TYPES:
                raise TypeError(f"pack takes arrays of {', '.join(TYPES)}, not of {name}")
            data = _planes(np.ascontiguousarray(value))
            note = {"$": [name, list(value.shape), length]}
            data += bytes(-len(data) % ALIGN)
            arrays.append(data)
            length += len(data)
            return note
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            return {"$": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
        return value

    text = json.dumps(plain(value), allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGN)  # the first 8 bytes hold its length
    return gzip.compress(len(text).to_bytes(8, "little") + text + b"".join(arrays), 7, mtime=0)


def unpack(data: bytes) -> Any:
    """The value that was packed. Raises ValueError if the bytes are not a recording."""
    damages = (OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError, zlib.error)
    try:
        return _unpacked(_unzipped(data))
    except damages as error:
        raise ValueError(f"no recording, or a damaged one: {error}") from error


def _unzipped(data: bytes) -> bytes:
    with gzip.open(io.BytesIO(data)) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it decompresses to more than {LARGEST >> 20:,} MiB")
    return content


def _unpacked(data: bytes) -> Any:
    start = 8 + int.from_bytes(data[:8], "little")

    def revived(value: Any) -> Any:
        if isinstance(value, dict):
            note = value.get("$")
            if isinstance(note, str):
                return float(note)
            if note:
                dtype, shape, at = np.dtype(note[0]), note[1], start + note[2]
                return _whole(data[at : at + dtype.itemsize * math.prod(shape)], dtype).reshape(shape)
            return {key: revived(item) for key, item in value.items()}
        return [revived(item) for item in value] if isinstance(value, list) else value

    return revived(json.loads(data[8:start]))


def _planes(array: np.ndarray[Any, Any]) -> bytes:
    """All first bytes of the values, then all second bytes, ...: adjacent exponents compress well."""
    return array.reshape(-1).view(np.uint8).reshape(-1, array.itemsize).T.tobytes()


def _whole(planes: bytes, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    return np.frombuffer(planes, np.uint8).reshape(dtype.itemsize, -1).T.copy().view(dtype).reshape(-1)
