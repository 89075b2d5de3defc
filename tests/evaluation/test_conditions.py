"""The benchmark degrades with scipy; training degrades on the batch: they must be the same operator."""

import numpy as np
import pytest
import soundfile
import torch

from latentsr.config import ConfigError, build
from latentsr.evaluation.conditions import (
    Conditions,
    Input,
    describe_filter,
    lowpass,
    resampling_edge_hz,
    round_to_16_bit,
)
from latentsr.signal import degrade
from latentsr.signal.audio import resample

RATE = 48_000


def noise(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE))


@pytest.mark.parametrize("family", list(degrade.FAMILIES))
@pytest.mark.parametrize(("order", "cutoff_hz"), [(8, 4000.0), (3, 12_000.0)])
def test_every_family_of_training_is_here_and_agrees(family, order, cutoff_hz):
    recipe, wave = degrade.Recipe(family, order, cutoff_hz), noise()
    batch = degrade.lowpass(torch.from_numpy(wave).float()[None, None], [recipe], RATE)[0, 0].numpy()
    inner = slice(RATE // 4, -RATE // 4)  # the two differ in how they see beyond the ends
    error = lowpass(wave, recipe)[inner] - batch[inner]
    assert 10 * np.log10((error**2).mean() / (batch[inner] ** 2).mean()) < -80


def test_rounding_keeps_what_a_16_bit_file_keeps(tmp_path):
    wave = 1.2 * noise() / np.abs(noise()).max()  # beyond full scale at its peaks
    soundfile.write(tmp_path / "a.wav", np.round(wave.clip(-1, 32_767 / 32_768) * 32_768).astype(np.int16), RATE)
    np.testing.assert_array_equal(round_to_16_bit(wave), soundfile.read(tmp_path / "a.wav")[0])


def test_degraded_input_is_rounded_unless_asked_not_to():
    wave = noise()
    rounded = Conditions().degrade(wave, Conditions().recipe("a", 4000))
    assert np.array_equal(rounded * 32_768, np.round(rounded * 32_768))
    exact = Conditions(bits=None).degrade(wave, Conditions().recipe("a", 4000))
    assert 0 < np.abs(exact - rounded).max() <= 0.5 / 32_768 + 1e-12


@pytest.mark.parametrize(("kind", "power"), [("white", 0.02**2), ("tone", 0.02**2 / 2)])
def test_noise_has_the_stated_amplitude_and_depends_on_seed_and_name_only(kind, power):
    conditions = Conditions(noise=kind)
    silence = np.zeros(RATE)
    heard = conditions.degrade(silence, conditions.recipe("speech/a.wav", 4000))
    assert (heard**2).mean() == pytest.approx(power, rel=0.02)
    again = conditions.degrade(silence, conditions.recipe("speech/a.wav", 8000))
    assert np.array_equal(heard, again)
    for other in (conditions.recipe("speech/b.wav", 4000), Conditions(noise=kind, seed=1).recipe("speech/a.wav", 4000)):
        assert not np.array_equal(heard, conditions.degrade(silence, other))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"filter": "brickwall"}, "cheby1, ellip, butter, boxcar"),
        ({"noise": "hum"}, "none, tone, white"),
        ({"cutoffs_hz": [30_000]}, "between 0 and 24000 Hz"),
        ({"cutoffs_hz": []}, "between 0 and 24000 Hz"),
        ({"cutoffs_hz": [4000, 4000]}, "named twice"),
        ({"cutoffs_hz": [], "rates_hz": []}, "name cutoffs .* or rates"),
        ({"rates_hz": [48_000]}, "from 1000 to 47999 Hz"),
        ({"rates_hz": [8000, 8000]}, "named twice"),
        ({"rates_hz": [8000], "noise": "white"}, "low-passed inputs only"),
        ({"limit": 0}, "limit"),
        ({"cutof_hz": [4000]}, "did you mean 'cutoffs_hz'"),
    ],
)
def test_conditions_that_cannot_be_met_say_what_can(values, words):
    with pytest.raises(ConfigError, match=words):
        build(Conditions, values)


def test_the_default_operator_in_words():
    assert describe_filter(Conditions()) == "Chebyshev I, 0.1 dB, sosfiltfilt, order 8"


@pytest.mark.parametrize("rate", [8000, 11_025, 12_000, 24_000])
def test_a_lower_rate_is_3_db_down_where_it_says(rate):
    edge_hz = resampling_edge_hz(rate)
    assert edge_hz == pytest.approx(0.9455 * rate / 2, rel=1e-3)
    time = np.arange(RATE) / RATE
    for hz, gain_db in [(0.8 * edge_hz, 0), (edge_hz, -3), (1.06 * edge_hz, -200)]:
        given = Conditions(bits=None).at_rate(np.sin(2 * np.pi * hz * time), rate)
        assert len(given) == rate
        power = (resample(given, rate, RATE)[RATE // 4 : -RATE // 4] ** 2).mean()
        assert 10 * np.log10(max(2 * power, 1e-20)) == pytest.approx(gain_db, abs=60 if gain_db < -3 else 0.2)


def test_what_is_given_at_a_lower_rate_is_rounded_to_16_bit():
    given = Conditions().at_rate(noise(), 12_000)
    assert np.array_equal(given * 32_768, np.round(given * 32_768))


def test_inputs_are_the_cutoffs_then_the_rates():
    assert Conditions(cutoffs_hz=(4000,), rates_hz=(24_000,)).inputs == [Input(4000.0), Input(11_345.0, 24_000)]
    assert [each.folder for each in Conditions(rates_hz=(8000,)).inputs] == ["4000", "8000", "rate-8000"]
