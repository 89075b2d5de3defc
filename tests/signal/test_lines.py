"""Steady tones are found and taken out; what is played is left alone."""

import math

import pytest
import torch

from latentsr.signal.lines import find_lines, remove_lines

RATE = 48_000


def seconds(duration_s):
    return torch.arange(round(duration_s * RATE)) / RATE


def tone(hz, duration_s=4.0, amplitude=0.1):
    return amplitude * torch.sin(2 * math.pi * hz * seconds(duration_s).double() + 0.5).float()[None]


def noise(duration_s=4.0, channels=1):
    generator = torch.Generator().manual_seed(0)
    return 0.05 * torch.randn(channels, round(duration_s * RATE), generator=generator)


def level_at(wave, hz):
    """Amplitude of a sine at `hz`, over the whole wave."""
    window = torch.hann_window(wave.shape[-1], dtype=torch.float64)
    turning = torch.polar(window, -2 * math.pi * hz * torch.arange(wave.shape[-1], dtype=torch.float64) / RATE)
    return float((wave[0].double() * turning).sum().abs() * 2 / window.sum())


@pytest.mark.parametrize("hz", [50.0, 440.0, 1234.567, 9_876.5])
def test_a_tone_under_noise_is_found_and_goes_down_by_40_db(hz):
    wave = noise() + tone(hz)
    (found,) = find_lines(wave)
    assert found == pytest.approx(hz, abs=0.02)
    cleaned = remove_lines(wave, [found])
    assert level_at(cleaned, hz) < 0.01 * level_at(wave, hz)


def test_what_is_beside_a_line_stays():
    wave = noise() + tone(1_000.0)
    left = remove_lines(wave, [1_000.0]) - noise()
    assert float(left.square().mean()) < 1e-3 * float(noise().square().mean())


def test_drift_is_followed():
    """In eight seconds by 0.08 Hz, and by a tenth of the level."""
    t = seconds(8.0).double()
    drifting = (0.1 * (1 + 0.0125 * t) * torch.sin(2 * math.pi * (1_000 + 0.01 * t) * t)).float()[None]
    left = remove_lines(noise(8.0) + drifting, [1_000.1]) - noise(8.0)
    assert float(left.square().mean()) < 0.02 * float(drifting.square().mean())


@pytest.mark.parametrize("kind", ["silence", "noise", "notes", "decay", "vibrato", "short"])
def test_nothing_else_is_a_line(kind):
    t = seconds(4.0)
    wave = {
        "silence": torch.zeros(1, 4 * RATE),
        "noise": noise(),
        "notes": torch.cat([tone(220.0 * 2 ** (i / 12), 0.5) for i in range(8)], dim=1),
        "decay": tone(440.0) * torch.exp(-t),
        "vibrato": 0.1 * torch.sin(2 * math.pi * 440 * t + 5 * torch.sin(2 * math.pi * (4 + t) * t))[None],
        "short": tone(440.0, 1.0),
    }[kind]
    assert find_lines(wave) == ()


def test_lines_of_stereo_are_taken_from_each_channel_at_its_own_level():
    wave = noise(channels=2) + torch.cat([tone(700.0), -0.5 * tone(700.0)])
    cleaned = remove_lines(wave, find_lines(wave))
    for channel in (0, 1):
        assert level_at(cleaned[channel : channel + 1], 700.0) < 0.01 * level_at(wave[channel : channel + 1], 700.0)


def test_parts_with_context_equal_the_whole():
    wave = noise() + tone(700.0)
    whole = remove_lines(wave, [700.0])
    part = remove_lines(wave[:, 480 * 100 : 480 * 300], [700.0])
    inside = slice(480 * 36, -480 * 36)
    assert (part[:, inside] - whole[:, 480 * 100 : 480 * 300][:, inside]).abs().max() < 1e-4
