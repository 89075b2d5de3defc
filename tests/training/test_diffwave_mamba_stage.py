"""The stage of the DiffWave-Mamba: what it trains on, and that it learns."""

import pytest
import torch
from torch.testing import assert_close

from latentsr.config import ConfigError
from latentsr.data.dataset import Batch
from latentsr.diffusion.sampling import sample
from latentsr.heads.diffwave_mamba import STEPS, diffuse, kept_amplitude
from latentsr.models.vae import MelAutoencoderKL
from latentsr.training.diffwave_mamba import DiffWaveMambaStage, DiffWaveMambaStageConfig
from latentsr.training.draws import Draws

TINY = dict(bands=96, channels=8, hidden=8, condition_layers=1, layers=1, state=2)
TINY_VAE = dict(latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, patch_frames=4, patch_bands=8)
WEIGHTS = {"velocity": 1.0, "prior": 1.0}


def batch(count=2, samples=15_360, bandwidth_hz=24_000.0):
    wide = 0.1 * torch.randn(count, 1, samples, generator=torch.Generator().manual_seed(0))
    return Batch(wide, torch.full((count,), bandwidth_hz), ["music"] * count, torch.zeros(count), torch.zeros(count))


@pytest.fixture(scope="module")
def vae_folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "vae"
    MelAutoencoderKL(**TINY_VAE, scaling_factor=2.0, shift_factor=0.1).save_pretrained(folder)
    return folder


@pytest.fixture()
def stage(vae_folder):
    torch.manual_seed(0)
    return DiffWaveMambaStage(DiffWaveMambaStageConfig(model=TINY, vae=str(vae_folder), loss_weights=WEIGHTS))


@pytest.mark.parametrize(("steps", "tolerance"), [(1, 1e-4), (2, 1e-4), (4, 1e-4), (STEPS, 1e-4), (6, 0.03)])
def test_exact_velocities_give_the_target_through_the_stages_own_schedule(stage, steps, tolerance):
    """Training and sampling share one schedule: what training calls the velocity brings sampling to the target."""
    x0 = torch.randn(2, 20, 96, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(2, 20, 96, generator=torch.Generator().manual_seed(2))

    def oracle(x, t):
        alpha_bar = stage.scheduler.alphas_cumprod[t][:, None, None]
        eps = (x - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
        return stage.scheduler.get_velocity(x0, eps, t)

    assert_close(sample(oracle, noise, stage.scheduler, steps), x0, atol=tolerance, rtol=0)


@pytest.mark.parametrize("steps", [2, STEPS])
def test_a_denoiser_that_knows_nothing_makes_noise_as_loud_as_the_prior(stage, steps):
    low, cutoff_hz = torch.zeros(1, 200, 96), torch.tensor([4000.0])
    noise = torch.randn(1, 200, 96, generator=torch.Generator().manual_seed(0))
    assert 0.2 < kept_amplitude(stage.scheduler, steps) < 0.9
    with torch.no_grad():  # the velocity starts at zero
        condition = stage.network.condition(low, cutoff_hz)
        made = diffuse(stage.network, stage.scheduler, condition, noise, steps)
        assert_close(made, noise * condition.scale, atol=1e-5, rtol=1e-3)


def test_coefficients_below_the_cutoff_and_above_the_bandwidth_weigh_nothing(stage):
    inputs = stage.prepare(batch(bandwidth_hz=16_000.0), Draws(0, 0, 0, 2))
    inputs.cutoff_hz = torch.tensor([4000.0, 8000.0])
    weights = stage._weights(stage.network.condition(inputs.low, inputs.cutoff_hz), inputs)[:, 0]
    assert weights.sum(dim=1).tolist() == [64 - 14, 64 - 29]  # bands of 250 Hz, made from 3.6 and 7.2 kHz on


def test_latents_are_told_as_often_as_said(stage):
    told = stage.prepare(batch(64, 3840), Draws(0, 0, 0, 64)).told
    assert 0.3 < float(told.float().mean()) < 0.7


def test_training_on_one_batch_learns_it(stage):
    inputs = stage.prepare(batch(), Draws(0, 0, 0, 2))
    optimizer = torch.optim.Adam(stage.network.parameters(), lr=5e-3)
    priors = []
    for _ in range(40):
        losses = stage.losses("model", inputs, 0, Draws(1, 0, 0, 2))
        optimizer.zero_grad()
        stage.total(losses).backward()
        optimizer.step()
        priors.append(float(losses["prior"].detach()))
    assert priors[-1] < 0.2 * priors[0]


def test_a_vae_of_another_rate_is_refused(tmp_path):
    sizes = {**TINY_VAE, "patch_frames": 2}
    MelAutoencoderKL(**sizes, scaling_factor=1.0, shift_factor=0.0).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has a latent every 4 mel frames; choose one with 8"):
        DiffWaveMambaStage(DiffWaveMambaStageConfig(model=TINY, vae=str(tmp_path), loss_weights=WEIGHTS))


def test_validation_tells_the_prior_from_the_diffusion(stage):
    figures = stage.eval().validate(batch(), Draws(0, 0, 0, 2)).metrics
    assert {"lsd_input", "lsd_prior", "lsd_from_low", "lsd_from_latents"} <= figures.keys()
    assert figures["lsd_prior"] != figures["lsd_input"]


def test_a_run_goes_on_from_exported_weights(stage, tmp_path):
    stage.export(tmp_path)
    config = DiffWaveMambaStageConfig(latents=False, initial_weights=str(tmp_path), loss_weights=WEIGHTS)
    again = DiffWaveMambaStage(config)
    for one, other in zip(again.network.parameters(), stage.network.parameters(), strict=True):
        assert_close(one, other, rtol=0, atol=0)


def test_the_prior_is_raised_once_trained():
    config = DiffWaveMambaStageConfig(model=TINY, latents=False, loss_weights=WEIGHTS, loudness_nats=0.8)
    made = DiffWaveMambaStage(config)
    inputs = made.prepare(batch(), Draws(0, 0, 0, 2))
    before = made.network.condition(inputs.low, inputs.cutoff_hz).log_energy
    made.finish(None)
    after = made.network.condition(inputs.low, inputs.cutoff_hz).log_energy
    inside = before > -25  # its floor
    assert_close(after[inside], before[inside] + 0.8, rtol=0, atol=1e-4)
