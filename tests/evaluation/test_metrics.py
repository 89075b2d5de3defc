"""Every metric against an independent reference in numpy/scipy, and against an identity."""

import doctest
import math

import numpy as np
import pytest
import torch
from scipy import signal

from latentsr.evaluation import metrics, perceptual

RATE = 48_000


def noise(seconds: float = 0.5, count: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(count, int(seconds * RATE), generator=generator, dtype=torch.float64)


def tone(hz: float, seconds: float = 0.5, amplitude: float = 0.5) -> torch.Tensor:
    return amplitude * torch.sin(2 * math.pi * hz / RATE * torch.arange(int(seconds * RATE), dtype=torch.float64))[None]


def frames(wave: np.ndarray, n_fft: int, hop: int, pad: int) -> np.ndarray:
    """Magnitudes (L, F), frame by frame: no STFT routine involved."""
    wave = np.pad(wave, pad)
    window = signal.get_window("hann", n_fft)
    starts = range(0, len(wave) - n_fft + 1, hop)
    return np.stack([np.abs(np.fft.rfft(window * wave[s : s + n_fft])) for s in starts])


def lsd_2048_512(reference: np.ndarray, estimate: np.ndarray) -> float:
    logs = [np.log10(np.maximum(frames(x, 2048, 512, 0) ** 2, 1e-8)) for x in (reference, estimate)]
    return np.sqrt(((logs[0] - logs[1]) ** 2).mean(1)).mean()


def lsd_ssr_eval(reference: np.ndarray, estimate: np.ndarray) -> float:
    target, other = (frames(x, 2229, 480, 2229 // 2) for x in (reference, estimate))
    return np.sqrt((np.log10(target**2 / (other + 1e-12) ** 2 + 1e-12) ** 2).mean(1)).mean()


def test_docstring_examples_run():
    assert doctest.testmod(metrics).failed == 0


@pytest.mark.parametrize(("preset", "by_hand"), [("2048/512", lsd_2048_512), ("ssr_eval", lsd_ssr_eval)])
def test_lsd_is_the_published_formula(preset, by_hand):
    reference, estimate = noise(seed=1), noise(seed=2)
    expected = [by_hand(r.numpy(), e.numpy()) for r, e in zip(reference, estimate, strict=True)]
    np.testing.assert_allclose(metrics.lsd(reference, estimate, preset=preset), expected, rtol=1e-9)


@pytest.mark.parametrize("preset", ["2048/512", "ssr_eval"])
@pytest.mark.parametrize("gain", [0.9, 0.5, 2.0])
def test_pure_gain_adds_twice_its_logarithm(preset, gain):
    reference = noise()
    measured = metrics.lsd(reference, gain * reference, preset=preset)
    np.testing.assert_allclose(measured, abs(2 * math.log10(gain)), atol=1e-6)


def test_the_two_presets_differ_on_silence():
    silence = torch.zeros(1, RATE, dtype=torch.float64)
    assert metrics.lsd(silence, silence).item() == 0
    assert metrics.lsd(silence, silence, preset="ssr_eval").item() == pytest.approx(12)


def test_power_below_the_floor_does_not_count():
    assert metrics.lsd(1e-9 * noise(), 1e-12 * noise(seed=3)).max() == 0


def test_neighbouring_bands_share_no_bin_and_make_up_the_whole():
    reference, estimate = noise(0.05, seed=1), noise(0.05, seed=2)  # one frame: squares add up
    reference, estimate = reference[:, :2048], estimate[:, :2048]
    low, high, whole = metrics.lsd_bands(reference, estimate, [(0, 4000), (4000, None), (0, None)])
    low_bins = math.floor(4000 * 2048 / RATE) + 1  # 0 Hz to 4000 Hz, both included
    torch.testing.assert_close(low_bins * low**2 + (1025 - low_bins) * high**2, 1025 * whole**2)


def test_the_edge_itself_belongs_to_the_lower_band():
    reference = noise(2048 / RATE)
    spectrum = torch.fft.rfft(reference)
    spectrum[:, 512] *= 3  # 12 kHz, a bin of its own under a rectangular window, three bins under Hann
    estimate = torch.fft.irfft(spectrum)
    assert metrics.lsd(reference, estimate, low_hz=12_000 + 1.5 * RATE / 2048).max() < 1e-9
    assert metrics.lsd(reference, estimate, low_hz=12_000 - 0.1, high_hz=12_000).min() > 0


def test_each_example_may_have_its_own_band():
    reference, estimate = noise(seed=1), noise(seed=2)
    edges = torch.tensor([6000.0, 15_000.0])
    together = metrics.lsd(reference, estimate, high_hz=edges)
    apart = [metrics.lsd(reference[i : i + 1], estimate[i : i + 1], high_hz=float(edges[i])).item() for i in (0, 1)]
    np.testing.assert_allclose(together, apart, rtol=1e-12)


def test_an_empty_band_is_not_a_number():
    assert metrics.lsd(noise(), noise(), low_hz=24_000).isnan().all()
    assert metrics.band_energy_ratio_db(noise(), noise(), 9000, 9000).isnan().all()


def test_a_wave_shorter_than_a_window_is_filled_up():
    short = noise()[:, :1000]
    filled = torch.nn.functional.pad(short, (0, 1048))
    torch.testing.assert_close(metrics.lsd(short, short / 3), metrics.lsd(filled, filled / 3))


@pytest.mark.parametrize("wrong", [torch.zeros(1, 0), torch.zeros(1, 2047), torch.zeros(2048)])
def test_shapes_that_do_not_match_are_refused(wrong):
    with pytest.raises(ValueError, match="one shape"):
        metrics.lsd(torch.zeros(1, 2048), wrong)


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(ValueError, match="2048/512, ssr_eval"):
        metrics.lsd(noise(), noise(), preset="aero")


def test_float32_agrees_with_float64():
    reference, estimate = noise(seed=1), noise(seed=2)
    torch.testing.assert_close(
        metrics.lsd(reference.float(), estimate.float()).double(), metrics.lsd(reference, estimate), atol=1e-4, rtol=0
    )


def test_band_energy_ratio_reads_a_gain_and_agrees_with_welch():
    reference, estimate = noise(seed=1), noise(seed=2) * torch.tensor([[0.3], [2.0]])
    measured = metrics.band_energy_ratio_db(reference, estimate, 4000, 16_000)
    density = [signal.welch(x.numpy(), RATE, "hann", 2048, 2048 - 512, detrend=False) for x in (reference, estimate)]
    inside = (density[0][0] > 4000) & (density[0][0] <= 16_000)
    expected = 10 * np.log10(density[1][1][:, inside].sum(1) / density[0][1][:, inside].sum(1))
    np.testing.assert_allclose(measured, expected, atol=1e-9)
    halved = metrics.band_energy_ratio_db(reference, reference / 2, 4000, None)
    np.testing.assert_allclose(halved, -20 * math.log10(2), atol=1e-5)


def test_band_energy_ratio_of_silence_is_finite():
    silence = torch.zeros(1, 4096, dtype=torch.float64)
    assert metrics.band_energy_ratio_db(silence, silence, 4000, None).item() == 0
    assert metrics.band_energy_ratio_db(noise(count=1), torch.zeros(1, RATE // 2), 4000, None).item() < -60


def test_spread_is_one_for_a_gain_and_small_for_steady_noise_in_place_of_bursts():
    bursts = noise() * (tone(4) > 0).double().clamp(min=1e-2)
    assert metrics.band_spread_ratio(bursts, 0.5 * bursts, 4000, 20_000) == pytest.approx(1, abs=1e-6)
    assert metrics.band_spread_ratio(bursts, noise(seed=3), 4000, 20_000).max() < 0.4


def test_spread_agrees_with_numpy_on_the_mel():
    reference, estimate = noise(seed=1), noise(seed=2) * (1 + 0.9 * tone(4))
    mel = metrics.MelSpectrogram().double()
    edges = metrics.mel_edges_hz().numpy()
    inside = (edges[:-2] >= 4000) & (edges[2:] <= 20_000)
    spreads = [mel(x[:, None])[:, 0].numpy()[:, :, inside].std(1).mean(1) for x in (reference, estimate)]
    measured = metrics.band_spread_ratio(reference, estimate, 4000, 20_000)
    np.testing.assert_allclose(measured, spreads[1] / spreads[0], rtol=1e-9)


def test_level_error_reads_the_gain_of_the_kept_band_only():
    low, high = tone(1000), tone(12_000)
    assert metrics.level_error_db(low, 0.9 * low + high, 3200).item() == pytest.approx(20 * math.log10(0.9), abs=1e-4)


@pytest.mark.parametrize("error_db", [-20, -60, -100])
def test_kept_band_error_reads_the_energy_of_an_added_tone(error_db):
    source = tone(1000, amplitude=1.0)
    estimate = source + tone(2000, amplitude=10 ** (error_db / 20)) + tone(8000, amplitude=1.0)
    assert metrics.kept_band_error_db(source, estimate, 3200).item() == pytest.approx(error_db, abs=0.01)


def test_an_exact_match_is_bounded_and_silence_is_not_a_number():
    wave, silence = noise(count=1), torch.zeros(1, RATE // 2, dtype=torch.float64)
    assert metrics.kept_band_error_db(wave, wave, 3200).item() == -200
    assert metrics.snr_db(wave, wave).item() == metrics.si_sdr_db(wave, wave).item() == 200
    assert metrics.level_error_db(silence, silence, 3200).isnan().all()
    assert metrics.si_sdr_db(silence, silence).isnan().all()


def test_snr_and_si_sdr_agree_with_the_hand_formulas():
    reference, estimate = noise(seed=1), 0.7 * noise(seed=1) + 0.2 * noise(seed=2)
    r, e = reference.numpy(), estimate.numpy()
    snr = 10 * np.log10((r**2).sum(1) / ((e - r) ** 2).sum(1))
    cosine = (r * e).sum(1) / np.sqrt((r**2).sum(1) * (e**2).sum(1))
    np.testing.assert_allclose(metrics.snr_db(reference, estimate), snr, rtol=1e-9)
    np.testing.assert_allclose(
        metrics.si_sdr_db(reference, estimate), 10 * np.log10(cosine**2 / (1 - cosine**2)), rtol=1e-6
    )


def test_si_sdr_ignores_gain_and_snr_does_not():
    reference, estimate = noise(seed=1), noise(seed=1) + 0.1 * noise(seed=2)
    torch.testing.assert_close(metrics.si_sdr_db(reference, 3 * estimate), metrics.si_sdr_db(reference, estimate))
    assert (metrics.snr_db(reference, 3 * estimate) < 0).all()


def test_validation_lsd_pools_what_the_single_functions_give():
    reference, estimate = noise(seed=1), noise(seed=2)
    cutoff_hz, bandwidth_hz = (
        torch.tensor([4000.0, 8000.0]),
        torch.tensor([20_000.0, 8000.0]),
    )  # the second: no high band
    figures = metrics.validation_lsd(reference[:, None], estimate[:, None], cutoff_hz, bandwidth_hz)
    assert figures["lsd"] == pytest.approx(metrics.lsd(reference, estimate, high_hz=bandwidth_hz).mean().item())
    high = metrics.lsd(reference[:1], estimate[:1], low_hz=4000, high_hz=20_000)
    assert figures["lsd_hf"] == pytest.approx(high.item())
    assert figures["hf_energy_db"] == pytest.approx(0, abs=0.3)
    assert figures["hf_spread"] == pytest.approx(1, abs=0.05)


def test_visqol_ranks_a_cut_below_the_original():
    pytest.importorskip("visqol", reason="visqol-python is not installed (extra `eval`)")
    wave = noise(1.2, count=1)[0] * (1 + 0.9 * tone(3, 1.2)[0])
    cut = torch.from_numpy(signal.sosfiltfilt(signal.cheby1(8, 0.1, 4000, fs=RATE, output="sos"), wave.numpy()).copy())
    same, dull = metrics.visqol(wave, wave), metrics.visqol(wave, cut)
    assert same == pytest.approx(4.732, abs=0.001)  # the port's and the original's best figure
    assert dull < same - 0.5


def test_visqol_is_none_where_it_cannot_say():
    short, silence = noise(0.5, count=1)[0], torch.zeros(2 * RATE)
    assert metrics.visqol(short, short) is None
    assert metrics.visqol(silence, silence) is None
    with pytest.raises(ValueError, match="resample"):
        metrics.visqol(short, short, sample_rate=16_000)


def test_visqol_is_none_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "visqol", None)
    perceptual._visqol_api.cache_clear()
    try:
        assert not metrics.visqol_installed()
        assert metrics.visqol(torch.ones(2 * RATE), torch.ones(2 * RATE)) is None
    finally:
        perceptual._visqol_api.cache_clear()


@pytest.mark.parametrize("hz", [50.0, 440.3, 7_321.0, 14_999.0])
def test_a_tone_taken_down_40_db_measures_minus_40(hz):
    programme, loud = 0.01 * noise(3.0, 1), tone(hz, 3.0, 0.3)
    measured = metrics.tone_level_db(programme + loud, programme + 0.01 * loud, hz)
    assert float(measured[0]) == pytest.approx(-40, abs=0.5)
    assert float(metrics.tone_level_db(loud, 0.01 * loud, hz)[0]) == pytest.approx(-40, abs=0.01)


def test_the_tone_s_level_ignores_what_lies_elsewhere_and_silence_against_silence_is_0():
    loud, other = tone(1_000.0, 3.0, 0.1), tone(1_020.0, 3.0, 0.1)
    assert float(metrics.tone_level_db(loud, loud + other, 1_000.0)[0]) == pytest.approx(0, abs=0.1)
    silence = torch.zeros_like(loud)
    assert float(metrics.tone_level_db(silence, silence, 1_000.0)[0]) == 0
    assert float(metrics.tone_level_db(loud, silence, 1_000.0)[0]) < -60


def test_si_sdr_of_the_kept_band_sees_nothing_above_it():
    reference, error = noise(1.0), noise(1.0, seed=3)
    above = torch.fft.irfft(torch.fft.rfft(error) * (torch.arange(RATE // 2 + 1) > 3_200), n=RATE)
    assert (metrics.si_sdr_db(reference, reference + above, 3_200.0) > 150).all()
    below = torch.fft.irfft(torch.fft.rfft(reference) * (torch.arange(RATE // 2 + 1) <= 3_200), n=RATE)
    noisy = error - above
    torch.testing.assert_close(
        metrics.si_sdr_db(reference, reference + error, 3_200.0), metrics.si_sdr_db(below, below + noisy)
    )
