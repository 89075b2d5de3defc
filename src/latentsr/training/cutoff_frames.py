"""Cuts that are made in the frames of a recording, without its samples: thirty times as many examples in the same time.

A filter is a gain on the power of each bin, hiss and rounding are frames of noise that are added, and what a resampler
leaves above half of the low rate is the programme, folded about its multiples. Codecs, lines, hum, clicks and clipping
need samples: `cutoff_examples.draw` has those.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import signal

from latentsr.signal.bandend import WELCH, freqs_hz
from latentsr.signal.bandframes import BIN_HZ, BINS, FRAME_S, SILENT_DB, FrameMaker, Frames
from latentsr.signal.cuts import Wave
from latentsr.training.cutoff_cuts import RATE, THROUGH_RATES, Cut, cut_by_filter, drawn_sinc, log_uniform, pick, shelf
from latentsr.training.cutoff_examples import SHARP, CutConfig, Example, Filing, as_file_shows, file_rate

FINE = round(BIN_HZ / (RATE / WELCH))  # frequencies of a gain in a bin
NOISE_S = 60.0  # of white noise, of which pieces are taken
LEAKED_DB = -105.0  # of the loudest bin, which the window leaves everywhere
TURNS = range(-2, 3)  # of the rate of a file, from which images fold back
IMAGE_HZ = np.arange(0, (max(TURNS) + 0.5) * RATE, BIN_HZ)  # at which interpolation is known

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Heard:
    """A wide recording's frames, to be cut again and again."""

    power: Array  # (L, BINS)
    own_hz: float  # where it ends
    peak: float  # of its samples

    @classmethod
    def of(cls, wave: Wave, own_hz: float) -> Heard:
        """Of a wave (T,) at 48 kHz."""
        maker = FrameMaker(RATE)
        maker.update(wave[None].astype(np.float32))
        power = 10 ** (maker.result().power_db[0].astype(np.float64) / 10)
        return cls(power, own_hz, max(float(np.abs(wave).max(initial=0)), 1e-9))


class FrameCut(Cut):
    """A recording on its way through what cuts it, as frames (L, BINS) of power."""

    def __init__(self, power: Array, top_hz: float = RATE / 2) -> None:
        super().__init__(np.zeros(0), top_hz)
        self.given = self.power = power
        self.passed = np.ones(len(freqs_hz(WELCH)))

    def filter(self, gain: Callable[[Wave], Wave], counts: bool = True) -> None:
        at = gain(freqs_hz(WELCH))
        self.power = self.power * _in_bins(at**2)
        if counts:
            self.known = self.passed = self.passed * at
        else:
            self.given = self.given * _in_bins(at**2)

    def through(self, low: int, back: int, down: Wave, up: Wave) -> None:
        """Through a low rate, to a file at `back`: gains (F,) of the way down, and at IMAGE_HZ of the way up."""
        base = self.power * _in_bins(np.where(freqs_hz(WELCH) < low / 2, down, 0) ** 2)
        bins, made = np.arange(BINS) * BIN_HZ, np.zeros_like(base)
        for turn in TURNS:
            at = np.abs(bins + turn * back)
            folded = np.abs((at + low / 2) % low - low / 2) / BIN_HZ
            below = np.minimum(folded.astype(int), BINS - 2)
            image = base[:, below] + (base[:, below + 1] - base[:, below]) * np.minimum(folded - below, 1)
            made += image * np.interp(at, IMAGE_HZ, up) ** 2
        self.power = made * (bins <= back / 2)
        way = np.where(freqs_hz(WELCH) < low / 2, down, 1e-4) * np.interp(freqs_hz(WELCH), IMAGE_HZ, up)
        self.known = self.passed = self.passed * way

    def parts(self, noise: Wave) -> Wave:
        """A power (BINS,) of noise in parts of that of the wide recording. (F,)"""
        parts = noise / np.maximum(self.given.mean(0), 1e-15)
        return np.asarray(np.interp(freqs_hz(WELCH), np.arange(BINS) * BIN_HZ, parts))


