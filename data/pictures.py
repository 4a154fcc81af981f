"""An image file as an array: what a phone, a scanner or a drawing program writes, read by Pillow.

Pillow decodes the bytes. This module handles what silently spoils a picture: a phone's orientation, 16 bits truncated
to 8, transparency, a file with another format's extension, and one that is too large to decode.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl.data.batches import scale
from minidl.data.foreign import foreign_format
from minidl.data.idx import DataError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")  # Pillow's names
READ = "PNG, JPEG, TIFF, BMP, GIF, WebP or PNM"
MOST_PIXELS = 250_000_000
SIDE = 1000  # pixels: a larger picture is averaged down to at most this, more than a digit needs
FAINT = 16  # pixel values up to this, such as 0 to 1 or scikit-learn's 0 to 16, are fractions of white
STRETCHED = "its range stretched from black to white"  # a note, where pixel values do not tell what white is
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601: how bright red, green and blue look

_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM", b"GIF8")


class PictureError(DataError):
    """A file that can't be read as an image here. The message names it and says what to do."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, upright, with transparency replaced by paper.

    pixels  float32 (H, W, C) in [0, 1]; C is 1 for grey, 3 for red, green, blue; averaged down to at most SIDE a side
    size    (height, width) as stored, upright
    notes   what the user should know: "the first of its frames", STRETCHED
    """

    pixels: NDArray[np.float32]
    size: tuple[int, int]
    notes: tuple[str, ...] = ()

    @property
    def grey(self) -> NDArray[np.float32]:
        """Brightness (H, W) in [0, 1]."""
        return self.pixels[..., 0] if self.pixels.shape[2] == 1 else self.pixels @ LUMA


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Read a PNG, JPEG, TIFF, BMP, GIF, WebP or PNM file, whatever its name, its bit depth or its colours.

    The EXIF orientation is applied. Only the first page or frame is read. Raises PictureError where it is not such a
    file, is damaged or has more than 250 megapixels (checked before decoding), or where it is a folder, a device or a
    pipe.
    """
    head = read_head(path)
    if not starts_as_picture(head) or foreign_format(os.fspath(path), head):
        raise _refused(path, head)
    from PIL import Image, UnidentifiedImageError  # here: most programs read no image

    Image.init()  # else it knows only some of its formats
    try:
        # By file and not by name: Pillow 13 maps a named TIFF into memory with the wrong width where it is rotated.
        with _quiet(), open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise PictureError(
                    f"{path} has {width}x{height} pixels, {width * height / 1e6:,.0f} million: make it smaller than "
                    f"{MOST_PIXELS // 1_000_000} million, a digit needs a few thousand"
                )
            return _unfold(image)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"{path} can't be read as a {READ} file: it begins as one, but is damaged") from None
    except MemoryError:
        raise PictureError(f"{path}: not enough memory to decode {width}x{height} pixels: make it smaller") from None
    except Exception as error:  # decoders raise many types; all mean that the file is damaged
        raise PictureError(f"{path} can't be read as a {READ} file, it is damaged: {_words(error)}") from error


def read_head(path: str | os.PathLike[str], n: int = 256) -> bytes:
    """The first n bytes. Raises PictureError for anything but a non-empty regular file: see `read_picture`."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise PictureError(f"{path} is a folder: give its files, as in {Path(path) / '*.png'}")
        if not stat.S_ISREG(mode):
            raise PictureError(f"{path} is not a file but {_kind(mode)}: save the image as a file and give that")
        with open(path, "rb") as file:
            head = file.read(n)
    except PictureError:
        raise
    except FileNotFoundError:
        web = os.fspath(path).startswith(("http:/", "https:/"))
        hint = ": that is a web address, so save the image and give that file" if web else ""
        raise PictureError(f"there is no file {path}{hint}") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte in it
        raise PictureError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from None
    if not head:
        raise PictureError(f"{path} is empty")
    return head


def starts_as_picture(head: bytes) -> bool:
    """Whether these first bytes are those of a format that is read here; the file's name does not matter."""
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    pnm = head[:1] == b"P" and head[1:2] in b"123456fF" and head[2:3].isspace()
    return (head.startswith(_STARTS) or webp or pnm) and foreign_format("", head) is None


