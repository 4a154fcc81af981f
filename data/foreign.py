"""Files that can't be read as images here: what they are, by their first bytes, and what to do about it."""

from __future__ import annotations

import re
from pathlib import PurePath

_WRITE = "write its arrays, in greyscale, with minidl.data.write_idx"
_SAVE = "open it in an image editor and save it as PNG or JPEG"
_PAGE = "save the page as a PNG image"
_EXTRACT = "extract it and give the images in it"
_JPEG = "save it as JPEG"
_PHONE = (
    "on an iPhone share it as JPEG or take a screenshot of it, and for later photos choose Settings > Camera > Formats "
    "> Most Compatible; on Android switch off high-efficiency pictures in the camera app"
)
_RAW = {".nef", ".arw", ".dng", ".orf", ".rw2", ".pef", ".srw", ".cr2", ".nrw"}  # a camera's own, TIFF at first sight

_STARTS = (
    (b"%PDF", "a PDF document", _PAGE),
    (b"8BPS", "a Photoshop file", _SAVE),
    (b"gimp xcf", "a GIMP file", "export it as PNG"),
    (b"\0\0\1\0", "an ICO icon", _SAVE),
    (b"\xff\x0a", "a JPEG XL image", _SAVE),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image", _SAVE),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image", _SAVE),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image", _SAVE),
    (b"%!PS", "a PostScript file", _PAGE),
    (b"\xc5\xd0\xd3\xc6", "an EPS file", _PAGE),
    (b"PK\x03\x04", "a ZIP archive", _EXTRACT),
    (b"Rar!", "a RAR archive", _EXTRACT),
    (b"7z\xbc\xaf", "a 7z archive", _EXTRACT),
    (b"v/1\x01", "an OpenEXR image", _SAVE),
    (b"#?RADIANCE", "a Radiance HDR image", _SAVE),
    (b"qoif", "a QOI image", _SAVE),
    (b"DDS ", "a DDS image", _SAVE),
    (b"P7\n", "a PAM image", _SAVE),
    (b"SIMPLE  =", "a FITS file", _SAVE),
    (b"FUJIFILM", "a camera's RAW file", _JPEG),
    (b"II*\0\x10\0\0\0CR", "a camera's RAW file", _JPEG),
    (b"\x93NUMPY", "a NumPy array", "write it with minidl.data.write_idx"),
    (b"MATLAB 5", "a MATLAB file", "open it with scipy.io.loadmat and " + _WRITE),
    (b"\x89HDF", "an HDF5 file", "open it with h5py and " + _WRITE),
    (b"PAR1", "a Parquet file", "open it with pandas and " + _WRITE),
    (b"\xd0\xcf\x11\xe0", "an old Office file", "save it as CSV, or its image as PNG"),
    *((bytes([0x80, n]), "a pickled Python object", "open it with pickle.load and " + _WRITE) for n in range(2, 6)),
)
_ZIPS = {  # a zip by another name
    ".npz": ("a NumPy archive", "make a data set from it: python -m minidl.data FILE.npz OUT"),
    ".pt": ("a PyTorch file", "open it with torch.load and " + _WRITE),
    ".pth": ("a PyTorch file", "open it with torch.load and " + _WRITE),
    ".xlsx": ("a spreadsheet", "save it as CSV"),
    ".ods": ("a spreadsheet", "save it as CSV"),
    ".docx": ("a Word document", "save the image in it as PNG or JPEG"),
    ".odt": ("a text document", "save the image in it as PNG or JPEG"),
}
_BOXES = {  # the ISO container, by brand
    "HEIC, the format of phones": (("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"), _PHONE),
    "an AVIF image": (("avif", "avis"), _SAVE),
    "a camera's RAW file": (("crx ",), _JPEG),
}
_HTML = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)


def foreign_format(path: str, head: bytes) -> tuple[str, str] | None:
    """What the file with these first bytes is, and what to do with it; None for an unknown format."""
    if head[4:8] == b"ftyp":
        return _box(head)
    if head.startswith(b"PK\x03\x04") and (other := _ZIPS.get(PurePath(path).suffix.lower())):
        return other
    for start, name, advice in _STARTS:
        if head.startswith(start):
            return name, advice
    if head[:4] in (b"II*\0", b"MM\0*") and PurePath(path).suffix.lower() in _RAW:
        return "a camera's RAW file", _JPEG
    if head[257:262] == b"ustar":
        return "a TAR archive", _EXTRACT
    if _HTML.match(head):
        return "a web page", "not the image itself; open it in a browser and save the image"
    if b"<svg" in head or head.lstrip()[:5] == b"<?xml":
        return "an SVG drawing", "export it as PNG"
    return None


def _box(head: bytes) -> tuple[str, str]:
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, min(len(head), int.from_bytes(head[:4], "big")), 4))]
    for brand in brands[:1] + sorted(brands[1:]):  # the main brand first; `avif` before `mif1`, as both may be listed
        for name, (known, advice) in _BOXES.items():
            if brand in [k.encode() for k in known] and not (brand in (b"mif1", b"msf1") and b"avif" in brands):
                return name, advice
    return "a video or another file in MP4's container", "take a screenshot of the digit"
