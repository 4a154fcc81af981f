"""Fuzzing read_idx: thousands of damaged and hostile IDX files against a second, independent parser.

    python -m tests.fuzz_idx --n 100000          prints its figures; exit status 1 if a file broke a promise
    python -m tests.fuzz_idx --atheris --n N     the same check, driven by atheris where that is installed

The promises, for each file: read_idx returns the array that the second parser finds, or raises IdxError where
that finds none; nothing else is raised; the peak of memory is at most 64 MB over the honest file's; it takes at most
a second.
"""

from __future__ import annotations

import argparse
import gzip
import struct
import sys
import tempfile
import time
import tracemalloc
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minidl.data import IdxError, idx, read_idx

FORMATS = {8: "B", 9: "b", 11: "h", 12: "i", 13: "f", 14: "d"}  # element type: its letter in `struct`
SECONDS, MEMORY = 1.0, 64 << 20
BOMB_BYTES = 96 << 20
HUGE = (0, 1, 2, 255, 1 << 16, 10**6, 5 * 10**7, 1 << 31, (1 << 32) - 1)


# ------------------------------------------------------------------------------- the second parser


def second_opinion(raw: bytes, most: int = 1 << 20) -> tuple[int, tuple[int, ...], bytes] | None:
    """Return (element type, shape, elements as little-endian bytes), or None where `raw` is no sound IDX file.

    A gzip file that unpacks to more than `most` bytes counts as none: here only the bombs are that large.
    """
    if raw[:2] == b"\x1f\x8b":
        unpacked = gunzip(raw, most)
        if unpacked is None:
            return None
        raw = unpacked
    if len(raw) < 4 or raw[0] or raw[1] or raw[2] not in FORMATS or raw[3] > 64:
        return None
    code, rank = raw[2], raw[3]
    if len(raw) < 4 + 4 * rank:
        return None
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank))
    count, extent = 1, 1
    for size in shape:
        count *= size
        extent *= size or 1
    letter = FORMATS[code]
    if len(raw) - 4 - 4 * rank != count * struct.calcsize(">" + letter):
        return None
    if extent * struct.calcsize(">" + letter) >= 1 << 63:
        return None  # 0 elements, but a shape that no array can have
    size, body = struct.calcsize(">" + letter), raw[4 + 4 * rank :]
    return code, shape, b"".join(body[i : i + size][::-1] for i in range(0, len(body), size)) if size > 1 else body


def gunzip(raw: bytes, most: int) -> bytes | None:
    """Unpack a gzip file member by member as RFC 1952 says; None where one is damaged or it exceeds `most` bytes."""
    out, at = b"", 0
    while at < len(raw):
        head = raw[at : at + 10]
        if len(head) < 10 or head[:3] != b"\x1f\x8b\x08":
            return None
        flags, at = head[3], at + 10
        if flags & 4:
            at += 2 + int.from_bytes(raw[at : at + 2], "little")
        for flag in (8, 16):  # file name, comment: up to a zero
            if flags & flag:
                end = raw.find(b"\0", at)
                if end < 0:
                    return None
                at = end + 1
        at += 2 if flags & 2 else 0
        inflate = zlib.decompressobj(-15)
        try:
            piece = inflate.decompress(raw[at:], most - len(out) + 1)
        except zlib.error:
            return None
        out += piece
        if not inflate.eof or len(out) > most:
            return None
        at = len(raw) - len(inflate.unused_data)
        tail = raw[at : at + 8]
        if len(tail) < 8 or tail != struct.pack("<II", zlib.crc32(piece), len(piece) & 0xFFFFFFFF):
            return None
        at += 8
        while at < len(raw) and raw[at] == 0:  # zeros between and behind members are padding
            at += 1
    return out


# ------------------------------------------------------------------------------- making bad files


def honest_file(rng: np.random.Generator) -> bytes:
    code = int(rng.choice(list(FORMATS)))
    rank = int(rng.integers(0, 5))
    shape = [int(n) for n in rng.integers(0 if rng.random() < 0.1 else 1, 7, rank)]
    size = struct.calcsize(">" + FORMATS[code])
    return struct.pack(f">BBBB{rank}I", 0, 0, code, rank, *shape) + rng.bytes(size * int(np.prod(shape, dtype=int)))


