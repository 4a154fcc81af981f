"""Picture files: one digit written in every way that a file can hold it is one picture; what is none is refused."""

import os
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from minidl.data import load_mnist, write_idx
from minidl.data.foreign import foreign_format
from minidl.data.pictures import SIDE, STRETCHED, PictureError, read_picture

DIGIT = np.kron(load_mnist(name="mnist5k").test_images[7], np.ones((3, 2), np.uint8))  # 84 x 56: no side like another
GREY = Image.fromarray(DIGIT)
Turn = Image.Transpose
UPRIGHT = {  # what a camera held that way has stored
    1: None, 2: Turn.FLIP_LEFT_RIGHT, 3: Turn.ROTATE_180, 4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE, 6: Turn.ROTATE_90, 7: Turn.TRANSVERSE, 8: Turn.ROTATE_270,
}  # fmt: skip


def sixteen(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)


STORED = {
    "png grey": (GREY, "PNG", {}), "png colour": (GREY.convert("RGB"), "PNG", {}),
    "png palette": (GREY.convert("P"), "PNG", {}), "png alpha": (GREY.convert("RGBA"), "PNG", {}),
    "png grey alpha": (GREY.convert("LA"), "PNG", {}), "png 16 bits": (sixteen(GREY), "PNG", {}),
    "tiff": (GREY, "TIFF", {}), "tiff lzw": (GREY, "TIFF", {"compression": "tiff_lzw"}),
    "tiff colour": (GREY.convert("RGB"), "TIFF", {}), "tiff cmyk": (GREY.convert("CMYK"), "TIFF", {}),
    "tiff 16 bits": (sixteen(GREY), "TIFF", {}), "tiff 32 bits": (Image.fromarray(DIGIT * np.int32(257)), "TIFF", {}),
    "tiff float": (Image.fromarray(DIGIT / np.float32(255)), "TIFF", {}),
    "tiff palette": (GREY.convert("P"), "TIFF", {}),
    "bmp": (GREY, "BMP", {}), "bmp colour": (GREY.convert("RGB"), "BMP", {}), "gif": (GREY, "GIF", {}),
    "webp": (GREY, "WEBP", {"lossless": True}), "webp alpha": (GREY.convert("RGBA"), "WEBP", {"lossless": True}),
    "pgm": (GREY, "PPM", {}), "ppm": (GREY.convert("RGB"), "PPM", {}), "pgm 16 bits": (sixteen(GREY), "PPM", {}),
    "jpeg": (GREY, "JPEG", {"quality": 95}), "jpeg colour": (GREY.convert("RGB"), "JPEG", {"quality": 95}),
    "jpeg cmyk": (GREY.convert("CMYK"), "JPEG", {"quality": 95}),
    "jpeg progressive": (GREY, "JPEG", {"quality": 95, "progressive": True}),
}  # fmt: skip


@pytest.mark.parametrize("how", STORED)
def test_however_it_is_stored_it_is_one_picture(tmp_path, how):
    image, kind, options = STORED[how]
    image.save(tmp_path / "digit.png", kind, **options)  # the name says nothing
    picture = read_picture(tmp_path / "digit.png")
    assert picture.size == (84, 56)
    assert picture.notes == ((STRETCHED,) if how == "tiff 32 bits" else ())
    np.testing.assert_allclose(picture.grey, DIGIT / 255, rtol=0, atol=0.06 if kind == "JPEG" else 1e-5)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_numbers_of_32_bits(tmp_path, kind):
    """Whole ones up to 255 are bytes, and no darker picture is made lighter; of others it is said."""
    dark = (DIGIT // 2 + 20).astype(kind)
    Image.fromarray(dark).save(tmp_path / "x.tif")
    np.testing.assert_allclose(read_picture(tmp_path / "x.tif").grey, dark / np.float32(255), atol=1e-6)
    assert read_picture(tmp_path / "x.tif").notes == ()
    for other in (dark * 3, dark - 30):
        Image.fromarray(other.astype(kind)).save(tmp_path / "x.tif")
        picture = read_picture(tmp_path / "x.tif")
        np.testing.assert_allclose(picture.grey, (other - other.min()) / np.ptp(other), atol=1e-6)
        assert picture.notes == (STRETCHED,)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "PPM"])
def test_one_bit(tmp_path, kind):
    Image.fromarray(DIGIT > 127).save(tmp_path / "x", kind)
    np.testing.assert_array_equal(read_picture(tmp_path / "x").grey, DIGIT > 127)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("interlaced", [False, True])
def test_png_of_few_bits_and_interlaced(tmp_path, bits, interlaced):
    """Written by hand, chunk by chunk: Pillow writes neither."""
    values = DIGIT >> (8 - bits)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]  # Adam7
    parts = [values[y::dy, x::dx] for y, x, dy, dx in passes] if interlaced else [values]
    raw = b"".join(b"\0" + packed_row(row, bits) for part in parts for row in part)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 56, 84, bits, 0, 0, 0, interlaced)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    np.testing.assert_allclose(read_picture(tmp_path / "x.png").grey, values / (2**bits - 1), atol=1e-5)


def packed_row(row: np.ndarray, bits: int) -> bytes:
    each = (row[:, None] >> np.arange(bits)[::-1]) & 1
    return np.packbits(each.astype(np.uint8)).tobytes()


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_followed(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = UPRIGHT[orientation]
    stored = GREY if turn is None else GREY.transpose(turn)
    for image in [stored, sixteen(stored)] if kind in ("PNG", "TIFF") else [stored]:
        options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
        image.save(tmp_path / "x", kind, exif=exif, **options)
        picture = read_picture(tmp_path / "x")
        assert picture.size == (84, 56)
        np.testing.assert_allclose(picture.grey, DIGIT / 255, rtol=0, atol=0.06 if kind == "JPEG" else 1e-5)


def test_what_is_transparent_is_paper(tmp_path):
    for level, wanted in ((0, 1 - DIGIT / 255), (255, DIGIT / 255)):  # black strokes on white, white ones on black
        image = Image.new("LA", GREY.size, (level, 0))
        image.putalpha(GREY)
        image.save(tmp_path / "x.png")
        np.testing.assert_allclose(read_picture(tmp_path / "x.png").grey, wanted, atol=0.01)


def test_colours_stay_and_brightness_is_bt601(tmp_path):
    Image.new("RGB", (3, 2), (255, 51, 0)).save(tmp_path / "x.png")
    picture = read_picture(tmp_path / "x.png")
    assert picture.pixels.shape == (2, 3, 3)
    np.testing.assert_allclose(picture.grey, 0.299 + 0.587 * 0.2, atol=1e-6)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP"])
def test_of_several_pages_the_first(tmp_path, kind):
    other = Image.fromarray(255 - DIGIT)
    options = {"lossless": True} if kind == "WEBP" else {}
    GREY.save(tmp_path / "x", kind, save_all=True, append_images=[other], **options)
    picture = read_picture(tmp_path / "x")
    assert picture.notes == (f"the first of its {'pages' if kind == 'TIFF' else 'frames'}",)
    np.testing.assert_allclose(picture.grey, DIGIT / 255, atol=0.01)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_large_picture_is_averaged_down(tmp_path, kind):
    big = Image.fromarray(np.kron(DIGIT, np.ones((50, 50), np.uint8)))  # 4200 x 2800
    (sixteen(big) if kind == "TIFF" else big).save(tmp_path / "x", kind)
    picture = read_picture(tmp_path / "x")
    assert picture.size == (4200, 2800)
    assert max(picture.grey.shape) <= SIDE
    rough = np.asarray(Image.fromarray(picture.grey).resize((56, 84), Image.Resampling.BOX))
    assert np.abs(rough - DIGIT / 255).mean() < 0.01


# ---- refused ----


def refusal(path) -> str:
    with pytest.raises(PictureError) as caught:
        read_picture(path)
    assert str(caught.value).count("\n") == 0
    return str(caught.value)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"), (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1avif", "AVIF"), (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "MP4"),
        (b"%PDF-1.7\n", "PDF"), (b"8BPS\0\1", "Photoshop"), (b"\0\0\1\0\1\0", "ICO"), (b"\xff\x0a\0\0", "JPEG XL"),
        (b"<!DOCTYPE html><html>", "web page"), (b"<svg xmlns=", "SVG"), (b"PK\x03\x04", "ZIP"),
    ],
)  # fmt: skip
def test_other_formats_are_refused_by_name(tmp_path, head, name):
    (tmp_path / "photo.png").write_bytes(head + bytes(64))
    message = refusal(tmp_path / "photo.png")
    assert name in message
    assert "which is not read here: " in message


def test_heic_says_what_to_do_on_a_phone(tmp_path):
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    assert "Settings > Camera > Formats > Most Compatible" in refusal(tmp_path / "IMG_1.HEIC")


def test_a_camera_s_raw_file_is_no_tiff(tmp_path):
    GREY.save(tmp_path / "a.nef", "TIFF")
    assert "RAW" in refusal(tmp_path / "a.nef")
    assert foreign_format("a.tif", b"II*\0" + bytes(20)) is None


def test_what_is_no_picture_at_all(tmp_path):
    (tmp_path / "no.png").write_bytes(b"not a picture")
    assert "can't be read as a PNG" in refusal(tmp_path / "no.png")
    (tmp_path / "empty.png").touch()
    assert refusal(tmp_path / "empty.png").endswith("is empty")
    assert refusal(tmp_path / "none.png").startswith("there is no file")
    write_idx(tmp_path / "x.idx", DIGIT[None])
    assert "can't be read as a PNG" in refusal(tmp_path / "x.idx")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "PPM"])
def test_a_file_cut_short_is_damaged(tmp_path, kind):
    GREY.save(tmp_path / "x", kind)
    whole = (tmp_path / "x").read_bytes()
    for n in (12, len(whole) // 2):
        (tmp_path / "short").write_bytes(whole[:n])
        assert "damaged" in refusal(tmp_path / "short")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_what_is_no_plain_file(tmp_path, monkeypatch):
    assert "is a folder" in refusal(tmp_path)
    assert "a device" in refusal("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe" in refusal(tmp_path / "pipe")  # and nobody waits for its other end
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's path must be short
        server.bind("s")
        assert "a socket" in refusal("s")


@pytest.mark.parametrize(("size", "refused"), [((16000, 16000), True), ((50000, 5001), True), ((15000, 15000), False)])
def test_more_than_250_megapixels_are_refused_before_they_are_unfolded(tmp_path, size, refused):
    """A PNG that claims that size and has no pixels: where they are asked for, it is found damaged."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", *size, 1, 0, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b""))
    message = refusal(tmp_path / "bomb.png")
    assert ("make it smaller than 250 million" in message) == refused
    assert ("damaged" in message) != refused
    assert Image.MAX_IMAGE_PIXELS is not None  # Pillow's own bound stands again
