"""The ways of cutting that the estimator's examples are drawn from: filters, low rates on the way, lossy codecs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import scipy.fft
from scipy import signal

from latentsr.config import AUDIO
from latentsr.signal import codecs, cuts
from latentsr.signal.bandend import LASTING_HZ, WELCH, end_hz, freqs_hz, smooth_db, spectra, usual_db
from latentsr.signal.bandframes import BIN_HZ, BINS
from latentsr.signal.cuts import Wave

RATE = AUDIO.sample_rate
GENTLEST = 4  # order, there and back: 24 dB an octave
GAP_HZ = 2_000.0  # a codec leaves gaps up to so wide, which are no end
THROUGH_RATES = (5_512, 6_000, 8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000)
OFTEN = {"libmp3lame": 2.5, "aac": 2.5, "wmav2": 2.0, "libopus": 1.5}  # met often, or of many settings


class Cut:
    """A recording on its way through what cuts it."""

    def __init__(self, wide: Wave, top_hz: float = RATE / 2) -> None:
        self.top_hz = top_hz  # where its file will end at the latest
        self.wide = self.wave = wide
        self.lossy = False
        self.known: Wave | None = np.ones(len(freqs_hz(WELCH)))  # the gain so far, where it is known without measuring

    def filter(self, gain: Callable[[Wave], Wave], counts: bool = True) -> None:
        """Zero-phase filter by a gain of frequencies in Hz."""
        length = scipy.fft.next_fast_len(len(self.wave) + 4800, real=True)
        spectrum = scipy.fft.rfft(self.wave, length) * gain(freqs_hz(length))
        self.wave = scipy.fft.irfft(spectrum, length)[: len(self.wave)]
        if counts and self.known is not None:
            self.known = self.known * gain(freqs_hz(WELCH))

    def by(self, operator: Callable[[Wave], Wave], lossy: bool = False) -> None:
        """Anything else; `lossy` where it leaves gaps, and what comes out may lie later."""
        made = operator(self.wave)[: len(self.wave)]
        self.wave, self.known = np.pad(made, (0, len(self.wave) - len(made))), None
        self.lossy = self.lossy or lossy

    def measured(self, own_hz: float) -> tuple[float, Wave]:
        """Where it ends (inf: nowhere below 20 kHz), and the loss in dB (BINS,)."""
        gain_db = self._gain_db()
        loss = np.interp(np.arange(BINS) * BIN_HZ, freqs_hz(WELCH), usual_db(gain_db) - gain_db)
        return self._end_hz(gain_db, own_hz), np.clip(loss, 0, 60)

    def end_hz(self, noise: Wave, own_hz: float) -> float:
        """Where it is seen to end, with a power (F,) of noise over it, in parts of that of the wide recording."""
        return self._end_hz(10 * np.log10(10 ** (self._gain_db() / 10) + noise), own_hz)

    def _gain_db(self) -> Wave:
        """What is left of each frequency: images are in the power, but are not what the filter let pass. (F,)"""
        if self.known is not None:
            return smooth_db(self.known**2)
        power, given, cross = spectra(self.wave, self.wide)
        gain_db = smooth_db(power) - smooth_db(given)
        return gain_db if self.lossy else np.minimum(2 * (smooth_db(np.abs(cross)) - smooth_db(given)), gain_db)

    def _end_hz(self, gain_db: Wave, own_hz: float) -> float:
        return end_hz(gain_db, min(20_000, 0.95 * own_hz), lasting_hz=GAP_HZ if self.lossy else LASTING_HZ)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def cut_by_filter(cut: Cut, rng: np.random.Generator) -> None:
    """A low-pass of any family and order, one way or both, or a FIR filter."""
    hz = log_uniform(rng, 1_200, min(max(0.98 * cut.top_hz, 1_500), 20_000))
    family = pick({"cheby1": 2, "ellip": 2, "butter": 4, "bessel": 4, "cheby2": 1, "fir": 2, "wall": 0.7}, rng)
    times = int(rng.integers(1, 3))
    if family == "wall":
        cut.filter(lambda f: (f < hz).astype(float))
    elif family == "fir":
        taps = int(log_uniform(rng, 15, 1_500)) | 1
        window = ["boxcar", "hann", "hamming", "blackman", ("kaiser", rng.uniform(2, 14))][int(rng.integers(0, 5))]
        response = np.abs(scipy.fft.rfft(signal.firwin(taps, hz, fs=RATE, window=window), 16_384))
        cut.filter(lambda f: np.interp(f, freqs_hz(16_384), response) ** times)
    else:
        order = round(log_uniform(rng, 3, 14))
        ripple, stop = log_uniform(rng, 0.02, 1.0), rng.uniform(30, 100)
        bilinear = rng.random() < 0.7

        def gain(f: Wave) -> Wave:
            at = cuts.warped(f, hz, RATE) if bilinear else f
            return cuts.magnitude(family, order, hz, at, ripple, stop) ** times

        # What falls as gently as recordings do by themselves is a slope, not an end.
        cut.filter(gain, counts=family in ("cheby2", "ellip") or order * times >= GENTLEST)
    if rng.random() < 0.12:  # and its lows, as lines and small speakers do
        low, steep = log_uniform(rng, 30, 250), int(rng.integers(1, 5))
        cut.filter(lambda f: 1 / np.sqrt(1 + (low / np.maximum(f, 1e-3)) ** (2 * steep)), counts=False)


def drawn_sinc(rng: np.random.Generator) -> tuple[str | tuple[str, float], int, float]:
    """Window, zero crossings on either side, and cut in parts of the lower Nyquist frequency, of a windowed sinc."""
    windows: list[Any] = ["hann", "blackman", "hamming", ("kaiser", rng.uniform(4, 12))]
    return windows[int(rng.integers(0, 4))], int(rng.integers(4, 40)), rng.uniform(0.85, 1.0)


def _resamplers(rng: np.random.Generator) -> tuple[cuts.Resample, cuts.Resample]:
    """How it goes down, and how it comes up again."""
    sinc = cuts.polyphase(*drawn_sinc(rng))
    good: dict[str, cuts.Resample] = {name: cuts.soxr_at(name) for name in ("VHQ", "HQ", "MQ", "LQ", "QQ")}
    good |= {"scipy": cuts.polyphase(), "sinc": sinc}
    poor: dict[str, cuts.Resample] = {
        "linear": cuts.linear, "hold": cuts.hold, "cubic": cuts.cubic, "zeros": cuts.zeros_between,
    }  # fmt: skip
    down = pick({**dict.fromkeys(good, 1.0), "linear": 0.25, "cubic": 0.25}, rng)
    up = pick({**dict.fromkeys(good, 1.0), "linear": 2.2, "hold": 1.8, "cubic": 1.0, "zeros": 0.15}, rng)
    if rng.random() < 0.5 and down in good:  # as a rule one tool does both
        up = down if rng.random() < 0.5 else up
    every = good | poor
    return every[down], every[up]


def _through(cut: Cut, rng: np.random.Generator) -> None:
    """Down to a low rate and up again."""
    low = int(rng.choice(THROUGH_RATES)) if rng.random() < 0.6 else round(log_uniform(rng, 3_500, 40_000) / 100) * 100
    down, up = _resamplers(rng)
    back = RATE if rng.random() < 0.6 else 44_100

    def run(wave: Wave) -> Wave:
        narrow = down(wave, RATE, low)
        if rng.random() < 0.15:  # a file of its own on the way
            narrow = cuts.rounded(narrow, 16, rng, dither=float(rng.random() < 0.5))
        wide = up(narrow, low, back)
        return wide if back == RATE else cuts.soxr_at("VHQ")(wide, back, RATE)

    cut.by(run)


def _codec(cut: Cut, rng: np.random.Generator) -> None:
    """Through a lossy codec, and sometimes a second one."""
    for _ in range(1 + (rng.random() < 0.15)):
        name = pick({name: OFTEN.get(name, 1.0) for name in (*codecs.AV_CODECS, *codecs.CODECS)}, rng)
        if name in codecs.CODECS:
            kbps = float(rng.choice(codecs.CODECS[name].rates_kbps))
            cut.by(partial(_own_round_trip, name=name, kbps=kbps), lossy=True)
        else:
            codec = codecs.AV_CODECS[name]
            rate, kbps = int(rng.choice(codec.rates)), float(rng.choice(codec.kbps))
            cut.by(partial(codecs.ffmpeg_round_trip, name=name, rate=rate, kbps=kbps), lossy=True)


WAYS = {"filter": cut_by_filter, "through": _through, "codec": _codec}


def _own_round_trip(wave: Wave, name: str, kbps: float) -> Wave:
    """Through libsndfile, aligned."""
    return codecs.round_trip(wave.astype(np.float32), name, kbps, RATE).astype(np.float64)


def shelf(rng: np.random.Generator) -> Callable[[Wave], Wave]:
    hz, fall = log_uniform(rng, 2_000, 14_000), 10 ** (-rng.uniform(2, 14) / 20)
    return lambda f: fall + (1 - fall) / (1 + (f / hz) ** 12)


def tilted(wave: Wave, rng: np.random.Generator) -> Wave:
    slope = rng.uniform(-6, 4)  # dB per octave above a corner
    corner, cut = log_uniform(rng, 300, 4_000), Cut(wave)
    cut.filter(lambda f: np.maximum(f / corner, 1) ** (slope / 6.02))
    return cut.wave


def pick(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    names = list(shares)
    weights = np.array([shares[name] for name in names], dtype=float)
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]
