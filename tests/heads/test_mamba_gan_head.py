"""The Mamba-GAN head in the pipeline: no diffusion is loaded, a stream is the whole, latents are taken if asked."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from latentsr import Pipeline
from latentsr.diffusion.sampling import training_scheduler
from latentsr.heads import HEADS
from latentsr.heads.mamba_gan import MambaGanHead
from latentsr.model_folder.loading import ModelError
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.models.unet import LatentUNet
from latentsr.models.vae import MelAutoencoderKL

RATE = 48_000
SIZES = dict(channels=16, mixer_layers=1, state=4, hidden=32, layers=1, latent_size=64, context_frames=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    vae = MelAutoencoderKL(latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, patch_frames=4,
                           patch_bands=8, scaling_factor=1.0, shift_factor=0.0)  # fmt: skip
    unet = LatentUNet(latent_channels=4, block_out_channels=(8, 16), attention_levels=(1,), attention_head_dim=8,
                      norm_num_groups=4)  # fmt: skip
    generator = MambaGenerator(**SIZES)
    for layer in (generator.embed_latents, generator.correct_mel, generator.skip):  # zero before training
        torch.nn.init.normal_(layer.weight, std=0.2)
    path = tmp_path_factory.mktemp("model")
    Pipeline(vae=vae, unet=unet, scheduler=training_scheduler(), mamba_gan=generator).save_pretrained(path)
    return path


@pytest.fixture
def pipe(folder):
    pipe = Pipeline.from_pretrained(folder, heads=["mamba-gan"])
    pipe.set_progress_bar_config(disable=True)
    return pipe


def programme(seconds=1.0, channels=1):
    return (0.1 * np.random.default_rng(0).standard_normal((channels, round(seconds * RATE)))).astype(np.float32)


def restore(pipe, wave, **options):
    return pipe(wave, sample_rate=RATE, head="mamba-gan", cutoff_hz=4000.0, **options).audio


def test_neither_vae_nor_diffusion_is_loaded(pipe):
    restore(pipe, programme())
    assert [name for name, part in pipe.components.items() if part is not None] == ["mamba_gan"]
    restore(pipe, programme(), use_latents=True, steps=1)
    assert pipe.vae is not None and pipe.unet is not None and pipe.vocoder is None


def test_latents_are_heard(pipe):
    wave = programme()
    assert np.abs(restore(pipe, wave, use_latents=True, steps=1) - restore(pipe, wave)).max() > 1e-3


def test_the_seed_changes_nothing_without_latents(pipe):
    wave = programme()
    assert np.array_equal(restore(pipe, wave, seed=0), restore(pipe, wave, seed=1))


def test_a_stream_in_blocks_is_the_whole(pipe):
    wave = programme(13.0)
    whole = restore(pipe, wave)
    blocks = np.split(wave, [100, 70_000, 70_001, 400_000], axis=1)
    made = pipe.stream(blocks, RATE, head="mamba-gan", cutoff_hz=4000.0, peak=float(np.abs(wave).max()))
    assert_close(torch.from_numpy(np.concatenate(list(made), axis=1)), torch.from_numpy(whole), rtol=0, atol=1e-5)


def test_what_is_ignored_may_be_anything_and_the_rest_is_the_same(pipe):
    head = MambaGanHead(pipe.mamba_gan)
    low = torch.from_numpy(programme())[None]
    ends = torch.tensor([4000.0])
    assert_close(head(low, ends, ignored=(8, 8))[..., 3840:-3840], head(low, ends)[..., 3840:-3840], rtol=0, atol=1e-6)


def test_latents_of_another_length_are_refused(pipe):
    head = MambaGanHead(pipe.mamba_gan)
    with pytest.raises(ValueError, match="3 latent frames are not 100 mel frames / 8; these latents are of another"):
        head(torch.zeros(1, 1, 48_000), torch.tensor([4000.0]), torch.zeros(1, 4, 3, 16))


@pytest.mark.parametrize("samples", [1, 2, 479, 480, 481])
def test_less_than_a_frame_comes_back_as_long_as_it_was(pipe, samples):
    made = restore(pipe, programme()[:, :samples])
    assert made.shape == (1, samples) and np.isfinite(made).all()


def test_full_band_input_comes_back_as_it_came(pipe):
    wave = programme()
    made = pipe(wave, sample_rate=RATE, head="mamba-gan")
    assert made.cutoff_hz == RATE / 2 and np.array_equal(made.audio, wave)


def test_below_2_khz_it_works_and_says_so(pipe):
    out = pipe(programme(), sample_rate=RATE, head="mamba-gan", cutoff_hz=1500.0)
    assert "ends at 1500 Hz, and nothing was trained below 2000" in out.note
    assert pipe(programme(), sample_rate=RATE, head="mamba-gan", cutoff_hz=2000.0).note is None


def test_a_folder_without_it_says_what_it_has(folder, tmp_path):
    pipe = Pipeline.from_pretrained(folder, heads=["mamba-gan"])
    Pipeline(mamba_gan=pipe.mamba_gan).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has no .*, only mamba_gan; choose a head that needs none"):
        Pipeline.from_pretrained(tmp_path, heads=["vocoder"])
    with pytest.raises(ModelError, match="has no diffwave_mamba, only mamba_gan, scheduler, unet, vae"):
        Pipeline.from_pretrained(folder, heads=["diffwave-mamba"])


def test_it_is_a_row_of_the_table():
    assert HEADS["mamba-gan"].load() is MambaGanHead
    assert not HEADS["mamba-gan"].needs_latents and not HEADS["mamba-gan"].takes_steps


@torch.inference_mode()
def test_bf16_weights_run_without_autocast(folder):
    low, ends = 0.1 * torch.randn(1, 1, 48_000, generator=torch.Generator().manual_seed(0)), torch.tensor([4000.0])
    whole = MambaGanHead(Pipeline.from_pretrained(folder, heads=["mamba-gan"]).mamba_gan)(low, ends)
    half = Pipeline.from_pretrained(folder, heads=["mamba-gan"], torch_dtype=torch.bfloat16)
    made = MambaGanHead(half.mamba_gan)(low, ends)
    assert made.dtype == torch.float32
    assert (made - whole).norm() / whole.norm() < 0.1


def test_a_saved_folder_does_not_say_where_it_came_from(folder, tmp_path):
    Pipeline.from_pretrained(folder, heads=["mamba-gan"]).save_pretrained(tmp_path)
    configs = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert len(configs) >= 3 and not [text for text in configs if str(folder) in text]
    again = Pipeline.from_pretrained(tmp_path, heads=["mamba-gan"])  # its hashes are those of what was written
    assert torch.equal(again.mamba_gan.skip.weight, Pipeline.from_pretrained(folder, heads=["mamba-gan"]).mamba_gan.skip.weight)  # fmt: skip  # noqa: E501
