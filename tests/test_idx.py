"""IDX files: what is written is read back, by this reader and by a second one; every bad file is one clear error."""

import gzip
import os
import struct
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minidl import data
from minidl.data import DataError, IdxError, read_idx, write_idx
from minidl.data.idx import idx_sha256
from tests.fuzz_idx import promises_kept, run, second_opinion

DTYPES = ["u1", "i1", "<i2", ">i2", "<i4", ">i4", "<f4", ">f4", "<f8", ">f8"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4)
ARRAYS = hnp.arrays(st.sampled_from(DTYPES).map(np.dtype), SHAPES)
U8 = b"\0\0\x08"


def idx_file(*sizes, body=b"", code=8):
    return struct.pack(f">BBBB{len(sizes)}I", 0, 0, code, len(sizes), *sizes) + body


def error_of(tmp_path, raw, name="file"):
    """The text of the IdxError that the bytes `raw` give."""
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(IdxError) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: at byte {caught.value.offset}: ")
    return caught.value


# ------------------------------------------------------------------------------- sound files


@given(array=ARRAYS, ending=st.sampled_from(["", ".gz"]))
def test_round_trip_agrees_with_a_second_parser(tmp_path_factory, array, ending):
    path = tmp_path_factory.mktemp("idx") / f"file{ending}"
    write_idx(path, array)
    raw = path.read_bytes()
    assert (raw[:2] == b"\x1f\x8b") == (ending == ".gz")
    seen = second_opinion(raw)
    assert seen is not None
    assert seen[1] == array.shape
    assert seen[2] == array.astype(array.dtype.newbyteorder("<")).tobytes()  # bytes: NaNs and -0.0 count
    back = read_idx(path)
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.dtype.isnative
    assert back.shape == array.shape
    assert back.flags.writeable
    assert back.tobytes() == array.astype(back.dtype).tobytes()


@pytest.mark.parametrize(
    ("code", "letter", "value"),
    [(8, "B", 200), (9, "b", -100), (11, "h", -300), (12, "i", -70000), (13, "f", 1.5), (14, "d", -2.25)],
)
def test_element_types_are_big_endian_on_disk(tmp_path, code, letter, value):
    raw = idx_file(2, 1, code=code, body=struct.pack(f">2{letter}", 1, value))
    (tmp_path / "file").write_bytes(raw)
    array = read_idx(tmp_path / "file")
    assert array.dtype == np.dtype(letter)
    assert array.tolist() == [[1], [value]]
    write_idx(tmp_path / "copy", array)
    assert (tmp_path / "copy").read_bytes() == raw


def test_rank_0_zero_sizes_and_the_highest_rank(tmp_path):
    for array in (np.array(7, np.uint8), np.empty((3, 0, 2), np.float32), np.full((1,) * 64, 5, np.int16)):
        write_idx(tmp_path / "file", array)
        back = read_idx(tmp_path / "file")
        assert back.shape == array.shape
        assert back.dtype == array.dtype
        assert back.tobytes() == array.tobytes()


def test_views_are_written_in_their_own_order(tmp_path):
    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    for view in (array.T, array[:, ::-1], array[..., 1:3], np.asfortranarray(array)):
        write_idx(tmp_path / "file", view)
        np.testing.assert_array_equal(read_idx(tmp_path / "file"), view)


def test_gzip_is_told_by_content_not_by_name(tmp_path):
    raw = idx_file(3, body=b"abc")
    (tmp_path / "raw-name").write_bytes(gzip.compress(raw))
    (tmp_path / "packed-name.gz").write_bytes(raw)
    for name in ("raw-name", "packed-name.gz"):
        assert read_idx(tmp_path / name).tobytes() == b"abc"


def test_gzip_in_members_and_with_padding(tmp_path):
    raw = idx_file(6, body=b"abcdef")
    for cut in range(len(raw)):
        (tmp_path / "file").write_bytes(gzip.compress(raw[:cut]) + gzip.compress(raw[cut:]) + bytes(512))
        assert read_idx(tmp_path / "file").tobytes() == b"abcdef"


def test_an_array_of_many_chunks(tmp_path):
    array = np.random.default_rng(0).integers(0, 1 << 14, (300, 700), dtype=np.int32)
    for name in ("file", "file.gz"):
        write_idx(tmp_path / name, array)
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)


