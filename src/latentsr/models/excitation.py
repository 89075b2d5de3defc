"""Structured excitation: signals with a flat spectrum, made of the low band and of noise, that a network shapes.

Noise alone is too flat where a recording has harmonics, and a copied band too tonal where it has hiss (measured on
other people's extenders; docs/heads.md). So a network only says, for every 5 ms and band, how loud the made band is and
of what it consists; the fine structure of the spectrum, its phases and its time within a frame come from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from latentsr.signal.transforms import overlap_add, power_of

SAMPLE_RATE = 48_000
FRAME, HOP = 480, 240  # samples: 10 ms, 5 ms; bins of 100 Hz
BINS = FRAME // 2 + 1
OVERSAMPLED = 2  # before rectifying: what is folded back lies 23 dB below what belongs at 20 kHz
WHITENED_BINS = 11  # over which a frame's power is averaged: 1.1 kHz, more than a harmonic of most voices
COPIED_SHARE = 0.45  # of the low band, its upper end, is what is copied up,
COPIED_TO = 0.97  # as far as so much of the cutoff: the low band's own filter has taken what lies above
ENVELOPE_HOP, ENVELOPE_REACH = 16, 48  # samples: the low band's own envelope over 1 ms
SILENT = 1e-9  # power of a bin, of a wave at full scale
NAMES = ("noise", "modulated", "rectified", "copied")
FEATURE_KNOTS = 40


@cache
@torch.inference_mode(False)  # a tensor of inference mode could not be trained through
def window() -> Tensor:
    """(FRAME,) square root of a Hann window: before and after, so that frames that overlap by half sum to the wave."""
    return torch.hann_window(FRAME, device="cpu").sqrt()


@cache
@torch.inference_mode(False)
def knots_hz() -> Tensor:
    """(FEATURE_KNOTS,) frequencies at which gains are said: 250 Hz apart at the bottom, 1 kHz apart at the top."""
    steps = torch.linspace(1.0, 4.0, FEATURE_KNOTS - 1, device="cpu")
    return torch.cat([torch.zeros(1, device="cpu"), steps.cumsum(0)]) * (SAMPLE_RATE / 2 / float(steps.sum()))


@cache
@torch.inference_mode(False)
def bins_of_knots() -> Tensor:
    """(FEATURE_KNOTS, BINS) weights of a linear interpolation between knots."""
    return between_knots(torch.linspace(0, SAMPLE_RATE / 2, BINS, device="cpu"))


def between_knots(at: Tensor) -> Tensor:
    """(FEATURE_KNOTS, N) weight of each knot in a linear interpolation at N frequencies in Hz."""
    knots = knots_hz()
    place = torch.bucketize(at, knots[1:-1], right=True)
    share = ((at - knots[place]) / (knots[place + 1] - knots[place])).clamp(0, 1)
    weights = torch.zeros(len(knots), len(at), device="cpu")
    columns = torch.arange(len(at), device="cpu")
    weights[place, columns] = 1 - share
    weights[place + 1, columns] = share
    return weights


@cache
@torch.inference_mode(False)
def averaging() -> Tensor:
    """(BINS, BINS) what a row of bins is multiplied with to have each averaged over `WHITENED_BINS` of them."""
    near = (torch.arange(BINS, device="cpu")[:, None] - torch.arange(BINS, device="cpu")).abs() <= WHITENED_BINS // 2
    return near / near.sum(dim=0)


def spectra(wave: Tensor) -> Tensor:
    """STFT of (B, T), frame l centred on sample (l + 1/2) HOP. -> (B, T / HOP, BINS) complex"""
    edge = (FRAME - HOP) // 2
    frames = F.pad(wave, (edge, edge)).unfold(1, FRAME, HOP)
    return torch.fft.rfft(frames * window().to(wave))


def synthesise(spectrum: Tensor) -> Tensor:
    """The wave of `spectra`, however its bins were weighed. (B, L, BINS) -> (B, L * HOP)"""
    made = torch.fft.irfft(spectrum, n=FRAME) * window().to(spectrum.device)
    return overlap_add(made, HOP)[:, HOP // 2 : -HOP // 2]


def excitations(low: Tensor, low_spectra: Tensor, cutoff_hz: Tensor, noise: Tensor) -> list[Tensor]:
    """Signals that reach over the whole band, by the names in `NAMES`, before they are whitened.

    Args:
        low: (B, T) the low band.
        low_spectra: (B, L, BINS) its `spectra`.
        cutoff_hz: (B,) where it ends.
        noise: (B, T) or (1, T) of unit variance.

    Returns:
        Four (B, L, BINS) complex: noise; noise under the low band's envelope of 1 ms, which keeps an attack in its
        place; the low band rectified (|x| has its harmonics, as a full-wave rectifier has), each frame at twice the
        rate, where the window, which is not negative, passes through the rectifier; and the low band's upper end,
        copied up.
    """
    frames = torch.fft.irfft(low_spectra, n=OVERSAMPLED * FRAME)
    rectified = torch.fft.rfft(frames.abs())[..., :BINS]
    noise = noise.expand_as(low)
    turned = (noise.unflatten(1, (-1, 2)) * torch.tensor([1.0, -1.0], device=low.device)).flatten(1)  # mirrored in band
    copied = low_spectra.gather(2, copied_bins(cutoff_hz)[:, None].expand(-1, low_spectra.shape[1], -1))
    return [spectra(noise), spectra(turned * envelope(low)), rectified, copied]


def shaped(excitations: Sequence[Tensor], amplitudes: Tensor) -> Tensor:
    """The sum of excitations, each whitened and then given its amplitudes: a spectrum (B, L, BINS) complex.

    Whitened, a frame is divided by its own spectrum, smoothed: the mean power of a bin becomes 1.

    Args:
        excitations: K of (B, L, BINS) complex.
        amplitudes: (K, B, L, BINS).
    """
    total = None
    for excitation, amplitude in zip(excitations, amplitudes, strict=True):
        smooth = power_of(excitation) @ averaging().to(amplitude.device)
        term = excitation * (amplitude * (smooth + SILENT).rsqrt())
        total = term if total is None else total + term
    assert total is not None, "there is at least one excitation"
    return total


def envelope(low: Tensor) -> Tensor:
    """Root mean square over 1 ms, (B, T)."""
    power = F.avg_pool1d(low.square()[:, None], ENVELOPE_REACH, ENVELOPE_HOP, ENVELOPE_HOP)
    return F.interpolate(power, size=low.shape[-1], mode="linear")[:, 0].add(SILENT).sqrt()


def copied_bins(cutoff_hz: Tensor) -> Tensor:
    """The bin of the low band that each bin takes, a whole number of shifts lower. (...) -> (..., BINS) int64

    A shift by an even number of bins keeps phases in step from frame to frame: 2 pi HOP / FRAME = pi a bin.
    """
    edge = cutoff_hz / (SAMPLE_RATE / 2) * (BINS - 1)
    shift = 2 * (COPIED_SHARE / 2 * edge).round().clamp(min=1)[..., None]
    bins = torch.arange(BINS, device=cutoff_hz.device)
    end = (COPIED_TO * edge).floor()[..., None]
    above = ((bins - end) / shift).ceil().clamp(min=0)
    return (bins - above * shift).long().clamp(min=0)
