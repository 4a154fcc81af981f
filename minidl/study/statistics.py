"""The statistics of the report, each a few lines over SciPy.

Contestants are compared seed by seed: runs with the same seed have the same data split, initial weights and order of
examples, so that what these bring is taken out of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """The mean and its t-interval. With fewer than two values the interval is unbounded."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Mean(mean, -math.inf, math.inf, n)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Mean(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Paired:
    """A comparison of two contestants over the same seeds.

    difference  mean of a - b with its interval
    p           of the paired t-test;  p_wilcoxon  of the signed-rank test, which assumes no bell curve, as a check
    effect      Hedges' g of the paired differences: their mean over their standard deviation, corrected for few seeds
    p_holm      p after Holm's correction; set by whoever knows the family of tests
    """

    difference: Mean
    p: float
    p_wilcoxon: float
    effect: float
    p_holm: float = math.nan

    @property
    def holds(self) -> bool:
        """Whether the difference is there beyond reasonable doubt."""
        return self.p_holm < 0.05


def paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Compare a with b, value by value. Raises ValueError where they are not as many, or fewer than two."""
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(
            f"a paired comparison needs as many values on both sides, at least 2: got {len(a)} and {len(b)}"
        )
    d = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    difference = mean_interval(d.tolist())
    if not d.any():
        return Paired(difference, 1.0, 1.0, 0.0)
    sd = float(np.std(d, ddof=1))
    if sd == 0:  # the same difference at every seed: certain, though no test statistic exists
        return Paired(difference, 0.0, _wilcoxon(d), math.copysign(math.inf, float(d[0])))
    return Paired(difference, float(stats.ttest_rel(a, b).pvalue), _wilcoxon(d), hedges(difference.mean / sd, len(d)))


def _wilcoxon(d: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Zeros are dropped and ties share their ranks, as Wilcoxon did; exact where there are no ties."""
    d = d[d != 0]
    exact = len(set(np.abs(d).tolist())) == len(d) <= 50
    return float(stats.wilcoxon(d, method="exact" if exact else "approx").pvalue)


def hedges(dz: float, n: int) -> float:
    """Cohen's dz of n pairs without the bias of small samples: dz Gamma(m/2) / (sqrt(m/2) Gamma((m-1)/2)), m = n - 1.

    Hedges 1981, eq. 6e.
    """
    m = n - 1
    if m < 2:
        return dz
    return dz * math.exp(math.lgamma(m / 2) - math.lgamma((m - 1) / 2)) / math.sqrt(m / 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979): the smallest p times m, the next times m - 1, ..., never falling, at most 1."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


@dataclass(frozen=True)
class Reached:
    """Time to an accuracy over several runs, those that never reach it handled as censored.

    share   of the runs that reached it
    median  Kaplan & Meier's: when half of the runs have reached it; None where that never happens
    """

    share: float
    median: float | None


def time_to(times: Sequence[float], reached: Sequence[bool]) -> Reached:
    """times: when each run reached the accuracy, or, where it did not, when it was last looked at."""
    share = sum(reached) / len(reached)
    if not any(reached):
        return Reached(share, None)
    survival = stats.ecdf(_censored(times, reached)).sf
    below = np.flatnonzero(survival.probabilities <= 0.5 + 1e-12)
    return Reached(share, float(survival.quantiles[below[0]]) if len(below) else None)


def log_rank(
    times_a: Sequence[float], reached_a: Sequence[bool], times_b: Sequence[float], reached_b: Sequence[bool]
) -> float:
    """p of the log-rank test: whether a and b differ in their time to an accuracy. 1 where neither ever reaches it."""
    if not any(reached_a) and not any(reached_b):
        return 1.0
    return float(stats.logrank(_censored(times_a, reached_a), _censored(times_b, reached_b)).pvalue)


def _censored(times: Sequence[float], reached: Sequence[bool]) -> stats.CensoredData:
    pairs = list(zip(times, reached, strict=True))
    return stats.CensoredData(uncensored=[t for t, r in pairs if r], right=[t for t, r in pairs if not r])


def area_under(steps: Sequence[float], values: Sequence[float]) -> float:
    """The mean height of a curve over its range of steps (trapezoids), so that a constant curve has its own value."""
    return float(np.trapezoid(values, steps)) / (steps[-1] - steps[0]) if len(steps) > 1 else math.nan
