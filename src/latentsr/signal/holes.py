"""Holes below the cutoff: bands that a codec set to zero for a moment, found, and filled with what was predicted.

A recording at 48 kHz is looked at in cells of 11 ms, half overlapping, by 375 Hz. Sound fades; a codec's bands go from
one frame to the next, while those below go on. How often that happens tells a coded recording from others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from latentsr.config import AUDIO
from latentsr.signal.transforms import overlap_add, power_of

FRAME, HOP = 512, 256  # samples
BINS = 4  # of a cell
BAND_HZ = BINS * AUDIO.sample_rate / FRAME
LOWEST_HZ = 2_000.0  # of a hole; no head was trained on a cutoff below
NOTHING = 1e-13  # power of a bin of a cell that is empty

# Finding. A cell of a hole is empty, lies DEEP_DB under what fades from before it and towards what comes after it by
# FADES_DB a frame, and STEP_DB under what lies below it less FALLS_DB a band; while one of the bands from OCTAVE of it
# on goes on: it lies at most STEADY_DB under what fades by SLOWLY_DB a frame. Edges of SHARP_DB within three frames are
# counted, at both ends of holes, in what sounds up to COUNTED_TO_HZ. docs/repair.md has what was measured.
EMPTY_DB, SOUNDING_DB = -90.0, -95.0  # of full scale; rounding to 16 bit lies at -101
DEEP_DB, FADES_DB, STEP_DB, FALLS_DB, STEADY_DB, SLOWLY_DB, SHARP_DB = 20.0, 3.0, 12.0, 3.0, 6.0, 1.0, 18.0
OCTAVE, FROM_HZ, COUNTED_TO_HZ = 0.6, 1_000.0, 13_000.0
HOLED, FEWEST = 0.3e-3, 8  # a channel with as many edges is coded: of the cells that sound, and in all
FREQUENT = 0.05  # of the holes lie below where they are said to begin
CONTEXT = 128  # frames to each side that a cell is compared with: SLOWLY_DB of each is more than there is

# Filling. A cell is filled that lies MISSING_DB under the prediction, with a step as large as STEP_FILLED_DB in time or
# towards the bands below; with the prediction less MASKED_DB, since a codec drops what is masked, and not above the
# median of what sounds in its band near by: what is louder than most that was coded would have been coded.
MISSING_DB, STEP_FILLED_DB, FADES_FILLED_DB, MASKED_DB = 10.0, 10.0, 0.5, 2.0


def levels(wave: Tensor) -> Tensor:
    """Level of the cells of (..., T), dB of full scale; frames from the first sample on. (..., L, n)"""
    window = torch.hann_window(FRAME, device=wave.device)  # its root would leak a loud bass into the holes
    power = power_of(torch.fft.rfft(wave.unfold(-1, FRAME, HOP) * window))
    return _in_cells(power) - 10 * torch.log10(window.square().sum())


def _in_cells(power: Tensor) -> Tensor:
    """Mean of each `BINS` bins, dB. (..., 4 n + 1) -> (..., n)"""
    return 10 * torch.log10(power[..., :-1].unflatten(-1, (-1, BINS)).mean(dim=-1) + NOTHING)


def _faded(level: Tensor, step_db: float, dim: int) -> Tensor:
    """The highest level up to each place along `dim`, less so many dB for each step since."""
    steps = torch.arange(level.shape[dim], device=level.device, dtype=level.dtype) * step_db
    steps = steps[:, None] if dim == -2 else steps
    return (level + steps).cummax(dim).values - steps


def _dips(level: Tensor, step_db: float) -> Tensor:
    """How far cells lie under what fades from before them and towards what comes after them, dB. (..., L, n)"""
    before, after = _faded(level, step_db, -2), _faded(level.flip(-2), step_db, -2).flip(-2)
    return torch.minimum(before, after) - level


def holes_in(level: Tensor) -> Tensor:
    """Whether each cell of `levels` (C, L, n) is in a hole."""
    slow, falling = _dips(level, SLOWLY_DB), _faded(level, FALLS_DB, -1) - level
    deep = (_dips(level, FADES_DB) > DEEP_DB) & (falling > STEP_DB) & (level < EMPTY_DB)
    holes = torch.zeros_like(deep)
    for band in range(round(LOWEST_HZ / BAND_HZ), level.shape[-1]):
        below = slice(min(max(int(OCTAVE * band), round(FROM_HZ / BAND_HZ)), band - 1), band)
        holes[..., band] = deep[..., band] & (slow[..., below].amin(dim=-1) < STEADY_DB)
    return holes


class HoleFinder:
    """Hears a recording at 48 kHz in blocks and says from where on its channels have a codec's holes."""

    def __init__(self) -> None:
        self._samples: Tensor | None = None  # (C, n) of the frame that is not there yet
        self._level: Tensor | None = None  # (C, L, n) of frames that were not counted, and the context before them
        self._before = 0  # frames of that context
        # Counted so far: edges of both sides (C, 2), cells that sound (C,), cells of holes by band (C, n).
        self._edges, self._sounding, self._holes = (torch.zeros(size, dtype=torch.long) for size in ((1, 2), 1, (1, 1)))

    def update(self, block: np.ndarray | Tensor) -> None:
        """Hear samples (C, n)."""
        samples = torch.as_tensor(block)
        samples = samples if self._samples is None else torch.cat([self._samples, samples], dim=-1)
        if samples.shape[-1] >= FRAME:
            level = torch.stack([levels(channel) for channel in samples])
            self._samples = samples[:, level.shape[1] * HOP :]
            self._level = level if self._level is None else torch.cat([self._level, level], dim=1)
            self._count(CONTEXT)
        else:
            self._samples = samples

    def result(self, ends_hz: Sequence[float]) -> tuple[float | None, ...]:
        """From where on each channel has holes below its end, Hz; None: it has none. The recording is over."""
        self._count(0)
        if self._level is None:  # it was shorter than a cell
            return (None,) * len(ends_hz)
        found: list[float | None] = []
        for holes, end_hz, share, count in zip(
            self._holes, ends_hz, self._shares, self._edges.amin(dim=1), strict=True
        ):
            below = holes[: int(end_hz / BAND_HZ)]
            coded = share > HOLED and count >= FEWEST and bool(below.any())
            found.append(
                float(BAND_HZ * torch.searchsorted(below.cumsum(0), FREQUENT * below.sum())) if coded else None
            )
        return tuple(found)

    @property
    def share(self) -> float:
        """Edges of holes among the cells that sound, of the channel that has most."""
        return float(self._shares.max())

    @property
    def _shares(self) -> Tensor:
        return self._edges.amin(dim=1) / self._sounding.clamp(min=1)

    def _count(self, after: int) -> None:
        """Count in the frames that have `after` more behind them, once there are more than so many."""
        if self._level is None or (last := self._level.shape[1] - after) <= self._before + after:  # not yet worth it
            return
        level = self._level
        holes = holes_in(level)
        edge = F.pad(holes[:, 1:].int() - holes[:, :-1].int(), (0, 0, 1, 0))  # 1: a hole begins, -1: it is over
        around = F.pad(level, (0, 0, 2, 1), mode="replicate").unfold(1, 4, 1)
        sharp = around.amax(dim=-1) - around.amin(dim=-1) > SHARP_DB
        frames = slice(self._before, last)
        inside = slice(None), frames, slice(round(LOWEST_HZ / BAND_HZ), round(COUNTED_TO_HZ / BAND_HZ))
        found = torch.stack([(sharp & (edge == side))[inside].sum(dim=(1, 2)) for side in (1, -1)], dim=1)
        self._edges = self._edges + found
        self._sounding = self._sounding + (level[inside] > SOUNDING_DB).sum(dim=(1, 2))
        self._holes = self._holes + holes[:, frames].sum(dim=1)
        kept = max(last - CONTEXT, 0)
        self._level, self._before = level[:, kept:], last - kept


