"""Where a recording was cut, measured against the wide one that it was made from: the truth for cutoff estimates."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import signal

from latentsr.config import AUDIO

RATE = AUDIO.sample_rate
WELCH = 4096  # samples: 11.7 Hz a bin
SMOOTH = 11  # bins that a gain is averaged over
LASTING_HZ = 470.0  # an end stays an end for so long
EDGE_DB = -3.0
REFERENCE_HZ = (300.0, 1_500.0)  # what is not cut
LOWEST_END_HZ, HIGHEST_END_HZ = 1_000.0, 20_000.0

Wave = NDArray[np.float64]


def measured_end_hz(narrow: Wave, wide: Wave, lasting_hz: float = LASTING_HZ) -> float:
    """The -3 dB point of one wave (T,) against another, both at 48 kHz; inf where none lies below 20 kHz.

    Level and delay do not matter. Where hiss, rounding or images fill what was taken, they count as being there.
    A gap narrower than `lasting_hz` is no end.
    """
    samples = min(len(narrow), len(wide))
    power, given, _ = spectra(narrow[:samples], wide[:samples])
    return end_hz(smooth_db(power) - smooth_db(given), lasting_hz=lasting_hz)


def end_hz(gain_db: Wave, highest_hz: float = HIGHEST_END_HZ, lasting_hz: float = LASTING_HZ) -> float:
    """The first frequency from which a gain (F,) stays 3 dB down; inf: none below `highest_hz`."""
    freqs, below = freqs_hz(WELCH), gain_db < usual_db(gain_db) + EDGE_DB
    lasting = round(lasting_hz / (RATE / WELCH))
    stays = np.convolve(below, np.ones(lasting), "full")[lasting - 1 :][: len(below)] >= lasting - 0.5
    ends = np.flatnonzero(stays & (freqs > LOWEST_END_HZ) & (freqs < highest_hz))
    return float(freqs[ends[0]]) if len(ends) else math.inf


def usual_db(gain_db: Wave) -> float:
    """The gain where nothing was cut."""
    freqs = freqs_hz(WELCH)
    return float(np.median(gain_db[(freqs >= REFERENCE_HZ[0]) & (freqs <= REFERENCE_HZ[1])]))


def spectra(wave: Wave, given: Wave) -> tuple[Wave, Wave, Any]:
    """Welch's power of both, and their cross power. (F,)"""
    window = signal.get_window("blackmanharris", WELCH)
    a, b = (
        scipy.fft.rfft(np.lib.stride_tricks.sliding_window_view(each, WELCH)[:: WELCH // 2] * window)
        for each in (wave, given)
    )
    return (np.abs(a) ** 2).mean(0), (np.abs(b) ** 2).mean(0), (a * b.conj()).mean(0)


def smooth_db(power: Wave) -> Wave:
    """Means over 130 Hz, in dB. (F,) -> (F,)"""
    padded = np.pad(power, SMOOTH // 2, mode="edge")
    return 10 * np.log10(np.convolve(padded, np.ones(SMOOTH) / SMOOTH, "valid") + 1e-15)


@lru_cache(maxsize=64)
def freqs_hz(length: int) -> Wave:
    """Of the bins of a spectrum of so many samples at 48 kHz."""
    return np.fft.rfftfreq(length, 1 / RATE).astype(np.float64)
