"""AEROMamba and MambaWave as heads: what they are given, how long what they make is, and how windows of it meet."""

import numpy as np
import pytest
import torch

from latentsr import Pipeline
from latentsr.errors import UsageError
from latentsr.heads.aeromamba import AeroMambaHead
from latentsr.heads.mambawave import MambaWaveHead
from latentsr.models.aeromamba import AeroMamba
from latentsr.models.mambawave import MambaWave
from latentsr.options import Options
from tiny import RATE, programme

WINDOW = 48_000 // 3840 * 3840


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(0)
    aeromamba = AeroMamba(channels=8, n_fft=128, hop_length=64, strides=(4, 4), norm_from_level=9).eval()
    mambawave = MambaWave(channels=8, layers=2, state=2, step_features=16).eval()
    for parameter in mambawave.velocity.parameters():  # which begins at zero
        torch.nn.init.normal_(parameter, std=0.1)
    made = Pipeline(aeromamba=aeromamba, mambawave=mambawave, default_head="aeromamba")
    made.set_progress_bar_config(disable=True)
    return made


def window(channels=2):
    return torch.from_numpy(programme(1.0, channels)[:, None, :WINDOW])


@torch.inference_mode()
def test_waves_are_as_long_as_their_window(pipe):
    low, ends = window(), torch.full((2,), 4000.0)
    assert AeroMambaHead(pipe.aeromamba)(low, ends).shape == low.shape
    assert MambaWaveHead(pipe.mambawave)(low, ends, steps=2).shape == low.shape


@torch.inference_mode()
def test_aeromamba_gets_its_own_rate(pipe):
    """What lies above half of that rate is not shown to the network."""
    head, low = AeroMambaHead(pipe.aeromamba), window(1)
    assert (head.rate, head.low_rate) == (44_100, 11_025)
    high = 0.2 * torch.sin(2 * torch.pi * 9_000 * torch.arange(WINDOW) / RATE)
    made, same = head(low, torch.tensor([4000.0])), head(low + high, torch.tensor([10_000.0]))
    inside = slice(4_800, -4_800)  # where the tone begins and ends it is no tone
    assert (made - same)[..., inside].abs().max() < 1e-3 * made.abs().max()


@torch.inference_mode()
def test_mambawave_draws_by_seed_and_place(pipe):
    head, low, ends = MambaWaveHead(pipe.mambawave), window(1), torch.tensor([4000.0])
    one, again, other = (head(low, ends, seed=seed, steps=2) for seed in (5, 5, 6))
    assert torch.equal(one, again)
    assert (one - other).abs().max() > 1e-3 * one.abs().max()


@pytest.mark.parametrize(("head", "steps"), [(None, None), ("aeromamba", None), ("mambawave", 2)])
def test_the_given_band_stays(pipe, head, steps):
    wave = programme(2.0, cutoff_hz=3500)
    out = pipe(wave, sample_rate=RATE, head=head, steps=steps, cutoff_hz=4000.0)
    assert out.audio.shape == wave.shape and np.isfinite(out.audio).all()
    spectrum = np.fft.rfft(out.audio - wave)[0, : round(3200 * 2)]
    assert np.abs(spectrum).max() < 1e-3 * np.abs(np.fft.rfft(wave)).max()


def test_what_they_have_no_use_for_is_refused():
    for choices in ({"steps": 4}, {"seed": 1}, {"denoise": True}, {"use_latents": True}, {"guidance_scale": 2.0}):
        with pytest.raises(UsageError, match="aeromamba head"):
            Options(head="aeromamba", **choices)
    with pytest.raises(UsageError, match="mambawave head decodes no latents"):
        Options(head="mambawave", use_latents=True)
