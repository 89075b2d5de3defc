"""A codec's twin: bands of 1 kHz of a recording that are zero now and then, from one moment to the next."""

import numpy as np

RATE = 48_000
RAMP = np.sin(np.linspace(0, np.pi / 2, 144)) ** 2  # 3 ms


def holed(wave, from_hz=5_000, to_hz=12_000, every_s=0.5, seed=0):
    """Samples (T,) at 48 kHz -> the same with holes of 40 to 90 ms, about `every_s` s apart in each band."""
    rng, spectrum, out = np.random.default_rng(seed), np.fft.rfft(wave), wave.astype(np.float64)
    hz = np.fft.rfftfreq(len(wave), 1 / RATE)
    for low_hz in range(from_hz, to_hz, 1_000):
        band = np.fft.irfft(np.where((hz >= low_hz) & (hz < low_hz + 1_000), spectrum, 0), len(wave))
        gone, at = np.zeros(len(wave)), rng.uniform(0.1, every_s)
        while at + 0.2 < len(wave) / RATE:
            start, length = int(at * RATE), int(rng.uniform(0.04, 0.09) * RATE)
            gone[start : start + length] = np.concatenate([RAMP, np.ones(length - 2 * len(RAMP)), RAMP[::-1]])
            at += length / RATE + rng.uniform(0.6, 1.4) * every_s
        out -= gone * band
    return out.astype(np.float32)
