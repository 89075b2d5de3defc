"""Excitations, and the generator that shapes them: spectra, harmonics, attacks in their place, windows that join."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from latentsr.models import excitation
from latentsr.models.excitation import BINS, HOP, NAMES, excitations, shaped, spectra, synthesise
from latentsr.models.excited import ExcitationGenerator
from latentsr.signal.lowband import cut_sharply

RATE = 48_000
TINY = dict(channels=16, mixer_layers=1, state=4, fine=16, fine_layers=1, hidden=32, layers=1, latent_size=64)


def tiny(**changes):
    torch.manual_seed(0)
    network = ExcitationGenerator(**TINY | changes).eval().requires_grad_(False)
    for layer in (network.correct_mel, network.gains, network.embed_latents):  # zero at the start of training
        torch.nn.init.normal_(layer.weight, std=0.1)
    return network


def low_band(wave: torch.Tensor, cutoff_hz: float = 4000.0) -> torch.Tensor:
    return cut_sharply(wave[:, None], torch.full((len(wave),), cutoff_hz), RATE)[:, 0]


def noise(samples: int, rows: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, samples, generator=torch.Generator().manual_seed(seed))


def excited(wave: torch.Tensor, cutoff_hz: float = 4000.0) -> dict[str, torch.Tensor]:
    low = low_band(wave, cutoff_hz)
    made = excitations(low, spectra(low), torch.full((len(low),), cutoff_hz), noise(low.shape[-1], seed=1))
    return {name: whitened(each) for name, each in zip(NAMES, made, strict=True)}


def whitened(spectrum: torch.Tensor) -> torch.Tensor:
    return shaped([spectrum], torch.ones(1, *spectrum.shape))


def test_what_is_analysed_is_made_again():
    wave = noise(RATE, rows=2)
    assert_close(synthesise(spectra(wave))[:, HOP:-HOP], wave[:, HOP:-HOP], rtol=0, atol=1e-5)


def test_excitations_have_flat_spectra_of_power_one():
    for name, made in excited(0.1 * noise(RATE)).items():
        power = made.abs().square().mean(dim=(0, 1))[5:-5]
        assert 0.9 < float(power.mean()) < 1.1, name
        assert float(power.log().std()) < 0.35, name  # nats: 1.5 dB


def test_rectified_is_what_a_rectifier_makes_of_the_wave():
    """Each frame is rectified under its window: the same as the rectified wave's own frame."""
    wave = low_band(0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)[None])
    made = excited(wave)["rectified"]
    expected = whitened(spectra(wave.abs()))
    bins = slice(40, 200)  # 4 to 20 kHz: the fourth harmonic and above
    likeness = (made[..., bins] * expected[..., bins].conj()).sum() / expected[..., bins].abs().square().sum()
    assert abs(likeness) > 0.95


def test_a_voice_gets_harmonics_of_its_own_pitch():
    """A pulse train of 200 Hz below 4 kHz: rectified, its band above repeats at the same period; noise does not."""
    t = torch.arange(RATE) / RATE
    voice = sum(torch.cos(2 * torch.pi * 200 * k * t) for k in range(1, 20))[None] * 0.02
    period = RATE // 200
    found = {}
    for name, made in excited(voice).items():
        made[..., :45] = 0
        wave = synthesise(made)[0, 4800:-4800]
        found[name] = float(torch.corrcoef(torch.stack([wave[:-period], wave[period:]]))[0, 1])
    assert found["rectified"] > 0.8 and found["copied"] > 0.8
    assert abs(found["noise"]) < 0.1


