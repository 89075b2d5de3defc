"""Losses are zero where nothing is wrong, and grow with what they measure."""

import math

import pytest
import torch

from latentsr.models.discriminators import Discriminators
from latentsr.training.losses import (
    RESOLUTIONS,
    Resolution,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
    hinge_adversarial_loss,
    hinge_discriminator_loss,
    kl_to_standard_normal,
    resolution_losses,
    scale_feature_loss,
    spectral_losses,
)


@pytest.fixture(scope="module")
def noise():
    return 0.1 * torch.randn(1, 1, 24_000, generator=torch.Generator().manual_seed(0))


def test_equal_waves_cost_nothing(noise):
    assert all(float(value) == 0 for value in spectral_losses(noise, noise, (512, 1024)).values())


def test_a_gain_costs_its_logarithm(noise):
    losses = spectral_losses(noise, 0.5 * noise, (512, 1024))
    assert float(losses["log_magnitude"]) == pytest.approx(math.log(2), rel=1e-3)
    assert float(losses["energy"]) == pytest.approx(math.log(2), rel=1e-3)
    assert float(losses["convergence"]) == pytest.approx(0.5, rel=1e-3)


def test_resolution_losses_know_equality_and_gain_and_the_floor(noise):
    assert all(float(value) == 0 for value in resolution_losses(noise, noise, RESOLUTIONS).values())
    losses = resolution_losses(noise, 0.5 * noise, RESOLUTIONS)
    assert float(losses["log_magnitude"]) == pytest.approx(math.log(2), rel=1e-3)
    assert float(losses["convergence"]) == pytest.approx(0.5, rel=1e-3)
    # Against silence a magnitude m costs log(m / floor), the floor being the root of 1e-7.
    tone = 0.5 * torch.ones(1, 1, 8000)
    silent = resolution_losses(tone, torch.zeros_like(tone), [Resolution(64, 16, 64)])
    window = torch.hann_window(64)
    bins = torch.fft.rfft(0.5 * window).abs().clamp(min=1e-7**0.5)
    assert float(silent["log_magnitude"]) == pytest.approx(float((bins.log() - 0.5 * math.log(1e-7)).mean()), rel=0.05)
    assert all(math.isfinite(float(v)) for v in resolution_losses(0 * tone, 0 * tone, RESOLUTIONS).values())


def test_energy_forgives_another_draw_of_the_same_noise_but_not_its_median(noise):
    """What log_magnitude prefers (a flat median) is 1.6 dB too quiet in power; energy sees that, and not the draw."""
    other = 0.1 * torch.randn(1, 1, 24_000, generator=torch.Generator().manual_seed(1))
    draw = spectral_losses(noise, other, (1024,))
    quiet = spectral_losses(noise, 0.6 * other, (1024,))
    assert float(draw["energy"]) < 0.15 < 0.4 < float(quiet["energy"])
    assert float(draw["log_magnitude"]) > 0.5


def test_kl_of_the_standard_normal_is_zero_and_of_a_shift_is_half_its_square():
    zero = torch.zeros(4, 3)
    assert float(kl_to_standard_normal(zero, zero)) == 0
    assert float(kl_to_standard_normal(zero + 2, zero)) == pytest.approx(2.0)


def test_adversarial_losses_at_their_optima():
    real, fake = [[torch.ones(2, 1)]], [[torch.zeros(2, 1)]]
    assert float(discriminator_loss(real, fake)) == 0
    assert float(adversarial_loss(real)) == 0
    assert float(adversarial_loss(fake)) == 1


def test_hinge_losses_end_at_scores_of_one_and_are_summed():
    def scores(*values):
        return [[torch.full((2, 1, 7), v)] for v in values]

    assert float(hinge_discriminator_loss(scores(1.0, 3.0), scores(-1.0, -2.0))) == 0
    assert float(hinge_discriminator_loss(scores(0.0, 0.0), scores(0.0, 0.0))) == 4
    assert float(hinge_discriminator_loss(scores(0.5), scores(-0.75))) == pytest.approx(0.75)
    assert float(hinge_adversarial_loss(scores(1.0, 2.0))) == 0
    assert float(hinge_adversarial_loss(scores(0.0, -1.0, 1.0))) == 3


def test_scale_feature_loss_is_weighed_as_melgan_does(noise):
    """4 strided layers and 3 discriminators: each of the 6 maps of each counts 4/5 x 1/3, and the score nothing."""
    real = [[torch.zeros(1, 2, 3)] * 6 + [torch.zeros(1, 1, 3)]] * 3
    fake = [[torch.ones(1, 2, 3)] * 6 + [torch.full((1, 1, 3), 9.0)]] * 3
    assert float(scale_feature_loss(real, fake)) == pytest.approx(3 * 6 * 4 / 5 / 3)
    parts = Discriminators(periods=(), resolutions=(), scales=3, scale_channels=4, scale_max_channels=8)
    with torch.no_grad():
        maps = parts(noise)
    assert [len(m) for m in maps] == [7, 7, 7]
    assert float(scale_feature_loss(maps, maps)) == 0


def test_feature_loss_reaches_the_wave_only_through_the_fake(noise):
    parts = Discriminators(periods=(2,), period_channels=(4, 8), resolutions=(512,), resolution_channels=4)
    fake = (noise + 0.01).requires_grad_(True)
    loss = feature_loss(parts(noise), parts(fake))
    loss.backward()
    assert float(loss.detach()) > 0
    assert float(fake.grad.abs().sum()) > 0
    assert float(feature_loss(parts(noise), parts(noise))) == 0