def mutate(raw: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(raw)
    kind = int(rng.integers(0, 9))
    where = int(rng.integers(0, len(data) + 1))
    if kind == 0 and data:  # one bit
        data[where % len(data)] ^= 1 << int(rng.integers(0, 8))
    elif kind == 1 and data:  # one byte
        data[where % len(data)] = int(rng.integers(0, 256))
    elif kind == 2:  # cut
        del data[where:]
    elif kind == 3:  # bytes behind the end
        data += rng.bytes(int(rng.integers(1, 40))) if rng.random() < 0.7 else bytes(int(rng.integers(1, 40)))
    elif kind == 4:  # bytes in the middle
        data[where:where] = rng.bytes(int(rng.integers(1, 9)))
    elif kind == 5:  # bytes missing in the middle
        del data[where : where + int(rng.integers(1, 9))]
    elif kind == 6 and len(data) >= 8:  # a dimension that lies
        at = 4 + 4 * int(rng.integers(0, max(data[3], 1)))
        data[at : at + 4] = struct.pack(">I", HUGE[int(rng.integers(0, len(HUGE)))])
    elif kind == 7 and len(data) >= 4:  # another type or rank
        data[int(rng.integers(2, 4))] = int(rng.integers(0, 256 if rng.random() < 0.3 else 16))
    else:  # the start of one file, the end of another
        other = honest_file(rng)
        data[where:] = other[int(rng.integers(0, len(other))) :]
    return bytes(data)


def pack(raw: bytes, rng: np.random.Generator) -> bytes:
    """Gzip `raw`, now and then in several members."""
    if rng.random() < 0.8:
        return gzip.compress(raw, int(rng.integers(0, 10)), mtime=0)
    cut = int(rng.integers(0, len(raw) + 1))
    return gzip.compress(raw[:cut], mtime=0) + gzip.compress(raw[cut:], mtime=0)


def make_case(rng: np.random.Generator, bomb: bytes) -> tuple[str, bytes]:
    """Return what was done and the file: sound, damaged, packed, packed then damaged, or a bomb."""
    raw = honest_file(rng)
    kind = rng.random()
    if kind < 0.05:
        return "sound", pack(raw, rng) if rng.random() < 0.5 else raw
    if kind < 0.45:
        return "damaged", mutate(raw, rng)
    if kind < 0.65:
        return "damaged, then packed", pack(mutate(raw, rng), rng)
    if kind < 0.9:
        return "packed, then damaged", mutate(pack(raw, rng), rng)
    if kind < 0.95:
        return "damaged twice", mutate(mutate(pack(raw, rng) if rng.random() < 0.5 else raw, rng), rng)
    if kind < 0.9995:  # a lying header, and far more behind it than it says
        small = struct.pack(">BBBBI", 0, 0, 8, 1, int(rng.integers(0, 1 << 12)))
        return "bomb behind a small claim", gzip.compress(small, mtime=0) + bomb
    most = 1032 * len(bomb) if rng.random() < 0.5 else 1 << 32  # just possible, or beyond what gzip can hold
    claim = int(rng.integers(BOMB_BYTES + 1, most))
    return "huge claim before a bomb", gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, claim), mtime=0) + bomb


# ------------------------------------------------------------------------------- the check


@dataclass
class Figures:
    files: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    peak: int = 0  # bytes over the size of the array that the file really holds
    broken: list[str] = field(default_factory=list)


