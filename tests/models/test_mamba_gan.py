"""The Mamba-GAN's generator: sizes, what it depends on, and that it starts from what it was given."""

from pathlib import Path

import pytest
import torch
import yaml
from torch.testing import assert_close

from latentsr.models.mamba_gan import MIXERS, MambaGenerator, cutoff_features

RECIPES = Path(__file__).resolve().parents[2] / "configs/recipes"
MODELS = {mixer: yaml.safe_load((RECIPES / f"ablation_{mixer}.yaml").read_text())["model"] for mixer in MIXERS}
TINY = dict(channels=16, mixer_layers=1, state=4, hidden=32, layers=1, latent_size=64)


def tiny(**changes):
    torch.manual_seed(0)
    network = MambaGenerator(**TINY | changes).eval().requires_grad_(False)
    for layer in (network.correct_mel, network.skip, network.embed_latents):  # zero at the start of training
        torch.nn.init.normal_(layer.weight, std=0.1)
    return network


def inputs(frames=40, batch=2):
    generator = torch.Generator().manual_seed(1)
    mel = torch.randn(batch, frames, 256, generator=generator) - 5
    return mel, torch.full((batch,), 4000.0), torch.randn(batch, 4, frames // 8, 16, generator=generator)


@pytest.mark.parametrize("mixer", MIXERS)
def test_the_mixers_of_the_ablation_are_of_equal_size_and_fit_the_limit(mixer):
    with torch.device("meta"):
        count = sum(p.numel() for p in MambaGenerator(**MODELS[mixer]).parameters())
    assert 3.87e6 < count < 3.90e6


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_wave_of_480_samples_a_frame_for_any_length(mixer):
    network = tiny(mixer=mixer, mixer_size=MODELS[mixer]["mixer_size"])
    for frames in (1, 7, 40):
        mel = inputs(frames)[0]
        wave, wide = network(mel, torch.full((2,), 4000.0))
        assert wave.shape == (2, 480 * frames) and wide.shape == mel.shape
        assert torch.isfinite(wave).all()


def test_before_training_the_front_hands_on_the_mel_it_got():
    mel, cutoff_hz, latents = inputs()
    network = MambaGenerator(**TINY).eval()
    with torch.no_grad():
        assert_close(network(mel, cutoff_hz, latents)[1], mel, rtol=0, atol=1e-5)


def test_untold_latents_are_as_none():
    mel, cutoff_hz, latents = inputs()
    network = tiny()
    told = torch.tensor([True, False])
    mixed = network(mel, cutoff_hz, latents, told)[0]
    assert_close(mixed[1], network(mel, cutoff_hz)[0][1], rtol=0, atol=0)
    assert_close(mixed[0], network(mel, cutoff_hz, latents)[0][0], rtol=0, atol=0)
    assert (mixed[0] - network(mel, cutoff_hz)[0][0]).abs().max() > 1e-3


def test_the_unidirectional_front_does_not_look_ahead():
    """Nothing before the back's reach of a changed frame may change."""
    network = tiny(mixer="mamba")
    mel, cutoff_hz, _ = inputs()
    later = mel.clone()
    later[:, 30:] += 1
    changed = network(later, cutoff_hz)[1] - network(mel, cutoff_hz)[1]
    assert changed[:, :30].abs().max() == 0
    assert changed[:, 30:].abs().max() > 0.5
    both = tiny(mixer="bimamba")
    assert (both(later, cutoff_hz)[1] - both(mel, cutoff_hz)[1])[:, :30].abs().max() > 0


def test_cutoffs_an_eighth_of_an_octave_apart_look_different():
    cutoffs = 2000.0 * 2 ** (torch.arange(25) / 8)
    features = cutoff_features(cutoffs)
    distances = torch.cdist(features, features) + 100 * torch.eye(25)
    assert distances.min() > 1.0


def test_an_unknown_mixer_is_named():
    with pytest.raises(ValueError, match="unknown mixer 'gru'; choose one of bimamba, mamba, lstm, none"):
        MambaGenerator(mixer="gru")
