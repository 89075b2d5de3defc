"""How sure a table is: 95 % bootstrap intervals over clips, and over the paired differences from a baseline row.

Means get the bias-corrected and accelerated interval (BCa, Efron 1987), medians the percentile one, because the
jackknife that BCa needs says nothing of a median. Both from `scipy.stats.bootstrap`. Each cell draws from a generator
of its own, so that an interval depends on the seed, the row and the column, and not on what else is in the table.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9999
EQUAL = 1e-9  # figures that differ by less, against their size, differ by rounding
MIN_CLIPS = 5  # a bootstrap of fewer clips is far too sure of itself

Interval = tuple[float, float]


def interval(
    values: Sequence[float], *, median: bool = False, seed: int = 0, name: str = "", resamples: int = RESAMPLES
) -> Interval | None:
    """Where the mean (or median) of such clips lies, with 95 % confidence; None for fewer than 5 clips.

    `name` says what the figures are of: another name draws other resamples.

    >>> interval([1.0, 2.0, 3.0])
    >>> interval([2.0] * 8)
    (2.0, 2.0)
    """
    if len(values) < MIN_CLIPS or not all(map(math.isfinite, values)):
        return None
    size = max(abs(value) for value in values)
    if max(values) - min(values) <= EQUAL * size:  # BCa divides by the spread
        return min(values), max(values)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    statistic: Callable[..., object] = np.median if median else np.mean
    method = "percentile" if median else "BCa"
    found = stats.bootstrap(
        (np.asarray(values),), statistic, n_resamples=resamples, confidence_level=CONFIDENCE, method=method, rng=rng
    ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def difference(
    values: Sequence[float | None],
    baseline: Sequence[float | None],
    *,
    median: bool = False,
    seed: int = 0,
    name: str = "",
) -> tuple[float | None, Interval | None]:
    """Mean (or median) of the clip by clip differences from a baseline, and its interval.

    Clips that lack either figure are left out.

    The same clip is easy or hard for both, so this is far narrower than the two intervals look.
    """
    pairs = [(x, y) for x, y in zip(values, baseline, strict=True) if x is not None and y is not None]
    if not pairs:
        return None, None
    differences = [x - y for x, y in pairs]
    centre = statistics.median(differences) if median else statistics.fmean(differences)
    return centre, interval(differences, median=median, seed=seed, name=name)


def in_words(seed: int, baseline: str) -> str:
    """What the intervals are, for reports."""
    return (
        f"{CONFIDENCE:.0%} bootstrap over clips, {RESAMPLES} resamples, BCa for means, percentile for medians, "
        f"seed {seed}, none below {MIN_CLIPS} clips; differences are paired, from {baseline}"
    )
