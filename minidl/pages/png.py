"""Small PNG images for a page. The format is a header and zlib-compressed rows, so no image library is needed.

Format: https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from minidl.backend import Array

NEGATIVE, ZERO, POSITIVE = np.array([[47, 102, 176], [244, 244, 241], [194, 69, 45]], np.float64)  # blue, paper, red


def png(pixels: Array) -> bytes:
    """A PNG file from bytes (H, W), grey, or (H, W, 3), RGB."""
    height, width = pixels.shape[:2]
    colour = 2 if pixels.ndim == 3 else 0
    rows = np.ascontiguousarray(pixels, np.uint8).reshape(height, -1)
    filtered = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # each row: filter 0, none
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def uri(pixels: Array) -> str:
    """The same as a data URI, for an <img>."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def grey(image: Array) -> Array:
    """An image (H, W) as bytes: unchanged if it is bytes, else scaled from its lowest value (black) to its highest."""
    if image.dtype == np.uint8:
        return image
    low, high = float(image.min()), float(image.max())
    return np.round((image - low) * (255 / (high - low or 1.0))).astype(np.uint8)


def signed(values: Array) -> Array:
    """Signed values (H, W) as colours (H, W, 3): negative blue, positive red, the largest at full saturation."""
    scaled = (values / (np.abs(values).max() or 1.0)).astype(np.float64)[..., None]
    return np.round(ZERO + np.where(scaled < 0, NEGATIVE - ZERO, POSITIVE - ZERO) * np.abs(scaled)).astype(np.uint8)
