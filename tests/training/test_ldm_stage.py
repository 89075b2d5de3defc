"""The latent diffusion: objectives, time steps, weights, and gradients that do not depend on how a batch is shared."""

import json

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from latentsr.config import ConfigError
from latentsr.data.dataset import Batch
from latentsr.models.vae import MelAutoencoderKL
from latentsr.training.draws import Draws
from latentsr.training.ldm import LdmInputs, LdmStage, LdmStageConfig, mean_by_rows, min_snr_weight

RATE = 48_000
TINY_VAE = dict(latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, patch_frames=4, patch_bands=8)
TINY_UNET = dict(block_out_channels=(8, 16), attention_levels=(1,), attention_head_dim=8, norm_num_groups=4)


def batch(count=4, seconds=0.64):
    wide = 0.1 * torch.randn(count, 1, round(seconds * RATE), generator=torch.Generator().manual_seed(0))
    bandwidth_hz = torch.linspace(14_000, 24_000, count)
    return Batch(wide, bandwidth_hz, ["music"] * count, torch.zeros(count), torch.zeros(count))


def part(whole, rows):
    return Batch(whole.wide[rows], whole.bandwidth_hz[rows], whole.kinds[rows], whole.clip[rows], whole.offset[rows])


def gradient(stage, inputs, draws):
    stage.zero_grad()
    stage.total(stage.losses("model", inputs, 0, draws)).backward()
    return torch.cat([p.grad.flatten() for p in stage.unet.parameters()])


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "vae"
    MelAutoencoderKL(**TINY_VAE, scaling_factor=2.0, shift_factor=0.1).save_pretrained(folder)

    def stage(**values):
        torch.manual_seed(0)
        config = LdmStageConfig(model=TINY_UNET, vae=str(folder), loss_weights={"velocity": 1.0}, **values)
        return LdmStage(config)

    return stage


@pytest.mark.parametrize("values", [{"loss_weighting": "min_snr"}, {"objective": "flow", "timesteps": "logit_normal"}])
def test_gradients_of_a_batch_are_the_mean_of_its_halves(make, values):
    stage = make(**values)
    nn.init.normal_(stage.unet.conv_out.weight, std=0.1)  # at zero, nothing before it would have a gradient
    whole, halves = batch(), []
    for first in (0, 2):
        draws = Draws(0, 5, first, 2)
        halves.append(gradient(stage, stage.prepare(part(whole, slice(first, first + 2)), draws), draws))
    draws = Draws(0, 5, 0, 4)
    expected = gradient(stage, stage.prepare(whole, draws), draws)
    assert float((sum(halves) / 2 - expected).norm() / expected.norm()) < 1e-6
    assert float((halves[0] - halves[1]).norm() / expected.norm()) > 0.1


def test_an_example_without_weight_adds_nothing_and_stays_finite(make):
    error, weight = torch.rand(2, 4, 5, 8), torch.stack([torch.zeros(8), torch.linspace(0, 1, 8)])
    means = mean_by_rows(error, weight)
    assert means[0] == 0
    assert_close(means[1], (error[1].mean(dim=(0, 1)) * weight[1]).sum() / weight[1].sum())
    stage, latents = make(), torch.randn(2, 4, 8, 16)
    inputs = LdmInputs(latents, latents, torch.tensor([4000.0, 4000.0]), torch.tensor([0.0, 0.0]))
    assert float(stage.losses("model", inputs, 0, Draws(0, 0, 0, 2))["velocity"].detach()) == 0


@pytest.mark.parametrize("objective", ["velocity", "flow"])
@pytest.mark.parametrize("timesteps, middle", [("uniform", 0.5), ("logit_normal", 0.728)])
def test_times_are_drawn_as_said(make, objective, timesteps, middle):
    """Half of a logit-normal draw more than uniform lies between 1/4 and 3/4: P(|N(0, 1)| < ln 3) = 0.728."""
    stage = make(objective=objective, timesteps=timesteps, last_step_share=0.2)
    t = stage._draw_times(Draws(0, 0, 0, 4000)).float()
    last = t >= (999 if objective == "velocity" else 1000)
    assert float(last.float().mean()) == pytest.approx(0.2, abs=0.03)
    inside = (t[~last] >= 250) & (t[~last] < 750)
    assert float(inside.float().mean()) == pytest.approx(middle, abs=0.03)


def test_min_snr_caps_what_is_nearly_clean_and_keeps_pure_noise():
    snr = torch.tensor([0.0, 1.0, 4.0, 9.0, 99.0])
    weight = min_snr_weight(snr / (snr + 1))
    assert_close(weight, torch.tensor([1.0, 1.0, 1.0, 0.5, 0.05]), atol=1e-6, rtol=0)


def test_min_snr_of_a_flow_is_refused(make):
    with pytest.raises(ConfigError, match="min_snr needs objective: velocity"):
        make(objective="flow", loss_weighting="min_snr")


def test_a_flow_learns_one_example(make):
    stage = make(objective="flow")
    target, condition = torch.randn(2, 2, 4, 8, 16, generator=torch.Generator().manual_seed(0))
    inputs = LdmInputs(target, condition, torch.full((2,), 4000.0), torch.full((2,), 24_000.0))
    optimizer, losses = torch.optim.Adam(stage.unet.parameters(), lr=1e-2), []
    for _ in range(25):
        loss = stage.losses("model", inputs, 0, Draws(0, 1, 0, 2))["velocity"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    "objective, scheduler", [("velocity", "DDIMScheduler"), ("flow", "FlowMatchEulerDiscreteScheduler")]
)
def test_the_scheduler_is_exported_beside_the_network_that_a_run_can_start_from(make, tmp_path, objective, scheduler):
    stage = make(objective=objective, validation_steps=2)
    metrics = stage.eval().validate(batch(2), Draws(0, 0, 0, 2)).metrics
    assert 0 < metrics["mel_lsd"] < 10
    nn.init.normal_(stage.unet.conv_out.weight)
    stage.export(tmp_path)
    written = json.loads((tmp_path / "scheduler/scheduler_config.json").read_text())
    assert written["_class_name"] == scheduler
    again = make(objective=objective, initial_weights=str(tmp_path))
    assert_close(again.unet.conv_out.weight, stage.unet.conv_out.weight, rtol=0, atol=0)


def test_initial_weights_without_a_network_are_refused(make, tmp_path):
    with pytest.raises(ConfigError, match="holds no unet"):
        make(initial_weights=str(tmp_path))
