"""The cutoff estimate against the -3 dB point of the filter that made the cut."""

from functools import lru_cache

import numpy as np
import pytest
import torch

from latentsr.signal.audio import read
from latentsr.signal.bandwidth import CutoffEstimator, estimate_cutoff_hz
from latentsr.signal.degrade import Recipe, cutoff_3db_hz, degrade
from latentsr.signal.effects import Effect
from latentsr.signal.passband import cutoff_of_spectrum, templates

RATE = 48_000
FAMILIES = ("boxcar", "butter", "cheby1", "ellip", "resampler")


@lru_cache(maxsize=4)
def programme(count: int = 4, seconds: float = 2.0) -> torch.Tensor:
    """Bursts of noise that falls 6 dB per octave, and a decaying harmonic note. (B, 1, T)"""
    generator = torch.Generator().manual_seed(0)
    samples = int(seconds * RATE)
    time_s = torch.arange(samples) / RATE
    freqs_hz = torch.fft.rfftfreq(samples, 1 / RATE)
    noise = torch.fft.rfft(torch.randn(count, samples, generator=generator))
    noise = torch.fft.irfft(noise * (100 / freqs_hz.clamp_min(100)), n=samples)
    bursts = noise / noise.std() * torch.exp(-8 * (time_s % 0.5))
    pitch_hz = 110 + 40 * torch.arange(count)[:, None]
    note = sum(torch.sin(2 * torch.pi * k * pitch_hz * time_s) / k for k in range(1, 60)) * torch.exp(-3 * (time_s % 1))
    return (0.15 * (bursts + 0.3 * note))[:, None]


def rounded(wave: torch.Tensor) -> torch.Tensor:
    return (wave * 2**15).round() / 2**15


def relative_errors(recipe: Recipe, wave: torch.Tensor | None = None) -> torch.Tensor:
    wave = programme() if wave is None else wave
    out = rounded(degrade(wave, [recipe] * len(wave), RATE))
    return (estimate_cutoff_hz(out, RATE) / cutoff_3db_hz(recipe, RATE) - 1).abs()


