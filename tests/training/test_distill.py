"""Distillation: jumps are DDIM's, and a student that does in one step what the teacher does in many has no loss."""

import math
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from latentsr.config import ConfigError, load
from latentsr.data.dataset import Batch
from latentsr.diffusion.sampling import flow_scheduler, guided, sample, training_scheduler
from latentsr.models.unet import LatentUNet
from latentsr.models.vae import MelAutoencoderKL
from latentsr.training.distill import DistillStage, DistillStageConfig, Phases
from latentsr.training.draws import Draws
from latentsr.training.ldm import LdmInputs

ROOT = Path(__file__).resolve().parents[2]
TINY_VAE = dict(latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, patch_frames=4, patch_bands=8)
TINY_UNET = dict(block_out_channels=(8, 16), attention_levels=(1,), attention_head_dim=8, norm_num_groups=4)
MEAN, SPREAD = 0.5, 0.3  # of the Gaussian data of a denoiser that is known exactly


def batch(count=4):
    wide = 0.1 * torch.randn(count, 1, 30_720, generator=torch.Generator().manual_seed(0))
    return Batch(wide, torch.linspace(14_000, 24_000, count), ["music"] * count, torch.zeros(count), torch.zeros(count))


def part(whole, rows):
    return Batch(whole.wide[rows], whole.bandwidth_hz[rows], whole.kinds[rows], whole.clip[rows], whole.offset[rows])


def angles(t):
    abar = training_scheduler().alphas_cumprod.double()
    abar = torch.cat([torch.ones(1), abar])[t + 1]
    return torch.atan2((1 - abar).sqrt(), abar.sqrt())[:, None, None, None]


def gaussian(mean, spread):
    """The best denoiser of data N(mean, spread^2): x0 = mean + alpha spread^2 (x - alpha mean) / var(x)."""

    def denoiser(x, t):
        alpha, sigma = angles(t).cos().to(x), angles(t).sin().to(x)
        z = (x - alpha * mean) / (alpha**2 * spread**2 + sigma**2)
        return alpha * sigma * z - sigma * (mean + alpha * spread**2 * z)  # alpha eps - sigma x0

    return denoiser


def guided_gaussian(x, t):
    return guided(gaussian(MEAN, SPREAD)(x, t), gaussian(0.2, 0.6)(x, t), 1.5)


def many_small_steps(phases, x, t, end):
    while bool((t > end).any()):
        after = torch.maximum(t - phases.skip, end)
        x, t = phases.jump(x, guided_gaussian(x, t.clamp(min=0)), t, after), after
    return x