def fill(own: Tensor, made: Tensor, from_hz: Tensor, to_hz: Tensor) -> tuple[Tensor, int, int]:
    """Put a prediction into the holes of a recording.

    Args:
        own: (B, 1, T) the recording.
        made: (B, 1, T) what was predicted of it.
        from_hz: (B,) where the holes begin.
        to_hz: (B,) where the band ends: nothing is filled above.

    Returns:
        (B, 1, T), where nothing was filled the recording bit for bit; how many cells were filled, and of how many.
    """
    samples = own.shape[-1]
    padded, wide = (F.pad(wave[:, 0], (HOP, HOP + -samples % HOP)) for wave in (own, made))
    level, window = levels(padded), torch.hann_window(FRAME, device=own.device).sqrt()  # before and after
    spectra = torch.fft.rfft(wide.unfold(-1, FRAME, HOP) * window)
    predicted = _in_cells(power_of(spectra)) - 10 * math.log10(HOP)
    step = torch.maximum(_dips(level, FADES_FILLED_DB), _faded(level, FALLS_DB, -1) - level)
    holes = (predicted - level > MISSING_DB) & (step > STEP_FILLED_DB)
    hz = torch.arange(level.shape[-1], device=own.device) * BAND_HZ
    inside = ((hz >= from_hz[:, None]) & (hz + BAND_HZ <= to_hz[:, None]))[:, None]
    holes &= inside
    sounding = level.masked_fill(holes | (level < SOUNDING_DB), math.nan).nanmedian(dim=1, keepdim=True).values
    gain_db = (sounding - predicted).nan_to_num(math.inf).clamp(max=-MASKED_DB)
    gain = torch.where(holes, 10 ** (gain_db / 20), 0.0).repeat_interleave(BINS, dim=-1)
    filled = overlap_add(torch.fft.irfft(spectra * F.pad(gain, (0, 1)), n=FRAME) * window, HOP)[:, HOP : HOP + samples]
    looked_at = inside & (predicted > 10 * math.log10(NOTHING))  # elsewhere, nothing was predicted
    return own + filled[:, None], int(holes.sum()), int(looked_at.sum())
