"""What stands still in a recording: mains hum, steady lines, and the floor at its quietest moments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chi2

from latentsr.inspection.spectra import Rows, decibels, line_power
from latentsr.signal.lines import FEWEST_BLOCKS, steady_hz

MAINS_HZ = (50.0, 60.0)
HARMONICS = 8
AROUND_HZ, OFF_HZ, OFF_SHARE = 30.0, 0.15, 0.004  # the surroundings; how far a harmonic may lie from its place
ABOVE_DB = 12.0  # the surroundings
QUIET, MIDDLE, STEADY_DB = 0.05, 0.45, 2.5  # quantiles of a harmonic's level over time, and how far apart they may be
FLOOR_SHARE, FLOOR_BAND_HZ = 0.1, 100.0  # of the moments; width of the bands
AROUND_TONE_HZ = 150.0
BINS_PER_HANN = 1.5  # neighbours under the window are alike
LOWEST_HZ = 30.0  # of the floor: an offset is none
FAINTEST_DBFS = -80.0  # nobody hears it below


@dataclass(frozen=True)
class Line:
    """A tone that stands through the whole recording."""

    hz: float
    dbfs: float  # of its amplitude; a sine from -1 to 1 has 0


@dataclass(frozen=True)
class Hum:
    """Mains hum: which mains, the harmonics that are there, and the level of all of them."""

    mains_hz: int
    harmonics_hz: tuple[float, ...]
    dbfs: float


def find_hum(rows: Rows, bin_hz: float) -> Hum | None:
    """Hum of the mains, heard where the recording is quiet; None where there is none, or too little to tell.

    `rows` (L, F) are of frames long enough to tell 49 Hz from 50.
    """
    if len(rows) < FEWEST_BLOCKS:
        return None
    quiet = decibels(np.quantile(rows, 0.25, axis=0))
    found = [_harmonics(rows, quiet, mains, bin_hz) for mains in MAINS_HZ]
    powers = [sum(10 ** (line.dbfs / 10) for line in lines) for lines in found]
    mains, lines = MAINS_HZ[int(np.argmax(powers))], found[int(np.argmax(powers))]
    first_two = any(line.hz < 2.5 * mains for line in lines)
    if not lines or not (first_two or len(lines) > 2):
        return None
    level = round(float(decibels(max(powers))), 1)
    return Hum(round(mains), tuple(line.hz for line in lines), level) if level > FAINTEST_DBFS else None


def _harmonics(rows: Rows, quiet: NDArray[np.float64], mains_hz: float, bin_hz: float) -> list[Line]:
    lines = []
    for k in range(1, HARMONICS + 1):
        place, around = k * mains_hz / bin_hz, round(AROUND_HZ / bin_hz)
        if round(place) + around >= len(quiet) or place < 4:
            break
        peak = round(place) - 2 + int(np.argmax(quiet[round(place) - 2 : round(place) + 3]))
        below, at, above = quiet[peak - 1 : peak + 2]
        exact = peak + 0.5 * (below - above) / min(below - 2 * at + above, -1e-9)
        beside = np.r_[quiet[max(peak - around, 1) : peak - 4], quiet[peak + 5 : peak + around]]
        level = decibels(line_power(rows, peak))
        steady = np.quantile(level, MIDDLE) - np.quantile(level, QUIET) < STEADY_DB
        near = abs(exact * bin_hz - k * mains_hz) < OFF_HZ + OFF_SHARE * k * mains_hz
        if near and steady and at >= max(below, above) and at - np.median(beside) > ABOVE_DB:
            lines.append(Line(round(float(exact * bin_hz), 1), float(np.quantile(level, 0.25))))
    return lines


def find_lines(rows: Rows, sample_rate: int, hum: Hum | None) -> tuple[Line, ...]:
    """Steady lines that are no hum, from low to high, in rows (L, F) of Hann windows over 2 (F - 1) samples."""
    if len(rows) < FEWEST_BLOCKS:
        return ()
    length = 2 * (rows.shape[1] - 1)
    magnitudes = torch.from_numpy(rows * (3 / 32 * length**2))  # Hann: the sum of squares is 3/8 of the length
    bin_hz, lines = sample_rate / length, []
    for hz in steady_hz(magnitudes, sample_rate):
        of_hum = hum is not None and abs(hz / hum.mains_hz - round(hz / hum.mains_hz)) * hum.mains_hz < 2 * bin_hz
        if not (of_hum and hz < 2_000):
            lines.append(Line(round(hz, 1), round(float(np.median(decibels(line_power(rows, hz / bin_hz)))), 1)))
    return tuple(line for line in lines if line.dbfs > FAINTEST_DBFS)


def quiet_spectrum(rows: Rows, bin_hz: float) -> NDArray[np.float64]:
    """Power at the quietest tenth of the moments, in bands of `FLOOR_BAND_HZ`; moments of pure zeros do not count.

    The tenth is raised by as much as steady noise lies above its own tenth, so that such noise is given its true level.
    (L, F) -> (F,), each bin with the mean of its band; half the sum is the mean square.
    """
    sounding = rows[rows.sum(axis=1) > 0]
    sounding[:, : round(LOWEST_HZ / bin_hz)] = 0
    if not len(sounding):
        return np.zeros(rows.shape[1])
    width = max(round(FLOOR_BAND_HZ / bin_hz), 1)
    starts = np.arange(0, rows.shape[1], width)
    bands = np.add.reduceat(sounding, starts, axis=1)
    counts = np.diff(np.append(starts, rows.shape[1]))
    freedom = np.maximum(2 * counts / BINS_PER_HANN, 2)
    quiet = np.quantile(bands, FLOOR_SHARE, axis=0) * freedom / chi2.ppf(FLOOR_SHARE, freedom)
    return np.repeat(np.minimum(quiet, bands.mean(axis=0)) / counts, counts)


def without_tones(quiet: NDArray[np.float64], tones_hz: Iterable[float], bin_hz: float) -> NDArray[np.float64]:
    """A quiet spectrum (F,) in which the bands around hum and lines hold no more than the one above them."""
    quiet = quiet.copy()
    for hz in sorted(tones_hz, reverse=True):  # the highest first, so that what lies above the next one is clean
        first, last = int(max(hz - AROUND_TONE_HZ, 0) / bin_hz), int((hz + AROUND_TONE_HZ) / bin_hz) + 1
        quiet[first:last] = np.minimum(quiet[first:last], quiet[min(last, len(quiet) - 1)])
    return quiet
