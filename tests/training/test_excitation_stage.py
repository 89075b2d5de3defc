"""What the stage that shapes excitations judges, and how its losses are balanced."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from latentsr.config import load
from latentsr.data.dataset import Batch
from latentsr.models.discriminators import BandDiscriminator
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.training.draws import Draws
from latentsr.training.excitation import ExcitationStage, ExcitationStageConfig
from latentsr.training.losses import balanced, patch_losses

TINY = Path(__file__).resolve().parents[2] / "configs/tiny/excitation.yaml"
RATE = 48_000
CUT = ("degrade.cutoff_hz=[4000, 4001]", "degrade.effects={none: 1.0}", "heard_share=0")


def stage(*overrides):
    torch.manual_seed(0)
    return ExcitationStage(load(ExcitationStageConfig, TINY, overrides))


def batch(count=4, seconds=0.64, bandwidth_hz=24_000.0):
    wide = 0.1 * torch.randn(count, 1, round(seconds * RATE), generator=torch.Generator().manual_seed(0))
    return Batch(wide, torch.full((count,), bandwidth_hz), ["music"] * count, torch.zeros(count), torch.zeros(count))


def band(wave, low_hz, high_hz):
    spectrum = torch.fft.rfft(wave * torch.hann_window(wave.shape[-1])).abs().square()
    first, last = (round(hz * wave.shape[-1] / RATE) for hz in (low_hz, high_hz))
    return float(spectrum[..., first:last].sum())


def test_nothing_below_the_cutoff_or_above_the_files_own_band_is_judged():
    made = stage(*CUT)
    inputs = made.prepare(batch(bandwidth_hz=16_000.0), Draws(0, 0, 0, 4))
    judged = made._made_band(inputs.wide, inputs)
    inside = band(judged, 8_000, 14_000)
    assert inside == pytest.approx(band(inputs.wide, 8_000, 14_000), rel=0.02)
    assert band(judged, 0, 3_000) < 1e-6 * inside and band(judged, 17_000, 24_000) < 1e-6 * inside


def test_without_the_estimator_the_cutoff_is_the_truth():
    made = stage(*CUT)
    inputs = made.prepare(batch(), Draws(0, 0, 0, 4))
    assert (inputs.cutoff_hz - 4_000).abs().max() < 400  # the -3 dB point of designs at 4 kHz
    assert (inputs.edge_hz <= 0.8 * inputs.cutoff_hz + 1).all()


def test_the_front_stands_still_until_its_step():
    made, at = stage(*CUT, "front_from_step=3", "adversarial_from_step=9"), Draws(0, 0, 0, 4)
    inputs = made.prepare(batch(), at)
    for step, moves in ((2, False), (3, True)):
        made.zero_grad(set_to_none=True)
        made.total(made.losses("generator", inputs, step, at)).backward()
        assert (made.generator.embed_mel.weight.grad is not None) is moves
        assert made.generator.gains.weight.grad is not None


def test_the_discriminators_hear_what_the_generator_made_in_the_same_step():
    made, at = stage(*CUT), Draws(0, 0, 0, 4)
    inputs = made.prepare(batch(), at)
    losses = made.losses("generator", inputs, 5, at)
    assert {"adversarial_shown", "features_shown", "log_magnitude_shown", "energy_shown"} < losses.keys()
    made.total(made.losses("discriminator", inputs, 5, at)).backward()
    assert all(p.grad is not None for p in made.discriminators.parameters())


def test_a_balanced_loss_pulls_as_its_weight_says_however_steep_it_is():
    wave = torch.randn(1, 1, 100, requires_grad=True)
    left, right = torch.randn(1, 1, 100), torch.randn(1, 1, 100)
    losses = {"gentle": (wave * left).sum(), "steep": 1000 * (wave * right).sum()}
    balanced(losses, {"gentle": 3.0, "steep": 1.0}, wave).backward()
    expected = 0.75 * left / left.norm() + 0.25 * right / right.norm()
    assert_close(wave.grad, expected)


def test_patch_losses_count_by_what_is_heard_not_by_the_width_of_the_spectrum():
    """Half the level in a band: log 2 and 2 x log 2 / 2, whether the band is narrow or wide."""
    from latentsr.signal.lowband import cut_sharply

    noise = 0.1 * torch.randn(1, 1, RATE, generator=torch.Generator().manual_seed(0))
    for hz in (6_000.0, 20_000.0):
        wave = cut_sharply(noise, torch.tensor([hz]), RATE)
        found = patch_losses(wave, wave / 2, (512, 2048))
        assert float(found["log_magnitude"]) == pytest.approx(0.693, abs=0.03)
        assert float(found["energy"]) == pytest.approx(0.693, abs=0.05)
        assert float(found["level"]) == pytest.approx(0.693, abs=0.05)


def test_flatness_tells_hiss_from_lines_and_decay_from_attacks():
    rng = torch.Generator().manual_seed(0)
    hiss, t = 0.05 * torch.randn(1, 1, RATE, generator=rng), torch.arange(RATE) / RATE
    lines = sum(torch.sin(2 * torch.pi * hz * t) for hz in range(4_000, 20_000, 700))[None, None] * 0.02
    hits = hiss * (1 + 15 * (torch.arange(RATE) % 960 < 96))
    again = 0.05 * torch.randn(1, 1, RATE, generator=rng)
    alike = float(patch_losses(hiss, again, (2048, 128))["flatness"])
    assert float(patch_losses(hiss, lines, (2048,))["flatness"]) > 4 * alike
    assert float(patch_losses(hiss, hits, (128,))["flatness"]) > 1.5 * float(
        patch_losses(hiss, again, (128,))["flatness"]
    )


def test_a_band_discriminator_neither_sees_nor_scores_outside_the_band():
    torch.manual_seed(0)
    network, share = BandDiscriminator(512, 4), torch.tensor([[4 / 24, 16 / 24]])
    wave = 0.1 * torch.randn(1, 1, RATE // 2)
    t = torch.arange(RATE // 2) / RATE
    outside = wave + 0.1 * torch.sin(2 * torch.pi * 1000 * t) + 0.1 * torch.sin(2 * torch.pi * 21_000 * t)
    (maps, weight), (others, _) = network(wave, share), network(outside, share)
    assert_close(maps[-1], others[-1], rtol=0, atol=2e-2)
    assert float(weight.sum()) == pytest.approx(1.0, abs=1e-5)
    rows = weight[0, 0, :, 0]
    assert float(rows[: len(rows) // 8].sum()) == 0 and float(rows[-len(rows) // 4 :].sum()) == 0


def test_a_teachers_envelope_is_the_target_in_the_made_band(tmp_path):
    MambaGenerator(channels=16, mixer_layers=1, state=4, hidden=32, layers=1, latent_size=64).save_pretrained(tmp_path)
    made = stage(*CUT, f"teacher={tmp_path}")
    inputs = made.prepare(batch(), Draws(0, 0, 0, 4))
    band = torch.tensor([[4 / 24, 16 / 24]]).expand(4, 2)
    moved = inputs.taught.clone()
    moved[..., :35] += 9  # below 3.5 kHz, and above 16.5 kHz
    moved[..., 166:] += 9
    assert float(made._taught_loss(moved, inputs.taught, band)) == 0
    assert float(made._taught_loss(inputs.taught + 1, inputs.taught, band)) == pytest.approx(0.5, abs=1e-3)


def test_it_begins_as_loud_as_the_finished_mamba_gan_from_which_it_starts(tmp_path):
    """Envelopes lie 2 dB apart in the mean over the band; the front is the same."""
    torch.manual_seed(0)
    theirs = MambaGenerator()
    torch.nn.init.normal_(theirs.head.weight, std=0.01)
    theirs.save_pretrained(tmp_path)
    made = stage(*CUT, "model={}", f"front={tmp_path}", f"teacher={tmp_path}")
    inputs = made.prepare(batch(), Draws(0, 0, 0, 4))
    with torch.no_grad():
        envelope = made._generate(inputs)[2]
    apart = 0.5 * (envelope - inputs.taught)[:, 10:-10, 45:235]
    assert abs(float(apart.mean())) < 0.25
    assert float(apart.abs().mean()) < 0.7
    mel, cutoff_hz = torch.randn(1, 20, 256), torch.tensor([4_000.0])
    assert_close(made.generator.front(mel, cutoff_hz)[1], made.teacher.front(mel, cutoff_hz)[1], rtol=0, atol=0)
