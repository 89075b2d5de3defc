"""What signal code needs around a Fourier transform: good lengths, powers, overlap and add, long symmetric FIRs."""

from __future__ import annotations

import torch
from torch import Tensor


def fast_length(samples: int) -> int:
    """The shortest length from `samples` on that has no prime factor above 5: scipy's `next_fast_len`, not its import.

    >>> fast_length(1), fast_length(97), fast_length(1025)
    (1, 100, 1080)
    """
    best, fives = 1 << (samples - 1).bit_length(), 1
    while fives < best:
        threes = fives
        while threes < best:
            best = min(best, threes << (-(-samples // threes) - 1).bit_length())
            threes *= 3
        fives *= 5
    return best


def power_of(spectrum: Tensor) -> Tensor:
    """Squared magnitudes; torch's `abs` of complex numbers takes four times as long."""
    squares = torch.view_as_real(spectrum).square()
    return squares[..., 0] + squares[..., 1]


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """Sum of frames `hop` samples apart, which divides their length. (B, L, n) -> (B, (L - 1) hop + n)"""
    parts = frames.unflatten(-1, (-1, hop))
    wave = frames.new_zeros(len(frames), parts.shape[1] + parts.shape[2] - 1, hop)
    for index, part in enumerate(parts.unbind(2)):
        wave[:, index : index + parts.shape[1]] += part
    return wave.flatten(1)


def filter_symmetric(wave: Tensor, taps: Tensor) -> Tensor:
    """Convolve waves (B, 1, T) with symmetric FIRs (B, N + 1), the middle tap first; length and timing stay."""
    samples, reach = wave.shape[-1], taps.shape[-1] - 1
    length = fast_length(samples + 2 * reach)
    around = torch.zeros(len(taps), length, dtype=taps.dtype)
    around[:, : reach + 1] = taps
    around[:, length - reach :] = taps[:, 1:].flip(-1)
    gain = torch.fft.rfft(around).real.to(wave)[:, None]
    return torch.fft.irfft(torch.fft.rfft(wave, n=length) * gain, n=length)[..., :samples]
