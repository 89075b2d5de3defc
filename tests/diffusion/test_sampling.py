"""Schedulers, guidance and noise: identities that hold for any network."""

import pytest
import torch
from torch.testing import assert_close

from latentsr import Pipeline
from latentsr.diffusion.sampling import (
    FLOW_SCHEDULERS,
    OBJECTIVES,
    SCHEDULERS,
    ZERO_SNR,
    flow_scheduler,
    guided,
    sample,
    set_steps,
    training_scheduler,
)
from latentsr.models.unet import LatentUNet
from latentsr.signal.noise import absolute_noise

# AudioSR's betas: a cosine schedule without the usual clip, so that the last beta is exactly 1.
_T = torch.arange(1001, dtype=torch.float64) / 1000
_ABAR = torch.cos((_T + 0.008) / 1.008 * torch.pi / 2) ** 2
AUDIOSR_BETAS = (1 - _ABAR[1:] / _ABAR[:-1]).clamp(max=1.0)


def exact_velocity(scheduler, x0):
    """The velocity of a network that knows the answer."""

    def denoiser(x, t):
        abar = scheduler.alphas_cumprod.to(x)[t.long()][:, None, None, None]
        eps = (x - abar.sqrt() * x0) / (1 - abar).sqrt().clamp(min=1e-8)
        return abar.sqrt() * eps - (1 - abar).sqrt() * x0

    return denoiser


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 2, 4, 10, 50])
@pytest.mark.parametrize("betas", ["ours", "audiosr"])
def test_every_scheduler_finds_what_an_exact_network_knows(name, steps, betas):
    if betas == "ours":
        scheduler = SCHEDULERS[name].from_config(training_scheduler().config)
    else:
        extra = {"clip_sample": False} if name == "ddim" else {}
        scheduler = SCHEDULERS[name](trained_betas=AUDIOSR_BETAS.tolist(), **ZERO_SNR, **extra)
    x0 = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    out = sample(exact_velocity(scheduler, x0), noise, scheduler, steps)
    assert_close(out, x0, atol=0.02, rtol=0)


@pytest.mark.parametrize("objective, name", [(o, name) for o, kind in OBJECTIVES.items() for name in kind.schedulers])
@pytest.mark.parametrize("steps", [1, 2, 4, 10])
def test_samplers_keep_to_the_path_of_training_and_arrive(objective, name, steps):
    """At every step, a network that knows the answer sees what it would see in training."""
    path = OBJECTIVES[objective]()
    scheduler = path.schedulers[name].from_config(path.scheduler.config)
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(2, 2, 4, 4, generator=generator) for _ in range(2))

    def oracle(x, t):
        expected, target = path.diffuse(x0, noise, t)
        assert_close(x, expected, atol=2e-3, rtol=0)
        return target

    assert_close(sample(oracle, noise, scheduler, steps), x0, atol=2e-3, rtol=0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_times_begin_at_data_and_end_at_noise(objective):
    path = OBJECTIVES[objective]()
    x0, noise = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    first, _ = path.diffuse(x0, noise, path.times(torch.zeros(3)))
    last, _ = path.diffuse(x0, noise, path.times(torch.ones(3)))
    assert_close(last, noise)
    assert_close(first, x0, atol=0.05, rtol=0)


@pytest.mark.parametrize("steps", [1, 3, 4, 50, 1000])
def test_a_flow_is_cut_into_equal_steps(steps):
    scheduler = flow_scheduler()
    set_steps(scheduler, steps, torch.device("cpu"))
    assert len(scheduler.timesteps) == steps
    assert_close(scheduler.timesteps[0], torch.tensor(1000.0))
    assert_close(scheduler.sigmas.diff(), torch.full((steps,), -1 / steps), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [*SCHEDULERS, *FLOW_SCHEDULERS])
def test_a_model_folder_says_how_its_network_is_sampled(name, tmp_path):
    path = OBJECTIVES["flow" if name in FLOW_SCHEDULERS else "velocity"]()
    scheduler = path.schedulers[name].from_config(path.scheduler.config)
    unet = LatentUNet(4, block_out_channels=(8, 8), attention_levels=(), norm_num_groups=4)
    Pipeline(unet=unet, scheduler=scheduler).save_pretrained(tmp_path)
    pipe = Pipeline.from_pretrained(tmp_path, heads=[])
    pipe.load(["unet", "scheduler"])
    assert type(pipe.scheduler) is type(scheduler)
    noise = torch.randn(1, 4, 8, 4, generator=torch.Generator().manual_seed(0))
    made = [sample(lambda x, t: 0.1 * x + t.view(-1, 1, 1, 1) / 1000, noise, s, 4) for s in (scheduler, pipe.scheduler)]
    assert_close(made[1], made[0], rtol=0, atol=0)


def test_training_starts_from_pure_noise():
    scheduler = training_scheduler()
    assert float(scheduler.alphas_cumprod[-1]) == 0
    x0, noise = torch.randn(1, 1, 2, 2), torch.randn(1, 1, 2, 2)
    last = torch.tensor([999])
    assert_close(scheduler.add_noise(x0, noise, last), noise)
    assert_close(scheduler.get_velocity(x0, noise, last), -x0)


def test_velocity_closes_the_circle():
    """x0 = alpha x - sigma v, for every time step."""
    scheduler = training_scheduler()
    x0, noise = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    t = torch.tensor([10, 500, 980])
    abar = scheduler.alphas_cumprod[t][:, None, None, None]
    noisy, v = scheduler.add_noise(x0, noise, t), scheduler.get_velocity(x0, noise, t)
    assert_close(abar.sqrt() * noisy - (1 - abar).sqrt() * v, x0, atol=1e-5, rtol=0)


def test_guidance_of_one_is_none_and_rescaling_keeps_the_spread():
    torch.manual_seed(0)
    c, u = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert_close(guided(c, u, 1.0), c)
    spread = guided(c, u, 5.0, rescale=1.0).std(dim=(1, 2, 3))
    assert_close(spread, c.std(dim=(1, 2, 3)))


@pytest.mark.parametrize("first", [-8, 0, 60, 128])
def test_noise_belongs_to_absolute_frames(first):
    whole = absolute_noise(3, -64, 320, channels=2, rows=4)
    assert_close(absolute_noise(3, first, 40, channels=2, rows=4), whole[:, first + 64 : first + 104], rtol=0, atol=0)
    assert abs(float(whole.std()) - 1) < 0.05
    assert not torch.equal(absolute_noise(4, first, 40, 2, 4), absolute_noise(3, first, 40, 2, 4))
