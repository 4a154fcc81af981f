"""What a network gets from a file: each image in it in the form of its training images, and what was done to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np

from minidl.backend import Array
from minidl.data import read_idx
from minidl.data.batches import scale
from minidl.data.pictures import Picture, PictureError, read_head, read_picture, starts_as_picture
from minidl.data.polarity import DARK_ON_LIGHT, LIGHT_ON_DARK, MIXED_INVERTED, rim_is_light
from minidl.handwriting.frame import EMNIST, MNIST, Framing, framed, resized
from minidl.handwriting.paper import find_ink
from minidl.handwriting.pieces import Piece, find_digits

# MNIST's content, wherever its files are (see Dataset.sha256)
MNIST_SHA256 = "c65580678af93f1ea48c2c0d01d543ec89307c6b8a0eb7ca542d7c18c5f4c681"
CENTRED = {"mnist": MNIST, "mnist5k": MNIST, "qmnist": MNIST, "emnist": EMNIST}  # data sets with known framing
WIDE = 1.25  # of its height: 2 in 100 of MNIST's digits are this wide


@dataclass(frozen=True, eq=False)
class Seen:
    """One image as a network gets it.

    name     of the file, and which image in it
    pixels   float32 (H, W) in [0, 1], of the network's size, light on dark
    note     what was done to it, in words; "" for one from an IDX file, to which nothing is done
    picture  the picture it was found in, brightness (h, w) in [0, 1]; None for an IDX file
    box      top, bottom, left, right of the part of the picture that was used
    """

    name: str
    pixels: Array
    note: str = ""
    picture: Array | None = None
    box: tuple[int, int, int, int] | None = None


def frame_of(data: dict[str, Any]) -> Framing | None:
    """How the digits of a data set, {"name": ..., "sha256": ...}, are framed; None where that is not known."""
    name = str(data.get("known") or data.get("name", "")).lower()  # known: where it was requested by its folder
    known = "emnist" if name.startswith("emnist") else name
    return MNIST if data.get("sha256") == MNIST_SHA256 else CENTRED.get(known)


def look(
    path: str | os.PathLike[str],
    size: tuple[int, int],
    frame: Framing | None = MNIST,
    how: str = "auto",
    polarity: str = LIGHT_ON_DARK,
) -> Iterator[Seen]:
    """Yield each image of a picture or IDX file, as a network for images of `size` (height, width) takes it.

    frame  how the network's training images are framed, MNIST's digits or EMNIST's; None: not known
    how    "auto": IDX files and pictures of exactly this size unchanged, but light on dark; other pictures framed like
           the training images, digit by digit; where `frame` is None, whole
           "as-is": pictures unchanged, even dark on light, whole, resized to `size`
           "normalize": everything framed, like MNIST's digits where `frame` is None
    polarity  of the network's training images, see data/polarity.py: "auto" gives pictures the same one, and where the
              training images were of both kinds, inverts pictures if those were inverted

    Raises PictureError or IdxError where the file can't be read or no digit stands out in a picture to be framed,
    ValueError for an IDX file of anything but uint8 images of this size.
    """
    path = os.fspath(path)
    head = read_head(path)
    if is_idx(path, head):
        images = _idx_images(path, size, how)
        numbered = [(f"{path}[{i}]", image) for i, image in enumerate(images)]
        if how == "normalize":
            for name, image in numbered:
                yield from normalized(name, Picture(scale(image)[..., None], image.shape), size, frame or MNIST)
        else:
            yield from (Seen(name, scale(image)) for name, image in numbered)
        return
    picture = read_picture(path)
    if how == "normalize" or (how == "auto" and frame is not None and picture.size != size):
        yield from normalized(path, picture, size, frame or MNIST)
    else:
        yield whole(path, picture, size, how, polarity)


def is_idx(path: str, head: bytes) -> bool:
    """Whether to read this as IDX: by its first bytes, or where they do not tell, by its name."""
    if starts_as_picture(head):
        return False
    named = "idx" in PurePath(path).name.lower() or "ubyte" in PurePath(path).name.lower()
    return head[:2] == b"\x1f\x8b" or (head[:2] == b"\0\0" and head[2:3] in b"\x08\x09\x0b\x0c\x0d\x0e") or named


def _idx_images(path: str, size: tuple[int, int], how: str) -> Array:
    images = read_idx(path)
    images = images[None] if images.ndim == 2 else images
    fits = images.ndim == 3 and (images.shape[1:] == size or how == "normalize")
    if not fits or images.dtype != np.uint8 or not images.size:
        raise ValueError(
            f"{path} holds {images.dtype} of shape {images.shape}, this model takes uint8 images of {size[0]}x{size[1]}"
        )
    return images


def normalized(name: str, picture: Picture, size: tuple[int, int], frame: Framing) -> Iterator[Seen]:
    """Each digit of a picture, found on its paper and framed."""
    try:
        ink = find_ink(picture)
        digits = find_digits(ink.strength)
    except ValueError as error:
        raise PictureError(f"{name}: {error}") from None
    if not digits:
        raise PictureError(f"{name}: it is blank: nothing stands out from its background")
    done = [*picture.notes, polarity(ink.dark), f"cropped from {_by(picture.size)}, resized and centred"]
    for i, (piece, own) in enumerate(digits):
        which = f", digit {i + 1} of {len(digits)}" if len(digits) > 1 else ""
        wide = ["very wide: digits that touch are read as one"] if piece.width > WIDE * piece.height else []
        largest = [f"the largest of {piece.others + 1} marks of unlike heights"] if piece.others else []
        yield Seen(name + which, framed(own, size, frame), ", ".join(done + largest + wide), picture.grey, _box(piece))


def _box(piece: Piece) -> tuple[int, int, int, int]:
    return piece.top, piece.bottom, piece.left, piece.right


def whole(name: str, picture: Picture, size: tuple[int, int], how: str, wanted: str = LIGHT_ON_DARK) -> Seen:
    """The whole picture; unless "as-is", inverted to the wanted polarity and with its proportions kept."""
    image, done = picture.grey, list(picture.notes)
    if np.ptp(image) < 1 / 255:
        done.append("blank, all of one tone")
    if how == "as-is":
        done.append("as is")
    else:
        invert, words = turned(image, wanted)
        image = 1 - image if invert else image
        done.append(words)
        if picture.size != size:
            image = padded(image, size)
    seen = Seen(name, image.astype(np.float32), picture=picture.grey)
    if picture.size != size:
        done.append(f"resized from {_by(picture.size)}")
        seen = replace(seen, pixels=np.ascontiguousarray(resized(image, size)))
    return replace(seen, note=", ".join(done))


def padded(image: Array, size: tuple[int, ...]) -> Array:
    """The picture padded with its background on two sides to the proportions of `size`."""
    (h, w), (height, width) = image.shape, size
    more = max(0, round(w * height / width) - h), max(0, round(h * width / height) - w)
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return np.pad(image, [(n // 2, n - n // 2) for n in more], constant_values=float(np.median(rim)))


def turned(image: Array, wanted: str) -> tuple[bool, str]:
    """Whether to invert a picture for a network of that polarity, and a note on it."""
    if wanted not in (LIGHT_ON_DARK, DARK_ON_LIGHT):
        return wanted == MIXED_INVERTED, "inverted" if wanted == MIXED_INVERTED else "as is"
    dark = rim_is_light(image)
    if wanted == LIGHT_ON_DARK:
        return dark, polarity(dark)
    return not dark, "dark on light" if dark else "light on dark: inverted"


def polarity(dark: bool) -> str:
    """The note on a picture that is made light on dark."""
    return "dark on light: inverted" if dark else "light on dark"


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
