"""The DiffWave-Mamba head: windows join, channels share their noise, what is wrong is named."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from latentsr import Pipeline
from latentsr.diffusion.sampling import training_scheduler
from latentsr.heads import HEADS
from latentsr.heads.diffwave_mamba import DiffWaveMambaHead
from latentsr.models.diffwave_mamba import DiffWaveMamba
from latentsr.models.unet import LatentUNet
from latentsr.models.vae import MelAutoencoderKL

RATE = 48_000
HOP = 480
SIZES = dict(bands=96, channels=8, hidden=8, condition_layers=1, layers=1, state=2)


def network(**sizes):
    torch.manual_seed(0)
    network = DiffWaveMamba(**{**SIZES, **sizes}).eval().requires_grad_(False)
    torch.nn.init.normal_(network.velocity[1].weight, std=0.2)  # it starts at zero, where nothing would matter
    return network


@pytest.fixture(scope="module")
def head():
    return DiffWaveMambaHead(network(latent_size=64))


def programme(frames, channels=1):
    return 0.1 * torch.randn(channels, 1, frames * HOP, generator=torch.Generator().manual_seed(1))


def hz(*values):
    return torch.tensor(values)


def relative(made, expected):
    return float((made - expected).norm() / expected.norm())


@pytest.mark.parametrize("first", [-16, 3, 64])
def test_a_window_draws_what_the_whole_draws_there(head, first):
    """The recording begins at mel frame -16 of the test, as windows do that begin before it."""
    low, window = programme(288), slice((first + 16) * HOP, (first + 16 + 192) * HOP)
    whole = head(low, hz(4000.0), seed=0, first_frame=-16) - low
    inside = slice(head.context_frames * HOP, -head.context_frames * HOP)

    def made(first_frame):
        part = low[..., window]
        return (head(part, hz(4000.0), seed=0, first_frame=first_frame) - part)[..., inside]

    expected = whole[..., window][..., inside]
    assert relative(made(first), expected) < 0.05
    assert relative(made(first + 1), expected) > 0.5


def test_channels_share_noise_and_rows_do_not_depend_on_the_batch(head):
    low, ends = programme(24), hz(4000.0, 4000.0, 9000.0)
    made = head(torch.cat([low, low, -low]), ends, seed=0)
    assert torch.equal(made[0], made[1])
    assert_close(made[2:], head(-low, ends[2:], seed=0), rtol=0, atol=1e-6)


def test_on_a_cpu_rows_go_one_at_a_time(head, monkeypatch):
    sizes, condition = [], head.network.condition
    monkeypatch.setattr(head.network, "condition", lambda low, *rest: sizes.append(len(low)) or condition(low, *rest))
    head(programme(8, channels=3), hz(4000.0, 4000.0, 4000.0), torch.zeros(3, 4, 1, 16))
    assert sizes == [1, 1, 1]


def test_the_generator_decides_the_noise(head):
    low = programme(16)
    one, again, other = (head(low, hz(4000.0), seed=seed) for seed in (5, 5, 6))
    assert torch.equal(one, again) and relative(other - low, one - low) > 0.5


def test_what_is_made_lies_above_the_cutoff(head):
    low = programme(48)
    power = torch.fft.rfft((head(low, hz(8000.0)) - low)[0, 0, HOP:-HOP]).abs().square()
    below = int(0.8 * 8000 / (RATE / 2) * len(power))
    assert float(power[:below].sum() / power.sum()) < 2e-3


def test_latents_are_heard(head):
    low, latents = programme(16), torch.randn(1, 4, 2, 16, generator=torch.Generator().manual_seed(0))
    assert relative(head(low, hz(4000.0), latents) - low, head(low, hz(4000.0)) - low) > 0.01


def test_keep_known_and_ignored_change_nothing(head):
    low = programme(16)
    assert torch.equal(head(low, hz(4000.0), keep_known=False, ignored=(3, 5)), head(low, hz(4000.0)))


def test_bf16_weights_run_without_autocast(head):
    low, latents = programme(16), torch.randn(1, 4, 2, 16, generator=torch.Generator().manual_seed(0))
    half = DiffWaveMambaHead(network(latent_size=64).bfloat16())
    made = half(low, hz(4000.0), latents.bfloat16())
    assert half.dtype == torch.bfloat16 and made.dtype == torch.float32
    assert relative(made - low, head(low, hz(4000.0), latents) - low) < 0.1


@pytest.mark.parametrize("steps", [0, 1, -1, 1001])
def test_steps_out_of_range_are_refused(head, steps):
    with pytest.raises(ValueError, match=f"steps of the diffwave-mamba head must be 2 to 1000, got {steps}"):
        head(programme(8), hz(4000.0), steps=steps)


def test_steps_count_the_evaluations(head, monkeypatch):
    times, forward = [], head.network.forward
    monkeypatch.setattr(head.network, "forward", lambda x, t, c: times.append(t) or forward(x, t, c))
    head(programme(8), hz(4000.0), steps=3)
    assert len(times) == 3


def test_latents_of_another_vae_are_refused(head):
    low = programme(16)
    with pytest.raises(ValueError, match="3 latent frames are not 16 mel frames / 8; these latents are of another"):
        head(low, hz(4000.0), torch.zeros(1, 4, 3, 16))
    with pytest.raises(ValueError, match="latents of 32 values a position, trained on 64; these latents are of"):
        head(low, hz(4000.0), torch.zeros(1, 2, 2, 16))
    with pytest.raises(ValueError, match="was trained without latents"):
        DiffWaveMambaHead(network())(low, hz(4000.0), torch.zeros(1, 4, 2, 16))


def test_bands_that_windows_would_cut_through_are_refused():
    with pytest.raises(ValueError, match="64 bands do not divide the hop of 480"):
        DiffWaveMambaHead(network(bands=64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    vae = MelAutoencoderKL(latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, patch_frames=4,
                           patch_bands=8, scaling_factor=1.0, shift_factor=0.0)  # fmt: skip
    unet = LatentUNet(latent_channels=4, block_out_channels=(8, 16), attention_levels=(1,), attention_head_dim=8,
                      norm_num_groups=4)  # fmt: skip
    path = tmp_path_factory.mktemp("model")
    parts = dict(vae=vae, unet=unet, scheduler=training_scheduler(), diffwave_mamba=network(latent_size=64))
    Pipeline(**parts).save_pretrained(path)
    return path


@pytest.fixture
def pipe(folder):
    pipe = Pipeline.from_pretrained(folder, heads=["diffwave-mamba"])
    pipe.set_progress_bar_config(disable=True)
    return pipe


class TestInThePipeline:
    def restore(self, pipe, wave, **options):
        return pipe(wave, sample_rate=RATE, head="diffwave-mamba", cutoff_hz=4000.0, **options).audio

    def test_it_is_a_row_of_the_table(self):
        assert HEADS["diffwave-mamba"].load() is DiffWaveMambaHead
        assert not HEADS["diffwave-mamba"].needs_latents and HEADS["diffwave-mamba"].takes_steps

    def test_denoising_is_refused_and_not_left_undone(self, pipe):
        wave = programme(40)[0].numpy()
        with pytest.raises(ValueError, match="diffwave-mamba head .* cannot denoise; choose one of vocoder, mamba-gan"):
            self.restore(pipe, wave, denoise=True)
        with pytest.raises(ValueError, match="cannot denoise"):
            next(pipe.stream([wave], RATE, head="diffwave-mamba", denoise=True))

    def test_neither_vae_nor_diffusion_is_loaded(self, pipe):
        wave = programme(40)[0].numpy()
        few, many = (self.restore(pipe, wave, steps=steps) for steps in (2, 3))
        assert [name for name, part in pipe.components.items() if part is not None] == ["diffwave_mamba"]
        assert np.abs(few - many).max() > 1e-3
        assert np.abs(self.restore(pipe, wave, steps=2, use_latents=True) - few).max() > 1e-3

    def test_a_stream_in_blocks_is_the_whole(self, pipe):
        wave = programme(1000, channels=2)[:, 0].numpy()
        whole = self.restore(pipe, wave, steps=2, seed=3)
        blocks = np.split(wave, [100, 70_000, 70_001, 400_000], axis=1)
        made = pipe.stream(blocks, RATE, head="diffwave-mamba", cutoff_hz=4000.0, steps=2, seed=3,
                           peak=float(np.abs(wave).max()))  # fmt: skip
        assert_close(torch.from_numpy(np.concatenate(list(made), axis=1)), torch.from_numpy(whole), rtol=0, atol=1e-5)
