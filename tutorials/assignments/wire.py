"""Values over a pipe: a JSON header, then the arrays' bytes. Reading a message executes nothing in it.

A message is two lengths (4 bytes each), the header, the body. The header has the value, with {"array": i} in place of
each array, and the arrays' dtypes and shapes. The reader trusts nothing: it checks lengths, dtypes and shapes first.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

LIMIT = 16 << 20  # bytes of a message; the longest answer to any request is far shorter
DTYPES = ("<f2", "<f4", "<f8", "<i4", "<i8", "|b1", "|u1")


class WireError(Exception):
    """What came over the pipe is not a message."""


def pack(value: Any) -> bytes:
    """A message with a value: None, bool, number, str, array, or lists and dicts of these; otherwise TypeError."""
    arrays: list[np.ndarray[Any, Any]] = []
    head = json.dumps({"value": _take_out(value, arrays), "arrays": [[a.dtype.str, a.shape] for a in arrays]}).encode()
    body = b"".join(a.tobytes() for a in arrays)
    if len(head) + len(body) > LIMIT:
        raise TypeError(f"{len(body):,} bytes of arrays are too much for one answer")
    return struct.pack(">II", len(head), len(body)) + head + body


def _take_out(value: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        array = np.array(value, subok=False)  # a subclass becomes a plain array
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        if array.dtype.str not in DTYPES:
            raise TypeError(f"an array of dtype {array.dtype} is not made of plain numbers")
        arrays.append(array)
        return {"array": len(arrays) - 1}
    if isinstance(value, dict):
        return {"dict": {str(k): _take_out(v, arrays) for k, v in value.items()}}
    if isinstance(value, list | tuple):
        return [_take_out(v, arrays) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} is neither an array nor a number")


def unpack(read: Callable[[int], bytes]) -> Any:
    """The value in the next message; read(n) returns exactly n bytes. Raises WireError if it is not a message."""
    sizes = struct.unpack(">II", read(8))
    if sum(sizes) > LIMIT:
        raise WireError(f"an answer of {sum(sizes):,} bytes: too large")
    head, body = read(sizes[0]), read(sizes[1])
    try:
        parsed = json.loads(head)
        arrays, start = [], 0
        for dtype, shape in parsed["arrays"]:
            if dtype not in DTYPES or not all(type(n) is int and n >= 0 for n in shape):
                raise WireError(f"an array of dtype {dtype!r} and shape {shape!r}")
            count = math.prod(shape)
            arrays.append(np.frombuffer(body, dtype, count, start).reshape(shape).copy())
            start += arrays[-1].nbytes
        return _put_in(parsed["value"], arrays)
    except WireError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError) as error:
        raise WireError(f"an answer that can't be read ({type(error).__name__})") from error


def _put_in(value: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, list):
        return [_put_in(v, arrays) for v in value]
    if isinstance(value, dict):
        if "array" in value:
            return arrays[value["array"]]
        return {k: _put_in(v, arrays) for k, v in value["dict"].items()}
    return value
