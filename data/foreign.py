"""Files that are no picture which can be read here: what they are, by their first bytes, and what to do about it."""

from __future__ import annotations

import re
from pathlib import PurePath

_WRITE = "write its arrays, grey, with minidl.data.write_idx"
_SAVE = "open it in a picture program and save it as PNG or JPEG"
_PHONE = (
    "on an iPhone share it as JPEG or take a screenshot of it, and for later photos choose Settings > Camera > Formats "
    "> Most Compatible; on Android switch off the camera's high-efficiency pictures"
)
_RAW = {".nef", ".arw", ".dng", ".orf", ".rw2", ".pef", ".srw", ".cr2", ".nrw"}  # a camera's own, TIFF at first sight

_STARTS = (
    (b"%PDF", "a PDF document", "save its page as a PNG picture"),
    (b"8BPS", "a Photoshop file", _SAVE),
    (b"gimp xcf", "a GIMP file", "export it as PNG"),
    (b"\0\0\1\0", "an ICO icon", _SAVE),
    (b"\xff\x0a", "a JPEG XL picture", _SAVE),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture", _SAVE),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", _SAVE),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture", _SAVE),
    (b"%!PS", "a PostScript file", "save its page as a PNG picture"),
    (b"\xc5\xd0\xd3\xc6", "an EPS file", "save its page as a PNG picture"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it and give the pictures in it"),
    (b"Rar!", "a RAR archive", "unpack it and give the pictures in it"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it and give the pictures in it"),
    (b"v/1\x01", "an OpenEXR picture", _SAVE),
    (b"#?RADIANCE", "a Radiance HDR picture", _SAVE),
    (b"qoif", "a QOI picture", _SAVE),
    (b"DDS ", "a DDS picture", _SAVE),
    (b"P7\n", "a PAM picture", _SAVE),
    (b"SIMPLE  =", "a FITS file", _SAVE),
    (b"FUJIFILM", "a camera's RAW file", "save it as JPEG"),
    (b"II*\0\x10\0\0\0CR", "a camera's RAW file", "save it as JPEG"),
    (b"\x93NUMPY", "a NumPy array", "write it with minidl.data.write_idx"),
    (b"MATLAB 5", "a MATLAB file", "open it with scipy.io.loadmat and " + _WRITE),
    (b"\x89HDF", "an HDF5 file", "open it with h5py and " + _WRITE),
    (b"PAR1", "a Parquet file", "open it with pandas and " + _WRITE),
    (b"\xd0\xcf\x11\xe0", "an old Office file", "save it as CSV, or its picture as PNG"),
    *((bytes([0x80, n]), "a pickled Python object", "open it with pickle.load and " + _WRITE) for n in range(2, 6)),
)
_ZIPS = {  # a zip by another name
    ".npz": ("an archive of NumPy's arrays", "make a data set of it: python -m minidl.data FILE.npz OUT"),
    ".pt": ("a file of PyTorch", "open it with torch.load and " + _WRITE),
    ".pth": ("a file of PyTorch", "open it with torch.load and " + _WRITE),
    ".xlsx": ("a spreadsheet", "save it as CSV"),
    ".ods": ("a spreadsheet", "save it as CSV"),
    ".docx": ("a Word document", "save the picture in it as PNG or JPEG"),
    ".odt": ("a text document", "save the picture in it as PNG or JPEG"),
}
_BOXES = {  # ISO's container, by its brand
    "HEIC, the format of phones": (("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"), _PHONE),
    "an AVIF picture": (("avif", "avis"), _SAVE),
    "a camera's RAW file": (("crx ",), "save it as JPEG"),
}
_HTML = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)


def foreign_format(path: str, head: bytes) -> tuple[str, str] | None:
    """What the file with these first bytes is, and what to do; None for a format that is not known here."""
    if head[4:8] == b"ftyp":
        return _box(head)
    if head.startswith(b"PK\x03\x04") and (other := _ZIPS.get(PurePath(path).suffix.lower())):
        return other
    for start, name, advice in _STARTS:
        if head.startswith(start):
            return name, advice
    if head[:4] in (b"II*\0", b"MM\0*") and PurePath(path).suffix.lower() in _RAW:
        return "a camera's RAW file", "save it as JPEG"
    if head[257:262] == b"ustar":
        return "a TAR archive", "unpack it and give the pictures in it"
    if _HTML.match(head):
        return "a web page", "what was saved is not the picture; open it in a browser and save the picture itself"
    if b"<svg" in head or head.lstrip()[:5] == b"<?xml":
        return "an SVG drawing", "export it as PNG"
    return None


def _box(head: bytes) -> tuple[str, str]:
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, min(len(head), int.from_bytes(head[:4], "big")), 4))]
    for brand in brands[:1] + sorted(brands[1:]):  # the main one first; `avif` before `mif1`, which both may name
        for name, (known, advice) in _BOXES.items():
            if brand in [k.encode() for k in known] and not (brand in (b"mif1", b"msf1") and b"avif" in brands):
                return name, advice
    return "a video or another file in MP4's container", "take a screenshot of the digit"
