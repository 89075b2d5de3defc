"""A recording heard once, in blocks, and everything that was found out about it."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from latentsr.audio import Info, Reader, Resampler
from latentsr.bandwidth import BandEstimator
from latentsr.config import AUDIO
from latentsr.inspection.causes import Cause, Evidence, probable
from latentsr.inspection.measures import Clicks, Clipping, Levels, dust_dbfs
from latentsr.inspection.spectra import Spectrogram, decibels
from latentsr.inspection.tones import Hum, Line, find_hum, find_lines, quiet_spectrum, without_tones
from latentsr.inspection.wording import suggestion
from latentsr.signal.holes import HoleFinder
from latentsr.signal.track import Track

LONG_S, SHORT_S = 0.7, 0.085  # of a frame: to tell lines apart, and to see what happens
MOST_LONG, MOST_SHORT = 200, 1000  # frames that are kept
LOWEST = 3e-5  # root mean square of a channel, one step of 16 bit; below it, it is dead if another is not
ALIKE, OPPOSITE = 0.9999, -0.7  # correlation of channels
DUST_DB = 6.0  # a floor so near to rounding is rounding; dither has 4.8 more


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
