"""`denoise` of the embedded default on a real recording: tones and hiss go, the programme stays."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import signal

from latentsr import Pipeline
from latentsr.audio import read, resample
from latentsr.evaluation.metrics import si_sdr_db

ROOT = Path(__file__).resolve().parents[1]
RATE = 48_000
KEPT_HZ = 3_000.0


@pytest.fixture(scope="module")
def pipe():
    pipe = Pipeline.from_pretrained(heads=["mamba-gan"])
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def clean():
    """(T,) at 48 kHz, cut at 4 kHz."""
    audio = read(ROOT / "examples/drumroll_4000hz.flac")
    return resample(audio.samples.mean(axis=0), audio.sample_rate, RATE)[: 4 * RATE]


def restore(pipe, wave, **options):
    return pipe(wave.astype(np.float32), sample_rate=RATE, head="mamba-gan", denoise=True, **options)


def kept(wave):
    return torch.from_numpy(signal.sosfiltfilt(signal.butter(10, KEPT_HZ, fs=RATE, output="sos"), wave).copy())[None]


def hiss(wave, snr_db):
    noise = np.random.default_rng(0).standard_normal(len(wave))
    ratio = float(kept(wave).square().mean() / kept(noise).square().mean())
    return noise * (ratio / 10 ** (snr_db / 10)) ** 0.5


def test_a_tone_goes_down_by_40_db_and_is_named(pipe, clean):
    hz, times = 1_517.0, np.arange(len(clean)) / RATE
    beep = 0.1 * np.sin(2 * math.pi * hz * times)
    out = restore(pipe, clean + beep)
    assert out.lines_hz == pytest.approx((hz,), abs=0.2)
    left, before = (float(si_sdr_db(kept(clean), kept(wave))) for wave in (out.audio[0], clean + beep))
    assert left > before + 15
    window = np.hanning(len(clean)) * np.exp(-2j * math.pi * hz * times)
    assert 20 * math.log10(abs(out.audio[0] @ window) / abs((clean + beep) @ window)) < -40


def test_hiss_10_db_below_goes_down_and_does_not_hide_the_cutoff(pipe, clean):
    noisy = clean + hiss(clean, 10)
    out = restore(pipe, noisy)
    assert out.cutoff_hz < 5_000
    gain = float(si_sdr_db(kept(clean), kept(out.audio[0])) - si_sdr_db(kept(clean), kept(noisy)))
    assert gain > 2.5


def test_stream_hears_the_same_noise(pipe, clean):
    noisy = (clean + hiss(clean, 10)).astype(np.float32)  # shorter than the latency: all of it is heard first
    whole = restore(pipe, noisy).audio
    blocks = [noisy[i : i + 10_000] for i in range(0, len(noisy), 10_000)]
    parts = list(pipe.stream(blocks, RATE, head="mamba-gan", denoise=True))
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)


def test_windows_of_a_longer_recording_join_without_a_seam(pipe, clean):
    long = np.tile(clean, 4)
    noisy = long + hiss(long, 10) + 0.05 * np.sin(2 * math.pi * 1_517.0 * np.arange(len(long)) / RATE)
    out = restore(pipe, noisy).audio[0]
    steps = np.abs(np.diff(out))
    seam = round(5.12 * RATE)  # where the first window ends
    assert steps[seam - 2_400 : seam + 2_400].max() <= steps.max()
    error = kept(out)[0] - kept(long)[0]
    around = [float(error[i : i + 4_800].square().mean()) for i in range(RATE, len(long) - RATE, 4_800)]
    at_seam = float(error[seam - 2_400 : seam + 2_400].square().mean())
    assert at_seam < 4 * np.median(around)
