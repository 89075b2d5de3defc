"""What poor interpolators leave: images of the band, mirrored about half the rate that a recording had before.

Holding each sample, straight lines and cubics between samples of a rate r let through, at m + d, what stands at
m - d, where m = r / 2 is the mirror. How much they let through is their own, so that the ratio of the two levels names
the interpolator, and its kernel says where it is 3 dB down. Programme moves alike on both sides of no mirror: a
harmonic series lies mirrored about each half of its pitch, but moves up on both sides where its image moves down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from latentsr.signal.bandedges import INSIDE
from latentsr.signal.bandend import EDGE_DB, HIGHEST_END_HZ, REFERENCE_HZ
from latentsr.signal.bandframes import BIN_HZ, BINS, SILENT_DB
from latentsr.signal.track import FULL_BAND_HZ

Array = NDArray[np.float32]
Wave = NDArray[np.float64]

NEPERS = math.log(10) / 10  # of power, per dB

# What is alike: how each bin moves against its neighbours.
FEWEST_FRAMES = 16  # a second: fewer can be alike by chance
RANGE_DB, HEARD_DB = 100.0, 60.0  # below the loudest bin: what is quieter is as good as floor; silent frames
DUST_MARGIN_DB = 4.0  # above the dust of rounding, likewise
SMOOTHED, FINE_DB = 9, 12.0  # bins whose mean is taken off; the most that one bin counts
REACH, MOST_PAIRS, FEWEST_PAIRS = 0.3, 40, 6  # of the mirror; pairs of bins about it
# When to believe it. Raising an end only dulls where it is wrong, lowering one destroys.
RAISED_FROM, LOWERED_FROM = 0.7, 0.95  # likeness from which on an end is raised; lowered, or found in a full band
NEAREST, FARTHEST = 0.5, 1.75  # of the end that the network found: where its mirror can lie
FIT_DB, CLEARER_DB = 1.2, 0.3  # median error of the ratio of levels, at most; how much worse every other kind must be
SEEN_DB = 6.0  # above the floor, where an image must stand to be compared
# An earlier filter may have ended the band before the interpolator does; then the programme stands no more at the end.
EDGE, BEFORE = (0.94, 1.0), (0.7, 0.88)  # of the end
FALLEN_DB = 8.0
SHARP = 0.945  # of the mirror: what got a good resampler to the lower rate is 3 dB down there
STOPPED_DB = 60.0  # of loss above that
ABOVE = 1.05  # of the end: from there on the network is asked too what was lost

SMOOTH_STEPS, MOST_STEPS = 48, 7  # samples per old one: as good as a curve; the most that are told from a curve
STEPS_ERROR = 0.012  # of that number
SHARES = np.linspace(0, 1, 1025)  # of the old rate, at which gains are held


@dataclass(frozen=True)
class Interpolated:
    """How a recording was brought up from a lower rate."""

    kind: str
    mirror_hz: float  # half the lower rate
    end_hz: float  # the -3 dB point
    took_db: Array  # (BINS,) of the programme; STOPPED_DB above what the lower rate could hold

    def loss_db(self, heard_db: Array) -> Array:
        """What is lost in each bin (BINS,), where the network heard a loss of `heard_db`.

        Below the end the interpolator's own; above it the greater one, since another filter may have come first.
        """
        above = np.arange(BINS) * BIN_HZ > ABOVE * self.end_hz
        return np.maximum(self.took_db, heard_db * above)


def interpolated(power_db: Array, end_hz: float, nyquist_hz: float, dust_db: float) -> Interpolated | None:
    """The interpolator that a stretch went through, where its images show it beyond doubt; else None.

    Args:
        power_db: (L, BINS) of the stretch.
        end_hz: where the network says that it ends, FULL_BAND_HZ: nowhere.
        nyquist_hz: of the file.
        dust_db: level of rounding.
    """
    top = min(int(INSIDE * nyquist_hz / BIN_HZ), BINS - 1)
    power_db = power_db[:, : top + 1]
    loudest_db = power_db.max(axis=1, initial=SILENT_DB)
    heard = loudest_db > loudest_db.max(initial=SILENT_DB) - HEARD_DB
    if heard.sum() < FEWEST_FRAMES:
        return None
    floor_db = max(dust_db + DUST_MARGIN_DB, float(loudest_db.max()) - RANGE_DB)
    power = np.exp(power_db[heard] * NEPERS)
    mirrors = _mirrors(_movement(power, floor_db), end_hz)
    mean_db = 10 * np.log10(power.mean(axis=0, dtype=np.float64) + 1e-30)
    for mirror, likeness in mirrors:
        found = _named(mirror, mean_db, floor_db, nyquist_hz)
        if found is not None and likeness > _least(found, end_hz):
            return found
    return None


def _least(found: Interpolated, end_hz: float) -> float:
    """How alike the sides of a mirror must be, to say so in the place of the network."""
    if found.end_hz > HIGHEST_END_HZ:
        return math.inf  # nothing is missing
    if end_hz >= FULL_BAND_HZ and found.kind == "hold":
        return math.inf  # held samples that fill the band are meant: an effect, or an old game's sound
    return RAISED_FROM if end_hz < found.end_hz else LOWERED_FROM


# --- mirrors ---------------------------------------------------------------------------------------------------------


def _movement(power: Array, floor_db: float) -> Array:
    """How each bin moves over time against its neighbours, dB; below the floor nothing does. (L, K) -> (L, K)"""
    level = np.log(power + np.float32(math.exp(floor_db * NEPERS))) / np.float32(NEPERS)
    level -= level.mean(axis=0)
    around = np.pad(level, ((0, 0), (SMOOTHED // 2 + 1, SMOOTHED // 2)), mode="edge").cumsum(axis=1)
    fine = level - (around[:, SMOOTHED:] - around[:, :-SMOOTHED]) / SMOOTHED
    return np.asarray(fine.clip(-FINE_DB, FINE_DB))


def _mirrors(movement: Array, end_hz: float) -> list[tuple[float, float]]:
    """Bins of mirrors about which both sides move alike, from the lowest up, and how alike: holding has several.

    A mirror between two places is seen at both, less well.
    """
    first, last = 0, 2 * BINS
    if end_hz < FULL_BAND_HZ:
        first, last = int(2 * NEAREST * end_hz / BIN_HZ), min(math.ceil(2 * FARTHEST * end_hz / BIN_HZ), last)
    likeness = np.pad(_likeness(movement, first, last), 1).clip(0, 1)
    before, here, behind = likeness[:-2], likeness[1:-1], likeness[2:]
    both = np.hypot(here, np.maximum(before, behind))
    peaks = np.flatnonzero((here >= before) & (here >= behind) & (both > RAISED_FROM))
    between = (behind - before)[peaks] / (before + here + behind)[peaks]
    return [((first + n + shift) / 2, float(both[n])) for n, shift in zip(peaks, between, strict=True)]


def _likeness(movement: Array, first: int, last: int) -> Array:
    """Correlation of the two sides of each mirror at n / 2 bins, n from `first` up to `last`. (last - first,)"""
    length, bins = movement.shape
    low, high, paired = (each[first:last] for each in _pairs(bins))
    moved = torch.from_numpy(movement)  # numpy's product wakes a thread for each core
    products = (moved.T @ moved).numpy()
    spread = np.sqrt(products.diagonal())
    norm = (spread[low] * spread[high] * paired).sum(axis=1) + length
    return np.asarray((products.ravel()[low * bins + high] * paired).sum(axis=1) / norm)


@lru_cache(maxsize=16)
def _pairs(bins: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Of so many bins, those below and above each mirror, and 1 where such a pair counts. 3 x (2 BINS, MOST_PAIRS)"""
    twice = np.arange(2 * BINS)[:, None]
    high = twice // 2 + 1 + np.arange(MOST_PAIRS)
    low = twice - high
    paired = (high < bins) & (high - low <= REACH * twice)
    paired &= paired.sum(axis=1, keepdims=True) >= FEWEST_PAIRS
    return np.where(paired, low, 0), np.where(paired, high, 0), paired.astype(np.float32)