def test_gzip_output_is_the_same_at_any_time_and_under_any_name(tmp_path, monkeypatch):
    array = np.arange(100, dtype=np.uint8)
    write_idx(tmp_path / "one.gz", array)
    monkeypatch.setattr(time, "time", lambda: 1.0)
    write_idx(tmp_path / "two.gz", array)
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()
    assert (tmp_path / "one.gz").read_bytes()[4:8] == bytes(4)  # the time stamp
    assert (tmp_path / "one.gz").read_bytes()[8] == 0  # not level 9: MNIST in 15 times the time, for 2 % less space


def test_idx_sha256_is_the_hash_of_the_unpacked_file(tmp_path):
    import hashlib

    array = np.arange(10, dtype=np.int16).reshape(2, 5)
    write_idx(tmp_path / "file", array)
    assert idx_sha256(array) == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()


# ------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("raw", "offset", "words"),
    [
        (b"", 0, "an empty file"),
        (b"\0\0\x08", 0, "only 3 bytes"),
        (b"<!DOCTYPE html><html>", 0, "web page (HTML)"),
        (b"\n <html>", 0, "web page (HTML)"),
        (b"version https://git-lfs.github.com/spec/v1\n", 0, "76 65 72 73: perhaps a Git LFS pointer"),
        (b"\0\1\x08\1\0\0\0\0", 0, "00 01 08 01: not an IDX file"),
        (b"\x93NUMPY", 0, "93 4e 55 4d: not an IDX file"),
        (idx_file(1, body=b"a", code=0x0A), 2, "found 0A"),
        (idx_file(1, body=b"a", code=0x00), 2, "08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64"),
        (U8 + b"\xff" + bytes(2000), 3, "at most 64 dimensions, found 255"),
        (U8 + b"\3" + bytes(7), 11, "sizes of 3 dimensions (12 bytes), found the end of the file after 7"),
        (idx_file(2, 3, body=b"12345"), 17, "6 bytes of uint8 (shape 2x3), found 5 bytes: it is truncated"),
        (idx_file(2, 3), 12, "found 0 bytes: it is truncated"),
        (idx_file(2, 3, body=b"1234567"), 18, "6 bytes of uint8 (shape 2x3), found more bytes"),
        (idx_file(0, 3, body=b"1"), 12, "0 bytes of uint8 (shape 0x3), found more bytes"),
        (idx_file(2, code=14, body=bytes(15)), 23, "16 bytes of float64 (shape 2), found 15"),
        (idx_file(), 4, "1 bytes of uint8 (shape none), found 0"),
        (idx_file(*[2**32 - 1] * 3, body=b"abc"), 19, "79228162458924105385300197375 bytes"),
        (idx_file(0, *[2**31] * 3), 4, "does not fit into memory"),
    ],
)
def test_bad_plain_file(tmp_path, raw, offset, words):
    error = error_of(tmp_path, raw)
    assert words in str(error)
    assert error.offset == offset
    if len(raw) > 4:  # the same damage, packed, is the same error
        packed = error_of(tmp_path, gzip.compress(raw))
        assert packed.offset in (offset, 4)
        assert "uncompressed" in str(packed)


@pytest.mark.parametrize("keep", [3, 10, 12, 40, -9, -8, -4, -1])
def test_truncated_gzip(tmp_path, keep):
    raw = gzip.compress(idx_file(300, body=np.random.default_rng(0).bytes(300)))
    assert "the gzip data is damaged" in str(error_of(tmp_path, raw[:keep]))


@pytest.mark.parametrize(("at", "words"), [(-8, "CRC"), (-1, "length"), (30, "damage")])
def test_damaged_gzip(tmp_path, at, words):
    raw = bytearray(gzip.compress(idx_file(300, body=np.random.default_rng(0).bytes(300))))
    raw[at] ^= 0x41
    assert words in str(error_of(tmp_path, bytes(raw)))


def test_bytes_behind_the_gzip_data(tmp_path):
    raw = gzip.compress(idx_file(3, body=b"abc"))
    assert "damage" in str(error_of(tmp_path, raw + b"x"))
    assert "found more bytes" in str(error_of(tmp_path, raw + gzip.compress(b"x")))


def test_gzip_inside_gzip(tmp_path):
    error = error_of(tmp_path, gzip.compress(gzip.compress(idx_file(3, body=b"abc"))))
    assert "gzip inside gzip; decompress it once" in str(error)


