"""The statistics of the report: one estimator, one set of simultaneous intervals, and verdicts given a margin.

Contestants are compared seed by seed: runs with the same seed have the same data split, initial weights and order of
examples, whose common effect drops out of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from minidl.backend import Array

TRIM = 0.2  # the share of the differences that is trimmed at each end
CONFIDENCE = 0.95
FEWEST = 6  # differences whose range holds their median in 95 % of cases: in all but 2 of 2^n
RESAMPLES, ROUNDS = 10_000, 10  # 100,000 in all, a tenth at a time: c is then known to about 0.01
BETTER, WORSE, EQUIVALENT, OPEN = "better", "worse", "equivalent", "these runs cannot tell"


def trimmed(values: Array) -> tuple[Array, Array]:
    """The trimmed mean along the last axis, and its standard error (Yuen 1974): a few collapsed runs don't decide it.

    The error is s_w / ((1 - 2 TRIM) sqrt(n)), s_w the winsorized deviation: a trimmed value counts as the nearest kept.
    """
    n = values.shape[-1]
    g = int(TRIM * n)
    inner = np.sort(values, axis=-1)[..., g : n - g]
    mean = inner.mean(-1)
    about = inner - mean[..., None]
    low, high = about[..., 0], about[..., -1]  # g times each, in place of the trimmed values
    squares = np.einsum("...i,...i", about, about) + g * (low**2 + high**2) - (g * (low + high)) ** 2 / n
    return mean, np.sqrt(squares / (n - 1)) / ((1 - 2 * TRIM) * math.sqrt(n))


def trimmed_mean(values: Sequence[float]) -> float:
    """The trimmed mean of a sequence."""
    return float(trimmed(np.array(values, np.float64))[0]) if len(values) > 1 else float(values[0])


@dataclass(frozen=True)
class Interval:
    """An estimate with its simultaneous interval. n is the number of seeds."""

    estimate: float
    low: float
    high: float
    n: int

    def word(self, margin: float) -> str:
        """The verdict; differences up to `margin` do not matter, and positive is better."""
        if -margin <= self.low and self.high <= margin:
            return EQUIVALENT
        if self.low > 0:
            return BETTER
        return WORSE if self.high < 0 else OPEN


def simultaneous(families: Sequence[Sequence[Sequence[float]]], seed: int = 0) -> list[list[Interval]]:
    """Intervals for the trimmed means of many sets of differences, all right at once in 95 % of studies (max-t).

    families  per regime, the differences of each comparison by seed; NaN where a pair is missing. All comparisons
              of a regime use the same mixtures of its seeds, which keeps the correlation between them

    Each resample replaces the seeds by as many mixtures of them, with normal weights, of the centred differences: this
    keeps their spread and correlation, and the true mean is 0 (the multiplier bootstrap, Chernozhukov et al. 2013). The
    largest |trimmed mean / standard error| of all comparisons has the 95 % quantile c, and an interval is the mean +- c
    standard errors (Westfall & Young 1993; Romano & Wolf 2005). With fewer than three differences it is unbounded. If
    all untrimmed differences are equal, which is common with few test images, the error would be 0, and the interval is
    the range of the differences instead, unbounded if there are fewer than FEWEST: three coins often fall alike. Seeds
    are not drawn with replacement: of twenty, many can be drawn twice, the error is then sometimes far too small, and c
    comes out half as large again as it should (tests/test_study_statistics.py).
    """
    rng = np.random.default_rng(seed)
    arrays = [[np.array(differences, np.float64) for differences in family] for family in families]
    found = [[_estimate(d) for d in family] for family in arrays]
    told = [
        [d for d, (_, error, _) in zip(family, estimates, strict=True) if 0 < error < math.inf]
        for family, estimates in zip(arrays, found, strict=True)
    ]
    largest = [np.max([_largest(family, rng) for family in told], 0, initial=0.0) for _ in range(ROUNDS)]
    c = float(np.quantile(largest, CONFIDENCE))
    return [
        [_interval(d, *estimate, c) for d, estimate in zip(family, estimates, strict=True)]
        for family, estimates in zip(arrays, found, strict=True)
    ]


def _estimate(d: Array) -> tuple[float, float, int]:
    """Trimmed mean, standard error and number of the finite differences. Of none, the mean is NaN; of fewer than 3, the
    error is infinite."""
    d = d[np.isfinite(d)]
    if len(d) < 3:
        return float(d.mean()) if len(d) else math.nan, math.inf, len(d)
    middle = np.median(d)  # relative to it, equal differences are exactly 0, whatever their sum rounds to
    mean, error = trimmed(d - middle)
    return float(middle + mean), float(error), len(d)


def _largest(family: Sequence[Array], rng: np.random.Generator) -> Array:
    """The largest |trimmed mean / its error| of a regime's comparisons, for each resample.

    In float32, which sorts six times as fast; the ratio is scale-free, so the differences are scaled to at most 1.
    """
    seeds = max(map(len, family), default=0)
    weights = rng.standard_normal((seeds, RESAMPLES, seeds), np.float32)  # from a seed to a mixture
    largest = np.zeros(RESAMPLES, np.float32)
    for d in family:
        there = np.flatnonzero(np.isfinite(d))
        about = d[there] - d[there].mean()
        own = weights if len(there) == seeds else weights[there, :, : len(there)]  # a copy only where it must be
        mixed = np.tensordot((about / np.abs(about).max()).astype(np.float32), own, 1)
        means, errors = trimmed(mixed)
        np.maximum(largest, np.abs(means) / errors, out=largest)
    return largest


def _interval(d: Array, mean: float, error: float, n: int, c: float) -> Interval:
    if error == 0 and n >= FEWEST:
        return Interval(mean, float(np.nanmin(d)) + 0.0, float(np.nanmax(d)) + 0.0, n)  # + 0.0: no -0.00 on the page
    half = math.inf if error == 0 or math.isinf(error) else c * error
    return Interval(mean, mean - half, mean + half, n)


def expected_best(values: Sequence[float]) -> list[float]:
    """For k = 1, 2, ..., n: the expected best of k settings drawn from the n that were tried (Dodge et al. 2019).

    E[max of k] = sum over the sorted values v_i of v_i ((i/n)^k - ((i-1)/n)^k): drawn with replacement.
    """
    ordered = np.sort(np.array(values, np.float64))
    n = len(ordered)
    shares = np.arange(n + 1) / max(n, 1)  # none were tried if nothing is tuned
    return [float((ordered * np.diff(shares**k)).sum()) for k in range(1, n + 1)]


def first_below(losses: Sequence[float], others: Sequence[float], level: float) -> float | None:
    """`others` where `losses` first falls to `level`, interpolated between two evaluations.

    The interpolation is linear in the logarithm of the loss. None if it never falls to the level.
    """
    for i, loss in enumerate(losses):
        if loss <= level:
            if i == 0 or losses[i - 1] == loss:
                return others[i]
            share = math.log(losses[i - 1] / max(level, 1e-12)) / math.log(losses[i - 1] / max(loss, 1e-12))
            return others[i - 1] + share * (others[i] - others[i - 1])
    return None


def first_above(steps: Sequence[float], values: Sequence[float], level: float) -> float | None:
    """The step at which `values` first reaches `level`, interpolated linearly between two evaluations."""
    if values and values[0] >= level:
        return steps[0]
    for (s, a), (t, b) in pairwise(zip(steps, values, strict=True)):
        if b >= level:
            return s + (t - s) * (level - a) / (b - a)
    return None