# --- interpolators ---------------------------------------------------------------------------------------------------


def _spline(t: Wave) -> Wave:
    """The cubic B-spline."""
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.maximum(2 - t, 0) ** 3 / 6)


def _keys(t: Wave) -> Wave:
    """Keys' cubic (Catmull-Rom)."""
    return np.where(t < 1, 1.5 * t**3 - 2.5 * t**2 + 1, np.where(t < 2, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2, 0))


KERNELS: dict[str, Callable[[Wave], Wave]] = {  # at a distance, in old samples
    "hold": lambda t: (t < 0.5).astype(np.float64),
    "lines": lambda t: np.maximum(1 - t, 0),
    "spline": _spline,
    "keys": _keys,
}


@lru_cache(maxsize=64)
def _gain_db(kind: str, steps: int) -> Wave:
    """Gain of an interpolator that puts so many samples in the place of one, from 0 Hz to the old rate. (1025,)"""
    gain = _sum(kind, SHARES, steps) / _sum(kind, SHARES, 1)
    return 20 * np.log10(np.maximum(np.abs(gain), 1e-4))


def _sum(kind: str, share: Wave, steps: int) -> Wave:
    """Spectrum of the kernel taken at so many places per old sample; at one, what a spline's prefilter undoes."""
    between = 0.5 if kind == "hold" and steps % 2 == 0 else 0.0  # else both its ends would count
    t = (np.arange(-2 * steps, 2 * steps + 1) + between) / steps
    return np.asarray(KERNELS[kind](np.abs(t)) @ np.cos(2 * np.pi * t[:, None] * share)) / steps


