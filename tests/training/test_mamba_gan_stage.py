"""What the Mamba-GAN's stage feeds its networks, and what its losses hear."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from latentsr.config import ConfigError, load
from latentsr.data.dataset import Batch
from latentsr.models.hifigan import build_vocoder
from latentsr.models.vae import MelAutoencoderKL
from latentsr.training.draws import Draws
from latentsr.training.mamba_gan import MambaGanStage, MambaGanStageConfig

TINY = Path(__file__).resolve().parents[2] / "configs/tiny/mamba_gan.yaml"
RATE = 48_000


def batch(count=4, seconds=0.64, bandwidth_hz=24_000.0):
    wide = 0.1 * torch.randn(count, 1, round(seconds * RATE), generator=torch.Generator().manual_seed(0))
    return Batch(wide, torch.full((count,), bandwidth_hz), ["music"] * count, torch.zeros(count), torch.zeros(count))


def stage(*overrides):
    torch.manual_seed(0)
    return MambaGanStage(load(MambaGanStageConfig, TINY, overrides))


def draws(count=4):
    return Draws(0, 0, 0, count)


def band(wave, low_hz, high_hz):
    spectrum = torch.fft.rfft(wave * torch.hann_window(wave.shape[-1])).abs().square()
    first, last = (round(hz * wave.shape[-1] / RATE) for hz in (low_hz, high_hz))
    return float(spectrum[..., first:last].sum())


def test_above_a_files_own_band_neither_side_is_heard():
    made = stage()
    inputs = made.prepare(batch(bandwidth_hz=16_000.0), draws())
    heard = made._judged(torch.randn_like(inputs.wide), inputs)
    assert band(heard, 17_000, 24_000) < 1e-6 * band(heard, 12_000, 16_000)


def test_merged_examples_are_judged_above_the_cutoff_alone():
    made = stage("merged_share=1.0", "degrade.cutoff_hz=[4000, 4001]", "degrade.effects={none: 1.0}")
    inputs = made.prepare(batch(), draws())
    difference = made._judged(torch.zeros_like(inputs.wide), inputs) - inputs.wide
    assert band(difference, 0, 3000) < 1e-6 * band(inputs.wide, 0, 3000)
    assert band(difference, 8000, 20_000) == pytest.approx(band(inputs.wide, 8000, 20_000), rel=0.01)


def test_the_front_loss_counts_only_bands_with_content():
    made = stage()
    inputs = made.prepare(batch(bandwidth_hz=8000.0), draws())
    wrong = inputs.true_mel.clone()
    wrong[..., -40:] += 5  # above 8 kHz
    assert float(made._front_loss(wrong, inputs)) == 0
    assert float(made._front_loss(inputs.true_mel + 1, inputs)) == pytest.approx(1, abs=1e-5)


def test_the_discriminators_hear_as_much_as_said():
    made = stage()
    heard = made._heard(draws(), 48_000)
    assert heard.stop - heard.start == 32 * 480
    assert made._heard(draws(), 15_360) == slice(0, 15_360)


def test_every_loss_is_weighted_and_finite_and_each_phase_trains_its_own():
    made = stage()
    inputs = made.prepare(batch(2), draws(2))
    losses = made.losses("generator", inputs, 5, draws(2))
    assert losses.keys() == made.config.loss_weights.keys() - {"discriminator"}
    made.total(losses).backward()
    assert all(p.grad is None for p in made.discriminators.parameters())
    made.zero_grad(set_to_none=True)
    made.total(made.losses("discriminator", inputs, 5, draws(2))).backward()
    assert all(p.grad is None for p in made.generator.parameters())
    assert all(p.grad is not None for p in made.discriminators.parameters())
    assert made.active_phases(1) == ("generator",)


def test_one_batch_is_learned():
    made = stage()
    inputs = made.prepare(batch(2), draws(2))
    optimizer = torch.optim.Adam(made.generator.parameters(), lr=5e-3)
    totals = []
    for _ in range(60):
        total = made.total(made.losses("generator", inputs, 0, draws(2)))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.6 * totals[0]


def test_latents_are_told_as_often_as_said(tmp_path):
    torch.manual_seed(0)
    vae = MelAutoencoderKL(latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, patch_frames=4,
                           patch_bands=8, scaling_factor=2.0, shift_factor=0.1)  # fmt: skip
    vae.save_pretrained(tmp_path / "vae")
    made = stage(f"vae={tmp_path / 'vae'}", "latents_share=0.5")
    inputs = made.prepare(batch(64, 0.16), draws(64))
    assert inputs.latents.shape == (64, 4, 2, 16)
    assert 0.3 < float(inputs.told.float().mean()) < 0.7
    assert {"lsd", "lsd_latents"} <= made.validate(batch(2), draws(2)).metrics.keys()


def test_the_back_starts_from_the_named_blocks_of_a_vocoder(tmp_path):
    torch.manual_seed(1)
    vocoder = build_vocoder("istft", channels=16, hidden=32, layers=3)
    vocoder.save_pretrained(tmp_path)
    made = stage(f"vocoder={tmp_path}", "vocoder_blocks=[2]")
    assert_close(made.generator.blocks[0].expand.weight, vocoder.blocks[2].expand.weight, rtol=0, atol=0)
    assert_close(made.generator.head.weight, vocoder.head.weight, rtol=0, atol=0)
    with pytest.raises(ConfigError, match="vocoder_blocks names 2 blocks, the generator has 1 layers"):
        stage(f"vocoder={tmp_path}", "vocoder_blocks=[0, 1]")
    with pytest.raises(ConfigError, match="other sizes than the generator"):
        stage(f"vocoder={tmp_path}", "vocoder_blocks=[0]", "model.channels=8")


def test_a_run_goes_on_from_weights_but_not_with_other_discriminators(tmp_path):
    made = stage()
    made.export(tmp_path)
    again = stage(f"initial_weights={tmp_path}")
    for name, network in made.trained().items():
        for key, value in network.state_dict().items():
            assert_close(again.trained()[name].state_dict()[key], value, rtol=1e-3, atol=1e-4)  # half precision
    with pytest.raises(ConfigError, match="holds discriminators of other sizes; give the same `discriminators`"):
        stage(f"initial_weights={tmp_path}", "discriminators.scale_channels=8")