def _refused(path: str | os.PathLike[str], head: bytes) -> PictureError:
    name, advice = foreign_format(os.fspath(path), head) or (None, "")
    if name:
        return PictureError(f"{path} is {name}, which is not read here: {advice}")
    begins = head[:8].hex(" ")
    return PictureError(f"{path} can't be read as a {READ} file: it begins with {begins}, which none of them does")


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISBLK, "a disk"))
    return next((name for test, name in kinds if test(mode)), "a device")


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings about odd files, and with our limit on the size in place of its own."""
    from PIL import Image

    bound = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            Image.MAX_IMAGE_PIXELS = None
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = bound


# ---- from Pillow's image to numbers ----


def _unfold(image: Any) -> Picture:
    from PIL import ImageOps

    several = image.format != "MPO" and getattr(image, "is_animated", False)
    notes = (f"the first of its {'pages' if image.format == 'TIFF' else 'frames'}",) if several else ()
    image.seek(0)
    width, height = image.size
    if image.format != "TIFF" and image.getexif().get(0x0112, 1) > 4:  # it is on its side; Pillow rotates TIFF itself
        width, height = height, width
    top = _top(image)
    image.draft(None, (SIDE, SIDE))  # a large JPEG can be decoded at a half, a quarter or an eighth
    image.load()
    turned = ImageOps.exif_transpose(image)
    pixels, stretched = _deep(turned, top) if _is_deep(turned) else (_eight_bits(turned), False)
    return Picture(np.ascontiguousarray(pixels), (height, width), notes + (STRETCHED,) * stretched)


def _is_deep(image: Any) -> bool:
    return image.mode == "F" or image.mode.startswith("I")


def _top(image: Any) -> float:
    """The value of white where pixels have more than 8 bits; 0 where it follows from the picture's own range."""
    bits = getattr(image, "tag_v2", {}).get(258, (16,))  # TIFF's BitsPerSample
    bits = bits[0] if isinstance(bits, tuple) else bits
    return float(2**bits - 1) if bits <= 16 else 0.0


def _deep(image: Any, top: float) -> tuple[NDArray[np.float32], bool]:
    """16 or 32 bits of grey, integers or floats, in [0, 1]; and whether they were stretched from their own range."""
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("some of its pixels are not finite")
    low, high, stretched = float(values.min()), float(values.max()), False
    if image.mode == "F" or not top or low < 0 or high > top:
        bytes_ = FAINT < high <= 255 and np.array_equal(values, np.round(values))
        top = 255.0 if bytes_ else 1.0
        stretched = low < 0 or high > top
        low, top = (low, high - low) if stretched else (0.0, top)
        values -= low
    grey = values / np.float32(top or 1.0)
    secret = image.info.get("transparency")
    if isinstance(secret, int):  # a PNG's one transparent grey
        grey = on_paper(grey[..., None], (values != secret).astype(np.float32))[..., 0]
    return averaged(grey)[..., None], stretched


def _eight_bits(image: Any) -> NDArray[np.float32]:
    """Everything else, by Pillow's own conversions."""
    if image.mode == "LAB":
        image = image.getchannel("L")
    if image.has_transparency_data:
        image = image.convert("RGBA").convert("RGBa")  # colours times opacity, so that they can be averaged
    elif image.mode in ("1", "L"):
        image = image.convert("L")
    else:
        image = image.convert("RGB")
    factor = -(-max(image.size) // SIDE)
    pixels = scale(np.asarray(image.reduce(factor) if factor > 1 else image))
    if pixels.ndim == 2:
        return pixels[..., None]
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3]
        pixels = on_paper(np.divide(pixels[..., :3], np.maximum(alpha, np.float32(1 / 255))[..., None]), alpha)
    grey = pixels[..., :1]
    return grey if np.array_equal(pixels, np.broadcast_to(grey, pixels.shape)) else pixels


def averaged(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) down to at most SIDE a side: means of square blocks; the remainder at the right and below is dropped."""
    k = -(-max(grey.shape) // SIDE)
    if k == 1:
        return grey
    h, w = (max(1, n // k) for n in grey.shape)
    return grey[: h * k, : w * k].reshape(h, min(k, grey.shape[0]), w, min(k, grey.shape[1])).mean((1, 3))


def on_paper(colour: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels (H, W, C) with opacity (H, W), on white; on black where everything visible is bright and would vanish.

    White strokes on a transparent background were drawn for a dark screen, black ones for paper.
    """
    seen = colour.mean(2)[alpha > 0.5]
    bright = seen.size > 0 and float(seen.min()) > 0.5 and float(alpha.min()) < 0.5
    paper = 0.0 if bright and float(np.ptp(seen)) < 0.25 else 1.0
    opacity = alpha[..., None]
    return colour * opacity + paper * (1 - opacity)
