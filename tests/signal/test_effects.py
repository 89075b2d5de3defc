"""Each effect has the amplitude and the place that it states."""

import numpy as np
import pytest
import torch

from latentsr.signal.effects import CLICK_S, EFFECTS, HARMONICS, Effect, apply_effects

RATE = 48_000
ADDED = ("tone", "white", "hum", "clicks", "crackle")


def heard(wave: torch.Tensor, *effects: Effect) -> torch.Tensor:
    before = apply_effects(wave, effects, RATE, before_lowpass=True)
    return apply_effects(before, effects, RATE, before_lowpass=False)


def an(name: str, amount: float = 0.1, seed: int = 3) -> Effect:
    amount = {"mp3": 64.0, "vorbis": 64.0, "opus": 24.0, "telephone": 0.0, "clipping": 6.0}.get(name, amount)
    return Effect(name, amount, frequency_hz={"clicks": 5.0, "crackle": 100.0}.get(name, 50.0), seed=seed)


def noise(seconds: float = 1.0, level: float = 0.1) -> torch.Tensor:
    return level * torch.randn(int(seconds * RATE), generator=torch.Generator().manual_seed(0))


def test_hum_is_a_fundamental_of_the_stated_amplitude_and_its_harmonics():
    hum = heard(torch.zeros(RATE, dtype=torch.float64), an("hum", 0.05))
    amplitudes = torch.fft.rfft(hum).abs() / (RATE / 2)  # 1 Hz per bin
    assert amplitudes[50].item() == pytest.approx(0.05, rel=1e-3)
    harmonics = torch.arange(50, 50 * HARMONICS + 1, 50)
    assert (amplitudes[harmonics].square().sum() / amplitudes.square().sum()).item() == pytest.approx(1, abs=1e-6)
    assert amplitudes[harmonics[-8:]].max() < 0.02


@pytest.mark.parametrize(("name", "at_most"), [("clicks", 1.0), ("crackle", 2.5)])
def test_the_largest_pulse_has_the_stated_peak(name, at_most):
    """Pulses of crackle overlap: their sum may pass it."""
    peaks = [heard(torch.zeros(10 * RATE), an(name, 0.2, seed)).abs().max().item() / 0.2 for seed in range(5)]
    assert min(peaks) > 0.8
    assert max(peaks) <= at_most + 1e-6


def test_pulses_fall_as_often_as_stated_and_are_short():
    wave = heard(torch.zeros(60 * RATE), Effect("clicks", 0.5, frequency_hz=2.0, seed=1))
    starts = torch.nonzero((wave[1:] != 0) & (wave[:-1] == 0)).numel()
    assert 85 < starts < 150
    assert (wave != 0).float().mean() < 1.5 * 2 * 4 * CLICK_S


def test_clipping_cuts_the_peaks_by_so_many_db():
    clipped = heard(noise(), Effect("clipping", 6.0))
    assert 20 * np.log10((clipped.abs().max() / noise().abs().max()).item()) == pytest.approx(-6, abs=1e-4)
    assert heard(torch.zeros(100), Effect("clipping", 6.0)).abs().max() == 0


@pytest.mark.parametrize("name", ADDED)
def test_added_noises_are_added_and_grow_with_their_amount(name):
    wave = noise().double()
    alone = heard(torch.zeros_like(wave), an(name, 0.1))
    torch.testing.assert_close(heard(wave, an(name, 0.1)) - wave, alone, atol=1e-9, rtol=0)
    torch.testing.assert_close(heard(torch.zeros_like(wave), an(name, 0.2)), 2 * alone, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", sorted(set(ADDED) - {"tone"}))
def test_the_seed_alone_decides_what_is_drawn(name):
    silence = torch.zeros(2 * RATE)
    assert torch.equal(heard(silence, an(name)), heard(silence, an(name)))
    assert not torch.equal(heard(silence, an(name)), heard(silence, an(name, seed=4)))


def test_the_order_in_which_effects_are_named_does_not_matter():
    effects = an("white"), an("clipping"), an("telephone"), an("hum")
    assert torch.equal(heard(noise(), *effects), heard(noise(), *reversed(effects)))


@pytest.mark.parametrize("name", sorted(EFFECTS))
@pytest.mark.parametrize("samples", [0, 1, 2, 100])
def test_shortest_waves_survive(name, samples):
    out = heard(torch.full((samples,), 0.5), an(name))
    assert out.shape == (samples,)
    assert bool(out.isfinite().all())


@pytest.mark.parametrize("name", sorted(EFFECTS))
def test_the_wave_that_was_given_is_not_changed(name):
    wave = noise(0.2)
    heard(wave, an(name))
    assert torch.equal(wave, noise(0.2))


def test_an_unknown_effect_names_what_is_known():
    with pytest.raises(ValueError, match="unknown 'hiss'; known are.*'hum'"):
        Effect("hiss")
