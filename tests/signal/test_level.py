"""Levels are kept, and the output never passes full scale."""

import math

import torch
from torch.testing import assert_close

from latentsr.signal.level import LIMITER_SAMPLES, network_gain, turn_down


def test_gain_brings_the_peak_to_half_scale_but_does_not_blow_up_dust():
    assert network_gain(0.25) == 2.0
    assert network_gain(0.0) == 1.0
    assert network_gain(1e-9) == 1000.0


def test_what_fits_is_left_alone_bit_for_bit():
    source, restored = torch.randn(2, 1000) * 0.1, torch.randn(2, 1000) * 0.1
    assert turn_down(source, restored, 1.0) is restored


def test_only_the_added_band_is_turned_down_and_only_near_the_peak():
    t = torch.arange(48_000) / 48_000
    source = 0.7 * torch.sin(2 * math.pi * 200 * t)[None]
    added = 0.2 * torch.sin(2 * math.pi * 9000 * t)[None]
    added[:, 24_000:24_100] *= 4
    out = turn_down(source, source + added, 1.0)
    assert out.abs().max() <= 1.0
    far = torch.ones(48_000, dtype=torch.bool)
    far[24_000 - 2 * LIMITER_SAMPLES - 1 : 24_100 + 2 * LIMITER_SAMPLES + 1] = False
    assert_close(out[:, far], (source + added)[:, far])
    gain = ((out - source) / added)[0, 23_000:25_200:7]
    assert gain[torch.isfinite(gain)].min() > -1e-3  # turned down, never over


def test_one_gain_for_all_channels():
    source = torch.zeros(2, 4800)
    restored = torch.zeros(2, 4800)
    restored[0, 2400], restored[1, 2400] = 2.0, 0.4
    out = turn_down(source, restored, 1.0)
    assert_close(out[0, 2400] / out[1, 2400], torch.tensor(5.0))
    assert out.abs().max() <= 1.0
