"""Tracks that play through: each restored alone, they join as the whole does."""

import numpy as np
import pytest
import scipy.signal as ss
import torch

from latentsr import Pipeline, audio
from latentsr.audio import Resampler, resample

RATE, SECTOR = 44_100, 588


@pytest.fixture(scope="module")
def pipe():
    made = Pipeline.from_pretrained(heads=["mamba-gan"])
    made.set_progress_bar_config(disable=True)
    return made


def noise_below(hz: float, samples: int) -> np.ndarray:
    sections = ss.cheby1(8, 0.1, hz, fs=RATE, output="sos")
    return ss.sosfiltfilt(sections, 0.05 * np.random.default_rng(0).standard_normal(samples))


def tones(samples: int) -> np.ndarray:
    t = np.arange(samples) / RATE
    return 0.3 * np.sin(2 * np.pi * 220 * t + 1) + 0.15 * np.sin(2 * np.pi * 660 * t)


def seam_db(whole: np.ndarray, joined: np.ndarray, at: int, below_hz: float) -> float:
    """Difference within 1 ms of a joint, in the kept band, against the whole there.

    The filter falls 120 dB within 800 Hz: the made bands, which differ, begin a little above.
    """
    taps, near = ss.firwin(601, below_hz, window=("kaiser", 12.0), fs=48_000), slice(at - 48, at + 48)
    difference, wanted = (ss.oaconvolve(x, taps, mode="same")[near] for x in (joined - whole, whole))
    return 10 * np.log10((difference**2).sum() / (wanted**2).sum())


@pytest.mark.parametrize(
    ("end_hz", "tonal", "most_db"), [(4_000.0, True, -60.0), (4_000.0, False, -60.0), (16_000.0, False, -45.0)]
)
def test_tracks_restored_alone_join_in_the_kept_band(pipe, end_hz, tonal, most_db):
    samples = 3 * RATE // (2 * SECTOR) * 2 * SECTOR
    wave = (tonal * tones(samples) + noise_below(end_hz, samples)).astype(np.float32)
    half = samples // 2 // SECTOR * SECTOR
    whole, first, second = (
        pipe(part, sample_rate=RATE, cutoff_hz=end_hz).audio[0].astype(float)
        for part in (wave, wave[:half], wave[half:])
    )
    assert seam_db(whole, np.concatenate([first, second]), len(first), 2_500.0) < most_db


def test_a_resampled_recording_ends_as_it_would_go_on():
    """Cut in two and joined after resampling: within 1 ms of the joint -90 dB of a tone, -60 dB of noise to 4 kHz."""
    samples = 2 * RATE // (2 * SECTOR) * 2 * SECTOR
    half = samples // 2 // SECTOR * SECTOR
    for wave, most_db in ((tones(samples), -90.0), (noise_below(4_000.0, samples), -60.0)):
        whole, first, second = (resample(part[None], RATE, 48_000)[0] for part in (wave, wave[:half], wave[half:]))
        assert seam_db(whole, np.concatenate([first, second]), len(first), 2_500.0) < most_db


def test_a_loud_start_does_not_overshoot():
    """Noise of full scale that begins in mid wave, which turned round is three times as loud."""
    wave = np.random.default_rng(3).uniform(-1, 1, (1, 16_000)).astype(np.float32)
    made = resample(wave, 16_000, 48_000)
    assert max(np.abs(made[:, :48]).max(), np.abs(made[:, -48:]).max()) <= 1.0


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44_100, 48_000), (48_000, 44_100), (44_056, 48_000), (44_099, 48_000)])
@pytest.mark.parametrize("samples", [1, 2, 50, 4_409, 4_411, 30_000])
def test_blocks_of_any_size_make_what_the_whole_makes(from_hz, to_hz, samples):
    wave = np.random.default_rng(1).uniform(-0.5, 0.5, (2, samples)).astype(np.float32)
    whole = resample(wave, from_hz, to_hz)
    assert whole.shape == (2, audio.output_length(samples, from_hz, to_hz))
    for block in (1_000, 4_410, 50_000):
        resampler = Resampler(from_hz, to_hz)
        parts = [resampler.push(wave[:, at : at + block]) for at in range(0, samples, block)]
        made = np.concatenate([*parts, resampler.finish()], axis=1)
        assert made.shape == whole.shape
        assert np.abs(made - whole).max(initial=0) < 1e-5
    assert torch.isfinite(torch.from_numpy(whole)).all()
