"""Augmentations: each a small function of waves (..., T) at 48 kHz and a random generator.

The first of the waves is the wide-band one, and levels are measured on it. Where a degraded partner goes along, all is
done to it alike: every augmentation is linear, so that what was done to the one to get the other stays done.
"""

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
SHELF_HZ = (150.0, 8_000.0)  # where a random shelf turns
TOP_HZ = (1_000, 4_000, 12_000)  # the middle, and the top that is measured against it
ROOM_S = 0.25  # length of a room's response, at most
FFT_BLOCK = 1024  # samples


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
    shelf: Probability = 0.0  # probability of a random high shelf, stronger than the tilt
    shelf_db: float = 12.0  # largest boost or cut
    brighten: Probability = 0.0  # probability of a high shelf that raises a dull top to a drawn level, never lowers it
    brighten_db: Range = (-12.0, 4.0)  # energy of 4 to 12 kHz against 1 to 4 kHz that is drawn
    brighten_hz: Range = (3_000.0, 6_000.0)  # where that shelf turns
    brighten_max_db: float = 15.0
    room: Probability = 0.0  # probability of a small room around it
    room_decay_s: Range = (0.08, 0.5)  # time to -60 dB
    room_direct_db: Range = (0.0, 15.0)  # energy of the direct sound against the reflections'
    attacks: Probability = 0.0  # probability of hits cut out of it: silence, a sudden begin, a decay, and again
    attacks_per_s: Range = (2.0, 12.0)
    attacks_decay_s: Range = (0.003, 0.3)  # time constant of a decay
    bursts: Probability = 0.0  # probability of such hits of coloured noise in its place; never of pairs
    bursts_db: Range = (-9.0, 0.0)  # slope of that colour, dB per octave, from 1 kHz on
    gain: Probability = 1.0  # probability of a new level
    gain_peak_db: Range = (-30.0, -1.0)  # peak of the example, dBFS
    gain_max_db: float = 40.0  # never boosted by more, so that a noise floor stays one


def draw_speed(config: AugmentConfig, rng: np.random.Generator) -> float:
    """The factor of one example, in steps of 1/48000."""
    if rng.random() >= config.speed:
        return 1.0
    return round(rng.uniform(*config.speed_range) * AUDIO.sample_rate) / AUDIO.sample_rate


def change_speed(waves: np.ndarray, factor: float) -> np.ndarray:
    """Play (..., T) `factor` times as fast: (..., about T / factor), pitch shifted along."""
    if factor == 1.0:
        return waves
    return soxr.resample(waves.T, round(factor * AUDIO.sample_rate), AUDIO.sample_rate, quality="VHQ").T


def changed_bandwidth_hz(bandwidth_hz: float, factor: float) -> float:
    """Where the content ends after `change_speed`: moved along with it, as far as the resampler lets it pass."""
    if factor == 1.0:
        return bandwidth_hz
    return min(bandwidth_hz * factor, resampled_edge_hz(round(AUDIO.sample_rate * factor)))


