"""Levels: the network's input gain, and an output that never passes full scale."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

NETWORK_PEAK = 0.5  # of a recording, as the networks get it
LARGEST_GAIN = 1000.0  # 60 dB: silence and dust are not blown up further
LIMITER_SAMPLES = 480  # 10 ms on each side of a peak


def network_gain(peak: float) -> float:
    """One gain for the whole recording, which brings its peak to where the networks were trained."""
    return min(NETWORK_PEAK / peak, LARGEST_GAIN) if peak > 0 else 1.0


def turn_down(source: Tensor, restored: Tensor, ceiling: float) -> Tensor:
    """Hold |output| <= ceiling by turning down, smoothly, only what restoration added. (C, T), (C, T) -> (C, T)

    The output is source + g (restored - source) with 0 <= g <= 1, one g for all channels. `source` itself must keep to
    the ceiling. A peak acts on LIMITER_SAMPLES to each side of it.
    """
    if float(restored.abs().max()) <= ceiling:
        return restored
    added = restored - source
    # The largest g that keeps every sample within the ceiling, on the side that `added` points to.
    room = torch.where(added > 0, ceiling - source, ceiling + source).clamp(min=0)
    gain = torch.where(restored.abs() > ceiling, room / added.abs().clamp(min=1e-9), 1.0).amin(dim=0).clamp(max=1)
    reach = LIMITER_SAMPLES
    lowest = -F.max_pool1d(-F.pad(gain[None, None], (reach, reach), value=1.0), 2 * reach + 1, stride=1)
    window = torch.hann_window(2 * reach + 1, periodic=False, dtype=gain.dtype, device=gain.device)
    padded = F.pad(lowest, (reach, reach), mode="replicate")
    smooth = F.conv1d(padded, (window / window.sum())[None, None])[0, 0]
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
