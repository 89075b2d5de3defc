"""The low band: the sharp cut at the (estimated) cutoff before the networks, and the merge after them.

Everything here multiplies spectra by real gains, so nothing moves in time.
"""

from __future__ import annotations

import math

import scipy.fft
import torch
from torch import Tensor

EDGE_S = 0.1  # odd extension at both ends, as filtfilt does, so that the ends ring like the middle
SKIRT_HZ = 100.0  # the cut goes from 1 at cutoff - 100 Hz to 0 at cutoff + 100 Hz
MERGE_FRAME = 2048  # samples; Hann, before and after
MERGE_HOP = 512  # samples; chunks that begin on a multiple of it see the same frames as the whole
MERGE_CONTEXT = 2048  # samples on either side that an output sample depends on
MERGE_FROM = 0.9  # of the cutoff: the cross-fade lies between here and the cutoff


def filter_frequencies(samples: int, sample_rate: int) -> Tensor:
    """Frequencies in Hz (float64, on the CPU) at which `filter_zero_phase` wants its gain. -> (F,)"""
    length = _padded_length(samples, sample_rate)
    return torch.arange(length // 2 + 1, dtype=torch.float64) * (sample_rate / length)


def filter_zero_phase(wave: Tensor, gain: Tensor, sample_rate: int) -> Tensor:
    """Multiply the spectrum of a wave by a real gain; length and timing stay.

    Args:
        wave: (B, 1, T).
        gain: (B, F) amplitude gain at `filter_frequencies(T, sample_rate)`.
        sample_rate: Hz.

    Returns:
        (B, 1, T).
    """
    samples = wave.shape[-1]
    length = _padded_length(samples, sample_rate)
    edge = _edge(samples, sample_rate)
    spectrum = torch.fft.rfft(extend_odd(wave, edge), n=length)
    filtered = torch.fft.irfft(spectrum * gain.to(wave)[:, None, :], n=length)
    return filtered[..., edge : edge + samples]


def cut_sharply(wave: Tensor, cutoff_hz: Tensor, sample_rate: int) -> Tensor:
    """Keep what lies below the cutoff: the low band as mel and heads get it.

    The gain is a raised cosine, 1 up to `cutoff_hz - 100`, 0.5 at the cutoff and exactly 0 from `cutoff_hz + 100` on.
    A wave whose cutoff is half the sampling rate or more comes back as it is, bit for bit.

    Args:
        wave: (B, 1, T).
        cutoff_hz: (B,) Hz, one per wave.
        sample_rate: Hz.

    Returns:
        (B, 1, T).
    """
    _check_cutoffs(wave, cutoff_hz)
    freqs_hz = filter_frequencies(wave.shape[-1], sample_rate)
    place = (freqs_hz - cutoff_hz.detach().cpu().double()[:, None]) / SKIRT_HZ  # -1 .. 1 across the skirt
    gain = 0.5 - 0.5 * torch.sin(place.clamp(-1, 1) * (math.pi / 2))
    full_band = (cutoff_hz >= sample_rate / 2).to(wave.device)[:, None, None]
    return torch.where(full_band, wave, filter_zero_phase(wave, gain, sample_rate))


def merge(low: Tensor, wide: Tensor, cutoff_hz: Tensor, sample_rate: int) -> Tensor:
    """Take what lies below the cutoff from `low` and the rest from `wide`, at the level they have.

    The two gains sum to 1 in amplitude: `low` counts in full up to 0.9 of the cutoff and not at all above the cutoff. A
    cutoff of half the sampling rate or more gives `low` back as it is. Each output sample depends on `MERGE_CONTEXT`
    samples on either side; chunks that begin on a multiple of `MERGE_HOP` and carry that context join exactly.

    Args:
        low: (B, 1, T) the recording.
        wide: (B, 1, T) what a head made of it.
        cutoff_hz: (B,) Hz, one per wave.
        sample_rate: Hz.

    Returns:
        (B, 1, T).

    >>> wave = torch.linspace(-1, 1, 4_800)[None, None]
    >>> torch.equal(merge(wave, wave, torch.tensor([4_000.0]), 48_000), wave)
    True
    """
    if low.shape != wide.shape:
        raise ValueError(f"low {tuple(low.shape)} and wide {tuple(wide.shape)} must have the same shape")
    _check_cutoffs(low, cutoff_hz)
    cutoff_hz = cutoff_hz.detach().to(low)
    freqs_hz = torch.arange(MERGE_FRAME // 2 + 1, device=low.device) * (sample_rate / MERGE_FRAME)
    place = (freqs_hz / cutoff_hz[:, None] - MERGE_FROM) / (1 - MERGE_FROM)  # 0 .. 1 across the cross-fade
    gain = 0.5 + 0.5 * torch.cos(place.clamp(0, 1) * math.pi)  # (B, F)
    # wide + gain * (low - wide): where both agree nothing is touched.
    difference = (low - wide)[:, 0]
    window = torch.hann_window(MERGE_FRAME, device=low.device, dtype=low.dtype)
    padded = torch.nn.functional.pad(difference, (0, MERGE_FRAME))  # the last frames need no special case
    spectrum = torch.stft(
        padded, MERGE_FRAME, MERGE_HOP, window=window, center=True, pad_mode="constant", return_complex=True
    )
    kept = torch.istft(
        spectrum * gain[:, :, None], MERGE_FRAME, MERGE_HOP, window=window, center=True, length=padded.shape[-1]
    )[:, None, : low.shape[-1]]
    full_band = (cutoff_hz >= sample_rate / 2)[:, None, None]
    return torch.where(full_band, low, wide + kept)


def _check_cutoffs(wave: Tensor, cutoff_hz: Tensor) -> None:
    if cutoff_hz.shape != wave.shape[:1]:
        raise ValueError(f"{wave.shape[0]} waves need as many cutoffs, got shape {tuple(cutoff_hz.shape)}")
    if not bool((cutoff_hz > 0).all()):
        raise ValueError(f"cutoffs must be above 0 Hz, got {cutoff_hz.tolist()}")


def _edge(samples: int, sample_rate: int) -> int:
    return min(samples - 1, round(EDGE_S * sample_rate))


def _padded_length(samples: int, sample_rate: int) -> int:
    return scipy.fft.next_fast_len(max(samples + 2 * _edge(samples, sample_rate), 2), real=True)


def extend_odd(wave: Tensor, edge: int) -> Tensor:
    """Point reflection about the first and the last sample. (B, 1, T) -> (B, 1, T + 2 edge)"""
    head = 2 * wave[..., :1] - wave[..., 1 : edge + 1].flip(-1)
    tail = 2 * wave[..., -1:] - wave[..., -edge - 1 : -1].flip(-1)
    return torch.cat([head, wave, tail], dim=-1)
