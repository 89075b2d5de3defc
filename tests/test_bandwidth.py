"""The estimate of where a band ends against the -3 dB point of what made the cut; on signals of our own making."""

import copy
from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy import signal

import latentsr
from latentsr import bandwidth
from latentsr.bandwidth import BandEstimator, cutoffs_hz, embedded_network, estimate_cutoff
from latentsr.signal import codecs, cuts
from latentsr.signal.degrade import Recipe, cutoff_3db_hz, degrade

RATE = 48_000
FAMILIES = ("boxcar", "butter", "cheby1", "ellip", "resampler")


@lru_cache(maxsize=8)
def programme(seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    """Bursts of noise that falls 6 dB per octave, and a decaying harmonic note. (T,)"""
    rng, samples = np.random.default_rng(seed), int(seconds * RATE)
    time_s, freqs_hz = np.arange(samples) / RATE, np.fft.rfftfreq(samples, 1 / RATE)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(samples)) * 100 / np.maximum(freqs_hz, 100), samples)
    bursts = noise / noise.std() * np.exp(-8 * (time_s % 0.5))
    note = sum(np.sin(2 * np.pi * k * (110 + 40 * seed) * time_s) / k for k in range(1, 60)) * np.exp(-3 * (time_s % 1))
    return 0.15 * (bursts + 0.3 * note)


def cut(family: str, order: int, hz: float, seed: int = 0, seconds: float = 4.0) -> np.ndarray:
    wave = torch.from_numpy(programme(seconds, seed))[None, None]
    return degrade(wave, [Recipe(family, order, hz)], RATE)[0, 0].numpy()


def rounded(wave: np.ndarray, bits: int = 16) -> np.ndarray:
    return cuts.rounded(wave, bits, np.random.default_rng(0))


def found(wave: np.ndarray, rate: int = RATE) -> float:
    return estimate_cutoff(np.atleast_2d(wave).astype(np.float32), rate)


def track_of(samples: np.ndarray, rate: int = RATE) -> list[list[tuple[float, float]]]:
    estimator = BandEstimator(rate)
    estimator.update(np.atleast_2d(samples).astype(np.float32))
    return estimator.result().pairs


@pytest.mark.parametrize("hz", [3_100.0, 4_700.0, 9_300.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_steep_cut_is_found_within_5_percent(family, hz):
    assert found(rounded(cut(family, 8, hz))) == pytest.approx(cutoff_3db_hz(Recipe(family, 8, hz)), rel=0.05)


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 96_000])
@pytest.mark.parametrize("level_db", [0, -30])
def test_it_is_found_at_the_rate_and_level_of_the_file(rate, level_db):
    file = rounded(cuts.soxr_at("VHQ")(cut("cheby1", 8, 5_100.0), RATE, rate) * 10 ** (level_db / 20))
    assert found(file, rate) == pytest.approx(cutoff_3db_hz(Recipe("cheby1", 8, 5_100.0)), rel=0.05)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 32_000])
def test_a_file_of_a_low_rate_ends_below_its_nyquist_frequency(rate):
    file = rounded(cuts.soxr_at("VHQ")(programme(), RATE, rate))
    assert found(file, rate) == pytest.approx(0.475 * rate, rel=0.06)


@pytest.mark.parametrize("up", [cuts.polyphase(), cuts.soxr_at("LQ"), cuts.hold, cuts.linear])
@pytest.mark.parametrize("file_rate", [44_100, 48_000])
def test_images_are_no_programme(up, file_rate):
    low = cuts.soxr_at("VHQ")(programme(), RATE, 10_000)
    file = rounded(cuts.soxr_at("VHQ")(up(low, 10_000, RATE), RATE, file_rate))
    assert 2_800 < found(file, file_rate) < 5_400  # straight lines are 3 dB down at 0.32 of the lower rate


@pytest.mark.parametrize("stop_db", [40, 50, 60])
def test_a_stopband_is_no_programme(stop_db):
    sos = signal.ellip(6, 0.5, stop_db, 4_600, fs=RATE, output="sos")
    assert found(rounded(signal.sosfilt(sos, programme()))) == pytest.approx(4_600, rel=0.08)