@pytest.mark.parametrize("cutoff_hz", [4_000.0, 8_000.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_steep_cut_is_found_within_3_percent(family, cutoff_hz):
    assert relative_errors(Recipe(family, 8, cutoff_hz)).max() < 0.03


@pytest.mark.parametrize("family", FAMILIES)
def test_gentle_cut_is_found_within_10_percent_by_the_median(family):
    assert relative_errors(Recipe(family, 3, 4_000.0)).median() < 0.10


def test_white_noise_is_not_programme():
    white = Effect("white", 0.003, seed=1)
    assert relative_errors(Recipe("cheby1", 8, 4_000.0, (white,))).max() < 0.10


@pytest.mark.parametrize("frequency_hz", [500.0, 4_200.0, 14_000.0])
def test_tone_is_not_programme(frequency_hz):
    tone = Effect("tone", 0.2, frequency_hz=frequency_hz)
    assert relative_errors(Recipe("cheby1", 8, 4_000.0, (tone,))).max() < 0.05


@pytest.mark.parametrize(("name", "kbps"), [("mp3", 32), ("mp3", 64), ("vorbis", 64)])
def test_codec_ends_the_band(name, kbps):
    assert relative_errors(Recipe("none", 8, 8_000.0, (Effect(name, kbps),))).max() < 0.10


def test_programme_that_falls_by_itself_ends_at_the_cut():
    """30 dB down from 2.8 to 3.5 kHz, as steep as many filters, and then level until the cut at 5.5 kHz."""
    spectrum = torch.fft.rfft(programme())
    octaves = torch.log2(torch.fft.rfftfreq(programme().shape[-1], 1 / RATE).clamp_min(1) / 2_800)
    fallen = torch.fft.irfft(spectrum * 10 ** (-1.5 * (octaves / 0.32).clamp(0, 1)), n=programme().shape[-1])
    assert relative_errors(Recipe("cheby1", 8, 5_500.0), fallen).max() < 0.05


def test_hole_below_the_cutoff_is_not_the_cutoff():
    wave = degrade(programme(), [Recipe("cheby1", 8, 8_000.0)] * 4, RATE)
    spectrum = torch.fft.rfft(wave)
    freqs_hz = torch.fft.rfftfreq(wave.shape[-1], 1 / RATE)
    spectrum[..., (freqs_hz > 5_500) & (freqs_hz < 5_900)] = 0
    holed = rounded(torch.fft.irfft(spectrum, n=wave.shape[-1]))
    assert (estimate_cutoff_hz(holed, RATE) / 8_231 - 1).abs().max() < 0.05


def test_natural_slope_is_not_a_cut():
    assert torch.equal(estimate_cutoff_hz(rounded(programme()), RATE), torch.full((4,), 24_000.0))


def test_silence_and_a_lone_bass_note_are_full_band():
    time_s = torch.arange(2 * RATE) / RATE
    bass = 0.5 * torch.sin(2 * torch.pi * 80 * time_s)
    waves = torch.stack([torch.zeros_like(bass), bass, torch.full_like(bass, 0.1)])[:, None]
    assert estimate_cutoff_hz(rounded(waves), RATE).tolist() == [24_000.0] * 3


@pytest.mark.parametrize("samples", [1, 500, 5_000])
def test_short_waves_get_an_answer(samples):
    hz = estimate_cutoff_hz(programme()[..., :samples], RATE)
    assert hz.shape == (4,) and bool(((hz >= 500) & (hz <= 24_000)).all())


def test_answer_does_not_depend_on_the_batch():
    recipes = [Recipe(family, 6, 5_000.0) for family in FAMILIES]
    waves = degrade(programme(len(FAMILIES)), recipes, RATE)
    alone = torch.cat([estimate_cutoff_hz(waves[i : i + 1], RATE) for i in range(len(FAMILIES))])
    assert torch.allclose(estimate_cutoff_hz(waves, RATE), alone, rtol=1e-3)


def test_level_does_not_matter():
    wave = degrade(programme(), [Recipe("cheby1", 8, 4_000.0)] * 4, RATE)
    loud, soft = estimate_cutoff_hz(wave, RATE), estimate_cutoff_hz(0.03 * wave, RATE)
    assert (loud / soft - 1).abs().max() < 0.02


def test_blocks_give_the_answer_of_the_whole():
    wave = degrade(programme(), [Recipe("butter", 8, 6_000.0)] * 4, RATE)
    estimator = CutoffEstimator(RATE)
    for block in wave.split(10_007, dim=-1):
        estimator.update(block)
    assert torch.allclose(estimator.result(), estimate_cutoff_hz(wave, RATE), rtol=1e-3)


def test_silent_channel_has_no_say_in_the_answer_for_a_recording():
    left = degrade(programme(1), [Recipe("cheby1", 8, 4_000.0)], RATE)
    estimator = CutoffEstimator(RATE).update(torch.cat([left, torch.zeros_like(left)]))
    assert estimator.result()[1] == 24_000
    assert estimator.result_together() == pytest.approx(estimator.result()[0].item(), rel=1e-3)


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
def test_other_sampling_rates(sample_rate):
    recipe = Recipe("cheby1", 8, 3_000.0)
    wave = rounded(degrade(programme(), [recipe] * 4, sample_rate))
    assert (estimate_cutoff_hz(wave, sample_rate) / cutoff_3db_hz(recipe, sample_rate) - 1).abs().max() < 0.05


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="cannot be found at 2000 Hz; resample to 4000"):
        estimate_cutoff_hz(torch.zeros(1, 1, 100), 2_000)
    with pytest.raises(ValueError, match="no samples yet"):
        CutoffEstimator(RATE).result()
    with pytest.raises(ValueError, match=r"shape \(batch, 1, samples\), got \(1, 100\)"):
        estimate_cutoff_hz(torch.zeros(1, 100), RATE)


def test_real_recordings_cut_as_the_evaluation_cuts_them(shared):
    folder = shared / "data" / "dev" / "music"
    files = sorted(folder.glob("visqol_*.flac"))[:6]
    waves = [torch.from_numpy(read(path).samples.mean(0)).float()[None, None] for path in files]
    errors = torch.cat([relative_errors(Recipe("cheby1", 8, 4_000.0), wave) for wave in waves])
    assert errors.median() < 0.03


# dB at 120 frequencies, evenly spaced by ratio from 700 Hz to 24 kHz, as measured
LONG_DB = [
    -6.6, -7.3, -6.1, -8.0, -6.1, -8.3, -7.7, -8.2, -6.8, -9.3, -8.3, -9.4, -8.6, -9.4, -9.0, -10.7, -10.7,
    -9.6, -10.6, -10.0, -11.8, -9.1, -12.0, -10.0, -11.1, -10.0, -9.7, -9.6, -13.3, -11.2, -14.6, -9.9, -14.7,
    -11.0, -15.8, -11.5, -14.8, -10.8, -15.3, -13.6, -15.5, -14.0, -16.4, -14.7, -16.5, -15.3, -16.8, -16.3,
    -16.7, -16.9, -16.8, -17.3, -16.5, -18.0, -17.3, -16.8, -17.4, -30.8, -87.0, -91.0, -93.2, -94.5, -95.3,
    -95.9, -96.3, -96.6, -96.8, -97.0, -97.1, -97.3, -97.4, -97.5, -97.6, -97.6, -97.7, -97.7, -97.7, -97.7,
    -97.7, -97.7, -97.7, -97.8, -97.8, -97.8, -97.8, -97.8, -97.8, -97.8, -97.8, -97.8, -97.8, -97.8, -97.8,
    -97.8, -97.7, -97.8, -97.9, -97.8, -97.9, -97.8, -97.9, -97.9, -97.9, -97.9, -97.9, -97.9, -97.9, -97.9,
    -97.9, -97.9, -97.9, -97.8, -97.9, -97.9, -98.2, -114.8, -132.6, -132.6, -132.6, -132.6,
]  # fmt: skip


def test_a_cliff_steeper_than_any_filter_is_where_the_band_ends():
    """The mean spectrum of two hours that a resampler cut: a filter of 2.8 kHz explained it least badly."""
    bank = templates(48_000, 4096, torch.device("cpu"))
    bins_hz = np.arange(2049) * 48_000 / 4096
    spectrum = torch.from_numpy(np.interp(bins_hz, np.geomspace(700, 24_000, 120), LONG_DB)).float()[None]
    assert 3500 < float(cutoff_of_spectrum(spectrum, bank)) < 3900
    spectrum[:, round(2000 / 11.72) : round(2300 / 11.72)] = -85.0  # a hole is no cliff: the programme comes back
    assert 3500 < float(cutoff_of_spectrum(spectrum, bank)) < 3900
