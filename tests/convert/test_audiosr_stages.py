"""The faithful mode on random weights in AudioSR's layout: what each stage makes has the shape of the recorded run."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import small_audiosr
from latentsr.convert import audiosr
from latentsr.convert.audiosr_compat import Networks, Noises, Settings, restore, step_times

FRAMES = 512  # mel frames that 3.2 s are padded to: 5.12 s


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    official = small_audiosr.make(levels=4)
    file = official.write(tmp_path_factory.mktemp("stages") / "pytorch_model.bin")
    parts = audiosr.load(file, official.config)
    return Networks(*(parts[name] for name in ("vae", "unet", "vocoder")), parts["scheduler"].config.trained_betas)


@pytest.fixture(scope="module")
def wave():
    """3.2 s of two channels of noise at 16 kHz."""
    return 0.1 * np.random.default_rng(0).standard_normal((2, 51_200)).astype(np.float32)


@pytest.fixture(scope="module")
def made(networks, wave):
    return restore(wave, 16_000, networks, Settings(steps=2, seed=3))


def test_every_stage_has_the_shape_of_the_recorded_run(networks, made):
    stride = 2 ** (len(networks.vae.config.block_out_channels) - 1)
    latents = (1, networks.vae.config.latent_channels, FRAMES // stride, 256 // stride)
    assert made.wave.shape == made.low.shape == (1, 1, 480 * FRAMES)
    assert made.condition.shape == made.latents.shape == latents
    assert made.decoded.shape == made.mel.shape == (1, 1, FRAMES, 256)
    assert made.vocoded.shape == made.audio.shape == (1, 1, 480 * FRAMES + 16)
    assert made.samples == 153_600
    assert all(torch.isfinite(stage).all() for stage in vars(made).values() if isinstance(stage, torch.Tensor))


def test_the_known_bands_and_only_those_come_from_the_input(made):
    same = (made.mel == made.decoded).all(dim=2)[0, 0]
    end = int(same.long().argmax())
    assert 100 < end < 256 and bool(same[end:].all())  # noise at 16 kHz ends at 8 kHz


def test_a_seed_draws_what_its_noises_are(networks, wave, made):
    noises = Noises.draw(made.latents.shape, len(step_times(2)), seed=3)
    again = restore(wave, 16_000, networks, Settings(steps=2, seed=99), noises=noises)
    assert_close(again.audio, made.audio, rtol=0, atol=0)
    other = restore(wave, 16_000, networks, Settings(steps=2, seed=4))
    assert float((other.latents - made.latents).abs().max()) > 0.1


def test_each_step_is_told(networks, wave):
    told = []
    restore(wave, 16_000, networks, Settings(steps=4), on_step=lambda t, x: told.append((t, tuple(x.shape))))
    assert [t for t, _ in told] == step_times(4) == [751, 501, 251, 1]
    assert len({shape for _, shape in told}) == 1
