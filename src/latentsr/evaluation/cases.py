"""Ways in which the world cuts recordings, by name: what `latentsr eval --cases` scores beside its own low-passes.

A case is a file as somebody else left it: at its own rate, depth and level, cut by their filter, resampler or codec.
Nothing here is drawn but noise: one name is one condition.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from scipy import signal

from latentsr.config import AUDIO
from latentsr.evaluation.filters import cut_at
from latentsr.evaluation.noises import Wave
from latentsr.signal import codecs, cuts
from latentsr.signal.bandend import LASTING_HZ, measured_end_hz

RATE = AUDIO.sample_rate
FULL_BAND_HZ = AUDIO.sample_rate / 2
HEARD_SHARE = 1.15  # of where a case ends: a clip whose own band does not reach so far says nothing of it
UNCUT_HZ = 20_000.0  # an uncut recording that is taken to end above this is taken for what it is
HOLES_HZ = 2_000.0  # a codec leaves gaps up to this wide in a band that goes on above them
DEFAULT = ("file-44k1",)
ALL = "all"

Generator = np.random.Generator
Step = Callable[[Wave, int, Generator], tuple[Wave, int]]  # (T,) at a rate in Hz -> (T',) at another


@dataclass(frozen=True)
class CutCase:
    """One kind of file."""

    words: str  # what was done, for reports
    cutoff_hz: float  # where it is 3 dB down; 24000 where nothing is cut
    steps: tuple[Step, ...] = ()  # what is done to the wide wave, in order
    sample_rate: int = 44_100  # of the file, Hz
    bits: int | None = 16  # of the file; None is float
    level_db: float = 0.0  # against the wide recording, beside what the cut does
    shaper: str = "none"  # key of `cuts.SHAPERS`, of the dither

    @property
    def gain(self) -> float:
        """What the file's samples are multiplied by, against the wide recording's."""
        return float(10 ** (self.level_db / 20))

    @property
    def subtype(self) -> str:
        """libsndfile's name of the depth."""
        return {8: "PCM_U8", 16: "PCM_16", 24: "PCM_24", None: "FLOAT"}[self.bits]

    def make(self, wave: Wave, rng: Generator) -> tuple[Wave, int]:
        """The samples of the file. (T,) at 48 kHz -> (T x rate / 48000,) on the grid of its depth, and its rate"""
        rate = RATE
        for step in self.steps:
            wave, rate = step(wave, rate, rng)
        wave = self.gain * (wave if rate == self.sample_rate else cuts.soxr_at("VHQ")(wave, rate, self.sample_rate))
        if self.bits is None:
            return wave.astype(np.float32).astype(np.float64), self.sample_rate
        run = cuts.rounded if self.shaper == "none" else cuts.fed_back
        return run(wave, self.bits, rng, shaper=self.shaper), self.sample_rate

    def in_words(self) -> str:
        """What was done, and the file."""
        depth = "float" if self.bits is None else f"{self.bits} bit"
        level = f", {self.level_db:g} dB" if self.level_db else ""
        return f"{self.words}; {self.sample_rate / 1000:g} kHz, {depth}{level}"


# --- steps -----------------------------------------------------------------------------------------------------------


def iir(design: Callable[..., Any], *values: float, both: bool = False, **options: Any) -> Step:
    """A filter of scipy's, by default one way, as players and editors run it."""

    def run(wave: Wave, rate: int, _: Generator) -> tuple[Wave, int]:
        sos = design(*values, fs=rate, output="sos", **options)
        return (signal.sosfiltfilt if both else signal.sosfilt)(sos, wave), rate

    return run


def _wall(cutoff_hz: float) -> Step:
    return lambda wave, rate, _: (cut_at(wave, cutoff_hz, rate), rate)


def through(low: int, down: cuts.Resample, up: cuts.Resample, back: int = RATE) -> Step:
    """Down to a lower rate and up again."""
    return lambda wave, rate, _: (up(down(wave, rate, low), low, back), back)


def codec(name: str, kbps: float) -> Step:
    """Through one of `codecs.CODECS`, at the rate that there is."""

    def run(wave: Wave, rate: int, _: Generator) -> tuple[Wave, int]:
        return codecs.round_trip(wave.astype(np.float32), name, kbps, rate).astype(np.float64), rate

    return run


def _hiss(level_db: float) -> Step:
    """White noise, so far from the recording's own power."""

    def run(wave: Wave, rate: int, rng: Generator) -> tuple[Wave, int]:
        return wave + rng.standard_normal(len(wave)) * np.sqrt((wave**2).mean()) * 10 ** (level_db / 20), rate

    return run


def _cheby(cutoff_hz: float) -> Step:
    """What `latentsr eval` cuts with by default: order 8, 0.1 dB, both ways."""
    return iir(signal.cheby1, 8, 0.1, cutoff_hz, both=True)


VHQ, LQ, SHORT = cuts.soxr_at("VHQ"), cuts.soxr_at("LQ"), cuts.polyphase("hann", 12)

