"""Noise in the place of a wave whose spectrogram is smooth: the same loudness over time and frequency, no buzz.

A decoder that draws one spectrum every 10 ms and learnt from magnitudes alone repeats its phases from frame to frame,
and what should hiss buzzes at the rate of the frames.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

N_FFT, HOP = 256, 64  # samples: 5.3 ms, half of a mel frame, so that onsets stay sharp
SMOOTHED = (3, 9)  # bins x frames over which the envelope is averaged: 560 Hz, 12 ms, more than one mel frame
SILENT = 1e-20


def as_noise(wave: Tensor, noise: Tensor, share: float = 1.0) -> Tensor:
    """Replace a share of a wave's power by noise under the wave's own envelope.

    Args:
        wave: (B, 1, T), T a multiple of 64.
        noise: (1, 1, T) or (B, 1, T) of unit variance.
        share: of the power; 0 gives the wave back.

    Returns:
        (B, 1, T)
    """
    window = torch.hann_window(N_FFT, device=wave.device)
    spectra, noises = (
        torch.stft(x[:, 0].float(), N_FFT, HOP, window=window, return_complex=True) for x in (wave, noise)
    )
    padding = (SMOOTHED[0] // 2, SMOOTHED[1] // 2)
    heard = spectra.abs().square()[:, None]
    power = F.avg_pool2d(heard, SMOOTHED, 1, padding, count_include_pad=False)[:, 0]
    power = power / float(window.square().sum())  # of noise of unit variance: 1
    made = torch.istft(noises * (power + SILENT).sqrt(), N_FFT, HOP, window=window, length=wave.shape[-1])
    return (1 - share) ** 0.5 * wave + share**0.5 * made[:, None].to(wave)
