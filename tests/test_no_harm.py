"""Full-band recordings come back as they are, silence stays silence, and a level changes nothing but the level."""

import numpy as np
import pytest

from latentsr import Pipeline, audio
from latentsr.bandwidth import BandEstimator
from latentsr.evaluation.conditions import lowpass
from latentsr.signal.degrade import Recipe
from latentsr.signal.track import FULL_BAND_HZ, Track
from tiny import RATE, programme

HEADS = ["mamba-gan", "vocoder", "diffwave-mamba"]


@pytest.fixture(scope="module")
def pipe():
    made = Pipeline.from_pretrained(heads=HEADS)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def full_band(monkeypatch):
    monkeypatch.setattr(BandEstimator, "result", lambda self: Track.constant(FULL_BAND_HZ, 2, 2.0))


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
@pytest.mark.parametrize("head", HEADS)
def test_full_band_comes_back(pipe, full_band, tmp_path, head, rate):
    wave = (0.1 * np.random.default_rng(0).standard_normal((2, 2 * rate))).astype(np.float32)
    out = pipe(wave, sample_rate=rate, head=head)
    assert np.array_equal(out.audio, audio.resample(wave, rate, RATE))
    audio.write(audio.Target.of(tmp_path / "a.wav", subtype="FLOAT"), wave, rate)
    pipe.restore_file(tmp_path / "a.wav", tmp_path / "b.wav", head=head, sample_rate="source")
    assert np.array_equal(audio.read(tmp_path / "b.wav").samples, wave)
    blocks = np.array_split(wave, 7, axis=1)
    streamed = np.concatenate(list(pipe.stream(blocks, rate, head=head)), axis=1)
    assert np.abs(streamed - out.audio).max() <= (0 if rate == RATE else 1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_half_the_input_makes_half_the_output(pipe, head):
    wave = programme(2.0, 2, cutoff_hz=4_000)
    wave *= 0.5 / np.abs(wave).max()
    loud = pipe(wave, sample_rate=RATE, head=head, cutoff_hz=4_000.0).audio
    for peak in (0.25, 1e-3):  # down to -60 dBFS
        scale = np.float32(peak / 0.5)
        quiet = pipe(scale * wave, sample_rate=RATE, head=head, cutoff_hz=4_000.0).audio
        error = np.square(quiet / scale - loud).mean() / np.square(loud - wave).mean()  # of what was made
        assert 10 * np.log10(error + 1e-30) < -80


@pytest.mark.parametrize("head", HEADS)
def test_pauses_of_a_gate_stay_pauses(pipe, head):
    steady = 0.1 * np.random.default_rng(0).standard_normal((2, round(6.5 * RATE)))
    wave = lowpass(steady, Recipe("cheby1", 8, 4_000.0)).astype(np.float32)
    wave[:, 2 * RATE : 3 * RATE] = 0  # both
    wave[1, 5 * RATE :] = 0  # a channel that ends, across the seam of two windows
    wave[0, 6 * RATE : 6 * RATE + 480] = 0  # 10 ms are no pause
    made = pipe(wave, sample_rate=RATE, head=head, cutoff_hz=4_000.0).audio
    assert not made[:, 2 * RATE : 3 * RATE].any() and not made[1, 5 * RATE :].any()
    added = np.square(made - wave)
    assert added[0, 6 * RATE : 6 * RATE + 480].any()
    before, usual = added[:, 2 * RATE - 1_200 : 2 * RATE - 96].mean(), added[:, RATE : 2 * RATE - 4_800].mean()
    print(f"{head}: 23 ms up to a pause {10 * np.log10(before / usual):+.2f} dB")
    assert abs(10 * np.log10(before / usual)) < 6  # restored up to the pause, as finely in time as the head sees
    assert np.abs(made - wave)[:, 2 * RATE - 2 : 2 * RATE].max() < 0.01 * np.sqrt(usual)  # and fades: no click


def test_pauses_at_another_rate_begin_when_the_resampler_has_rung(pipe, tmp_path):
    wave = audio.resample(programme(4.0, cutoff_hz=4_000), RATE, 44_100)
    wave[:, 44_100 : 2 * 44_100] = 0
    made = pipe(wave, sample_rate=44_100, head="mamba-gan", cutoff_hz=4_000.0).audio
    assert not made[:, round(1.004 * RATE) : round(1.996 * RATE)].any()
    audio.write(audio.Target.of(tmp_path / "a.wav", subtype="PCM_16"), wave, 44_100)
    pipe.restore_file(tmp_path / "a.wav", tmp_path / "b.wav", head="mamba-gan", cutoff_hz=4_000.0, sample_rate="source")
    silent = audio.read(tmp_path / "b.wav").samples[:, round(1.004 * 44_100) : round(1.996 * 44_100)]
    assert not silent.any()
