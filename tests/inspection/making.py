"""Recordings to inspect, and a stand-in for the estimate of the band."""

from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

from latentsr.signal.track import FULL_BAND_HZ, Track

RATE = 48_000


def seconds(duration_s, rate=RATE):
    return np.arange(round(duration_s * rate)) / rate


def musical_noise(duration_s=10.0, channels=1, seed=0, rate=RATE):
    """Noise that falls by 6 dB per octave and swells, -20 dBFS or so. (T, C)"""
    rng, samples = np.random.default_rng(seed), round(duration_s * rate)
    spectrum = np.fft.rfft(rng.standard_normal((samples, channels)), axis=0)
    hz = np.fft.rfftfreq(samples, 1 / rate)[:, None]
    wave = np.fft.irfft(spectrum * (hz > 30) / np.sqrt(1 + (hz / 500) ** 2), n=samples, axis=0)
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * 1.3 * seconds(duration_s, rate))[:, None]
    return 0.1 * swell * wave / wave.std()


def speech_like(duration_s=8.0, seed=0, rate=RATE):
    """Syllables on a gliding voice, with pauses, over a faint room. (T, 1)"""
    rng, t = np.random.default_rng(seed), seconds(duration_s, rate)
    pitch_hz = 110 + 25 * np.sin(2 * np.pi * 0.4 * t) + 8 * np.sin(2 * np.pi * 2.1 * t)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate
    voice = sum(np.sin(k * phase) / k for k in range(1, 30))
    syllables = np.clip(np.sin(2 * np.pi * 2.5 * t), 0, 1) * np.clip(1 + 2 * np.sin(2 * np.pi * 0.3 * t), 0, 1)
    breath = rng.standard_normal(len(t)) * np.clip(np.sin(2 * np.pi * 2.5 * t + 2), 0, 1)
    return (0.12 * voice * syllables + 0.03 * breath + 1e-3 * rng.standard_normal(len(t)))[:, None]


def with_clicks(wave, per_minute, rate=RATE, amplitude=0.4, seed=0):
    """Clicks of a third of a millisecond, at random places."""
    rng, out = np.random.default_rng(seed), wave.copy()
    count = round(per_minute * len(wave) / rate / 60)
    shape = np.exp(-np.arange(16) / 4)[:, None]
    for place in np.linspace(2000, len(wave) - 4000, count).astype(int) + rng.integers(-400, 400, count):
        out[place : place + 16] += amplitude * rng.choice((-1, 1)) * shape
    return out


def telephone(wave, rate=RATE):
    """(T, 1) at 48 kHz -> 300 to 3400 Hz at 8 kHz."""
    line = signal.cheby1(6, 0.5, (300, 3_400), "bandpass", fs=rate, output="sos")
    return signal.sosfilt(line, wave, axis=0)[:: rate // 8_000]


def write(folder: Path, wave, rate=RATE, name="old.wav", subtype=None):
    soundfile.write(folder / name, wave, rate, subtype=subtype)
    return folder / name


def estimator(cutoff_hz=FULL_BAND_HZ):
    """In the place of `BandEstimator`: always says this."""

    class Told:
        def __init__(self, sample_rate):
            self.rate, self.channels, self.samples = sample_rate, 1, 0

        def update(self, block):
            self.channels, self.samples = block.shape[0], self.samples + block.shape[1]

        def result(self):
            return Track.constant(cutoff_hz, self.channels, self.samples / self.rate)

    return Told
