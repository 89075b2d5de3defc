"""The benchmark degrades with scipy; training degrades on the batch: they must be the same operator."""

import numpy as np
import pytest
import soundfile
import torch

from latentsr.audio import resample
from latentsr.config import ConfigError, build
from latentsr.evaluation.conditions import Conditions, describe_filter, noises_in_words
from latentsr.evaluation.filters import FILTERS, lowpass, round_to_16_bit
from latentsr.evaluation.inputs import Input
from latentsr.evaluation.resamplers import rate_edge_hz
from latentsr.signal import degrade

RATE = 48_000


def noise(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE))


def recipe(conditions: Conditions, name: str, cutoff_hz: float = 4000.0, noise: str = "none", wave=None):
    return conditions.recipe(name, Input(cutoff_hz, noise=noise), np.zeros(RATE) if wave is None else wave)


@pytest.mark.parametrize("family", list(degrade.FAMILIES))
@pytest.mark.parametrize(("order", "cutoff_hz"), [(8, 4000.0), (3, 12_000.0)])
def test_every_family_of_training_is_here_and_agrees(family, order, cutoff_hz):
    cut, wave = degrade.Recipe(family, order, cutoff_hz), noise()
    batch = degrade.lowpass(torch.from_numpy(wave).float()[None, None], [cut], RATE)[0, 0].numpy()
    inner = slice(RATE // 4, -RATE // 4)  # the two differ in how they see beyond the ends
    error = lowpass(wave, cut)[inner] - batch[inner]
    assert 10 * np.log10((error**2).mean() / (batch[inner] ** 2).mean()) < -80


def test_rounding_keeps_what_a_16_bit_file_keeps(tmp_path):
    wave = 1.2 * noise() / np.abs(noise()).max()  # beyond full scale at its peaks
    soundfile.write(tmp_path / "a.wav", np.round(wave.clip(-1, 32_767 / 32_768) * 32_768).astype(np.int16), RATE)
    np.testing.assert_array_equal(round_to_16_bit(wave), soundfile.read(tmp_path / "a.wav")[0])


def test_degraded_input_is_rounded_unless_asked_not_to():
    wave = noise()
    rounded = Conditions().degrade(wave, recipe(Conditions(), "a"))
    assert np.array_equal(rounded * 32_768, np.round(rounded * 32_768))
    exact = Conditions(bits=None).degrade(wave, recipe(Conditions(), "a"))
    assert 0 < np.abs(exact - rounded).max() <= 0.5 / 32_768 + 1e-12


@pytest.mark.parametrize(("kind", "power"), [("white", 0.02**2), ("tone", 0.02**2 / 2)])
def test_noise_has_the_stated_amplitude_and_depends_on_seed_and_name_only(kind, power):
    conditions = Conditions(noise=kind)
    silence = np.zeros(RATE)
    heard = conditions.degrade(silence, recipe(conditions, "speech/a.wav", 4000, kind))
    assert (heard**2).mean() == pytest.approx(power, rel=0.02)
    again = conditions.degrade(silence, recipe(conditions, "speech/a.wav", 8000, kind))
    assert np.array_equal(heard, again)
    seeded = Conditions(noise=kind, seed=1)
    for other in (recipe(conditions, "speech/b.wav", noise=kind), recipe(seeded, "speech/a.wav", noise=kind)):
        assert not np.array_equal(heard, conditions.degrade(silence, other))


def test_a_range_of_amplitudes_is_drawn_from_evenly_by_clip():
    conditions = Conditions(noise="tone", noise_amplitude="0.05-0.2")
    amounts = [recipe(conditions, f"{i}.wav", noise="tone").effects[0].amount for i in range(300)]
    assert min(amounts) == pytest.approx(0.05, abs=0.005)
    assert max(amounts) == pytest.approx(0.2, abs=0.005)
    assert np.mean(amounts) == pytest.approx(0.125, abs=0.01)


@pytest.mark.parametrize("kind", ["white", "tone", "hum", "crackle", "mixture"])
def test_a_ratio_of_energies_is_met_in_the_kept_band(kind):
    conditions, wave = Conditions(noise=kind, noise_snr_db=10, bits=None), noise(2.0)
    noisy = recipe(conditions, "a.wav", 4000, kind, wave)
    clean = recipe(conditions, "a.wav", 4000)
    low = conditions.degrade(wave, clean)
    kept = np.fft.rfftfreq(len(wave), 1 / RATE) <= 3200
    energies = [(np.abs(np.fft.rfft(x))[kept] ** 2).sum() for x in (low, conditions.degrade(wave, noisy) - low)]
    assert 10 * np.log10(energies[0] / energies[1]) == pytest.approx(10, abs=0.01)


def test_silence_gets_no_noise_where_a_ratio_is_asked():
    conditions = Conditions(noise="white", noise_snr_db=10)
    assert recipe(conditions, "a.wav", noise="white").effects[0].amount == 0


def test_each_noise_goes_with_each_cutoff_and_codecs_stand_alone():
    inputs = Conditions(noise="none,white,mp3-64,telephone").inputs
    assert [each.folder for each in inputs] == ["4000", "4000-white", "8000", "8000-white", "mp3-64", "telephone"]
    assert [each.label for each in inputs] == ["4000", "4000 white", "8000", "8000 white", "mp3-64", "telephone"]
    assert inputs[4].cutoff_hz == degrade.codec_edge_hz("mp3", 64.0, RATE) > 8000
    assert inputs[5].cutoff_hz == 3400
    alone = Conditions(cutoffs_hz=(), noise="mp3-64", rates_hz=(8000,)).inputs
    assert [each.folder for each in alone] == ["rate-8000", "mp3-64"]
    assert [each.folder for each in Conditions(noise="mp3-64").inputs] == ["4000", "8000", "mp3-64"]


def test_what_ends_the_band_itself_meets_no_low_pass():
    conditions, wave = Conditions(cutoffs_hz=(), noise="mp3-64"), noise()
    (given,) = conditions.inputs
    coded = conditions.recipe("a.wav", given, wave)
    assert degrade.cutoff_3db_hz(coded, RATE) == given.cutoff_hz
    power = np.abs(np.fft.rfft(conditions.degrade(wave, coded))) ** 2  # 1 Hz per bin
    below_db, above_db = (10 * np.log10(band.mean() / (0.01 * RATE)) for band in (power[12_000:15_000], power[18_000:]))
    assert below_db > -6 > -45 > above_db


def test_clipping_comes_before_the_low_pass():
    conditions, wave = Conditions(noise="clipping", bits=None), noise()
    peak = np.abs(wave).max() * 10 ** (-6 / 20)
    heard = conditions.degrade(wave, recipe(conditions, "a.wav", 4000, "clipping"))
    expected = conditions.degrade(wave.clip(-peak, peak), recipe(conditions, "a.wav", 4000))
    np.testing.assert_allclose(heard, expected, atol=1e-12)


def test_every_noise_is_stated_in_words_with_its_amount():
    assert noises_in_words(Conditions()) is None
    words = noises_in_words(Conditions(noise="tone,mp3-64,mixture", noise_amplitude="0.05-0.2"))
    assert words.startswith("tone 0.05 to 0.2 peak, mp3 64 kb/s, mixture = hum 0.02 amplitude of the fundamental + ")
    assert "10 dB below the programme, under 0.8 x cutoff" in noises_in_words(
        Conditions(noise="white", noise_snr_db=10)
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"filter": "brickwall"}, "cheby1, ellip, butter, boxcar, resampler"),
        ({"filter": "none"}, "cheby1, ellip, butter, boxcar, resampler"),
        ({"cases": "linar"}, "unknown case 'linar'; did you mean 'linear'"),
        ({"cases": ["hold", "hold"]}, "a case is named twice"),
        ({"noise": "hiss"}, "unknown hiss; known are none, tone, white, hum.*mp3-64"),
        ({"noise": "mp3-63"}, "unknown mp3-63"),
        ({"noise": "white,white"}, "each once"),
        ({"noise": "white", "cutoffs_hz": []}, "white goes with a low-pass"),
        ({"noise_amplitude": 0.1}, "applies to tone, white"),
        ({"noise": "white", "noise_amplitude": "0.2-0.1"}, "low-high"),
        ({"noise": "white", "noise_amplitude": "loud"}, "noise_amplitude"),
        ({"noise": "mp3-64", "noise_snr_db": 10}, "applies to tone, white"),
        ({"noise": "white", "noise_amplitude": 0.1, "noise_snr_db": 10}, "leave noise_amplitude out"),
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


@pytest.mark.parametrize("name", FILTERS)
def test_every_operator_has_words(name):
    assert not describe_filter(Conditions(filter=name)).startswith(f"{name},")


@pytest.mark.parametrize("rate", [8000, 11_025, 12_000, 24_000])
def test_a_lower_rate_is_3_db_down_where_it_says(rate):
    edge_hz = rate_edge_hz("soxr", rate)
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
