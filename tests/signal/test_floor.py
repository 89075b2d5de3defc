"""Steady hiss is measured and taken away; what is not a floor stays."""

import math

import numpy as np
import pytest
import torch

from latentsr.bandwidth import cutoffs_hz
from latentsr.signal.degrade import Recipe, lowpass
from latentsr.signal.floor import OVER_TO_SEE, find_floors, subtract_floors
from latentsr.signal.mel import MelSpectrogram

RATE = 48_000
MEL = MelSpectrogram()


def noise(level, duration_s=4.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return level * torch.randn(1, 1, round(duration_s * RATE), generator=generator)


def programme(duration_s=4.0):
    """Notes with harmonics that decay, every quarter of a second another one; up to 4 kHz."""
    t = torch.arange(round(duration_s * RATE)) / RATE
    since = t % 0.25
    wave = sum(torch.sin(2 * math.pi * k * 220 * t * (1 + (t // 0.25) % 4)) / k for k in range(1, 20))
    burst = torch.exp(-12 * since) * (0.1 * wave + noise(0.05, duration_s, seed=5)[0, 0])
    return lowpass(burst[None, None], [Recipe("cheby1", 8, 4_000.0)], RATE)


@pytest.mark.parametrize("level", [0.001, 0.01, 0.1])
def test_level_of_hiss_is_found_within_1_5_db(level):
    for wave in (noise(level), programme() + noise(level)):
        found = float(find_floors(wave[:, 0], MEL))
        assert 20 * math.log10(found / level) == pytest.approx(0, abs=1.5)


def test_there_is_no_floor_in_silence_a_tone_or_what_is_too_short():
    t = torch.arange(4 * RATE) / RATE
    for wave in (torch.zeros(1, 4 * RATE), 0.1 * torch.sin(2 * math.pi * 440 * t)[None], noise(0.1, 1.0)[:, 0]):
        assert float(find_floors(wave, MEL)) == 0


def test_rounding_to_16_bit_is_no_floor():
    wave = (programme() * 32_768).round() / 32_768
    assert float(find_floors(wave[:, 0], MEL)) == 0


def test_error_goes_down_by_3_db_and_hiss_alone_by_10_db():
    clean, hiss = programme(), noise(0.01)
    floors = find_floors((clean + hiss)[:, 0], MEL)
    made = subtract_floors(clean + hiss, floors, MEL)
    assert (made - clean).square().mean() < 0.5 * hiss.square().mean()
    assert subtract_floors(hiss, floors, MEL).square().mean() < 0.1 * hiss.square().mean()


def test_the_cutoff_is_seen_through_hiss():
    wave = programme() + noise(0.01)
    seen = subtract_floors(wave, find_floors(wave[:, 0], MEL), MEL, OVER_TO_SEE, power=1.0)
    assert float(cutoffs_hz(seen, RATE)) == pytest.approx(4_000, rel=0.15)


def test_no_floor_is_no_change_and_examples_are_apart():
    wave = torch.cat([noise(0.1), noise(0.1, seed=1)])
    assert torch.equal(subtract_floors(wave, torch.zeros(2), MEL), wave)
    one = subtract_floors(wave, torch.tensor([0.0, 0.1]), MEL)
    assert torch.equal(one[0], wave[0])
    np.testing.assert_allclose(one[1:], subtract_floors(wave[1:], torch.tensor([0.1]), MEL), atol=1e-6)


@pytest.mark.parametrize("samples", [1, 700, 785, 4_801])
def test_any_length_comes_back_as_long(samples):
    wave = noise(0.1)[..., :samples]
    assert subtract_floors(wave, torch.tensor([0.05]), MEL).shape == wave.shape
