"""Levels: the network's input gain, an output that never passes full scale, and silence that stays silence.

Digital silence is looked for at 48 kHz, where a stream is too. A recording of another rate is resampled first: its
pauses begin with the filter's ringing (3 ms of it at 44.1 kHz), and hold rounding of about 1e-16 of the peak. So what
lies 180 dB below the peak is silence: less than float32 holds beside the peak, and no integer file has it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from latentsr.signal.transforms import filter_symmetric

NETWORK_PEAK = 0.5  # of a recording, as the networks get it
LARGEST_GAIN = 1000.0  # 60 dB: silence and dust are not blown up further
LIMITER_SAMPLES = 480  # 10 ms on each side of a peak
SHORTEST = 960  # samples, 20 ms: a shorter run of zeros may be a quiet moment of a programme
FADE = 96  # samples, 2 ms, of the sound beside it, over which what was made comes in
SILENT = 1e-9  # of the recording's peak


def network_gain(peak: float) -> float:
    """One gain for the whole recording, which brings its peak to where the networks were trained."""
    return min(NETWORK_PEAK / peak, LARGEST_GAIN) if peak > 0 else 1.0


def turn_down(source: Tensor, restored: Tensor, ceiling: float) -> Tensor:
    """Hold |output| <= ceiling by turning down, smoothly, only what restoration added. (C, T), (C, T) -> (C, T)

    The output is source + g (restored - source) with 0 <= g <= 1, one g for all channels. `source` itself must keep to
    the ceiling. A peak acts on LIMITER_SAMPLES to each side of it.
    """
    over = (restored.abs() > ceiling).any(dim=0).nonzero()[:, 0]
    apart = (over.diff() > 2 * StreamTurnDown.CONTEXT).nonzero()[:, 0] + 1
    made = restored.clone() if len(over) else restored
    for peaks in over.tensor_split(apart) if len(over) else ():
        near = slice(max(int(peaks[0]) - StreamTurnDown.CONTEXT, 0), int(peaks[-1]) + StreamTurnDown.CONTEXT + 1)
        made[:, near] = _turned_down(source[:, near], restored[:, near], ceiling)
    return made


def _turned_down(source: Tensor, restored: Tensor, ceiling: float) -> Tensor:
    added = restored - source
    # The largest g that keeps every sample within the ceiling, on the side that `added` points to.
    room = torch.where(added > 0, ceiling - source, ceiling + source).clamp(min=0)
    gain = torch.where(restored.abs() > ceiling, room / added.abs().clamp(min=1e-9), 1.0).amin(dim=0).clamp(max=1)
    reach = LIMITER_SAMPLES
    lowest, width = F.pad(gain, (2 * reach, 2 * reach), value=1.0), 1
    while width < 2 * reach + 1:  # by doubling: a minimum over each width in turn
        step = min(width, 2 * reach + 1 - width)
        lowest, width = torch.minimum(lowest[step:], lowest[:-step]), width + step
    window = torch.hann_window(2 * reach + 1, periodic=False)
    smooth = 1 - filter_symmetric(1 - lowest[None, None], (window / window.sum())[None, reach:])[0, 0, reach:-reach]
    return (source + torch.minimum(smooth, gain) * added).clamp(-ceiling, ceiling)


class StreamTurnDown:
    """`turn_down` of a recording that comes in blocks: the same to the last bits, and late by `CONTEXT` samples."""

    CONTEXT = 2 * LIMITER_SAMPLES  # on each side of a sample that its gain depends on

    def __init__(self, ceiling: float) -> None:
        self.ceiling = ceiling
        self._held: Tensor | None = None  # (2, C, n) source and restored
        self._given = 0  # samples of what is held that are context alone

    def push(self, source: Tensor, restored: Tensor) -> Tensor:
        """(C, n), (C, n) -> (C, m)"""
        block = torch.stack([source, restored])
        self._held = block if self._held is None else torch.cat([self._held, block], dim=-1)
        return self._ready(self._held, self._held.shape[-1] - self.CONTEXT)

    def finish(self) -> Tensor:
        """The rest. (C, m)"""
        if self._held is None:
            return torch.zeros(0, 0)
        return self._ready(self._held, self._held.shape[-1])

    def _ready(self, held: Tensor, stop: int) -> Tensor:
        if stop <= self._given:
            return held[0, :, :0]
        made = turn_down(held[0], held[1], self.ceiling)[:, self._given : stop]
        gone = max(stop - self.CONTEXT, 0)
        self._held, self._given = held[..., gone:], stop - gone
        return made


def keep_silence(source: Tensor, restored: Tensor, peak: float, fade: bool = True) -> Tensor:
    """The restored wave, 0 where its source is silent, and fading into the source beside that.

    Beyond the ends there is no silence.

    Args:
        source: (C, T) the recording.
        restored: (C, T) what was made of it.
        peak: largest absolute sample of the whole recording.
        fade: False only cuts, where the source's sound is not to come back.
    """
    blocks = source[:, : source.shape[-1] // (SHORTEST // 2) * (SHORTEST // 2)].unflatten(-1, (-1, SHORTEST // 2))
    if bool((blocks.abs().amax(dim=-1) > SILENT * peak).all()):  # a run of `SHORTEST` holds one of these blocks whole
        return restored
    loud = source.abs() > SILENT * peak
    begins = ~_near(loud, 0, SHORTEST - 1)  # a run of `SHORTEST` samples of which none is loud
    begins[:, max(loud.shape[-1] - SHORTEST + 1, 0) :] = False
    if not begins.any():
        return restored
    silent = _near(begins, SHORTEST - 1, 0)
    if fade:
        near = _near(silent, FADE // 2, FADE // 2)
        window = torch.hann_window(FADE + 1, periodic=False)
        padded = F.pad((~near).float()[:, None], (FADE // 2, FADE // 2), mode="replicate")
        gate = F.conv1d(padded, (window / window.sum())[None, None])[:, 0]
        gate = torch.where(gate > 1 - 1e-6, 1.0, gate)  # but for rounding nothing is taken away
        restored = torch.lerp(source, restored, gate)
    return restored.masked_fill(silent, 0.0)


def _near(marks: Tensor, before: int, after: int) -> Tensor:
    """Whether there is a mark among so many samples before and after each. (C, T) -> (C, T)"""
    length = marks.shape[-1]
    counts = F.pad(marks.cumsum(dim=-1, dtype=torch.int32), (1, 0))
    at = torch.arange(length)
    return counts[:, (at + after + 1).clamp(max=length)] > counts[:, (at - before).clamp(min=0)]
