"""The clean mel's gain takes noise out and leaves a clean wave alone."""

import math

import torch

from latentsr.signal.denoise import LOWEST_GAIN, filter_by_mel, mel_gain
from latentsr.signal.mel import MelSpectrogram

MEL = MelSpectrogram()


def level_db(wave):
    return 10 * math.log10(float(wave.square().mean()))


def noise(samples, level, seed=0):
    return level * torch.randn(1, 1, samples, generator=torch.Generator().manual_seed(seed))


def tone(hz, samples=48_000, level=0.3):
    return level * torch.sin(2 * math.pi * hz / 48_000 * torch.arange(samples))[None, None]


def test_clean_wave_comes_back():
    wave = noise(24_000, 0.1)
    out = filter_by_mel(wave, MEL(wave)[:, 0], MEL)
    assert level_db(out - wave) < level_db(wave) - 100


def test_hiss_around_a_tone_goes_down_by_15_db():
    clean, hiss = tone(1000), noise(48_000, 0.01)
    out = filter_by_mel(clean + hiss, MEL(clean)[:, 0], MEL)
    assert level_db(out - clean) < level_db(hiss) - 15


def test_lone_tone_over_hiss_goes_down_by_30_db():
    clean, beep = noise(48_000, 0.01), tone(1500, level=0.1)
    out = filter_by_mel(clean + beep, MEL(clean)[:, 0], MEL)
    levels = [abs(torch.fft.rfft(x[0, 0])[1500]) for x in (out, clean + beep)]
    assert 20 * math.log10(levels[0] / levels[1]) < -30


def test_gain_never_boosts_and_has_a_floor():
    clean, noisy = torch.tensor([0.0, -3.0, -99.0]), torch.tensor([-3.0, 0.0, 0.0])
    torch.testing.assert_close(mel_gain(clean, noisy), torch.tensor([1.0, math.exp(-3), LOWEST_GAIN]))
