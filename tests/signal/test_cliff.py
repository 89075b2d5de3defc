"""A cliff is where a band was cut, whatever stands before it; slopes, tones and hiss have none."""

import numpy as np
import pytest
import torch

from latentsr.signal.bandedges import cliffs_hz
from latentsr.signal.bandframes import BIN_HZ, FrameMaker

RATE = 44_100


def found(wave):
    maker = FrameMaker(RATE)
    maker.update(wave[None].astype(np.float32))
    power_db = torch.from_numpy(maker.result().power_db)
    return float(cliffs_hz(power_db, torch.tensor([RATE / 2.0]), 24_000.0))


def noise(slope_db=-6.0, cut_hz=None, seconds=3.0):
    """Noise that falls by so many dB an octave, all of it below `cut_hz`."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(int(seconds * RATE)))
    hz = np.fft.rfftfreq(int(seconds * RATE), 1 / RATE)
    spectrum *= np.maximum(hz / 100, 1) ** (slope_db / 6.02)
    return np.fft.irfft(spectrum if cut_hz is None else np.where(hz < cut_hz, spectrum, 1e-4 * spectrum))


@pytest.mark.parametrize("hz", [4_000, 11_000, 16_000, 19_000])
def test_a_wall_is_found_within_two_bins(hz):
    assert abs(found(noise(cut_hz=hz)) - hz) <= 2 * BIN_HZ


def test_slopes_tones_and_hiss_have_none():
    tones = sum(np.sin(2 * np.pi * hz * np.arange(3 * RATE) / RATE) for hz in (80, 3_000, 9_000))
    for wave in (noise(), noise(-18.0), tones, noise(0.0), noise(cut_hz=8_000) + 0.02 * noise(0.0)):
        assert found(wave / np.abs(wave).max()) == 24_000
