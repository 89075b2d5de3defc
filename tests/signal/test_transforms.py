"""Lengths, overlap and add, and long FIRs, against scipy and plain sums."""

import numpy as np
import scipy.fft
import torch
from torch.testing import assert_close

from latentsr.signal.transforms import fast_length, filter_symmetric, overlap_add


def test_lengths_are_scipys():
    lengths = [*range(1, 2_000), 343_680, 999_999]
    assert [fast_length(n) for n in lengths] == [scipy.fft.next_fast_len(n, real=True) for n in lengths]


def test_overlapping_frames_are_summed():
    frames, wanted = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 4 * 4 + 12)
    for index in range(5):
        wanted[:, 4 * index : 4 * index + 12] += frames[:, index]
    assert_close(overlap_add(frames, 4), wanted)


def test_a_symmetric_fir_is_a_convolution():
    rng = np.random.default_rng(0)
    wave, taps = rng.standard_normal(500), rng.standard_normal(31)
    wanted = np.convolve(wave, np.concatenate([taps[:0:-1], taps]), mode="same")
    made = filter_symmetric(torch.from_numpy(wave)[None, None], torch.from_numpy(taps)[None])
    assert_close(made[0, 0], torch.from_numpy(wanted))
