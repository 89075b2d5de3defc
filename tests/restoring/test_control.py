"""Gains of the made band: each does what it says to what was made, and nothing to the recording."""

import numpy as np
import pytest
import scipy.signal as ss
import torch

from latentsr import audio
from latentsr.errors import UsageError
from latentsr.options import Options
from latentsr.restoring.chain import Control
from tiny import RATE, programme, tiny_pipeline

CUTOFF_HZ = 4_000.0
GAINS = {"amount": 0.7, "tilt": 3.0, "sibilance": 6.0, "ceiling_hz": 15_000.0}


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def wave():
    return programme(8.0, 2)  # two windows


@pytest.fixture(scope="module")
def plain(pipe, wave):
    made = restored(pipe, wave)
    assert np.abs(made).max() < 0.9  # below full scale, or the limiter would have a say
    return made


def restored(pipe, wave, **gains):
    return pipe(wave, sample_rate=RATE, steps=1, cutoff_hz=CUTOFF_HZ, **gains).audio


def db(wave, from_hz=0.0, to_hz=RATE / 2):
    """Energy of a band, without its first and last 50 ms."""
    inside = wave[..., RATE // 20 : -RATE // 20] * np.hanning(wave.shape[-1] - RATE // 10)
    hz = np.fft.rfftfreq(inside.shape[-1], 1 / RATE)
    return 10 * np.log10(np.square(np.abs(np.fft.rfft(inside)[..., (hz >= from_hz) & (hz < to_hz)])).sum() + 1e-30)


def test_amount_0_gives_the_recording_back_to_the_bit(pipe, wave, tmp_path):
    assert np.array_equal(restored(pipe, wave, amount=0), wave)
    assert np.array_equal(restored(pipe, wave, amount="0%"), wave)
    assert np.array_equal(np.concatenate(list(pipe.stream([wave], RATE, amount=0.0, steps=1)), axis=1), wave)
    audio.write(audio.Target.of(tmp_path / "a.wav", subtype="FLOAT"), wave, RATE)
    pipe.restore_file(tmp_path / "a.wav", tmp_path / "b.wav", amount=0.0, steps=1)
    assert np.array_equal(audio.read(tmp_path / "b.wav").samples, wave)
    third = audio.resample(wave, RATE, 16_000)
    assert np.array_equal(pipe(third, sample_rate=16_000, amount=0, steps=1).audio, audio.resample(third, 16_000, RATE))


def test_amount_is_a_gain_of_what_was_made(pipe, wave, plain):
    half = restored(pipe, wave, amount="-6dB")
    assert db(half - wave) - db(plain - wave) == pytest.approx(-6.0, abs=0.1)
    assert db(half - wave, 0, 0.8 * CUTOFF_HZ) - db(wave) < -80
    assert np.array_equal(restored(pipe, wave, amount="50%"), restored(pipe, wave, amount=0.5))


@pytest.mark.parametrize("tilt", [-6.0, 3.0])
def test_tilt_is_a_slope_above_the_cutoff(pipe, wave, plain, tilt):
    tilted = restored(pipe, wave, tilt=tilt, amount=0.5)
    centres = CUTOFF_HZ * 2 ** np.array([0.25, 0.75, 1.25, 1.75, 2.25])
    gains = [
        db(tilted - wave, hz * 2**-0.05, hz * 2**0.05) - db(plain - wave, hz * 2**-0.05, hz * 2**0.05) for hz in centres
    ]
    slope, at_cutoff = np.polyfit(np.log2(centres / CUTOFF_HZ), gains, 1)
    assert (slope, at_cutoff) == (pytest.approx(tilt, abs=0.1), pytest.approx(-6.0, abs=0.2))
    assert db(tilted - wave, 0, 0.8 * CUTOFF_HZ) - db(wave) < -80


def test_above_the_ceiling_nothing_is_made(pipe, wave, plain):
    lower = restored(pipe, wave, ceiling_hz=12_000.0)
    assert db(lower - wave, 12_000.0) - db(plain - wave, 12_000.0) < -60
    assert db(lower - plain, 0, 11_700.0) - db(plain - wave, 0, 11_700.0) < -60


def test_sibilance_acts_where_there_is_no_pitch(pipe):
    """A voice of 120 Hz, then noise from 2 to 4 kHz, in turn."""
    samples = 8 * RATE
    seconds = np.arange(samples) / RATE
    voice = sum(np.cos(2 * np.pi * 120 * k * seconds + k) / k for k in range(1, 30))
    hiss = ss.sosfilt(
        ss.butter(8, (2_000, 3_800), "bandpass", fs=RATE, output="sos"),
        np.random.default_rng(0).standard_normal(samples),
    )
    hissing = np.floor(seconds / 0.4) % 2 == 1
    wave = 0.03 * np.where(hissing, 2 * hiss, voice)[None].astype(np.float32)
    plain, raised = restored(pipe, wave), restored(pipe, wave, sibilance=6.0)
    steady = np.abs(seconds % 0.4 - 0.2) < 0.14  # 60 ms from where one follows the other

    def gain_db(where):
        energies = [np.square(made - wave)[0, where & steady].sum() for made in (raised, plain)]
        return 10 * np.log10(energies[0] / energies[1])

    assert gain_db(hissing) == pytest.approx(6.0, abs=0.3)
    assert gain_db(~hissing) == pytest.approx(0.0, abs=0.3)
    assert db(raised - wave, 0, 0.8 * CUTOFF_HZ) - db(wave) < -80


def test_how_it_is_cut_changes_nothing(pipe, wave):
    """In blocks, and in windows of half the length beside those of the whole."""
    whole = restored(pipe, wave, **GAINS)
    alike = pipe(wave, sample_rate=RATE, steps=1, cutoff_hz=CUTOFF_HZ).channel_correlation
    known = {"peak": float(np.abs(wave).max()), "channel_correlation": alike, "cutoff_hz": CUTOFF_HZ, "steps": 1}
    blocks = pipe.stream(np.array_split(wave, 9, axis=1), RATE, **known, **GAINS)
    assert np.abs(np.concatenate(list(blocks), axis=1) - whole).max() < 1e-6


def test_the_gains_are_the_same_in_any_window():
    """A window of a recording, as the engine takes it, has the gains of the whole."""
    kept = torch.from_numpy(programme(6.0))[None]
    merged = kept + torch.from_numpy(programme(6.0, seed=1, cutoff_hz=20_000))[None]
    control, ends = Control(**GAINS), torch.tensor([CUTOFF_HZ])
    whole = control(kept, merged, ends)
    window = slice(7 * 3_840, 60 * 3_840)
    part = control(kept[..., window], merged[..., window], ends)
    assert float((part - whole[..., window])[..., 3_840:-3_840].abs().max()) < 1e-6


def test_without_any_nothing_runs(pipe, wave, plain):
    assert Control.of(Options()) is None
    assert np.array_equal(restored(pipe, wave, amount=1.0, tilt=0.0, sibilance=0.0), plain)


def test_noise_taken_out_stays_out(pipe, wave, plain):
    """With denoise, 0 % is the cleaned recording."""
    noisy = wave + 0.003 * np.random.default_rng(1).standard_normal(wave.shape).astype(np.float32)
    full, none = (restored(pipe, noisy, denoise=True, amount=amount) for amount in (1.0, 0.0))
    assert db(none - full, 0, 0.8 * CUTOFF_HZ) - db(full) < -60
    assert db(none, 6_000.0) - db(full, 6_000.0) < -10


@pytest.mark.parametrize(
    ("gains", "says"),
    [
        ({"amount": -0.1}, "amount must be 0% to 400%, or up to 12dB, got -10%"),
        ({"amount": "13dB"}, "amount must be 0% to 400%"),
        ({"amount": "half"}, "like 50% or -6dB, got 'half'"),
        ({"amount": "0.5"}, "like 50% or -6dB"),
        ({"amount": float("nan")}, "amount must be"),
        ({"tilt": 12.5}, "tilt must be -12 to 12"),
        ({"sibilance": -13}, "sibilance must be -12 to 12"),
        ({"ceiling_hz": 500.0}, "ceiling_hz must be 1000 to 24000"),
        ({"ceiling_hz": 4_000.0, "cutoff_hz": 5_000.0}, "ceiling 4000 Hz is not above the cutoff 5000 Hz"),
    ],
)
def test_what_is_out_of_range_is_wrong_usage(gains, says):
    with pytest.raises(UsageError, match=says):
        Options(**gains)