def test_html_in_gzip(tmp_path):
    assert "web page" in str(error_of(tmp_path, gzip.compress(b"<html>")))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_names_that_are_no_readable_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    for path, words in (
        (tmp_path, "found a folder"),
        (tmp_path / "pipe", "device or pipe"),
        (tmp_path / "none", "No such file"),
        (tmp_path / "file" / "in-file", "Not a directory"),
    ):
        with pytest.raises(IdxError, match=words) as caught:
            read_idx(path)
        assert str(path) in str(caught.value)


def as_nobody(code, *arguments):
    """Run Python code as a user without rights, since root may read and write everything."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no users to change to on this system")
    drop = "import os, sys\nif os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    command = [sys.executable, "-c", "import pooch; from minidl import data\n" + drop + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=os.getcwd())


def let_in(folder):
    """Let everybody enter the folder and those around it."""
    for parent in (folder, *folder.parents[:3]):
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o011)


def test_a_file_without_read_permission(tmp_path):
    path = tmp_path / "file"
    write_idx(path, np.arange(3, dtype=np.uint8))
    path.chmod(0)
    let_in(tmp_path)
    done = as_nobody("try: data.idx.read_idx(sys.argv[1])\nexcept data.IdxError as error: print(error)", path)
    assert f"{path}: at byte 0: the file cannot be read: Permission denied" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("place", "mode"), [("raw", 0o644), ("raw/class-names.txt", 0), ("raw/polarity.txt", 0), ("raw/odd.zip", 0)]
)
def test_a_part_of_a_data_set_without_permission(tmp_path, place, mode):
    """A PermissionError came out of load_mnist, and `train` said of it that the run folder can't be written."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for part, rank in {"train-images": 3, "train-labels": 1, "t10k-images": 3, "t10k-labels": 1}.items():
        write_idx(folder / f"{part}-idx{rank}-ubyte", np.zeros((2,) * rank, np.uint8))
    if place != "raw":
        (tmp_path / place).write_text("kept")
    (tmp_path / place).chmod(mode)
    let_in(tmp_path)
    tmp_path.chmod(tmp_path.stat().st_mode | 0o055)
    folder.chmod(folder.stat().st_mode | 0o044 | (0 if place == "raw" else 0o011))
    code = "try: data.load_mnist(sys.argv[1], root=sys.argv[2])\nexcept data.DataError as error: print(error)"
    named = ("emnist-letters", folder) if place.endswith("zip") else (tmp_path, tmp_path)
    done = as_nobody(code, *named)
    assert "can't be read: [Errno 13] Permission denied" in done.stdout, done.stdout + done.stderr


def test_max_bytes(tmp_path):
    write_idx(tmp_path / "file", np.arange(6, dtype=np.int32))
    assert read_idx(tmp_path / "file", max_bytes=24).size == 6
    with pytest.raises(IdxError, match="at most 23 bytes of elements, the header claims 24"):
        read_idx(tmp_path / "file", max_bytes=23)


def test_errors_cross_process_borders(tmp_path):
    import pickle

    error = error_of(tmp_path, b"x")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, DataError)
    assert str(copy) == str(error)
    assert copy.offset == error.offset


@pytest.mark.parametrize("affordable", [0, 1 << 20])  # with the bytes counted first, and without
def test_a_file_that_shrinks_while_it_is_read(affordable, tmp_path, monkeypatch):
    monkeypatch.setattr(data.idx, "AFFORDABLE", affordable)
    path = tmp_path / "file"
    write_idx(path, np.arange(400_000, dtype=np.uint8))
    empty = np.empty

    def shrink(*arguments):  # reached between the count of the bytes and their reading
        os.truncate(path, 300_000)
        return empty(*arguments)

    monkeypatch.setattr(data.idx.np, "empty", shrink)
    with pytest.raises(IdxError, match="found 299992 bytes: it is truncated"):
        read_idx(path)


# ------------------------------------------------------------------------------- time and memory


def cost_of(path):
    """Peak bytes and seconds that reading takes; the file must be refused."""
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises(IdxError):
            read_idx(path)
        return tracemalloc.get_traced_memory()[1], time.perf_counter() - started
    finally:
        tracemalloc.stop()


def test_a_bomb_costs_neither_memory_nor_time(tmp_path):
    zeros = gzip.compress(bytes(64 << 20))
    bomb = zeros * 64  # 4 GB in 4 MB
    claims = {"small": 10, "of a sixteenth": 256 << 20, "beyond the file": 2**32 - 1}
    for name, claim in claims.items():
        (tmp_path / name).write_bytes(gzip.compress(idx_file(claim)) + (bomb if claim == 10 else zeros * 3))
        peak, seconds = cost_of(tmp_path / name)
        assert peak < 2 << 20, name
        assert seconds < 1, name


