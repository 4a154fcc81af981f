"""The statistics of the report: one estimator, one set of simultaneous intervals, and words against a margin.

Contestants are compared seed by seed: runs with the same seed have the same data split, initial weights and order of
examples, so that what these bring is taken out of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
TRIM = 0.2  # the share of the differences that is left out at each end
CONFIDENCE = 0.95
RESAMPLES = 10_000
BETTER, WORSE, EQUIVALENT, OPEN = "better", "worse", "equivalent", "these runs cannot tell"


def trimmed(values: Array) -> tuple[Array, Array]:
    """The trimmed mean along the last axis, and its standard error (Yuen 1974): a few collapsed runs don't decide it.

    The error is s_w / ((1 - 2 TRIM) sqrt(n)), s_w the deviation of the values with the trimmed ones moved inwards.
    """
    n = values.shape[-1]
    g = int(TRIM * n)
    ordered = np.sort(values, axis=-1)
    inner = ordered[..., g : n - g]
    moved = np.clip(ordered, inner[..., :1], inner[..., -1:])
    return inner.mean(-1), moved.std(-1, ddof=1) / ((1 - 2 * TRIM) * math.sqrt(n))


def trimmed_mean(values: Sequence[float]) -> float:
    """The trimmed mean of a few numbers."""
    return float(trimmed(np.array(values, np.float64))[0]) if len(values) > 1 else float(values[0])


@dataclass(frozen=True)
class Interval:
    """An estimate with its simultaneous interval. n is the number of seeds."""

    estimate: float
    low: float
    high: float
    n: int

    def word(self, margin: float) -> str:
        """What it says of a difference that matters from `margin` on; positive is better."""
        if -margin <= self.low and self.high <= margin:
            return EQUIVALENT
        if self.low > 0:
            return BETTER
        return WORSE if self.high < 0 else OPEN


def simultaneous(families: Sequence[Sequence[Sequence[float]]], seed: int = 0) -> list[list[Interval]]:
    """Intervals for the trimmed means of many sets of differences, all right at once in 95 % of studies (max-t).

    families  per regime, the differences of each comparison by seed; NaN where a pair is missing. The seeds of a regime
              are mixed alike for all of its comparisons, which so keep what they have in common

    Each resample replaces the seeds by as many mixtures of them, with normal weights, of the differences about their
    mean: that keeps how they spread and go together, and the truth is 0 (the multiplier bootstrap, Chernozhukov et al.
    2013). Of |trimmed mean / its error|, the largest of all comparisons has the 95 % quantile c, and an interval is the
    mean +- c errors (Westfall & Young 1993; Romano & Wolf 2005). Fewer than three differences have an interval without
    ends. Why seeds are not drawn with replacement: twenty with many twice have errors far too small now and then, and
    c comes out half as large again as it should (tests/test_study_statistics.py).
    """
    rng = np.random.default_rng(seed)
    largest = np.zeros(RESAMPLES)
    found = []
    for family in families:
        seeds = max((len(differences) for differences in family), default=0)
        weights = rng.standard_normal((RESAMPLES, seeds, seeds))
        found.append([_estimate(np.array(differences, np.float64)) for differences in family])
        for differences, (_, error, _) in zip(family, found[-1], strict=True):
            if 0 < error < math.inf:
                largest = np.maximum(largest, _resampled(np.array(differences, np.float64), weights))
    c = float(np.quantile(largest, CONFIDENCE))
    return [[_interval(mean, error, c, n) for mean, error, n in family] for family in found]


def _estimate(d: Array) -> tuple[float, float, int]:
    """Trimmed mean, error and number of the differences that are there; no mean of none, no error of fewer than 3."""
    d = d[np.isfinite(d)]
    if len(d) < 3:
        return float(d.mean()) if len(d) else math.nan, math.inf, len(d)
    mean, error = trimmed(d)
    return float(mean), float(error), len(d)


def _resampled(d: Array, weights: Array) -> Array:
    """|trimmed mean / its error| of each resample. weights: (resamples, seeds, seeds), from a seed to a mixture."""
    there = np.flatnonzero(np.isfinite(d))
    d = d[there] - d[there].mean()
    means, errors = trimmed(np.tensordot(weights[:, there, : len(there)], d, axes=(1, 0)))
    return np.abs(means) / errors


def _interval(mean: float, error: float, c: float, n: int) -> Interval:
    half = math.inf if math.isinf(error) else c * error
    return Interval(mean, mean - half, mean + half, n)


def expected_best(values: Sequence[float]) -> list[float]:
    """For k = 1, 2, ..., n: the expected best of k settings drawn from the n that were tried (Dodge et al. 2019).

    E[max of k] = sum over the sorted values v_i of v_i ((i/n)^k - ((i-1)/n)^k): drawn with replacement.
    """
    ordered = np.sort(np.array(values, np.float64))
    n = len(ordered)
    shares = np.arange(n + 1) / n
    return [float((ordered * np.diff(shares**k)).sum()) for k in range(1, n + 1)]


def first_below(losses: Sequence[float], others: Sequence[float], level: float) -> float | None:
    """`others` where `losses` first comes down to `level`, interpolated linearly between two evaluations.

    The line is drawn over the logarithm of the loss. None where it never comes down.
    """
    for i, loss in enumerate(losses):
        if loss <= level:
            if i == 0 or losses[i - 1] == loss:
                return others[i]
            share = math.log(losses[i - 1] / level) / math.log(losses[i - 1] / max(loss, 1e-12))
            return others[i - 1] + share * (others[i] - others[i - 1])
    return None


def first_above(steps: Sequence[float], values: Sequence[float], level: float) -> float | None:
    """The step at which `values` first comes up to `level`, interpolated linearly between two evaluations."""
    if values and values[0] >= level:
        return steps[0]
    for (s, a), (t, b) in pairwise(zip(steps, values, strict=True)):
        if b >= level:
            return s + (t - s) * (level - a) / (b - a)
    return None
