"""Noise under a wave's own envelope: as loud in every band and moment, and it does not beat with the frames."""

import math

import pytest
import torch

from latentsr.signal.texture import as_noise

RATE, HOP = 48_000, 480


def noise(samples, seed=0):
    return torch.randn(1, 1, samples, generator=torch.Generator().manual_seed(seed))


def buzz(seconds=2.0):
    """One frame of noise again and again, every 10 ms, fading in: a line at every 100 Hz."""
    frames = round(seconds * 100)
    return 0.1 * noise(HOP, seed=3).repeat(1, 1, frames) * torch.linspace(0.1, 1, frames * HOP)


def beat_db(wave):
    """Of the envelope's spectrum, what 100 Hz has over its neighbours."""
    envelope = torch.fft.rfft((wave[0, 0].square() - wave.square().mean()).double()).abs().square()
    bin_100 = round(100 * wave.shape[-1] / RATE)
    around = torch.cat([envelope[bin_100 - 40 : bin_100 - 4], envelope[bin_100 + 5 : bin_100 + 41]])
    return 10 * math.log10(envelope[bin_100 - 1 : bin_100 + 2].mean() / around.mean())


def test_level_follows_within_1_db_every_tenth_of_a_second():
    wave = buzz()
    made = as_noise(wave, noise(wave.shape[-1]))
    levels = [10 * w[0, 0].unflatten(0, (-1, RATE // 10)).square().mean(dim=1).log10() for w in (wave, made)]
    assert (levels[0] - levels[1]).abs().max() < 1


def test_spectrum_stays_within_1_db_in_bands_of_1_khz():
    wave = noise(2 * RATE, seed=1)
    wave = torch.fft.irfft(torch.fft.rfft(wave) * torch.linspace(1, 0.05, RATE + 1), n=2 * RATE)  # 26 dB down at 24 kHz
    made = as_noise(wave, noise(2 * RATE))
    bands = [
        torch.fft.rfft(w[0, 0]).abs().square()[:-1].unflatten(0, (24, -1)).mean(dim=1).log10() for w in (wave, made)
    ]
    assert 10 * (bands[0] - bands[1]).abs().max() < 1


def test_the_beat_of_the_frames_is_gone():
    wave = buzz()
    assert beat_db(wave) > 15
    assert beat_db(as_noise(wave, noise(wave.shape[-1]))) < 6


def test_share_0_is_the_wave_and_the_power_does_not_depend_on_the_share():
    wave = buzz()
    assert torch.equal(as_noise(wave, noise(wave.shape[-1]), 0.0), wave)
    powers = [float(as_noise(wave, noise(wave.shape[-1]), share).square().mean()) for share in (0.0, 0.5, 1.0)]
    assert powers == pytest.approx([powers[0]] * 3, rel=0.05)


def test_silence_stays_silent():
    assert as_noise(torch.zeros(1, 1, 4_800), noise(4_800)).abs().max() < 1e-8
