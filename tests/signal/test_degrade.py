"""Properties of the low-pass families, and of degraded examples."""

import math

import numpy as np
import pytest
import torch
from scipy import signal

from latentsr.signal.degrade import FAMILIES, Recipe, cutoff_3db_hz, degrade, lowpass, response
from latentsr.signal.effects import Effect

RATE = 48_000
SCIPY = {
    "cheby1": lambda n, hz: signal.cheby1(n, 0.1, hz, output="sos", fs=RATE),
    "ellip": lambda n, hz: signal.ellip(n, 0.1, 60, hz, output="sos", fs=RATE),
    "butter": lambda n, hz: signal.butter(n, hz, output="sos", fs=RATE),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_wave(count: int = 1, samples: int = 48_000) -> torch.Tensor:
    return 0.1 * torch.randn(count, 1, samples, generator=generator(1))


@pytest.mark.parametrize("order", [2, 5, 10])
@pytest.mark.parametrize("family", sorted(SCIPY))
def test_response_is_the_squared_magnitude_of_scipys_filter(family, order):
    freqs_hz = np.linspace(0, RATE / 2, 999)
    _, h = signal.freqz_sos(SCIPY[family](order, 5_000.0), freqs_hz, fs=RATE)
    assert np.abs(response(Recipe(family, order, 5_000.0), freqs_hz) - np.abs(h) ** 2).max() < 1e-9


@pytest.mark.parametrize("family", sorted(SCIPY))
def test_lowpass_equals_sosfiltfilt_away_from_the_ends(family):
    wave = noise_wave()
    expected = signal.sosfiltfilt(SCIPY[family](8, 4_000.0), wave[0, 0].double().numpy())
    got = lowpass(wave, [Recipe(family, 8, 4_000.0)], RATE)[0, 0].numpy()
    assert np.abs(got - expected)[9_600:-9_600].max() < 1e-6


@pytest.mark.parametrize("order", [2, 10])
def test_boxcar_is_an_ideal_lowpass_of_16_taps_per_order_run_twice(order):
    taps = signal.firwin(16 * order + 1, 3_000.0, window="boxcar", fs=RATE)
    wave = noise_wave()
    expected = np.convolve(np.convolve(wave[0, 0].numpy(), taps, "same"), taps, "same")
    got = lowpass(wave, [Recipe("boxcar", order, 3_000.0)], RATE)[0, 0].numpy()
    assert np.abs(got - expected)[500:-500].max() < 1e-6


def test_lowpass_moves_nothing_in_time():
    wave = torch.zeros(1, 1, 9_601)
    wave[..., 4_800] = 1.0
    out = lowpass(wave, [Recipe("ellip", 7, 6_000.0)], RATE)[0, 0]
    assert out.argmax() == 4_800
    assert (out - out.flip(-1)).abs().max() < 1e-6


@pytest.mark.parametrize("order", [2, 10])
def test_resampler_is_flat_then_falls_to_nothing_at_the_cutoff(order):
    begin_hz = 5_000 * (1 - 0.4 / order)
    freqs_hz = np.array([0, begin_hz, (begin_hz + 5_000) / 2, 5_000, 5_001, 24_000])
    gain = response(Recipe("resampler", order, 5_000.0), freqs_hz)
    np.testing.assert_allclose(gain, [1, 1, 0.5, 0, 0, 0], atol=1e-9)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"none"}))
@pytest.mark.parametrize("order", [2, 10])
def test_truth_of_the_cutoff_is_the_point_3_db_down(family, order):
    recipe = Recipe(family, order, 7_000.0)
    gain = response(recipe, np.array([cutoff_3db_hz(recipe)]))[0]
    assert 20 * math.log10(gain) == pytest.approx(-3, abs=0.02)


def test_the_truth_of_the_cutoff_is_the_lowest_of_what_ends_the_band():
    phone, coded = Effect("telephone"), Effect("mp3", 32.0)
    assert cutoff_3db_hz(Recipe("none", 1, 24_000.0)) == 24_000
    assert cutoff_3db_hz(Recipe("none", 1, 24_000.0, (phone,))) == 3_400
    assert 7_000 < cutoff_3db_hz(Recipe("none", 1, 24_000.0, (coded,))) < 9_000
    assert cutoff_3db_hz(Recipe("butter", 8, 2_000.0, (coded, phone))) == cutoff_3db_hz(Recipe("butter", 8, 2_000.0))


def test_an_all_pass_without_effects_gives_back_the_wave():
    wave = noise_wave()
    assert (degrade(wave, [Recipe("none", 1, 24_000.0)], RATE) - wave).abs().max() < 1e-6


def test_clipping_comes_before_the_low_pass_and_noise_after_it():
    wave = noise_wave()
    clipped = degrade(wave, [Recipe("cheby1", 8, 4_000.0, (Effect("clipping", 6.0),))], RATE)
    ceiling = wave.abs().max() * 10 ** (-6 / 20)
    assert (clipped - lowpass(wave.clamp(-ceiling, ceiling), [Recipe("cheby1", 8, 4_000.0)], RATE)).abs().max() < 1e-6
    noisy = degrade(wave, [Recipe("cheby1", 8, 4_000.0, (Effect("white", 0.01),))], RATE)
    above = torch.fft.rfft(noisy[0, 0])[8_000:].abs().square().mean() / RATE
    assert above.item() == pytest.approx(0.01**2, rel=0.05)


def test_tone_and_white_noise_have_the_stated_level_and_place():
    silence = torch.zeros(2, 1, 48_000)
    tone = Recipe("butter", 2, 5_000.0, (Effect("tone", 0.2, frequency_hz=9_000.0, phase=1.0),))
    white = Recipe("butter", 2, 5_000.0, (Effect("white", 0.05, seed=7),))
    out = degrade(silence, [tone, white], RATE)[:, 0]
    assert out[0].square().mean().item() == pytest.approx(0.2**2 / 2, rel=1e-3)
    assert torch.fft.rfft(out[0]).abs().argmax() == 9_000  # 1 Hz per bin
    assert out[1].std().item() == pytest.approx(0.05, rel=0.01)


def test_bad_values_name_what_is_known():
    with pytest.raises(ValueError, match="'bessel'.*known are.*'boxcar'"):
        Recipe("bessel", 8, 4_000.0)
    with pytest.raises(ValueError, match="a recipe has no .'codec'"):
        Recipe.from_dict({"family": "butter", "order": 2, "cutoff_hz": 4_000.0, "codec": "mp3"})
    with pytest.raises(ValueError, match="must lie between 0 and half the rate"):
        degrade(noise_wave(), [Recipe("butter", 2, 12_000.0)], 16_000)
    with pytest.raises(ValueError, match="2 recipes need waves"):
        degrade(noise_wave(), [Recipe("butter", 2, 4_000.0)] * 2, RATE)


def test_shortest_waves_survive():
    for samples in (1, 2, 100):
        out = degrade(torch.ones(1, 1, samples), [Recipe("butter", 4, 4_000.0)], RATE)
        assert out.shape == (1, 1, samples) and bool(out.isfinite().all())