# Cutoffs are measured on noise that falls by 3 dB an octave; a test holds them within 5 %.
CASES: dict[str, CutCase] = {
    "file-44k1": CutCase("Chebyshev 8 at 4 kHz, both ways", 4134, (_cheby(4_000),)),
    "file-12k": CutCase("soxr VHQ", 5671, sample_rate=12_000),
    "file-22k05": CutCase("soxr VHQ", 10_430, sample_rate=22_050),
    "file-32k": CutCase("soxr VHQ", 15_120, sample_rate=32_000),
    "float-96k": CutCase("Butterworth 10 at 6 kHz, both ways", 5770, (iir(signal.butter, 10, 6_000, both=True),),
                         96_000, None),
    "resampled-44k1": CutCase("through 12 kHz by scipy's resample_poly", 5585,
                              (through(12_000, cuts.polyphase(), cuts.polyphase()),)),
    "short-sinc": CutCase("through 10 kHz by a Hann sinc of 12 crossings", 4700, (through(10_000, SHORT, SHORT),),
                          48_000),
    "quick": CutCase("through 14 kHz by soxr LQ", 5530, (through(14_000, LQ, LQ),), 48_000),
    "linear": CutCase("through 11.025 kHz, up by straight lines", 3725, (through(11_025, VHQ, cuts.linear, 44_100),)),
    "hold": CutCase("through 16 kHz, up by holding", 7430, (through(16_000, VHQ, cuts.hold),), 48_000),
    "cubic": CutCase("through 9.6 kHz, up by Hermite curves", 3890, (through(9_600, VHQ, cuts.cubic),), 48_000),
    "oneway-butter": CutCase("Butterworth 6 at 7 kHz, one way", 7000, (iir(signal.butter, 6, 7_000),), 48_000),
    "bessel": CutCase("Bessel 4 at 6.5 kHz, one way", 6540, (iir(signal.bessel, 4, 6_500, norm="mag"),)),
    "ellip-50db": CutCase("elliptic 6 at 5 kHz, 0.1/50 dB, one way", 5270, (iir(signal.ellip, 6, 0.1, 50, 5_000),)),
    "cheby2-40db": CutCase("Chebyshev II 7, 40 dB from 9 kHz, one way", 7255, (iir(signal.cheby2, 7, 40, 9_000),)),
    "wall": CutCase("cut at 5.5 kHz in the Fourier domain", 5500, (_wall(5_500),)),
    "hiss": CutCase("Chebyshev 8 at 5 kHz, both ways, hiss at -45 dB", 5165, (_cheby(5_000), _hiss(-45))),
    "quiet": CutCase("Chebyshev 8 at 4.5 kHz, both ways", 4650, (_cheby(4_500),), level_db=-35),
    "24-bit-quiet": CutCase("through 22.05 kHz by soxr VHQ", 10_430, (through(22_050, VHQ, VHQ),), 48_000, 24, -45),
    "8-bit": CutCase("Butterworth 10 at 4.5 kHz, both ways", 4320, (iir(signal.butter, 10, 4_500, both=True),),
                     bits=8),
    "shaped-dither": CutCase("Butterworth 6 at 9 kHz, both ways; dither shaped by three taps", 8500,
                             (iir(signal.butter, 6, 9_000, both=True),), shaper="three taps"),
    "codec-chain": CutCase("MP3 at 48 kb/s, then Vorbis at 64", 11_230, (codec("mp3", 48), codec("vorbis", 64))),
    "uncut-44k1": CutCase("nothing", FULL_BAND_HZ),
}  # fmt: skip


# --- by name ---------------------------------------------------------------------------------------------------------


def named(value: Iterable[str]) -> tuple[str, ...]:
    """Names of CASES, `all` being each of them; `ValueError` says which is near to one that is none."""
    names = tuple(CASES) if list(value) == [ALL] else tuple(value)
    for name in names:
        if name not in CASES:
            near = get_close_matches(name, [*CASES, ALL], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {ALL}, {', '.join(CASES)}"
            raise ValueError(f"unknown case {name!r}; {hint}")
    if len(set(names)) < len(names):
        raise ValueError("a case is named twice")
    return names


def generator(seed: int, clip_name: str, case: str) -> Generator:
    """Noise of one clip under one case: neither its place nor the other cases matter."""
    return np.random.default_rng([seed, zlib.crc32(clip_name.encode()), zlib.crc32(case.encode())])


# --- estimates -------------------------------------------------------------------------------------------------------


def truth_hz(stated_hz: float, narrow: Wave, wide: Wave, own_hz: float) -> float | None:
    """Where a narrow recording (T,) at 48 kHz of a wide one that ends at `own_hz` was cut, as measured on the two.

    Returns:
        inf where nothing is seen to be cut: nothing was (`stated_hz` is 24000), or noise lies over the place. None
        where the wide one's own band does not reach far enough beyond the cut to show it.
    """
    end_hz = measured_end_hz(narrow, wide, LASTING_HZ if stated_hz < FULL_BAND_HZ else HOLES_HZ)
    shown = own_hz >= HEARD_SHARE * (end_hz if np.isfinite(end_hz) else stated_hz)
    if stated_hz >= FULL_BAND_HZ:
        return end_hz if shown else np.inf
    return end_hz if shown else None


def error_percent(estimate_hz: float, end_hz: float, own_hz: float) -> float:
    """How far a cutoff estimate is off, signed.

    Where nothing was cut (`end_hz` inf), to say full band is right, and so is where the recording's own band ends; what
    lies below that is too low.
    """
    if np.isfinite(end_hz):
        return 100 * (estimate_hz / end_hz - 1)
    return min(0.0, 100 * (estimate_hz / min(own_hz, UNCUT_HZ) - 1))
