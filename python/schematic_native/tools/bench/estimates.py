"""Statistics of samples: medians with confidence intervals, outliers, and whether two runs differ."""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESAMPLES = 1000
CONFIDENCE = 0.95
# A smaller change is not worth mentioning, however certain it is.
NOTEWORTHY = 0.02
# Tukey's fences: a sample beyond so many interquartile ranges is an outlier.
FENCE = 1.5
SEED = 20_26


@dataclass(frozen=True)
class Estimate:
    """A median with its 95 % confidence interval, and the number of outliers."""

    median: float
    low: float
    high: float
    outliers: int


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the median by resampling, outliers included."""
    low, high = _interval(values, statistics.median)
    return Estimate(statistics.median(values), low, high, count_outliers(values))


def ratio(values: Sequence[float], base: Sequence[float]) -> Estimate:
    """Estimate the ratio to `base`, round by round."""
    return estimate([value / other for value, other in zip(values, base, strict=True)])


def count_outliers(values: Sequence[float]) -> int:
    """Count the samples beyond Tukey's fences."""
    if len(values) < 2:  # noqa: PLR2004 - quartiles need two
        return 0
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    reach = FENCE * (third - first)
    return sum(not first - reach <= value <= third + reach for value in values)


@dataclass(frozen=True)
class Change:
    """The change of a median since a baseline, as a share of it, with a verdict."""

    share: float
    low: float
    high: float
    verdict: str


def change(before: Sequence[float], after: Sequence[float]) -> Change:
    """Compare with a baseline; "same" unless the interval is clear of zero and the change is noteworthy."""
    share = statistics.median(after) / statistics.median(before) - 1
    chance = random.Random(SEED)  # noqa: S311 - the same intervals for the same samples
    shares = sorted(
        _resampled(after, chance) / _resampled(before, chance) - 1 for _ in range(RESAMPLES)
    )
    low, high = _bounds(shares)
    if low <= 0 <= high or abs(share) < NOTEWORTHY:
        return Change(share, low, high, "same")
    return Change(share, low, high, "slower" if share > 0 else "faster")


def _interval(
    values: Sequence[float], statistic: Callable[[Sequence[float]], float]
) -> tuple[float, float]:
    chance = random.Random(SEED)  # noqa: S311 - the same intervals for the same samples
    count = len(values)
    return _bounds(sorted(statistic(chance.choices(values, k=count)) for _ in range(RESAMPLES)))


def _resampled(values: Sequence[float], chance: random.Random) -> float:
    return statistics.median(chance.choices(values, k=len(values)))


def _bounds(ordered: Sequence[float]) -> tuple[float, float]:
    cut = int(len(ordered) * (1 - CONFIDENCE) / 2)
    return ordered[cut], ordered[-1 - cut]
