"""The clean mel's gain takes noise out and leaves a clean wave alone."""

import math

import torch

from latentsr.signal.denoise import filter_by_mel
from latentsr.signal.mel import MelSpectrogram


def level_db(wave):
    return 10 * math.log10(float(wave.square().mean()))


def test_clean_wave_stays_within_minus_40_db():
    torch.manual_seed(0)
    wave = 0.1 * torch.randn(1, 1, 24_000)
    out = filter_by_mel(wave, wave, MelSpectrogram())
    assert level_db((out - wave)[..., 2048:-2048]) < level_db(wave) - 40


def test_hiss_between_tones_goes_down_by_20_db():
    torch.manual_seed(0)
    t = torch.arange(48_000) / 48_000
    clean = 0.3 * torch.sin(2 * math.pi * 1000 * t)[None, None]
    noise = 0.01 * torch.randn(1, 1, 48_000)
    out = filter_by_mel(clean + noise, clean, MelSpectrogram())
    assert level_db(out - clean) < level_db(noise) - 10