@pytest.mark.parametrize("frequency_hz", [700.0, 4_900.0, 15_625.0])
def test_a_tone_is_no_programme(frequency_hz):
    tone = 0.1 * np.sin(2 * np.pi * frequency_hz * np.arange(len(programme())) / RATE)
    assert found(rounded(cut("cheby1", 8, 4_300.0) + tone)) == pytest.approx(4_300, rel=0.1)


def test_hiss_is_no_programme():
    hiss = 0.002 * np.random.default_rng(1).standard_normal(len(programme()))
    assert found(rounded(cut("cheby1", 8, 4_300.0) + hiss)) == pytest.approx(4_300, rel=0.1)


@pytest.mark.parametrize(("name", "kbps"), [("mp3", 32), ("mp3", 64), ("vorbis", 64)])
def test_a_codec_ends_the_band(name, kbps):
    made = codecs.round_trip(programme().astype(np.float32), name, kbps, RATE)
    assert found(made) == pytest.approx(codecs.codec_edge_hz(name, kbps, RATE), rel=0.1)


def test_a_natural_slope_is_not_a_cut():
    assert [found(rounded(programme(seed=seed))) for seed in range(3)] == [24_000.0] * 3


def test_silence_a_tone_and_an_offset_are_full_band():
    time_s = np.arange(2 * RATE) / RATE
    for wave in (0 * time_s, 0.5 * np.sin(2 * np.pi * 80 * time_s), 0.1 + 0 * time_s):
        assert found(rounded(wave)) == 24_000.0


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("samples", [0, 1, 500, 50_000])
def test_silence_of_any_length_has_no_end(rate, samples):
    assert found(np.zeros(samples), rate) == 24_000.0


@pytest.mark.parametrize("samples", [0, 1, 500, 5_000])
def test_short_waves_get_an_answer(samples):
    assert 1_000 <= found(programme()[:samples]) <= 24_000


@pytest.mark.parametrize("rate", [1_000, 4_000, 384_000])
def test_extreme_rates_get_an_answer_that_redraws_nothing(rate):
    file = cuts.soxr_at("VHQ")(programme(), RATE, rate)
    assert found(file, rate) >= min(0.42 * rate, 24_000) or found(file, rate) == 24_000


def test_halving_a_float_input_changes_nothing():
    wave = cut("butter", 6, 5_000.0).astype(np.float32)
    loud, *others = (found(wave * np.float32(gain)) for gain in (1, 0.5, 0.3, 0.001))
    assert others == pytest.approx([loud] * 3, rel=1e-3)


def test_halving_an_integer_recording_halves_its_dust():
    wave = rounded(cut("butter", 6, 5_000.0)).astype(np.float32)
    assert found(0.5 * wave) == pytest.approx(found(wave), rel=1e-4)


def test_blocks_give_the_answer_of_the_whole():
    wave = np.stack([cut("butter", 8, 6_000.0), programme()]).astype(np.float32)
    estimator = BandEstimator(RATE)
    for block in np.array_split(wave, 19, axis=1):
        estimator.update(block)
    assert estimator.result().pairs == track_of(wave)


def test_a_batch_is_heard_one_by_one():
    waves = torch.from_numpy(np.stack([cut("cheby1", 8, hz) for hz in (3_000.0, 7_000.0)]))[:, None].float()
    made = cutoffs_hz(waves, RATE)
    assert made.tolist() == pytest.approx([3_000, 7_000], rel=0.06)
    assert cutoffs_hz(waves[1:], RATE)[0] == pytest.approx(float(made[1]), rel=1e-4)


def test_channels_have_their_own_ends_and_a_silent_one_has_none():
    dull, full = cut("cheby1", 8, 4_300.0), programme(seed=1) * 10 ** (-35 / 20)
    left, right, silent = track_of(np.stack([dull, full, 0 * dull]))
    assert [hz for _, hz in left] == pytest.approx([4_300], rel=0.08)
    assert right == silent == [(0.0, 24_000.0)]
    assert found(np.stack([dull, full, 0 * dull])) == left[0][1]