def flip_polarity(waves: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Turn the waves upside down, or not."""
    return -waves if rng.random() < config.polarity else waves


def mix(waves: np.ndarray, others: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Add `others` (..., T) at a random RMS level relative to `waves`; silence stays out of it."""
    level, other_level = rms(_first(waves)), rms(_first(others))
    if level == 0 or other_level == 0:
        return waves + others
    return waves + others * np.float32(level / other_level * 10 ** (rng.uniform(*config.mix_db) / 20))


def equalise(waves: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Tilt, shelf, brightening and room, whichever are drawn, in one product of spectra."""
    samples = waves.shape[-1]
    tilted, shelved, roomy = rng.random() < config.tilt, rng.random() < config.shelf, rng.random() < config.room
    brightened = rng.random() < config.brighten
    if not (tilted or shelved or roomy or brightened):
        return waves
    # A multiple of a power of two: scipy's next fast length alone may take twice as long.
    blocks = -(-(samples + roomy * round(ROOM_S * AUDIO.sample_rate)) // FFT_BLOCK)
    length = FFT_BLOCK * scipy.fft.next_fast_len(blocks, real=True)
    spectrum = scipy.fft.rfft(waves, length)
    if tilted:
        spectrum *= _tilt(length, config, rng)
    if shelved:
        spectrum *= _shelf(length, config, rng)
    if brightened:
        spectrum *= _brightening(spectrum.reshape(-1, spectrum.shape[-1])[0], length, config, rng)
    if roomy:
        spectrum *= scipy.fft.rfft(draw_room(config, rng), length)
    return scipy.fft.irfft(spectrum, length, overwrite_x=True)[..., :samples]


def draw_room(config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """A room's response (R,), energy 1: the direct sound at its first sample, then white noise that dies away."""
    decay_s, direct_db = max(rng.uniform(*config.room_decay_s), 1e-3), rng.uniform(*config.room_direct_db)
    count = round(min(decay_s, ROOM_S) * AUDIO.sample_rate)
    slope = np.float32(-math.log(1000) / (decay_s * AUDIO.sample_rate))
    response = rng.standard_normal(count, dtype=np.float32) * np.exp(slope * np.arange(count, dtype=np.float32))
    response[0] = 0
    response *= np.float32(10 ** (-direct_db / 20) / max(math.sqrt(np.dot(response, response)), 1e-9))
    response[0] = 1
    return response / np.float32(math.sqrt(1 + 10 ** (-direct_db / 10)))


def _tilt(length: int, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """A smooth random curve over the bins of an FFT: gains at six knots, joined by cosines over log frequency."""
    gains_db = rng.uniform(-config.tilt_db, config.tilt_db, KNOTS).astype(np.float32)
    left, blend = _knots(length)
    return _linear(gains_db[left] * (1 - blend) + gains_db[left + 1] * blend)


def _shelf(length: int, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """A random gain above a random corner, over the bins of an FFT; half of it in dB at the corner, first order."""
    gain_db, corner = rng.uniform(-config.shelf_db, config.shelf_db), np.log(SHELF_HZ)
    squared = _hz(length) ** 2
    return _linear(np.float32(gain_db) * (squared / (squared + np.float32(math.exp(2 * rng.uniform(*corner))))))


def _brightening(spectrum: np.ndarray, length: int, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """A high shelf that brings the top of a spectrum to a drawn level, or 1 where it is as bright; second order."""
    wanted_db, corner_hz = rng.uniform(*config.brighten_db), math.exp(rng.uniform(*np.log(config.brighten_hz)))
    bins = [round(hz * length / AUDIO.sample_rate) for hz in TOP_HZ]
    power = np.square(np.abs(spectrum)).astype(np.float64)
    middle, top = (float(power[first:last].sum()) for first, last in zip(bins, bins[1:], strict=False))
    lacking_db = wanted_db - 10 * math.log10(max(top, 1e-20) / max(middle, 1e-20))
    gain_db = min(max(lacking_db, 0.0), config.brighten_max_db)
    fourth = _hz(length) ** 4
    return _linear(np.float32(gain_db) * (fourth / (fourth + np.float32(corner_hz**4))))


def _linear(db: np.ndarray) -> np.ndarray:
    return np.exp(db * np.float32(math.log(10) / 20))


@lru_cache(maxsize=4)
def _hz(length: int) -> np.ndarray:
    return np.fft.rfftfreq(length, 1 / AUDIO.sample_rate).astype(np.float32)


@lru_cache(maxsize=4)
def _knots(length: int) -> tuple[np.ndarray, np.ndarray]:
    """For each bin of an FFT of `length`: the knot below it, and the share of the knot above it."""
    hz = np.maximum(np.fft.rfftfreq(length, 1 / AUDIO.sample_rate), LOWEST_KNOT_HZ)
    place = (KNOTS - 1) * np.log(hz / LOWEST_KNOT_HZ) / math.log(AUDIO.sample_rate / 2 / LOWEST_KNOT_HZ)
    left = np.minimum(place.astype(int), KNOTS - 2)
    return left, ((1 - np.cos(np.pi * (place - left))) / 2).astype(np.float32)


def cut_hits(waves: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Hits out of silence, as drums and consonants are: each begins within a sample and dies away exponentially."""
    if rng.random() >= config.attacks:
        return waves
    return waves * _hits(waves.shape[-1], config, rng)


def draw_bursts(samples: int, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Hits of noise over the whole band (1, T): claps, cymbals, castanets, rare in recordings of music."""
    slope_db, octaves = rng.uniform(*config.bursts_db), np.log2(np.maximum(_hz(samples), 1_000.0) / 1_000.0)
    spectrum = scipy.fft.rfft(rng.standard_normal(samples, dtype=np.float32)) * _linear(np.float32(slope_db) * octaves)
    return (scipy.fft.irfft(spectrum, samples) * _hits(samples, config, rng))[None]


def _hits(samples: int, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """An envelope (T,) of hits at random times."""
    count = 1 + rng.poisson(rng.uniform(*config.attacks_per_s) * samples / AUDIO.sample_rate)
    decay_s = math.exp(rng.uniform(*np.log(config.attacks_decay_s)))
    envelope = np.zeros(samples, np.float32)
    starts = np.sort(rng.integers(0, samples, count))
    for start, stop in zip(starts, [*starts[1:], samples], strict=True):
        died = np.exp(-np.arange(stop - start, dtype=np.float32) / np.float32(decay_s * AUDIO.sample_rate))
        envelope[start:stop] = np.float32(rng.uniform(0.3, 1.0)) * died
    return envelope


def set_level(waves: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Bring the peak to a random level."""
    peak = float(np.abs(_first(waves)).max(initial=0.0))
    if rng.random() >= config.gain or peak == 0:
        return waves
    gain_db = min(rng.uniform(*config.gain_peak_db) - 20 * math.log10(peak), config.gain_max_db)
    return waves * np.float32(10 ** (gain_db / 20))


def _first(waves: np.ndarray) -> np.ndarray:
    return waves.reshape(-1, waves.shape[-1])[0]


def rms(wave: np.ndarray) -> float:
    """Root mean square of (T,); 0 for no samples."""
    return math.sqrt(float(np.dot(wave, wave)) / max(len(wave), 1))