def check(raw: bytes, path: Path, kind: str, figures: Figures) -> None:
    """Read `raw` through read_idx, compare with the second parser, and note time and memory in `figures`."""
    path.write_bytes(raw)
    expected = second_opinion(raw)
    tracemalloc.reset_peak()
    before, started = tracemalloc.get_traced_memory()[0], time.perf_counter()
    try:
        found = read_idx(path)
    except IdxError as error:
        found = None
        if str(path) not in str(error) or error.offset < 0:
            figures.broken.append(f"{kind}: the error names no file or offset: {error}")
    except Exception as error:  # this is what the fuzzer is here to find
        figures.broken.append(f"{kind}: {type(error).__name__}: {error} for {raw[:64].hex()}")
        return
    seconds, peak = time.perf_counter() - started, tracemalloc.get_traced_memory()[1] - before
    figures.files += 1
    figures.outcomes[f"{kind}: {'refused' if found is None else 'read'}"] += 1
    figures.slowest = max(figures.slowest, seconds)
    figures.peak = max(figures.peak, peak - (len(expected[2]) if expected else 0))
    if (found is None) != (expected is None) or (
        found is not None and expected is not None and not same(found, *expected)
    ):
        figures.broken.append(f"{kind}: not what the second parser finds, for {raw[:64].hex()} ({len(raw)} bytes)")


def same(found: np.ndarray, code: int, shape: tuple[int, ...], little: bytes) -> bool:
    letter = FORMATS[code]
    return (
        found.shape == shape
        and found.dtype == np.dtype(letter)
        and found.dtype.isnative
        and found.astype("<" + letter).tobytes() == little
    )


def run(n: int, seed: int = 0) -> Figures:
    """Check `n` files made from `seed`; everything but the time taken is the same for the same seed."""
    rng, figures = np.random.default_rng(seed), Figures()
    bomb = gzip.compress(bytes(BOMB_BYTES), mtime=0)
    tracemalloc.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(n):
                kind, raw = make_case(rng, bomb)
                check(raw, Path(folder) / "case", kind, figures)
    finally:
        tracemalloc.stop()
    return figures


def promises_kept(figures: Figures) -> bool:
    return not figures.broken and figures.slowest < SECONDS and figures.peak < MEMORY


def report(figures: Figures, seconds: float) -> None:
    import resource  # here: Windows has none, and the tests need the rest

    for outcome, count in sorted(figures.outcomes.items()):
        print(f"{count:8} {outcome}")
    print(
        f"{figures.files:8} files in {seconds:.0f} s; slowest {figures.slowest:.3f} s (limit {SECONDS:g}); "
        f"peak {figures.peak / 2**20:.1f} MB over the array in the file (limit {MEMORY >> 20}); "
        f"process peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )
    for line in figures.broken[:20]:
        print("BROKEN", line)
    print("every promise kept" if promises_kept(figures) else f"{len(figures.broken)} promises broken")


def run_atheris(n: int) -> None:
    """Let atheris choose the bytes; it ends the process itself, with a crash report at the first broken promise."""
    import atheris

    figures, folder, rng = Figures(), tempfile.mkdtemp(), np.random.default_rng(0)
    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    for i in range(40):  # honest files to start from
        raw = honest_file(rng)
        (corpus / str(i)).write_bytes(pack(raw, rng) if i % 2 else raw)
    tracemalloc.start()

    def one(raw: bytes) -> None:
        check(raw, Path(folder) / "case", "atheris", figures)
        if not promises_kept(figures):
            raise AssertionError(figures.broken or (figures.slowest, figures.peak))

    reader = (
        read_idx,
        idx._parse,
        idx._read_header,
        idx._check_claim,
        idx._check_found,
        idx._describe,
        idx._Source.read,
        idx._Source.fill,
        idx._Source.remaining,
    )
    for function in reader:  # so that atheris sees which branches a file reaches
        atheris.instrument_func(function)
    atheris.Setup([sys.argv[0], f"-runs={n}", "-max_len=512", "-seed=1", str(corpus)], one)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description="Damaged and hostile IDX files against read_idx.")
    parser.add_argument("--n", type=int, default=100_000, help="how many files (default: 100000)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: 0)")
    parser.add_argument("--atheris", action="store_true", help="let atheris make the files (pip install atheris)")
    options = parser.parse_args()
    if options.atheris:
        run_atheris(options.n)
    started = time.perf_counter()
    figures = run(options.n, options.seed)
    report(figures, time.perf_counter() - started)
    return 0 if promises_kept(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