def test_an_endless_tail_of_empty_gzip_members_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_bytes(gzip.compress(idx_file(3, body=b"abc")) + gzip.compress(b"") * 500_000)
    peak, seconds = cost_of(tmp_path / "file")
    assert peak < 2 << 20
    assert seconds < 0.2


def test_reading_needs_little_more_than_the_array(tmp_path):
    array = np.random.default_rng(0).integers(0, 1 << 31, 1 << 20, dtype=np.int32)
    for name in ("file", "file.gz"):
        write_idx(tmp_path / name, array)
        tracemalloc.start()
        read_idx(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert array.nbytes < peak < array.nbytes + (1 << 20)


def test_a_true_claim_that_memory_cannot_hold(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(idx_file(2, 1 << 31))
    os.truncate(path, 12 + (1 << 32))  # a sparse file: 4 GB that take no room on the disk
    code = (
        "import resource, sys; from minidl import data\nresource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "try: data.read_idx(sys.argv[1])\nexcept data.IdxError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert "4294967296 bytes of uint8 (shape 2x2147483648), which does not fit into memory" in done.stdout, done.stderr


def test_fuzz():
    figures = run(1000, seed=1)
    assert promises_kept(figures), figures.broken[:5]
    assert figures.files == 1000
    assert sum(n for kind, n in figures.outcomes.items() if kind.endswith(": read")) > 100


@given(raw=st.binary(max_size=60) | st.builds(lambda tail: U8 + tail, st.binary(max_size=60)), packed=st.booleans())
def test_any_bytes(tmp_path_factory, raw, packed):
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    expected = second_opinion(path.read_bytes())
    try:
        found = read_idx(path)
    except IdxError:
        assert expected is None
    else:
        assert expected is not None
        assert found.shape == expected[1]
        assert found.tobytes() == expected[2]


# ------------------------------------------------------------------------------- writing


@pytest.mark.parametrize(
    "dtype", ["bool", "int64", "uint64", "uint16", "uint32", "float16", "complex64", "U3", "object", "M8[s]"]
)
def test_unsupported_dtypes_name_those_that_fit(tmp_path, dtype):
    with pytest.raises(IdxError, match=r"IDX has no element type for .*uint8, int8, int16, int32, float32, float64"):
        write_idx(tmp_path / "file", np.zeros(3, dtype))
    assert list(tmp_path.iterdir()) == []


def test_a_list_is_told_what_it_holds(tmp_path):
    """It ended in an AttributeError."""
    with pytest.raises(IdxError, match=r"IDX has no element type for int(32|64); convert the array with .astype"):
        write_idx(tmp_path / "file", [1, 2, 3])
    write_idx(tmp_path / "file", [0.5, 2.0])
    np.testing.assert_array_equal(read_idx(tmp_path / "file"), [0.5, 2.0])


def test_a_dimension_too_large_for_the_header(tmp_path):
    with pytest.raises(IdxError, match="expected sizes up to 4294967295"):
        write_idx(tmp_path / "file", np.empty((1 << 32, 0), np.uint8))


def test_writing_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file" / "in-file", tmp_path / "no-folder" / "file"):
        with pytest.raises(OSError, match="directory"):
            write_idx(path, np.zeros(3, np.uint8))


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_idx(path, np.arange(3, dtype=np.uint8))
    code = (
        "import resource, sys, numpy; from minidl import data\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: data.write_idx(sys.argv[1], numpy.zeros(100_000, numpy.uint8))\n"
        "except OSError as error: print(error.strerror)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "File too large\n", done.stderr
    assert read_idx(path).tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [path]


def test_readers_never_see_a_piece_of_a_file(tmp_path):
    path = tmp_path / "file.gz"
    arrays = [np.full(50_000 * n, n, np.uint8) for n in (1, 2)]
    write_idx(path, arrays[0])
    stop = threading.Event()

    def rewrite():
        while not stop.is_set():
            for array in arrays:
                write_idx(path, array)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        seen = {read_idx(path).size for _ in range(200)}
    finally:
        stop.set()
        writer.join()
    assert seen <= {50_000, 100_000}
    assert list(tmp_path.iterdir()) == [path]


def test_new_files_have_the_permissions_of_any_new_file(tmp_path):
    write_idx(tmp_path / "file", np.zeros(3, np.uint8))
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode
