"""A recording heard once, in blocks, and everything that was found out about it.

What stands still in it is looked for here too: mains hum, steady lines, and the floor at its quietest moments.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chi2

from latentsr.audio import Info, Reader, Resampler
from latentsr.bandwidth import BandEstimator
from latentsr.config import AUDIO
from latentsr.inspection.causes import Cause, Evidence, probable
from latentsr.inspection.measures import Clicks, Clipping, Levels, dust_dbfs
from latentsr.inspection.spectra import Rows, Spectrogram, decibels, line_power
from latentsr.inspection.wording import suggestion
from latentsr.signal.holes import HoleFinder
from latentsr.signal.lines import FEWEST_BLOCKS, steady_hz
from latentsr.signal.track import Track

LONG_S, SHORT_S = 0.7, 0.085  # of a frame: to tell lines apart, and to see what happens
MOST_LONG, MOST_SHORT = 200, 1000  # frames that are kept
LOWEST = 3e-5  # root mean square of a channel, one step of 16 bit; below it, it is dead if another is not
ALIKE, OPPOSITE = 0.9999, -0.7  # correlation of channels
DUST_DB = 6.0  # a floor so near to rounding is rounding; dither has 4.8 more
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
class Picture:
    """What can be drawn of a recording: the mean of its channels."""

    rows_db: NDArray[np.float32]  # (L, F), spread over the recording
    mean_db: NDArray[np.float64]  # (F,) over all of it
    floor_db: NDArray[np.float64]  # (F,) at its quietest moments
    bin_hz: float


@dataclass(frozen=True)
class Inspection:
    """What one pass over a recording tells. Levels are dB of full scale; shares go from 0 to 1."""

    path: str
    format: str
    subtype: str
    sample_rate: int  # Hz
    channels: int
    seconds: float
    track: Track
    cause: Cause
    peak_dbfs: float | None  # None: all samples are 0
    rms_dbfs: float | None  # without the offset; None: there is nothing to hear
    floor_dbfs: float | None  # mean square at the quietest moments, without hum and lines
    floor_bits: int | None  # where that floor is what rounding to so many bits leaves
    hum: Hum | None
    lines: tuple[Line, ...]
    clipped_share: float
    offset: tuple[float, ...]  # mean of each channel, full scale 1
    steady_offset: tuple[float, ...]  # the same; 0 where it wanders
    dead: tuple[int, ...]  # channels, from 1
    identical: tuple[tuple[int, int], ...]  # neighbouring channels that hold the same, up to their level
    out_of_phase: tuple[tuple[int, int, float], ...]  # neighbouring channels and their correlation
    clicks_per_minute: float | None  # None: too short
    hole_share: float  # of what sounds in the middle, how much goes to nothing at once, and comes back so
    holes_hz: tuple[float | None, ...]  # where the holes of each channel begin, where there are enough for a codec
    bits: int | None  # that the samples use; None where they are no integers
    notes: tuple[str, ...] = ()  # what was mended while reading
    picture: Picture | None = field(default=None, repr=False, compare=False)

    @property
    def silent(self) -> bool:
        return self.rms_dbfs is None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the picture, for JSON."""
        apart = ("picture", "track", "hum", "cause", "lines")
        facts = {key: value for key, value in vars(self).items() if key not in apart}
        return {
            **facts,
            "cutoff_hz": round(self.track.cutoff_hz, 1),
            "full_band": self.track.full_band,
            "band": [[[round(s, 2), round(hz, 1)] for s, hz in pairs] for pairs in self.track.pairs],
            "cause": asdict(self.cause),
            "hum": None if self.hum is None else asdict(self.hum),
            "lines": [asdict(line) for line in self.lines],
            "restore": suggestion(self),
        }


def inspect(
    path: str | os.PathLike[str],
    *,
    picture: bool = False,
    salvage: bool = False,
    on_nonfinite: Literal["error", "zero"] = "error",
) -> Inspection:
    """Hear a recording once and say what there is to know before it is restored; memory does not grow with its length.

    Args:
        path: the recording.
        picture: keep what it takes to draw it.
        salvage: hear what can be decoded of one that is cut short.
        on_nonfinite: what to do about samples that are NaN or infinite: raise, or hear zeros.

    Raises:
        AudioError: it is none.

    >>> inspect("old.wav").cause.name  # doctest: +SKIP
    'telephone'
    """
    with Reader(path, salvage=salvage, on_nonfinite=on_nonfinite) as reader:
        ear = _Ear(reader.info)
        for block in reader:
            ear.update(np.ascontiguousarray(block))
        return ear.result(tuple(reader.notes), picture)


class _Ear:
    """All that listens."""

    def __init__(self, info: Info) -> None:
        self.info, rate = info, info.sample_rate
        long, short = (2 ** round(math.log2(seconds * rate)) for seconds in (LONG_S, SHORT_S))
        self.long = Spectrogram(long, long // 4, MOST_LONG, loudest=True)
        self.short = Spectrogram(short, short // 2, MOST_SHORT)
        self.ours = Resampler(rate, AUDIO.sample_rate)  # holes are looked for where `restore` does
        self.levels, self.clipping = Levels(info.channels), Clipping(info.channels)
        self.clicks, self.holes, self.band = Clicks(rate), HoleFinder(), BandEstimator(rate)

    def update(self, block: np.ndarray) -> None:
        for part in (self.levels, self.clipping, self.clicks, self.long, self.short, self.band):
            part.update(block)
        self.holes.update(self.ours.push(block))

    def result(self, notes: tuple[str, ...], picture: bool) -> Inspection:
        info, levels, track = self.info, self.levels, self.band.result()
        seconds, bin_hz = levels.samples / info.sample_rate, info.sample_rate / self.short.length
        rows = self.short.rows
        mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
        quiet = quiet_spectrum(rows, bin_hz) if len(rows) else mean
        hum = find_hum(self.long.rows, info.sample_rate / self.long.length)
        lines = find_lines(self.long.rows, info.sample_rate, hum)
        tones_hz = [*(hum.harmonics_hz if hum else ()), *(line.hz for line in lines)]
        floor = _dbfs(math.sqrt(without_tones(quiet, tones_hz, bin_hz).sum() / 2))
        self.holes.update(self.ours.finish())
        holes_hz, silent = self.holes.result(track.ends_hz), not levels.rms.any()
        evidence = Evidence(info, track, silent, decibels(mean) if len(rows) else None, bin_hz, any(holes_hz))
        dead = _dead(levels)
        drawn = Picture(decibels(rows).astype(np.float32), decibels(mean), decibels(quiet), bin_hz) if picture else None
        pairs = [(c, c + 1) for c in range(info.channels - 1) if levels.rms[c : c + 2].min() > LOWEST]
        alike = [(a, b, levels.correlation(a, b)) for a, b in pairs]
        return Inspection(
            path=str(info.path), format=info.format, subtype=info.subtype, sample_rate=info.sample_rate,
            channels=info.channels, seconds=round(seconds, 6), track=track, cause=probable(evidence),
            peak_dbfs=_dbfs(float(levels.peak.max())), rms_dbfs=_dbfs(float(np.sqrt(np.mean(levels.rms**2)))),
            floor_dbfs=floor, floor_bits=_dust_bits(floor, levels.bits), hum=hum,
            lines=lines, clipped_share=round(self.clipping.share, 8),
            offset=_rounded(levels.offset), steady_offset=_rounded(levels.steady_offset), dead=dead,
            identical=tuple((a + 1, b + 1) for a, b, r in alike if r > ALIKE or levels.identical(b)),
            out_of_phase=tuple((a + 1, b + 1, round(r, 3)) for a, b, r in alike if r < OPPOSITE),
            clicks_per_minute=round(60 * self.clicks.count / seconds, 1) if seconds >= 1 else None,
            hole_share=round(self.holes.share, 6), holes_hz=holes_hz, bits=levels.bits, notes=notes,
            picture=drawn,
        )  # fmt: skip


def _dead(levels: Levels) -> tuple[int, ...]:
    alive = levels.rms > LOWEST
    return tuple(int(c) + 1 for c in np.flatnonzero(~alive)) if alive.any() and len(alive) > 1 else ()


def _dust_bits(floor_dbfs: float | None, bits: int | None) -> int | None:
    if floor_dbfs is None or bits is None or abs(floor_dbfs - dust_dbfs(bits)) > DUST_DB:
        return None
    return bits


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 7) for value in values)


def _dbfs(amplitude: float) -> float | None:
    return round(20 * math.log10(amplitude), 1) if amplitude > 3e-8 else None


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