def test_modulated_noise_waits_for_the_attack():
    """A click: 2 to 5 ms before it the excitation lies 18 dB below what it is within 2 ms."""
    click = torch.zeros(1, RATE // 2)
    click[0, 12_000] = 0.9
    # The wave itself, not its low band: the sharp cut rings before an attack, which is the cut's own.
    made = excitations(click, spectra(click), torch.tensor([24_000.0]), noise(RATE // 2))
    wave = synthesise(whitened(made[NAMES.index("modulated")]))[0]
    energy = lambda a, b: float(wave[12_000 + a : 12_000 + b].square().mean())  # noqa: E731
    assert 10 * np.log10(energy(-240, -96) / energy(-48, 48)) < -18


def test_copied_keeps_phases_in_step_from_frame_to_frame():
    """A steady tone copied up is a steady tone: one line, whose power does not fall where frames meet."""
    tone = 0.3 * torch.sin(2 * torch.pi * 3000 * torch.arange(RATE) / RATE)[None]
    made = excited(tone)["copied"]
    wave = synthesise(made)[0, 4800 : 4800 + 32_768]
    power = torch.fft.rfft(wave * torch.hann_window(len(wave))).abs().square()
    hz = torch.arange(len(power)) * RATE / len(wave)
    band = power[(hz > 4200) & (hz < 5500)]
    assert float(band.topk(5).values.sum() / band.sum()) > 0.95


def test_the_envelope_that_is_said_is_that_of_the_wave():
    low, network = 0.05 * noise(RATE, seed=3), ExcitationGenerator(**TINY).eval()
    with torch.no_grad():
        wave, _, envelope = network(low, torch.zeros(1, 100, 256) - 5, torch.tensor([4_000.0]), noise(RATE))
    power = spectra(wave).abs().square().mean(dim=(0, 1))[5:-5].log()
    assert float((envelope.mean(dim=(0, 1))[5:-5] - power).abs().mean()) < 0.3


@pytest.mark.parametrize("frames", [1, 7, 40])
def test_a_wave_of_480_samples_a_frame_for_any_length(frames):
    low = 0.1 * noise(480 * frames, rows=2)
    wave, wide, _ = tiny()(low, torch.zeros(2, frames, 256) - 5, torch.full((2,), 4000.0), noise(480 * frames))
    assert wave.shape == low.shape and wide.shape == (2, frames, 256)
    assert torch.isfinite(wave).all()


def test_untold_latents_are_as_none():
    low, mel, cutoff_hz = 0.1 * noise(480 * 40, rows=2), torch.randn(2, 40, 256) - 5, torch.full((2,), 4000.0)
    latents, hiss, network = torch.randn(2, 4, 5, 16), noise(480 * 40), tiny()
    mixed = network(low, mel, cutoff_hz, hiss, latents, torch.tensor([True, False]))[1]
    assert_close(mixed[1], network(low, mel, cutoff_hz, hiss)[1][1], rtol=0, atol=0)
    assert_close(mixed[0], network(low, mel, cutoff_hz, hiss, latents)[1][0], rtol=0, atol=0)
    assert (mixed[0] - network(low, mel, cutoff_hz, hiss)[1][0]).abs().max() > 1e-3


def test_what_was_first_used_in_inference_can_be_trained_through():
    for made in (excitation.window, excitation.knots_hz, excitation.bins_of_knots):
        made.cache_clear()
    network, low = tiny(), 0.1 * noise(480 * 8)
    arguments = low, torch.zeros(1, 8, 256) - 5, torch.tensor([4_000.0]), noise(480 * 8)
    with torch.inference_mode():
        network(*arguments)
    network.requires_grad_()
    network(*arguments)[0].square().sum().backward()
    assert network.gains.weight.grad is not None


def test_knots_are_dense_at_the_bottom_and_cover_all_bins():
    knots, weights = excitation.knots_hz(), excitation.bins_of_knots()
    assert float(knots[0]) == 0 and abs(float(knots[-1]) - RATE / 2) < 0.1
    assert 240 < float(knots[1]) < 260 and 900 < float(knots[-1] - knots[-2]) < 1000
    assert weights.shape == (excitation.FEATURE_KNOTS, BINS)
    assert_close(weights.sum(dim=0), torch.ones(BINS))
    assert_close(knots @ weights, torch.linspace(0, RATE / 2, BINS), rtol=0, atol=0.1)
