"""The projected rate: at which learning rate would SGD have taken the step that Adam has just taken?

Adam's step p and the gradient g point in different directions. SWATS (Keskar & Socher 2017, sec. 2.1) asks for the rate
gamma whose SGD step -gamma g, projected on p, is p itself: (-gamma g) . p = p . p. Its running average Lambda settles
when one SGD rate describes Adam well, and that is then the learning rate to continue with.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.backend import Array, kernel_for, to_numpy, xp_of

_BLOCK = 1 << 15


class Projection:
    """gamma and Lambda of every step, in Python's float64 whatever the dtype of the vectors.

    gamma <- p.p / -(p.g);   lam <- b2 lam + (1-b2) gamma;   Lambda = lam / (1 - b2^k)    (Algorithm 1)

    beta2    b2, the same as Adam's
    gammas   gamma of each step so far; NaN where p.g is 0 (or gamma overflows): lam then does not change
    lambdas  Lambda of each step so far
    """

    def __init__(self, beta2: float = 0.999) -> None:
        self.beta2 = beta2
        self.lam = 0.0
        self.measured: Array = np.zeros(2)  # p.p and p.g of the step that is to be added
        self.gammas, self.lambdas = array("d"), array("d")  # 8 bytes a step

    def measure(self, p: Array, g: Array) -> None:
        """Compute p.p and p.g of one whole step, p and g over all parameters; does not wait for the device."""
        self.measured = dots64((p, p), (p, g), out=self.measured)

    def add(self) -> None:
        """Add the step that was measured: its gamma, and with it Lambda."""
        pp, pg = to_numpy(self.measured).tolist()
        gamma = pp / -pg if pg != 0 else math.nan
        if math.isfinite(gamma):
            self.lam = self.beta2 * self.lam + (1 - self.beta2) * gamma
        else:
            gamma = math.nan
        self.gammas.append(gamma)
        self.lambdas.append(self.lam / (1 - self.beta2 ** len(self.gammas)))

    def closest(self) -> tuple[int, float] | None:
        """The step at which gamma came nearest to Lambda, and |Lambda - gamma| / |Lambda| there. Step 1 is skipped:
        there the two are equal by definition."""
        gammas, lambdas = np.array(self.gammas[1:]), np.array(self.lambdas[1:])
        with np.errstate(divide="ignore", invalid="ignore"):
            distances = np.abs(lambdas - gammas) / np.abs(lambdas)
        if not np.isfinite(distances).any():
            return None
        i = int(np.nanargmin(distances))
        return i + 2, float(distances[i])

    def state_dict(self) -> dict[str, Any]:
        """The histories as vectors and lam as a scalar."""
        return {
            "vectors": {"gammas": np.array(self.gammas), "lambdas": np.array(self.lambdas)},
            "scalars": {"lam": self.lam},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the saved projection."""
        self.lam = state["scalars"]["lam"]
        self.gammas = array("d", state["vectors"]["gammas"].tolist())
        self.lambdas = array("d", state["vectors"]["lambdas"].tolist())


def dots64(*pairs: tuple[Array, Array], out: Array | None = None) -> Array:
    """The dot products of some pairs of vectors, in float64, as one small array on their device: does not wait for it.

    out  an array that may be used for them: a captured step must find them in the same place each time

    Reading it waits for the device once. SWATS must, after every step of its first phase: gamma decides whether the
    next step is still Adam's.
    """
    xp = xp_of(pairs[0][0])
    kernel = kernel_for(pairs[0][0], "dots64") if len(pairs) == 2 else None
    found = NotImplemented if kernel is None else kernel(*pairs, out=out)
    if found is not NotImplemented:
        return found
    if xp is np:
        return np.array([dot64(a, b) for a, b in pairs])
    return xp.stack([(a.astype(np.float64) * b).sum() for a, b in pairs])


def dot64(a: Array, b: Array) -> float:
    """a . b, multiplied and added up in float64 even for float32 vectors (waits for the GPU).

    A float32 sum is off by about 1e-7 of its size, which for gamma would swamp a tolerance of 1e-9; the product of
    two float32 numbers is exact in float64. Going block by block keeps the converted copies in the cache.
    """
    if xp_of(a) is not np:
        return float(dots64((a, b))[0])
    if a.dtype == np.float64:
        return float(a @ b)
    total = 0.0
    for i in range(0, len(a), _BLOCK):
        x = a[i : i + _BLOCK].astype(np.float64)
        total += float(x @ (x if b is a else b[i : i + _BLOCK].astype(np.float64)))
    return total
