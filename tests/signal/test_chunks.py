"""Windows cover everything once, and what they look at beyond the ends is defined."""

import pytest
import torch
from torch.testing import assert_close

from latentsr.signal.chunks import take, trapezoid, window_at


def windows(total, core, margin, multiple):
    start = 0
    while start < total:
        window = window_at(start, total, core, margin, multiple)
        yield window
        start = window.stop


@pytest.mark.parametrize("total", [1, 7, 64, 65, 200])
def test_cores_cover_every_position_once(total):
    covered = torch.zeros(total)
    for window in windows(total, core=64, margin=8, multiple=4):
        covered[window.start : window.stop] += 1
        assert (window.last - window.first) % 4 == 0
        assert window.first == max(window.start - 8, 0)
        assert min(window.stop + 8, total) <= window.last < max(min(window.stop + 8, total) + 4, 5)
    assert (covered == 1).all()


@pytest.mark.parametrize("total", [1, 64, 65, 71, 200])
def test_cross_fades_sum_to_one(total):
    weights = torch.zeros(total)
    for window in windows(total, core=64, margin=8, multiple=4):
        first, last = max(window.first, 0), min(window.last, total)
        weights[first:last] += trapezoid(window, total, fade=8)[first - window.first : last - window.first]
    assert_close(weights, torch.ones(total))


def test_take_inside_is_the_wave_itself():
    wave = torch.randn(2, 100)
    assert_close(take(wave, 10, 60), wave[:, 10:60])


def test_take_beyond_the_ends_mirrors_once_then_is_silent():
    wave = torch.tensor([[1.0, 2.0, 3.0]])
    assert take(wave, -4, 6).tolist() == [[0, 0, 3, 2, 1, 2, 3, 2, 1, 0]]
    assert take(wave, 50, 53).tolist() == [[0, 0, 0]]


def test_take_of_a_single_sample():
    assert take(torch.tensor([[5.0]]), -2, 2).tolist() == [[0, 0, 5, 0]]
