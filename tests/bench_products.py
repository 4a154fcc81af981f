"""The matrix products of a training step alone, split in the best way: a lower bound that a step hardly reaches.

Each thread computes its share of every product with one BLAS thread, and all synchronize once, at the end of the step.
A share of a dense layer is some rows or columns. A share of a convolution is some images, computed in blocks: of a
quarter of an image's rows to four images, from matrices that stay in the cache, as in a step that does im2col block by
block. A share of any product may also be computed in small blocks, for which some BLAS libraries skip packing. How a
product is split, and the memory order of its matrices, are tuned once, for each product by itself. Whole products with
BLAS's own threads are tried too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from tests.bench_workers import Step, field, network

CACHE = 1 << 19  # bytes that the blocks of one call may take: half of a core's L2 cache on many processors
SMALL = 900_000  # multiplications that OpenBLAS with AVX-512 does without packing the matrices


class Product(NamedTuple):
    """(rows, inner) @ (inner, columns)."""

    sizes: tuple[int, int, int]
    pixels: int  # of one image; 0 for a dense layer
    along: int = 0  # which of the three sizes counts examples, or all pixels of all images
    forward: bool = False


class Cut(NamedTuple):
    """One way to compute a thread's share: this many NumPy calls with these matrices, the last with fewer blocks."""

    a: Any
    b: Any
    out: Any
    calls: int
    rest: int

    def run(self) -> None:
        for _ in range(self.calls):
            np.matmul(self.a, self.b, out=self.out)
        if self.rest:
            pieces = [m[: self.rest] if m.ndim == 3 else m for m in (self.a, self.b, self.out)]
            np.matmul(pieces[0], pieces[1], out=pieces[2])

    def copy(self) -> Cut:
        return self._replace(a=self.a.copy("K"), b=self.b.copy("K"), out=self.out.copy("K"))

    def seconds(self) -> float:
        """Time of the whole share, extrapolated from one call."""
        pieces = len(self.out) if self.out.ndim == 3 else 1
        once = best_of_five(lambda: np.matmul(self.a, self.b, out=self.out))
        return once * (self.calls + self.rest / pieces)


def products(model: str, batch: int) -> list[Product]:
    """The products of a step: forward, the weights' gradients, the inputs' gradients except for the first layer."""
    described = network(model)
    found: list[Product] = []
    shapes = field().shapes(described)
    for layer, before, after in zip(described.layers, shapes, shapes[1:], strict=False):
        if layer.kind == "Linear":
            n, k, m, pixels = batch, before[0], layer.out, 0
        elif layer.kind == "Conv2d":
            pixels = after[1] * after[2]
            n, k, m = batch * pixels, before[0] * int(np.prod(field().pair(layer.kernel))), layer.out
        else:
            continue
        first = not found
        found += [Product((n, k, m), pixels, forward=True), Product((m, n, k), pixels, along=1)]
        found += [] if first else [Product((n, m, k), pixels)]
    return found


def array(shape: tuple[int, ...], fortran: bool) -> Any:
    """Ones, each matrix in C or Fortran order."""
    if fortran:
        return np.ones((*shape[:-2], shape[-1], shape[-2]), np.float32).swapaxes(-1, -2)
    return np.ones(shape, np.float32)


def dense_cuts(of: Product, threads: int) -> Iterator[Cut]:
    """A thread's share: some rows, or some columns, of the layer's own matrices, in their memory order."""
    n, k, m = of.sizes
    for rows, fortran in product((True, False), repeat=2):
        r, c = (-(-n // threads), m) if rows else (n, -(-m // threads))
        gradient = of.along == 1
        yield Cut(array((r, k), gradient), array((k, c), of.forward), array((r, c), fortran), 1, 0)


def image_cuts(of: Product, threads: int) -> Iterator[Cut]:
    """A thread's share: blocks of an image, or of a few, as many in one call as fit in the cache."""
    share = -(-of.sizes[of.along] // threads)  # pixels
    for images, fortran_a, fortran_b, fortran_out in product((1 / 4, 1 / 2, 1, 2, 4), *((True, False),) * 3):
        length = min(share, max(1, round(of.pixels * images)))
        n, k, m = (length if axis == of.along else size for axis, size in enumerate(of.sizes))
        pieces = -(-share // length)
        together = min(pieces, max(1, CACHE // (4 * (n * k + k * m + n * m))))
        b = (k, m) if of.along == 0 else (together, k, m)  # the weights are the same for all blocks
        matrices = array((together, n, k), fortran_a), array(b, fortran_b), array((together, n, m), fortran_out)
        yield Cut(*matrices, pieces // together, pieces % together)


def small_cuts(of: Product, threads: int) -> Iterator[Cut]:
    """A thread's share, in blocks of at most SMALL multiplications, eight per call; adding up is not counted."""
    for columns, most in product((16, 32, 64, 128), (256, 512, 1024)):
        terms, m = min(of.sizes[1], most), min(of.sizes[2], columns)
        rows = min(of.sizes[0], max(1, min(SMALL // (terms * m), 1200 // m if of.forward else SMALL)))
        calls = -(-of.sizes[0] * of.sizes[1] * of.sizes[2] // (8 * rows * terms * m * threads))
        yield Cut(
            array((8, rows, terms), of.along == 1), array((terms, m), of.forward), array((8, rows, m), False), calls, 0
        )


def fastest(of: Product, threads: int) -> Cut:
    usual = (image_cuts if of.pixels else dense_cuts)(of, threads)
    return min([*usual, *small_cuts(of, threads)], key=Cut.seconds)


def shared(cuts: list[Cut], threads: int) -> Step:
    """All threads compute their share of all products, each with its own matrices."""
    shares = [[cut.copy() for cut in cuts] for _ in range(threads)]
    pool = ThreadPoolExecutor(threads)

    def run(cuts: list[Cut]) -> None:
        for cut in cuts:
            cut.run()

    def step() -> None:
        others = [pool.submit(run, share) for share in shares[1:]]
        run(shares[0])
        wait(others)

    return step


@cache
def blas() -> tuple[Any, int]:
    """The controller that limits BLAS's threads, and its default number of threads."""
    found = ThreadpoolController().select(user_api="blas")
    return found, max((library["num_threads"] for library in found.info()), default=1)


def gemm(model: str, opt: str, batch: int) -> Step:
    """The column of `tests.bench`."""
    held, threads = blas()
    held.limit(limits=threads)  # the model before this one may have left it at 1
    found = products(model, batch)
    whole = None if any(of.pixels for of in found) else shared([fastest(of, 1) for of in found], 1)
    time_of_whole = best_of_five(whole) if whole else 0.0
    time.sleep(0.2)  # its threads keep spinning for a while
    held.limit(limits=1)
    parts = shared([fastest(of, threads) for of in found], threads)
    if whole and time_of_whole < best_of_five(parts):
        held.limit(limits=threads)
        return whole
    return parts


def best_of_five(step: Step) -> float:
    times = []
    for _ in range(6):  # the first one wakes threads
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return min(times[1:])
