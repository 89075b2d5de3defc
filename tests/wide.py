"""A wide recording made here: what cuts are measured on."""

import numpy as np

RATE = 48_000


def music_like(seconds=5.0, seed=0):
    """Noise that falls by 3 dB an octave. (T,)"""
    samples = round(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(samples))
    wave = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 50)), samples)
    return 0.5 * wave / np.abs(wave).max()
