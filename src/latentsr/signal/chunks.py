"""Any length in bounded memory: windows with context on both sides, which is computed and thrown away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Window:
    """Positions [start, stop) that a window answers for, and [first, last) that it looks at; units are the caller's."""

    start: int
    stop: int
    first: int
    last: int


def window_at(start: int, total: int, core: int, margin: int, multiple: int = 1) -> Window:
    """The window from `start` on: a core of up to `core` positions, seen with up to `margin` more on both sides.

    It looks beyond the end only to make the number of positions a multiple of `multiple`.
    """
    stop = min(start + core, total)
    first = max(start - margin, 0)
    length = min(stop + margin, total) - first
    return Window(start, stop, first, first + -(-length // multiple) * multiple)


def take(wave: Tensor, first: int, last: int) -> Tensor:
    """Samples [first, last) of (C, T); beyond the ends the wave is reflected once, and silent after that."""
    total = wave.shape[-1]
    inside = wave[:, max(first, 0) : max(min(last, total), 0)]
    before, after = min(max(-first, 0), last - first), min(max(last - total, 0), last - first)
    if inside.shape[-1] == 0:
        return wave.new_zeros(wave.shape[0], last - first)
    mirrored_before = min(before, inside.shape[-1] - 1)
    mirrored_after = min(after, inside.shape[-1] - 1)
    mirrored = F.pad(inside[:, None], (mirrored_before, mirrored_after), mode="reflect")[:, 0]
    return F.pad(mirrored, (before - mirrored_before, after - mirrored_after))


def trapezoid(window: Window, total: int, fade: int) -> Tensor:
    """Weights of the looked-at positions: 1 inside the core, a linear cross-fade of `fade` positions around its ends.

    The weights of neighbouring windows sum to 1; there is no fade at the ends of the recording. `fade` is even and at
    most twice the margin.
    """
    at = torch.arange(window.first, window.last, dtype=torch.float32) + 0.5
    rise = torch.ones_like(at) if window.start == 0 else (at - (window.start - fade / 2)) / fade
    fall = torch.ones_like(at) if window.stop >= total else ((window.stop + fade / 2) - at) / fade
    return torch.minimum(rise, fall).clamp(0, 1)
