"""The low-passes of the benchmark, in scipy, apart from the code that training uses: a test holds the two together."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import signal

from latentsr.config import AUDIO
from latentsr.evaluation.noises import Wave
from latentsr.evaluation.resamplers import RESAMPLERS
from latentsr.signal.degrade import (
    FAMILIES,
    PASS_RIPPLE_DB,
    RESAMPLER_TRANSITION,
    STOP_BAND_DB,
    TAPS_PER_ORDER,
    Recipe,
)

FILTERS = tuple(name for name in FAMILIES if name != "none")


def lowpass(wave: Wave, recipe: Recipe, sample_rate: int = AUDIO.sample_rate) -> Wave:
    """The recipe's filter forwards and backwards: `sosfiltfilt`, or the boxcar's taps applied twice. (T,) -> (T,)"""
    edge: dict[str, Any] = {"N": recipe.order, "Wn": recipe.cutoff_hz, "fs": sample_rate, "output": "sos"}
    match recipe.family:
        case "cheby1":
            return signal.sosfiltfilt(signal.cheby1(rp=PASS_RIPPLE_DB, **edge), wave)
        case "ellip":
            return signal.sosfiltfilt(signal.ellip(rp=PASS_RIPPLE_DB, rs=STOP_BAND_DB, **edge), wave)
        case "butter":
            return signal.sosfiltfilt(signal.butter(**edge), wave)
        case "boxcar":
            taps = signal.firwin(TAPS_PER_ORDER * recipe.order + 1, recipe.cutoff_hz, window="boxcar", fs=sample_rate)
            return signal.oaconvolve(signal.oaconvolve(wave, taps, mode="same"), taps, mode="same")
        case "resampler":
            edge_samples = min(len(wave) - 1, sample_rate // 10)
            longer = np.pad(wave, edge_samples, mode="reflect", reflect_type="odd")
            share = np.fft.rfftfreq(len(longer), 1 / sample_rate) / recipe.cutoff_hz
            place = np.clip(1 + (share - 1) * recipe.order / RESAMPLER_TRANSITION, 0, 1)
            filtered = np.fft.irfft(np.fft.rfft(longer) * np.cos(np.pi / 2 * place) ** 2, len(longer))
            return filtered[edge_samples : edge_samples + len(wave)]
        case "none":
            return wave
    raise ValueError(f"the benchmark has no filter {recipe.family!r}")


def cut_at(wave: Wave, high_hz: float, sample_rate: int = AUDIO.sample_rate) -> Wave:
    """Without what lies above `high_hz` in the Fourier domain. (T,) -> (T,)"""
    spectrum = np.fft.rfft(wave)
    spectrum[np.fft.rfftfreq(len(wave), 1 / sample_rate) > high_hz] = 0
    return np.fft.irfft(spectrum, len(wave))


def round_to_16_bit(wave: Wave) -> Wave:
    """What a 16-bit file keeps of a wave: steps of 1/32768, clipped at full scale."""
    return np.clip(np.round(wave * 32_768), -32_768, 32_767) / 32_768


def filter_in_words(name: str, order: int) -> str:
    """An operator in words, for reports."""
    if name in RESAMPLERS:
        return f"{RESAMPLERS[name].words}, down to twice the cutoff and back"
    details = {
        "cheby1": f"Chebyshev I, {PASS_RIPPLE_DB} dB, sosfiltfilt",
        "ellip": f"elliptic, {PASS_RIPPLE_DB}/{STOP_BAND_DB:g} dB, sosfiltfilt",
        "butter": "Butterworth, sosfiltfilt",
        "boxcar": f"ideal low-pass cut by a rectangular window of {TAPS_PER_ORDER * order + 1} taps, twice",
        "resampler": f"windowed sinc, flat up to {1 - RESAMPLER_TRANSITION / order:.2f} of the cutoff",
    }
    return f"{details.get(name, name)}, order {order}"
