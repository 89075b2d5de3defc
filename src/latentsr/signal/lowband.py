"""The low band: the sharp cut at the (estimated) cutoff before the networks, and the merge after them.

Everything here multiplies spectra by real gains, so nothing moves in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from latentsr.signal.track import SKIRT_BIN_HZ, Skirt
from latentsr.signal.transforms import fast_length, overlap_add

EDGE_S = 0.1  # odd extension at both ends, as filtfilt does, so that the ends ring like the middle
SKIRT_HZ = 100.0  # the cut goes from 1 at cutoff - 100 Hz to 0 at cutoff + 100 Hz
MERGE_FRAME = 2048  # samples; Hann, before and after
MERGE_HOP = 512  # samples; chunks that begin on a multiple of it see the same frames as the whole
MERGE_CONTEXT = 2048  # samples on either side that an output sample depends on
END_FADE = 96  # samples: 2 ms
MERGE_FROM = 0.9  # of the cutoff: the cross-fade lies between here and the cutoff
SKIRT_FROM, SKIRT_IN = 0.88, 0.92  # of the cutoff: a given skirt comes in between them; estimates err by a tenth


def filter_zero_phase(wave: Tensor, gain_at: Callable[[Tensor], Tensor], sample_rate: int) -> Tensor:
    """Multiply the spectrum of a wave by a real gain; length and timing stay.

    Args:
        wave: (B, 1, T).
        gain_at: gives the amplitude gain (B, F) at frequencies (F,) in Hz, in float64 on the CPU.
        sample_rate: Hz.

    Returns:
        (B, 1, T).
    """
    samples = wave.shape[-1]
    edge = min(samples - 1, round(EDGE_S * sample_rate))
    length = fast_length(max(samples + 2 * edge, 2))
    gain = gain_at(torch.arange(length // 2 + 1, dtype=torch.float64) * (sample_rate / length))
    spectrum = torch.fft.rfft(extend_odd(wave, edge), n=length).mul_(gain.to(wave)[:, None, :])
    filtered = torch.fft.irfft(spectrum, n=length)
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

    def gain_at(freqs_hz: Tensor) -> Tensor:
        gain = torch.zeros(len(wave), len(freqs_hz), dtype=torch.float64)
        for row, hz in zip(gain, cutoff_hz.tolist(), strict=True):
            first, last = torch.searchsorted(freqs_hz, torch.tensor([hz - SKIRT_HZ, hz + SKIRT_HZ]).double()).tolist()
            row[:first] = 1.0
            row[first:last] = 0.5 - 0.5 * torch.sin((freqs_hz[first:last] - hz) * (math.pi / 2 / SKIRT_HZ))
        return gain

    return _where_cut(wave, filter_zero_phase(wave, gain_at, sample_rate), cutoff_hz, sample_rate)


def merge(
    low: Tensor, wide: Tensor, cutoff_hz: Tensor, sample_rate: int, skirts: Sequence[Skirt | None] | None = None
) -> Tensor:
    """Take what lies below the cutoff from `low` and the rest from `wide`, at the level they have.

    The two shares sum to 1 in amplitude: `low` counts in full up to 0.9 of the cutoff and not at all above the cutoff,
    or, where its skirt is known, by what the skirt kept above `SKIRT_FROM` of the cutoff, raised by what it took. A
    cutoff of half the sampling rate or more gives `low` back as it is. Each output sample depends on `MERGE_CONTEXT`
    samples on either side; chunks that begin on a multiple of `MERGE_HOP` and carry that context join exactly.

    Args:
        low: (B, 1, T) the recording.
        wide: (B, 1, T) what a head made of it.
        cutoff_hz: (B,) Hz, one per wave.
        sample_rate: Hz.
        skirts: one per wave, None where it is not known; None: none is.

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
    share = 0.5 + 0.5 * torch.cos(place.clamp(0, 1) * math.pi)  # (B, F)
    # The ends are extended oddly by whole hops, so that chunks that begin on one go on seeing the same frames.
    edge = min(MERGE_CONTEXT, (low.shape[-1] - 1) // MERGE_HOP * MERGE_HOP)
    if skirts is None or not any(skirts):
        # wide + share * (low - wide): where both agree nothing is touched.
        spectrum = _spectrum(low - wide, edge).mul_(share[:, None])
    else:
        share, raised = _skirted(share, skirts, cutoff_hz, freqs_hz)
        spectrum = _spectrum(low - wide, edge) * share[:, None] + _spectrum(low, edge) * (share * raised)[:, None]
    kept = _from_spectrum(spectrum, low, edge)
    return _where_cut(low, _ended_as(low, wide + kept), cutoff_hz, sample_rate)


def _where_cut(wave: Tensor, made: Tensor, cutoff_hz: Tensor, sample_rate: int) -> Tensor:
    """What was made (B, 1, T) of waves, but for those with nothing above their cutoff, which stay."""
    full_band = cutoff_hz >= sample_rate / 2
    return torch.where(full_band.to(wave.device)[:, None, None], wave, made) if bool(full_band.any()) else made


def _ended_as(low: Tensor, merged: Tensor) -> Tensor:
    """Fade the merge in, in place, in a recording's first and last 2 ms: its filter does not know what lies beyond.

    So tracks that play through still join.
    """
    ramp = min(END_FADE, low.shape[-1] // 2)
    share = 0.5 - 0.5 * torch.cos((torch.arange(ramp, device=low.device) + 0.5) * (math.pi / END_FADE))
    for at, rise in ((slice(None, ramp), share), (slice(low.shape[-1] - ramp, None), share.flip(0))):
        merged[..., at] = torch.lerp(low[..., at], merged[..., at], rise.to(low))
    return merged


def _skirted(
    share: Tensor, skirts: Sequence[Skirt | None], cutoff_hz: Tensor, freqs_hz: Tensor
) -> tuple[Tensor, Tensor]:
    """The recordings' shares (B, F), those with a skirt by it, and how much each is raised: gain - 1, (B, F)."""
    share, raised = share.clone(), torch.zeros_like(share)
    for row, (skirt, hz) in enumerate(zip(skirts, cutoff_hz, strict=True)):
        if skirt is None:
            continue
        place = (freqs_hz / hz - SKIRT_FROM) / (SKIRT_IN - SKIRT_FROM)
        depth = 0.5 - 0.5 * torch.cos(place.clamp(0, 1) * math.pi)
        bins_hz, wanted_hz = np.arange(len(skirt.kept)) * SKIRT_BIN_HZ, freqs_hz.cpu().numpy()
        kept, raise_db = (
            torch.from_numpy(np.interp(wanted_hz, bins_hz, values)).to(freqs_hz)  # the last one holds above its bin
            for values in (skirt.kept, skirt.raise_db)
        )
        share[row] = 1 - depth * (1 - kept)
        raised[row] = torch.pow(10, depth * raise_db / 20) - 1
    return share, raised


def _spectrum(wave: Tensor, edge: int) -> Tensor:
    """Of a wave extended at both ends, so that these are kept as its middle is. (B, 1, T) -> (B, frames, F)"""
    extended = extend_odd(wave, edge)[:, 0]
    padded = torch.nn.functional.pad(extended, (MERGE_FRAME, 2 * MERGE_FRAME))  # no end needs a special case
    window = torch.hann_window(MERGE_FRAME, device=wave.device, dtype=wave.dtype)
    return torch.fft.rfft(padded.unfold(-1, MERGE_FRAME, MERGE_HOP) * window)


def _from_spectrum(spectrum: Tensor, like: Tensor, edge: int) -> Tensor:
    """(B, frames, F) -> (B, 1, T) as long as `like`."""
    start = MERGE_FRAME + edge
    window = torch.hann_window(MERGE_FRAME, device=like.device, dtype=like.dtype)
    window = window * (MERGE_HOP / window.square().sum())  # squares of windows a hop apart sum to a constant
    wave = overlap_add(torch.fft.irfft(spectrum).mul_(window), MERGE_HOP)
    return wave[:, None, start : start + like.shape[-1]]


def _check_cutoffs(wave: Tensor, cutoff_hz: Tensor) -> None:
    if cutoff_hz.shape != wave.shape[:1]:
        raise ValueError(f"{wave.shape[0]} waves need as many cutoffs, got shape {tuple(cutoff_hz.shape)}")
    if not bool((cutoff_hz > 0).all()):
        raise ValueError(f"cutoffs must be above 0 Hz, got {cutoff_hz.tolist()}")


def extend_odd(wave: Tensor, edge: int) -> Tensor:
    """Point reflection about the first and the last sample. (B, 1, T) -> (B, 1, T + 2 edge)"""
    head = 2 * wave[..., :1] - wave[..., 1 : edge + 1].flip(-1)
    tail = 2 * wave[..., -1:] - wave[..., -edge - 1 : -1].flip(-1)
    return torch.cat([head, wave, tail], dim=-1)