def test_channels_that_end_alike_have_one_track():
    left, right = track_of(np.stack([cut("cheby1", 8, 5_000.0), 0.5 * cut("cheby1", 8, 5_000.0, seed=1)]))
    assert left == right


@pytest.mark.parametrize("seconds", [(6.0, 6.0), (9.0, 3.0)])
@pytest.mark.parametrize("hz", [(3_400.0, None), (4_000.0, 9_000.0)])
def test_a_change_is_found_within_half_a_second(seconds, hz):
    whole = sum(seconds)
    parts = [programme(whole) if each is None else cut("cheby1", 8, each, seconds=whole) for each in hz]
    at = int(seconds[0] * RATE)
    (track,) = track_of(np.concatenate([parts[0][:at], parts[1][at:]]))
    assert [end for _, end in track] == pytest.approx([each or 24_000 for each in hz], rel=0.1)
    assert track[1][0] == pytest.approx(seconds[0], abs=0.5)


@pytest.mark.parametrize("hz", [(None, 3_400.0), (3_400.0, 8_000.0), (8_000.0, None)])
def test_a_part_of_four_seconds_in_the_middle_is_found(hz):
    outer, inner = (programme(12.0) if each is None else cut("cheby1", 8, each, seconds=12.0) for each in hz)
    bounds = 4 * RATE, 8 * RATE
    (track,) = track_of(rounded(np.concatenate([outer[: bounds[0]], inner[slice(*bounds)], outer[bounds[1] :]])))
    outside, inside = (each or 24_000 for each in hz)
    assert [end for _, end in track] == pytest.approx([outside, inside, outside], rel=0.1)
    assert [start for start, _ in track] == pytest.approx([0, 4, 8], abs=0.5)


def test_steady_material_does_not_flutter():
    for seed in range(4):
        (track,) = track_of(rounded(cut("cheby1", 6, 4_400.0 + 900 * seed, seed=seed, seconds=20.0)))
        assert len(track) == 1


def test_a_moment_of_full_band_is_kept():
    wave = cut("cheby1", 8, 3_400.0, seconds=8.0)
    at = int(5.0 * RATE)
    wave[at : at + RATE // 4] = 0.1 * programme(8.0)[at : at + RATE // 4]
    (track,) = track_of(wave)
    full = [(start, stop) for (start, hz), (stop, _) in zip(track, track[1:], strict=False) if hz == 24_000.0]
    assert full and full[0][0] <= 5.03 and full[-1][1] >= 5.2


def test_it_is_public_and_names_what_is_missing():
    assert latentsr.estimate_cutoff is estimate_cutoff
    with pytest.raises(ValueError, match="no samples yet; call update first"):
        BandEstimator(RATE).result()


def test_a_long_recording_is_heard_in_strides_and_no_change_is_lost(monkeypatch):
    parts = cut("cheby1", 8, 3_800.0, seconds=20.0), programme(20.0)
    at = 8 * RATE
    wave = np.concatenate([parts[0], parts[0], parts[1][:at], parts[0], parts[0]])  # 40 s, 8 s of full band, 40 s
    heard, whole = [], bandwidth.log_posterior

    def noted(network, power_db, *figures):
        heard.extend([power_db] * (power_db.shape[1] == bandwidth.WINDOW) * len(power_db))
        return whole(network, power_db, *figures)

    monkeypatch.setattr(bandwidth, "log_posterior", noted)
    (track,) = track_of(wave)
    assert [hz for _, hz in track] == pytest.approx([3_800, 24_000, 3_800], rel=0.1)
    assert [start for start, _ in track] == pytest.approx([0, 40, 48], abs=0.5)
    assert 0.2 * len(wave) / RATE < len(heard) < 0.55 * len(wave) / RATE


def test_the_faster_convolution_is_the_convolution():
    network = embedded_network()
    for block in (*network.blocks, *network.log_blocks):
        x = torch.randn(3, 48, 134, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(block(x), copy.deepcopy(block).train()(x), atol=1e-5)