def _gain_at(kind: str, steps: int, share: Wave) -> Wave:
    """Gain in dB at shares of the old rate."""
    return np.interp(share, SHARES, _gain_db(kind, steps))


def _named(mirror: float, mean_db: Wave, floor_db: float, nyquist_hz: float) -> Interpolated | None:
    """The one interpolator whose ratio of levels fits about a mirror (in bins), where the programme reaches its end."""
    steps = nyquist_hz / (mirror * BIN_HZ)
    whole = abs(steps - round(steps)) < STEPS_ERROR * steps and round(steps) <= MOST_STEPS
    steps = round(steps) if whole else SMOOTH_STEPS
    errors = {kind: _error_db(kind, steps, mirror, mean_db, floor_db) for kind in KERNELS}
    kind, other = sorted(errors, key=lambda each: errors[each])[:2]
    if errors[kind] > FIT_DB or errors[other] < errors[kind] + CLEARER_DB:
        return None
    end = _end(kind, steps, mirror)
    bins = np.arange(BINS)
    gain_db = _gain_at(kind, steps, bins / (2 * mirror))
    if not _stands(mean_db - gain_db[: len(mean_db)], end):
        return None
    took_db = np.where(bins < SHARP * mirror, -gain_db, STOPPED_DB).astype(np.float32)
    return Interpolated(kind, mirror * BIN_HZ, end * BIN_HZ, took_db)


def _error_db(kind: str, steps: int, mirror: float, mean_db: Wave, floor_db: float) -> float:
    """Median error of the levels above a mirror, made of those below it; infinite where too few can be seen."""
    low, high, paired = (each[round(2 * mirror)] for each in _pairs(len(mean_db)))
    low, high = low[paired > 0], high[paired > 0]
    ratio_db = _gain_at(kind, steps, high / (2 * mirror)) - _gain_at(kind, steps, low / (2 * mirror))
    image_db = mean_db[low] + ratio_db
    seen = image_db > floor_db + SEEN_DB
    if seen.sum() < FEWEST_PAIRS:
        return np.inf
    return float(np.median(np.abs(mean_db[high] - image_db)[seen]))


def _end(kind: str, steps: int, mirror: float) -> float:
    """The bin at which an interpolator is 3 dB down, or what came before it."""
    share = SHARES[SHARES < SHARP / 2]
    usual_db = _gain_at(kind, steps, np.array([sum(REFERENCE_HZ) / 2 / BIN_HZ / (2 * mirror)]))
    down = np.flatnonzero(_gain_at(kind, steps, share) < usual_db + EDGE_DB)
    return float(2 * mirror * (share[down[0]] if len(down) else SHARP / 2))


def _stands(source_db: Wave, end: float) -> bool:
    """Whether the programme, without the interpolator's loss, still stands at its end (in bins)."""
    edge, before = (
        source_db[min(int(np.ceil(low * end)), int(high * end)) : int(high * end) + 1].mean()
        for low, high in (EDGE, BEFORE)
    )
    return bool(edge > before - FALLEN_DB)
