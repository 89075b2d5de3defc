"""What the tests of the report share: names that would break a careless page, and something to score."""

import numpy as np

RATE = 48_000
EVIL = "<script>window.hacked = 1<"
EVIL_NAME = f'"{EVIL}img src=x onerror=hacked=1>&'
DESCRIBED = {"references": EVIL_NAME, "command": f"latentsr eval '{EVIL}'"}


def programme(seconds=1.2, seed=0):
    """Noise that falls by 6 dB per octave, in bursts."""
    samples = int(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(0, 0.2, samples))
    spectrum /= np.maximum(1, np.fft.rfftfreq(samples, 1 / RATE) / 200)
    return np.fft.irfft(spectrum, samples) * (1 + 0.8 * np.sin(np.arange(samples) / 3000))


def hissing(case):
    """What it was given, with hiss above the cutoff, and 3 dB quieter."""
    spectrum = np.fft.rfft(0.01 * np.random.default_rng(0).normal(0, 1, len(case.truth)))
    spectrum[np.fft.rfftfreq(len(case.truth), 1 / RATE) < case.edge_hz] = 0
    return 0.7079 * (case.degraded + np.fft.irfft(spectrum, len(case.truth))), case.edge_hz
