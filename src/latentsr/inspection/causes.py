"""What probably cut a recording's band: a table of causes, each with a test on the evidence and a sentence.

The first entry whose test holds is the answer. None of it is proof: a filter at 16 kHz leaves what an encoder leaves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from latentsr.audio import Info
from latentsr.signal.track import Track

RATES_HZ = (6_000, 8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # that are resampled through
EDGE_OF_RATE = (0.9, 0.99)  # where a resampler ends, in half its rate; from 32 kHz on from EDGE_OF_HIGH_RATE
EDGE_OF_HIGH_RATE = 0.87
MIDDLE_OF_RATE = 0.95
OWN_END, OWN_END_CD = 0.9, 0.93  # in half the file's rate: every converter ends there; from 44.1 kHz on, higher
# Where encoders end by default, Hz: kb/s of two channels, LAME's constant rates and what FhG's is known for.
ENCODER_EDGES_HZ = {
    7_000: 40, 7_500: 48, 10_000: 56, 11_000: 64, 13_500: 80, 15_100: 96, 15_600: 112, 16_000: 128, 17_000: 128,
    17_500: 160, 18_600: 192, 19_000: 192, 19_400: 224, 19_700: 256, 20_000: 256, 20_500: 320,
}  # fmt: skip
EDGE_TOLERANCE = 0.015
LOSSY = ("MPEG", "VORBIS", "OPUS", "AAC", "MP3", "WMA", "AMR", "HE-AAC", "MP2", "AC3", "EAC3")  # subtypes begin so
TELEPHONE_SUBTYPES = ("ULAW", "ALAW", "GSM610", "AMR_NB", "AMRNB", "PCM_MULAW", "PCM_ALAW")
TELEPHONE_HZ = (2_900, 3_900)
LOW_EDGES = (((100, 180), (230, 350), 20.0), ((150, 210), (350, 700), 25.0))  # Hz, Hz, dB: a line passes nothing low
STEEP_DB, GENTLE_DB = 60.0, 24.0  # per octave
ENCODERS_FROM_HZ = 15_000  # a steep end up there, where nobody filters on purpose, is an encoder's
FAINT_DB = 12.0  # an edge less high than that shows no slope


@dataclass(frozen=True)
class Cause:
    """A name for programs, a sentence for people."""

    name: str
    sentence: str


@dataclass(frozen=True)
class Evidence:
    """What the tests look at."""

    info: Info
    track: Track
    silent: bool
    mean_db: NDArray[np.float64] | None  # (F,) long-term spectrum; None: too short for one
    bin_hz: float
    holed: bool

    @property
    def cutoff_hz(self) -> float:
        return self.track.cutoff_hz

    @property
    def half_rate_hz(self) -> float:
        return self.info.sample_rate / 2

    @property
    def whole(self) -> bool:
        """Whether the band reaches the end that the file's rate has."""
        share = OWN_END if self.info.sample_rate < 44_100 else OWN_END_CD
        return self.track.full_band or self.cutoff_hz >= share * self.half_rate_hz

    @property
    def lossy(self) -> bool:
        return self.info.subtype.upper().startswith(LOSSY)

    @cached_property
    def slope_db(self) -> float | None:
        """Fall per octave beyond the cutoff, dB; None where it does not stand out from what lies above."""
        edge, top = self.cutoff_hz, min(2 * self.cutoff_hz, self.half_rate_hz)
        inside = self._level_db(0.8 * edge, 0.92 * edge)
        places = np.arange(0.93 * edge, top, 0.02 * edge)
        falls = np.array([inside - self._level_db(hz, hz + 0.02 * edge) for hz in places])
        if not len(falls) or falls.max() < FAINT_DB:
            return None
        wanted = min(30.0, 0.7 * float(falls.max()))
        first, last = int(np.argmax(falls > 3)), int(np.argmax(falls > wanted))
        return (wanted - 3) / math.log2(1 + 0.02 * edge * max(last - first, 0.5) / places[first])

    @property
    def steep(self) -> bool:
        return self.slope_db is not None and self.slope_db > STEEP_DB

    @property
    def low_edge(self) -> bool:
        return all(self._level_db(*above) - self._level_db(*below) > db for below, above, db in LOW_EDGES)

    @property
    def rate_hz(self) -> int | None:
        """Of the resampler that ends where this recording does."""
        at = {rate: self.cutoff_hz / (rate / 2) for rate in RATES_HZ if rate < self.info.sample_rate}
        lowest = {rate: EDGE_OF_HIGH_RATE if rate >= 32_000 else EDGE_OF_RATE[0] for rate in at}
        fitting = [rate for rate, share in at.items() if lowest[rate] <= share <= EDGE_OF_RATE[1]]
        return min(fitting, key=lambda rate: abs(at[rate] - MIDDLE_OF_RATE), default=None)

    @property
    def kbps(self) -> int | None:
        """Of the encoder that ends where this recording does."""
        nearest = min(ENCODER_EDGES_HZ, key=lambda hz: abs(math.log(self.cutoff_hz / hz)))
        fits = abs(self.cutoff_hz / nearest - 1) < EDGE_TOLERANCE
        return ENCODER_EDGES_HZ[nearest] if fits else None

    def _level_db(self, low_hz: float, high_hz: float) -> float:
        assert self.mean_db is not None  # "too short" comes before all that ask
        first = min(int(low_hz / self.bin_hz), len(self.mean_db) - 1)
        part = self.mean_db[first : max(round(high_hz / self.bin_hz), first + 1)]
        return float(10 * np.log10(np.mean(10 ** (part / 10))))


