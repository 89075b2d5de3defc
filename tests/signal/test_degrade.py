"""Properties of the low-pass families, the noises and the recipes."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import signal

from latentsr.signal.degrade import (
    FAMILIES,
    NOISES,
    DegradeConfig,
    Recipe,
    cutoff_3db_hz,
    degrade,
    draw_recipes,
    lowpass,
    response,
)

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


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("order", [2, 10])
def test_truth_of_the_cutoff_is_the_point_3_db_down(family, order):
    recipe = Recipe(family, order, 7_000.0)
    gain = response(recipe, np.array([cutoff_3db_hz(recipe)]))[0]
    assert 20 * math.log10(gain) == pytest.approx(-3, abs=0.02)


def test_seed_gives_the_same_examples_in_any_batch():
    config = DegradeConfig()
    wave, together = noise_wave(12, 4_800), draw_recipes(config, 12, generator())
    one_by_one = generator()
    singles = [draw_recipes(config, 1, one_by_one)[0] for _ in range(12)]
    assert singles == together
    whole = degrade(wave, together, RATE)
    parts = torch.cat([degrade(wave[i : i + 1], [recipe], RATE) for i, recipe in enumerate(singles)])
    assert (whole - parts).abs().max() < 1e-6


def test_example_is_made_again_from_its_stored_values():
    wave, recipes = noise_wave(8, 4_800), draw_recipes(DegradeConfig(), 8, generator(3))
    again = [Recipe.from_dict(recipe.to_dict()) for recipe in recipes]
    assert again == recipes
    assert torch.equal(degrade(wave, again, RATE), degrade(wave, recipes, RATE))


def test_draws_keep_to_the_ranges_and_the_weights():
    config = DegradeConfig(families={"butter": 3.0, "boxcar": 1.0}, order=(3, 4), noises={"tone": 1.0, "white": 1.0})
    recipes = draw_recipes(config, 2_000, generator())
    assert {r.order for r in recipes} == {3, 4}
    assert sum(r.family == "butter" for r in recipes) / 2_000 == pytest.approx(0.75, abs=0.03)
    assert sum(r.noise == "tone" for r in recipes) / 2_000 == pytest.approx(0.5, abs=0.03)
    assert min(r.cutoff_hz for r in recipes) == pytest.approx(2_000, abs=50)
    assert max(r.cutoff_hz for r in recipes) == pytest.approx(16_000, abs=50)
    assert all(0.001 <= r.amplitude <= (0.2 if r.noise == "tone" else 0.1) for r in recipes)


def test_tone_and_white_noise_have_the_stated_level_and_place():
    silence = torch.zeros(2, 1, 48_000)
    tone = Recipe("butter", 2, 5_000.0, "tone", amplitude=0.2, frequency_hz=9_000.0, phase=1.0)
    white = Recipe("butter", 2, 5_000.0, "white", amplitude=0.05, seed=7)
    out = degrade(silence, [tone, white], RATE)[:, 0]
    assert out[0].square().mean().item() == pytest.approx(0.2**2 / 2, rel=1e-3)
    assert torch.fft.rfft(out[0]).abs().argmax() == 9_000  # 1 Hz per bin
    assert out[1].std().item() == pytest.approx(0.05, rel=0.01)


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_every_device_agrees_with_double_precision(device):
    wave, recipes = noise_wave(16), draw_recipes(DegradeConfig(), 16, generator(5))
    exact = degrade(wave.double(), recipes, RATE)
    assert (degrade(wave.to(device), recipes, RATE).cpu() - exact).abs().max() < 1e-6


def test_bad_values_name_what_is_known():
    with pytest.raises(ValueError, match="'bessel'.*known are.*'boxcar'"):
        Recipe("bessel", 8, 4_000.0)
    with pytest.raises(ValueError, match="a recipe has no .'codec'"):
        Recipe.from_dict({"family": "butter", "order": 2, "cutoff_hz": 4_000.0, "codec": "mp3"})
    with pytest.raises(ValidationError, match="hum.*known are"):
        DegradeConfig(noises={"hum": 1.0})
    with pytest.raises(ValidationError, match="low <= high"):
        DegradeConfig(cutoff_hz=(8_000.0, 4_000.0))
    with pytest.raises(ValueError, match="must lie between 0 and half the rate"):
        degrade(noise_wave(), [Recipe("butter", 2, 12_000.0)], 16_000)
    with pytest.raises(ValueError, match="2 recipes need waves"):
        degrade(noise_wave(), [Recipe("butter", 2, 4_000.0)] * 2, RATE)


def test_shortest_waves_survive():
    for samples in (1, 2, 100):
        out = degrade(torch.ones(1, 1, samples), [Recipe("butter", 4, 4_000.0)], RATE)
        assert out.shape == (1, 1, samples) and bool(out.isfinite().all())


def test_noises_are_a_table():
    assert set(NOISES) == {"none", "tone", "white"}


def test_on_a_log_scale_every_octave_has_as_many_cutoffs():
    config = DegradeConfig(cutoff_scale="log")
    cutoffs_hz = np.array([r.cutoff_hz for r in draw_recipes(config, 3000, torch.Generator().manual_seed(0))])
    assert cutoffs_hz.min() >= 2000 and cutoffs_hz.max() <= 16_000
    shares = np.histogram(cutoffs_hz, [2000, 4000, 8000, 16_000])[0] / 3000
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)