def recut(heard: Heard, config: CutConfig, rng: np.random.Generator) -> Example:
    """One example more of what was heard."""
    rate = file_rate(config, rng)
    cut = FrameCut(heard.power, rate / 2 if rng.random() < 0.8 else RATE / 2)
    if rng.random() < config.tilts:
        corner, slope = log_uniform(rng, 300, 4_000), rng.uniform(-6, 4) / 6.02
        cut.filter(lambda f: np.maximum(f / corner, 1) ** slope, counts=False)
    kind = pick({"none": 0.0} | {name: share for name, share in config.kinds.items() if name != "codec"}, rng)
    if kind == "none" and rng.random() < config.shelf:
        cut.filter(shelf(rng), counts=False)
    if kind == "through":
        _through(cut, rng)
    if kind == "filter" or (kind == "through" and rng.random() < config.second):
        cut_by_filter(cut, rng)
    end_hz, loss_db = cut.measured(heard.own_hz)
    filing, hiss = Filing.draw(heard.peak, rate, config, rng), _hiss(cut.power, config, rng)
    dust = filing.noise_power(np.arange(BINS, dtype=np.float64) * BIN_HZ)
    seen_hz = cut.end_hz(cut.parts(hiss + dust), heard.own_hz)
    hidden = math.isinf(seen_hz) and math.isfinite(end_hz)
    end_hz = end_hz if hidden else seen_hz
    power = cut.power + _noise(len(cut.power), rng) * hiss
    power = power * _in_bins(sharp(rate) ** 2) + _noise(len(power), rng) * dust
    power += power.max(1, keepdims=True) * 10 ** (LEAKED_DB / 10)
    if rng.random() < config.gates:
        start = int(rng.integers(0, len(power)))
        power[start : start + int(len(power) * rng.uniform(0.05, 0.6))] = 0
    power_db = 10 * np.log10(np.maximum(power * filing.scale**2, 10 ** (SILENT_DB / 10)))
    frames = Frames(power_db[None].astype(np.float32), rate / 2, filing.dust_db, len(power) * FRAME_S)
    return as_file_shows(Example(frames, end_hz, heard.own_hz, True, loss_db, hidden))


def _through(cut: FrameCut, rng: np.random.Generator) -> None:
    """Down to a low rate, and up again by interpolation good and bad."""
    low = int(rng.choice(THROUGH_RATES)) if rng.random() < 0.5 else round(log_uniform(rng, 3_500, 32_000))
    kind = pick({"sharp": 1.0, "sinc": 2.0, "linear": 1.5, "hold": 2.0, "cubic": 0.7}, rng)
    down = sharp(low)
    if kind == "sinc" and rng.random() < 0.6:
        down = np.interp(freqs_hz(WELCH), IMAGE_HZ, _sinc(low, rng))
    up = {
        "sharp": lambda: np.interp(IMAGE_HZ, freqs_hz(WELCH), sharp(low), right=0),
        "sinc": lambda: _sinc(low, rng),
        "linear": lambda: np.sinc(IMAGE_HZ / low) ** 2,
        "hold": lambda: np.abs(np.sinc(IMAGE_HZ / low)),
        "cubic": lambda: np.interp(IMAGE_HZ / low, *_cubic(), right=0),
    }[kind]()
    cut.through(low, RATE if rng.random() < 0.6 else 44_100, down, up)


def _sinc(low: int, rng: np.random.Generator) -> Wave:
    """Response at IMAGE_HZ of a windowed sinc of 4 to 40 zero crossings on either side."""
    (window, crossings, share), rate = drawn_sinc(rng), 5 * RATE
    taps = signal.firwin(2 * round(crossings * rate / low) + 1, share * low / 2, window=window, fs=rate)
    return np.interp(IMAGE_HZ, freqs_hz(16_384) * rate / RATE, np.abs(scipy.fft.rfft(taps, 16_384)))


@lru_cache(maxsize=1)
def _cubic() -> tuple[Wave, Wave]:
    """Multiples of the low rate, and the response of the Catmull-Rom kernel there."""
    t = np.abs(np.arange(-2, 2, 1 / 64))
    kernel = np.where(t < 1, 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2)
    return np.arange(2049) / 64, np.abs(scipy.fft.rfft(kernel, 4096)) / 64


def sharp(rate: int) -> Wave:
    """Gain of a good resampler to a rate, 3 dB down at SHARP of its half, 1 where nothing is cut. (F,)"""
    place = (freqs_hz(WELCH) / (rate / 2) - 0.913) / (2 * (SHARP - 0.913))
    return np.ones_like(place) if rate >= RATE else np.cos(np.pi / 2 * np.clip(place, 0, 1))


def _hiss(power: Array, config: CutConfig, rng: np.random.Generator) -> Wave:
    """Power of noise, now and then, white or sloping. (BINS,)"""
    if rng.random() >= config.noise:
        return np.zeros(BINS)
    slope = rng.uniform(-6, 4) / 6.02 if rng.random() < 0.5 else 0.0
    shape = np.maximum(np.arange(BINS) * BIN_HZ / 1_000, 0.03) ** (2 * slope)
    return shape / shape.mean() * power.mean() * 10 ** (rng.uniform(*config.hiss_db) / 10)


def _noise(length: int, rng: np.random.Generator) -> Array:
    """Frames of white noise of variance 1. (length, BINS)"""
    noise = _long_noise()
    start = int(rng.integers(0, len(noise) - length))
    return noise[start : start + length]


@lru_cache(maxsize=1)
def _long_noise() -> Array:
    return Heard.of(np.random.default_rng(0).standard_normal(round(NOISE_S * RATE)), RATE / 2).power


def _in_bins(values: Wave) -> Wave:
    """Means over each bin and what the window smears into it. (F,) -> (BINS,)"""
    shape = np.convolve(np.ones(FINE), signal.windows.hann(FINE + 3)[1:-1])
    padded = np.pad(values, len(shape) // 2, mode="edge")
    return np.convolve(padded, shape / shape.sum(), "valid")[: BINS * FINE : FINE]
