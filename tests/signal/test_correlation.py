"""How alike channels are: measured below the cutoff, kept by the noises, whatever the number and the rank."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from latentsr.signal.correlation import CorrelationEstimator, noise_mix, polarities
from latentsr.signal.noise import absolute_noise, noises

RATE = 48_000


def noise(channels, seconds=4.0, seed=0):
    return torch.randn(channels, round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def heard(wave, cutoff_hz=4000.0, cuts=()):
    estimator = CorrelationEstimator(RATE)
    for block in torch.tensor_split(wave, list(cuts), dim=-1):
        estimator.update(block)
    return estimator.result(cutoff_hz)


def random_image(channels, sources, seed=0):
    """Of channels that are mixed of a number of sources."""
    gains = np.random.default_rng(seed).standard_normal((channels, sources))
    gains /= np.linalg.norm(gains, axis=1, keepdims=True)
    return tuple(map(tuple, gains @ gains.T))


@pytest.mark.parametrize("likeness", [-0.7, 0.0, 0.5, 0.95])
def test_the_likeness_of_two_channels_is_found_whatever_their_levels(likeness):
    first, other = noise(2)
    second = likeness * first + (1 - likeness**2) ** 0.5 * other
    assert heard(torch.stack([first, 0.01 * second]))[0][1] == pytest.approx(likeness, abs=0.05)


def test_only_the_half_octave_below_the_cutoff_counts():
    first, other = (torch.fft.rfft(one) for one in noise(2))
    below = torch.fft.rfftfreq(4 * RATE, 1 / RATE) < 2600
    wave = torch.fft.irfft(torch.stack([first, torch.where(below, first, other)]))
    assert abs(heard(wave, 4000.0)[0][1]) < 0.1
    assert heard(wave, 2500.0)[0][1] > 0.99


def test_every_band_counts_the_same():
    """A tone in the middle, 10 dB over all the rest of the half octave, does not make two unrelated channels alike."""
    tone = 0.9 * torch.sin(2 * torch.pi * 3300 / RATE * torch.arange(4 * RATE))
    assert heard(noise(2) + tone)[0][1] < 0.3


@pytest.mark.parametrize("cuts", [(1,), (5_000, 5_001), range(10_000, 190_000, 10_000)])
def test_blocks_of_any_length_say_the_same_bit_for_bit(cuts):
    wave = noise(3, seconds=12)
    assert heard(wave, cuts=cuts) == heard(wave)


@pytest.mark.parametrize("samples", [1, 100, 2047, 2048, 2049, 3073])
def test_short_recordings_are_heard_to_their_last_sample(samples):
    wave = noise(1)[:, -samples:]
    assert heard(torch.cat([wave, -wave])) == ((1.0, -1.0), (-1.0, 1.0))


def test_one_channel_or_none_heard_has_no_image():
    assert heard(noise(1)) is None
    assert CorrelationEstimator(RATE).result(4000.0) is None


def test_a_silent_channel_is_like_none():
    wave = torch.cat([noise(1), torch.zeros(1, 4 * RATE), -noise(1)])
    assert heard(wave) == ((1.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 1.0))


def test_the_same_wave_twice_is_alike_to_the_bit_and_so_are_its_noises():
    wave = noise(2)
    image = heard(wave[[0, 1, 1, 0, 1]] * torch.tensor([1.0, 1.0, -0.5, 2.0, 0.125])[:, None])
    signs = polarities(image)
    made = list(noises(noise_mix(image, signs), 5, lambda source: absolute_noise(0, 0, 10, 1, 48, source)))
    assert torch.equal(made[0], made[3]) and torch.equal(made[1], made[4])
    assert torch.equal(made[1] * signs[1], -made[2] * signs[2])
    assert torch.equal(made[0], absolute_noise(0, 0, 10, 1, 48))


@pytest.mark.parametrize(("channels", "sources"), [(2, 2), (10, 10), (10, 3), (64, 64), (64, 1)])
def test_mixed_noises_are_as_alike_as_the_channels(channels, sources):
    image = random_image(channels, sources)
    signs = polarities(image)
    rows = (noise_mix(image, signs) * signs[:, None]).double()
    assert_close(rows @ rows.T, torch.tensor(image, dtype=torch.float64), rtol=0, atol=2e-3)
    assert_close(rows.square().sum(dim=1), torch.ones(channels, dtype=torch.float64), rtol=0, atol=1e-6)


def test_independent_sources_stay_apart_wherever_a_recording_is():
    places = [(first, source) for source in range(8) for first in (-64, 0, 64, 6400)]
    drawn = [absolute_noise(0, first, 8, 1, 64, source).flatten() for first, source in places]
    likeness = torch.corrcoef(torch.stack(drawn)) - torch.eye(len(drawn))
    assert likeness.abs().max() < 0.25  # of 512 values, 32 draws


def test_an_image_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="measured on 2 channels, but this recording has 3"):
        list(noises(torch.eye(2), 3, lambda source: torch.zeros(1)))
