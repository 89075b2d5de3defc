"""How recordings lose their top in the world: filters run one way and both, resamplers good and bad, rates and depths.

Each is a plain function of a mono wave (T,) float and its rate. `training/cutoff_cuts.py` draws from them, and the
conditions of `latentsr eval` name some.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import signal

Wave = NDArray[np.float64]
Resample = Callable[[Wave, int, int], Wave]

# Noise shapers: what an error feedback makes of the white error of rounding (zeros of the FIR filter that shapes it).
SHAPERS: dict[str, tuple[float, ...]] = {
    "none": (1.0,),
    "first order": (1.0, -1.0),
    "second order": (1.0, -2.0, 1.0),
    "gentle": (1.0, -0.8),
    "two taps": (1.0, -1.4, 0.6),
    "three taps": (1.0, -1.623, 0.982, -0.109),  # Lipshitz et al. 1991, table of minimally audible shapers
    "five taps": (1.0, -2.033, 2.165, -1.959, 1.590, -0.6149),  # the same
    "nine taps": (1.0, -2.412, 3.370, -3.937, 4.174, -3.353, 2.205, -1.281, 0.569, -0.0847),  # Wannamaker 1992
}


def soxr_at(quality: str) -> Resample:
    """soxr at one of its qualities: QQ, LQ, MQ, HQ, VHQ."""
    return lambda wave, a, b: soxr.resample(wave, a, b, quality=quality)


def polyphase(window: str | tuple[str, float] = ("kaiser", 5.0), crossings: int = 10, share: float = 1.0) -> Resample:
    """A windowed sinc of so many zero crossings on each side, cut at `share` of the lower Nyquist frequency.

    Rates without a common divisor would need a filter longer than the wave: soxr at medium quality does those.
    """

    def run(wave: Wave, from_hz: int, to_hz: int) -> Wave:
        common = gcd(from_hz, to_hz)
        up, down = to_hz // common, from_hz // common
        if max(up, down) > 2_000:
            return soxr.resample(wave, from_hz, to_hz, quality="MQ")
        taps = signal.firwin(2 * crossings * max(up, down) + 1, share / max(up, down), window=window)
        return signal.resample_poly(wave, up, down, window=taps)

    return run


def linear(wave: Wave, from_hz: int, to_hz: int) -> Wave:
    """Straight lines between samples; nothing keeps what is too high from folding back."""
    at = np.arange(int(len(wave) * to_hz / from_hz)) * (from_hz / to_hz)
    return np.interp(at, np.arange(len(wave)), wave)


def hold(wave: Wave, from_hz: int, to_hz: int) -> Wave:
    """Each sample until the next."""
    at = np.arange(int(len(wave) * to_hz / from_hz)) * (from_hz / to_hz)
    return wave[np.minimum(at.astype(int), len(wave) - 1)]


def cubic(wave: Wave, from_hz: int, to_hz: int) -> Wave:
    """Hermite curves through four samples (Catmull-Rom), as samplers and games have them."""
    at = np.arange(int(len(wave) * to_hz / from_hz)) * (from_hz / to_hz)
    whole = at.astype(int)
    t = at - whole
    p0, p1, p2, p3 = (wave[np.clip(whole + k, 0, len(wave) - 1)] for k in (-1, 0, 1, 2))
    return p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))


def zeros_between(wave: Wave, from_hz: int, to_hz: int) -> Wave:
    """Whole factors only: zeros between the samples, all images at full strength; else held."""
    factor = to_hz // from_hz
    if factor * from_hz != to_hz or factor < 2:
        return hold(wave, from_hz, to_hz)
    out = np.zeros(len(wave) * factor)
    out[::factor] = wave * factor
    return out


def magnitude(family: str, order: int, cutoff_hz: float, freqs_hz: Wave, ripple_db: float, stop_db: float) -> Wave:
    """|H| of an analogue low-pass at any frequencies; run through the bilinear transform it is the digital one's."""
    omega = freqs_hz / cutoff_hz
    design = {
        "butter": lambda: signal.butter(order, 1, analog=True, output="zpk"),
        "cheby1": lambda: signal.cheby1(order, ripple_db, 1, analog=True, output="zpk"),
        "cheby2": lambda: signal.cheby2(order, stop_db, 1, analog=True, output="zpk"),
        "ellip": lambda: signal.ellip(order, ripple_db, stop_db, 1, analog=True, output="zpk"),
        "bessel": lambda: signal.bessel(order, 1, analog=True, output="zpk", norm="mag"),
    }
    _, response = signal.freqs_zpk(*design[family](), worN=omega)
    return np.abs(response)


def warped(freqs_hz: Wave, cutoff_hz: float, sample_rate: int) -> Wave:
    """Frequencies at which the analogue design is what a bilinear one with that cutoff is at `freqs_hz`."""
    limit = np.minimum(freqs_hz, 0.4999 * sample_rate)
    return np.tan(np.pi * limit / sample_rate) / np.tan(np.pi * cutoff_hz / sample_rate) * cutoff_hz


def rounded(wave: Wave, bits: int, rng: np.random.Generator, dither: float = 1.0, shaper: str = "none") -> Wave:
    """Integers of `bits`, with triangular dither of `dither` steps and the error shaped; clipped at full scale.

    Error feedback is a loop over samples; where the error is white its shaped sum is the same noise, which is added
    here.
    """
    steps = 2.0 ** (bits - 1)
    noise = dither * (rng.uniform(-0.5, 0.5, wave.shape) + rng.uniform(-0.5, 0.5, wave.shape))
    if shaper == "none":
        return np.clip(np.rint(wave * steps + noise), -steps, steps - 1) / steps
    error = noise + rng.uniform(-0.5, 0.5, wave.shape)
    return np.clip(wave * steps + signal.lfilter(SHAPERS[shaper], 1, error), -steps, steps) / steps


def fed_back(wave: Wave, bits: int, rng: np.random.Generator, shaper: str) -> Wave:
    """The same by the loop that a real converter runs: slower, and what comes out lies on the grid of `bits`."""
    steps, taps = 2.0 ** (bits - 1), SHAPERS[shaper][1:]
    dither = rng.uniform(-0.5, 0.5, wave.shape) + rng.uniform(-0.5, 0.5, wave.shape)
    errors = [0.0] * len(taps)  # newest first
    out = np.empty_like(wave)
    for i, (sample, noise) in enumerate(zip((wave * steps).tolist(), dither.tolist(), strict=True)):
        wanted = sample + sum(tap * error for tap, error in zip(taps, errors, strict=True))
        out[i] = min(max(round(wanted + noise), -steps), steps - 1)
        errors = [out[i] - wanted, *errors[:-1]]
    return out / steps
