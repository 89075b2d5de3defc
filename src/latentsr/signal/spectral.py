"""Changing the rate of whole windows on any device, in the spectrum: nothing moves in time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentsr.signal.lowband import cut_sharply, extend_odd

EDGE_S = 0.1  # odd extension at both ends before resampling, so that one end does not ring into the other
PASSBAND = 0.95  # of half the lower rate: full gain up to here, none from half the rate on, as sox's `rate` has it
SKIRT_HZ = 100.0  # of the cut before every second sample is dropped: it is exactly 0 so far above


def resample(wave: Tensor, rate: int, new_rate: int) -> Tensor:
    """Change the sampling rate by cutting or filling up the spectrum of the whole wave: nothing moves in time.

    The ends are extended over `EDGE_S`, since the transform takes the wave for periodic.

    Args:
        wave: (B, 1, T).
        rate: Hz, of the wave.
        new_rate: Hz.

    Returns:
        (B, 1, T new_rate / rate), of the last samples those left out that last no whole number of new ones.

    >>> resample(torch.zeros(1, 1, 48_100), 48_000, 44_100).shape
    torch.Size([1, 1, 44100])
    """
    divisor = math.gcd(rate, new_rate)
    step, new_step = rate // divisor, new_rate // divisor  # so many samples last equally long
    steps = wave.shape[-1] // step
    edge = min(round(EDGE_S * rate) // step, steps - 1)  # in steps
    extended = extend_odd(wave[..., : steps * step], edge * step)
    length, new_length = ((steps + 2 * edge) * n for n in (step, new_step))
    spectrum = torch.fft.rfft(extended)
    top = min(length, new_length) / 2  # bin at half the lower rate
    place = (torch.arange(spectrum.shape[-1], device=wave.device) / top - PASSBAND) / (1 - PASSBAND)
    gain = 0.5 + 0.5 * torch.cos(place.clamp(0, 1) * math.pi)
    resampled = torch.fft.irfft(spectrum * gain, n=new_length) * (new_length / length)
    return resampled[..., edge * new_step : (edge + steps) * new_step]


def half_rate(low: Tensor, sample_rate: int) -> Tensor:
    """Every second sample of what lies below a quarter of the rate; nothing folds. (B, 1, T) -> (B, 1, T / 2)"""
    ends = torch.full((low.shape[0],), sample_rate / 4 - SKIRT_HZ, device=low.device)
    return cut_sharply(low, ends, sample_rate)[..., ::2]