def _encoder(e: Evidence) -> str:
    what = f"the encoder of this file ({e.info.subtype})" if e.lossy else "a lossy encoder (MP3, AAC, ...)"
    rate = f", at about {e.kbps} kb/s in stereo by its end" if e.kbps and e.steep else ""
    return what + rate + ("; bands in the middle go to nothing at times" if e.holed else "")


def _resampler(e: Evidence) -> str:
    other = ", or a lossy encoder" if e.cutoff_hz > ENCODERS_FROM_HZ else ""
    return f"a resampler through {e.rate_hz:,} Hz{other}"


def _telephone(e: Evidence) -> bool:
    narrow = TELEPHONE_HZ[0] <= min(e.cutoff_hz, e.half_rate_hz) <= TELEPHONE_HZ[1]
    return e.info.subtype.upper() in TELEPHONE_SUBTYPES and e.info.sample_rate <= 8_000 or narrow and e.low_edge


@dataclass(frozen=True)
class Entry:
    name: str
    test: Callable[[Evidence], bool]
    sentence: Callable[[Evidence], str]


CAUSES = (
    Entry("silence", lambda e: e.silent, lambda e: "nothing to hear"),
    Entry("too short", lambda e: e.mean_db is None, lambda e: "too short to tell"),
    Entry("telephone", _telephone, lambda e: "a telephone line (about 300 to 3,400 Hz)"),
    Entry("encoder", lambda e: e.holed and (e.lossy or not e.whole), _encoder),
    Entry("nothing", lambda e: e.whole and e.info.sample_rate >= 44_100, lambda e: "nothing: the band is whole"),
    Entry("own rate", lambda e: e.whole, lambda e: f"the file's own rate of {e.info.sample_rate:,} Hz"),
    Entry("encoder", lambda e: e.lossy and e.steep, _encoder),
    Entry("resampler", lambda e: e.steep and e.rate_hz is not None, _resampler),
    Entry("encoder", lambda e: e.steep and (e.kbps is not None or e.cutoff_hz > ENCODERS_FROM_HZ), _encoder),
    Entry("steep filter", lambda e: e.steep, lambda e: f"a steep filter at {e.cutoff_hz:,.0f} Hz"),
    Entry(
        "gentle filter",
        lambda e: e.slope_db is not None and e.slope_db > GENTLE_DB,
        lambda e: f"a gentle filter, falling {e.slope_db:.0f} dB per octave",
    ),
    Entry("own end", lambda e: True, lambda e: "its own end: it fades out by itself"),
)


def probable(evidence: Evidence) -> Cause:
    """The first cause of the table that the evidence fits."""
    entry = next(entry for entry in CAUSES if entry.test(evidence))
    return Cause(entry.name, entry.sentence(evidence))
