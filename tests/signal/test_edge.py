"""A recording is kept up to its edge: what was there below a steep end is not made anew."""

import numpy as np
import pytest
import scipy.signal
import torch

from latentsr.bandwidth import BandEstimator
from latentsr.signal.lowband import merge

RATE = 48_000


def recording(cutoff_hz, seed=0):
    """Noise that falls by 6 dB an octave and comes and goes, cut by a Chebyshev filter of order 12; (1, T)."""
    rng = np.random.default_rng(seed)
    noise = scipy.signal.lfilter([1], [1, -0.96], rng.standard_normal(4 * RATE)) * np.repeat(
        rng.uniform(0.1, 1, 40), 4_800
    )
    sos = scipy.signal.cheby1(12, 0.05, cutoff_hz, fs=RATE, output="sos")
    return (0.02 * scipy.signal.sosfilt(sos, noise)).astype(np.float32)[None]


@pytest.mark.parametrize("cutoff_hz", [3_200, 5_000, 7_900, 11_300])
def test_a_recording_is_kept_up_to_its_edge(cutoff_hz):
    wave = recording(cutoff_hz)
    estimator = BandEstimator(RATE)
    estimator.update(wave)
    [[stretch]] = estimator.result().channels
    given, nothing = torch.from_numpy(wave)[None], torch.zeros(1, 1, wave.shape[1])
    kept = merge(given, nothing, torch.tensor([stretch.cutoff_hz]), RATE, [stretch.skirt])[0, 0].numpy()
    hz, power = scipy.signal.welch(wave[0], RATE, nperseg=4096)
    _, lost = scipy.signal.welch(wave[0] - kept, RATE, nperseg=4096)
    below, last = (hz > 200) & (hz < 0.94 * cutoff_hz), (hz > 0.9 * cutoff_hz) & (hz < 0.97 * cutoff_hz)
    assert 10 * np.log10(lost[below].sum() / power[below].sum()) < -40
    assert 10 * np.log10(lost[last].sum() / power[last].sum()) < -6
    assert not any(stretch.skirt.raise_db)
