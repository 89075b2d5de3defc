"""Augmentations: each a small function of one wave (T,) at 48 kHz and a random generator."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated

import numpy as np
import scipy.fft
import soxr
from pydantic import AfterValidator, Field

from latentsr.config import AUDIO, Config
from latentsr.data.decode import resampled_edge_hz

KNOTS, LOWEST_KNOT_HZ = 6, 50.0  # of the random equaliser; the last one is at 24 kHz


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("the lower limit comes first")
    return limits


Probability = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


class AugmentConfig(Config):
    """How often and how far. A probability of 0 turns an augmentation off."""

    speed: Probability = 0.3  # probability of playing faster or slower, pitch and all
    speed_range: Range = (0.9, 1.1)  # 1.1 plays 10 % faster
    polarity: Probability = 0.5
    mix: Probability = 0.15  # probability of a second recording underneath
    mix_db: Range = (-12.0, 0.0)  # its RMS level against the first one's
    tilt: Probability = 0.3  # probability of a smooth random equaliser
    tilt_db: float = 6.0  # largest boost or cut
    gain: Probability = 1.0  # probability of a new level
    gain_peak_db: Range = (-30.0, -1.0)  # peak of the example, dBFS
    gain_max_db: float = 40.0  # never boosted by more, so that a noise floor stays one


def draw_speed(config: AugmentConfig, rng: np.random.Generator) -> float:
    """The factor of one example, in steps of 1/48000."""
    if rng.random() >= config.speed:
        return 1.0
    return round(rng.uniform(*config.speed_range) * AUDIO.sample_rate) / AUDIO.sample_rate


def change_speed(wave: np.ndarray, factor: float) -> np.ndarray:
    """Play (T,) `factor` times as fast: (about T / factor,), pitch shifted along."""
    if factor == 1.0:
        return wave
    return soxr.resample(wave, round(factor * AUDIO.sample_rate), AUDIO.sample_rate, quality="VHQ")


def changed_bandwidth_hz(bandwidth_hz: float, factor: float) -> float:
    """Where the content ends after `change_speed`: moved along with it, as far as the resampler lets it pass."""
    if factor == 1.0:
        return bandwidth_hz
    return min(bandwidth_hz * factor, resampled_edge_hz(round(AUDIO.sample_rate * factor)))


def flip_polarity(wave: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Turn the wave upside down, or not."""
    return -wave if rng.random() < config.polarity else wave


def mix(wave: np.ndarray, other: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Add `other` (T,) at a random RMS level relative to `wave`; silence stays out of it."""
    level, other_level = rms(wave), rms(other)
    if level == 0 or other_level == 0:
        return wave + other
    return wave + other * np.float32(level / other_level * 10 ** (rng.uniform(*config.mix_db) / 20))


def tilt(wave: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Filter by a smooth random curve: gains at six knots, joined by cosines over log frequency."""
    if rng.random() >= config.tilt:
        return wave
    gains_db = rng.uniform(-config.tilt_db, config.tilt_db, KNOTS).astype(np.float32)
    length = scipy.fft.next_fast_len(len(wave), real=True)
    left, blend = _knots(length)
    curve = np.exp((gains_db[left] * (1 - blend) + gains_db[left + 1] * blend) * np.float32(math.log(10) / 20))
    return scipy.fft.irfft(scipy.fft.rfft(wave, length) * curve, length)[: len(wave)]


@lru_cache(maxsize=4)
def _knots(length: int) -> tuple[np.ndarray, np.ndarray]:
    """For each bin of an FFT of `length`: the knot below it, and the share of the knot above it."""
    hz = np.maximum(np.fft.rfftfreq(length, 1 / AUDIO.sample_rate), LOWEST_KNOT_HZ)
    place = (KNOTS - 1) * np.log(hz / LOWEST_KNOT_HZ) / math.log(AUDIO.sample_rate / 2 / LOWEST_KNOT_HZ)
    left = np.minimum(place.astype(int), KNOTS - 2)
    return left, ((1 - np.cos(np.pi * (place - left))) / 2).astype(np.float32)


def set_level(wave: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Bring the peak to a random level."""
    peak = float(np.abs(wave).max(initial=0.0))
    if rng.random() >= config.gain or peak == 0:
        return wave
    gain_db = min(rng.uniform(*config.gain_peak_db) - 20 * math.log10(peak), config.gain_max_db)
    return wave * np.float32(10 ** (gain_db / 20))


def rms(wave: np.ndarray) -> float:
    """Root mean square of (T,); 0 for no samples."""
    return math.sqrt(float(np.dot(wave, wave)) / max(len(wave), 1))