def perfect(phases):
    """A student that leads in one step where the teacher's many do."""

    def student(x, t):
        end = ((999 - t) // phases.length + 1) * -phases.length + 999
        turn = angles(t) - angles(end)
        there = many_small_steps(phases, x, t, end)
        return ((turn.cos().to(x) * x - there) / turn.sin().clamp(min=1e-9).to(x)).nan_to_num()

    return student


def noisy(t, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x0, noise = (torch.randn(len(t), 2, 4, 4, generator=generator) for _ in range(2))
    return training_scheduler().add_noise(MEAN + SPREAD * x0, noise, t)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_phases_are_the_steps_of_the_sampler(count):
    scheduler = training_scheduler()
    phases = Phases(scheduler, count, 20, 1)
    scheduler.set_timesteps(count)
    assert phases.starts.tolist() == scheduler.timesteps.tolist()
    t, end = phases.draw(Draws(0, 0, 0, 500))
    starts = end + 1000 // count
    assert set(starts.tolist()) == set(phases.starts.tolist())
    assert ((starts - t) % 20 == 0).all() and (t > end).all() and (t <= starts).all()
    assert len(set(t.tolist())) == count * math.ceil(50 / count)  # every stop of the teacher's
    assert int(end.min()) == -1


@pytest.mark.parametrize("t", [999, 749, 499, 249])
def test_a_jump_is_the_samplers_step(t):
    scheduler = training_scheduler()
    scheduler.set_timesteps(4)
    x, v = torch.randn(2, 1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    jumped = Phases(scheduler, 4, 20, 1).jump(x, v, torch.tensor([t]), torch.tensor([t - 250]))
    assert_close(jumped, scheduler.step(v, t, x).prev_sample, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "count, skip, teacher_steps", [(4, 20, 1), (4, 20, 3), (4, 7, 1), (2, 20, 1), (1, 20, 1), (4, 20, 13)]
)
def test_a_perfect_student_has_no_loss_and_the_teacher_itself_has(count, skip, teacher_steps):
    phases = Phases(training_scheduler(), count, skip, teacher_steps)
    t, end = phases.draw(Draws(0, 0, 0, 64))
    x = noisy(t)
    wanted = phases.wanted_velocity(guided_gaussian, perfect(phases), x, t, end)
    assert_close(perfect(phases)(x, t), wanted, atol=1e-4, rtol=0)
    far = t - end > 2 * skip  # next to the end, one step of the teacher's is all there is
    assert float((guided_gaussian(x, t) - wanted)[far].square().mean().sqrt()) > 0.01


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_perfect_student_samples_what_the_teacher_does(count):
    phases = Phases(training_scheduler(), count, 20, 1)
    noise = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    made, expected = sample(perfect(phases), noise, training_scheduler(), count), noise
    for start in phases.starts.tolist():
        t = torch.full((3,), start)
        expected = many_small_steps(phases, expected, t, t - phases.length)
    assert_close(made, expected, atol=1e-4, rtol=0)


def test_the_exact_solution_is_what_small_steps_ask_for():
    """On Gaussian data x - alpha mean keeps its place in a spread of sqrt(alpha^2 spread^2 + sigma^2)."""
    phases = Phases(training_scheduler(), 4, 1, 1)

    def exact(x, t):
        end = ((999 - t) // 250 + 1) * -250 + 999
        (a, s), (b, r) = ((angles(u).cos().to(x), angles(u).sin().to(x)) for u in (t, end))
        ratio = ((b**2 * SPREAD**2 + r**2) / (a**2 * SPREAD**2 + s**2)).sqrt()
        turn = (angles(t) - angles(end)).to(x)
        return (turn.cos() * x - b * MEAN - ratio * (x - a * MEAN)) / turn.sin().clamp(min=1e-9)

    t, end = phases.draw(Draws(0, 0, 0, 64))
    x = noisy(t)
    wanted = phases.wanted_velocity(gaussian(MEAN, SPREAD), exact, x, t, end)
    assert float((exact(x, t) - wanted).abs().max()) < 0.01


def test_a_teacher_that_goes_to_the_end_needs_no_student():
    phases = Phases(training_scheduler(), 4, 20, 13)
    t, end = phases.draw(Draws(0, 0, 0, 8))
    phases.wanted_velocity(guided_gaussian, lambda x, t: pytest.fail("asked the student"), noisy(t), t, end)


# --- the stage -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("teacher")
    MelAutoencoderKL(**TINY_VAE, scaling_factor=2.0, shift_factor=0.1).save_pretrained(folder / "vae")
    LatentUNet(4, **TINY_UNET).save_pretrained(folder / "unet")
    training_scheduler().save_pretrained(folder / "scheduler")
    return folder


def tiny(teacher, *overrides):
    torch.manual_seed(0)
    return DistillStage(
        load(DistillStageConfig, ROOT / "configs/tiny/distill.yaml", [f"teacher={teacher}", *overrides])
    )


def latents(count=4):
    target, condition = torch.randn(2, count, 4, 8, 16, generator=torch.Generator().manual_seed(0))
    return LdmInputs(target, condition, torch.linspace(4000, 9000, count), torch.linspace(14_000, 24_000, count))


def gradient(stage, inputs, draws):
    stage.zero_grad()
    stage.total(stage.losses("model", inputs, 0, draws)).backward()
    return torch.cat([p.grad.flatten() for p in stage.unet.parameters()])


def test_gradients_of_a_batch_are_the_mean_of_its_halves(teacher):
    stage, whole = tiny(teacher), batch()
    halves = []
    for first in (0, 2):
        draws = Draws(0, 3, first, 2)
        halves.append(gradient(stage, stage.prepare(part(whole, slice(first, first + 2)), draws), draws))
    draws = Draws(0, 3, 0, 4)
    expected = gradient(stage, stage.prepare(whole, draws), draws)
    assert float((sum(halves) / 2 - expected).norm() / expected.norm()) < 2e-5  # rounding
    assert float((halves[0] - halves[1]).norm() / expected.norm()) > 0.1


def test_steps_bring_the_student_to_the_teacher_that_stays_as_it_is(teacher):
    stage = tiny(teacher, "teacher_steps=2", "skip=125", "guidance_scale=4").train()
    assert not stage.teacher.training
    before = {name: value.clone() for name, value in stage.teacher.state_dict().items()}
    optimizer, losses = torch.optim.Adam(stage.unet.parameters(), lr=3e-3), []
    for _ in range(15):
        loss = stage.total(stage.losses("model", latents(), 0, Draws(0, 0, 0, 4)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in stage.teacher.state_dict().items())


def test_under_autocast_every_weight_has_its_gradient(teacher):
    stage = tiny(teacher)
    expected = gradient(stage, latents(), Draws(0, 0, 0, 4))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = gradient(stage, latents(), Draws(0, 0, 0, 4))
    assert float(torch.nn.functional.cosine_similarity(rounded, expected, dim=0)) > 0.9


def test_validation_sets_the_student_beside_its_teacher(teacher, tmp_path):
    stage = tiny(teacher, "guidance_scale=1", "phases=4", "validation_steps=4").eval()
    metrics = stage.validate(batch(2), Draws(0, 0, 0, 2)).metrics
    assert metrics["latent_distance"] < 1e-5  # in as many steps, unguided, they are the same
    assert metrics["mel_lsd"] == pytest.approx(metrics["mel_lsd_teacher"], abs=1e-5)
    guided_metrics = tiny(teacher, "guidance_scale=4").eval().validate(batch(2), Draws(0, 0, 0, 2)).metrics
    assert guided_metrics["latent_distance"] > 1e-3
    stage.export(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"unet", "scheduler"}


@pytest.mark.parametrize(
    "override, message",
    [
        ("phases=3", "1, 2 or 4"),
        ("skip=0", "skip must be 1 to 250"),
        ("skip=251", "skip must be 1 to 250"),
        ("teacher_steps=0", "teacher_steps must be 1 or more"),
    ],
)
def test_values_that_make_no_sense_are_named(teacher, override, message):
    with pytest.raises(ConfigError, match=message):
        tiny(teacher, override)


def test_a_flow_and_an_empty_folder_are_no_teachers(tmp_path):
    with pytest.raises(ConfigError, match="holds no unet"):
        tiny(tmp_path, f"vae={ROOT}/src/latentsr/weights/vae")
    flow_scheduler().save_pretrained(tmp_path / "scheduler")
    with pytest.raises(ConfigError, match="objective: velocity"):
        tiny(tmp_path)
