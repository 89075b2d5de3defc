"""The stretches of a track as the engine works on them: which of them sound in a window, and how they are joined.

Their latents are here too, for as long as windows ask for them.

Every stretch of every channel is restored for itself, in the windows in which it sounds and with as much context as
any window has. Where one follows another they cross-fade, with weights that sum to 1; a full-band stretch is the
recording itself. So a recording with one cutoff is one stretch, restored in whole windows and mixed with nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.signal.chunks import Window
from latentsr.signal.track import Skirt, Track

HALF_FADE = 480  # samples: stretches cross-fade over 20 ms, centred on the change
FOREVER = 2**62  # samples: where the last stretch ends


@dataclass(frozen=True, eq=False)  # each is its own: the engine keeps latents by them
class Part:
    """A stretch of one channel, from `start` to `stop` in samples at 48 kHz."""

    channel: int
    index: int  # among the stretches of its channel
    start: int
    stop: int
    cutoff_hz: float
    skirt: Skirt | None
    made: bool  # whether something is made of it; else it stays as it is

    def rise(self, first: int, last: int) -> Tensor:
        """Its weight over those before it at samples [first, last): 0, a raised cosine around its start, 1. (n,)"""
        place = (torch.arange(first - self.start, last - self.start) + HALF_FADE) / (2 * HALF_FADE)
        return 0.5 - 0.5 * torch.cos(place.clamp(0, 1) * math.pi)


class Stretches:
    """All stretches of a recording.

    Args:
        track: where its band ends.
        hop: samples per position of a window.
        margin: positions on each side that a window looks at.
        reach: samples on each side of a window's core that are used too, at most one hop.
        full_band: make something of full-band stretches too.
    """

    def __init__(self, track: Track, hop: int, margin: int, reach: int, full_band: bool = False) -> None:
        self.hop, self.margin, self.reach = hop, margin, reach
        self.parts: list[Part] = []
        for channel, stretches in enumerate(track.channels):
            starts = [round(stretch.start_s * AUDIO.sample_rate) for stretch in stretches]
            for index, (one, start, stop) in enumerate(zip(stretches, starts, [*starts[1:], FOREVER], strict=True)):
                made = full_band or not one.full_band
                self.parts.append(Part(channel, index, start, stop, one.cutoff_hz, one.skirt, made))

    def in_window(self, window: Window) -> Iterator[tuple[Window, list[Part]]]:
        """What sounds in a window that is decoded: the positions that are needed, and the parts that need them.

        In an order in which each part may be laid over those before it; all parts of a group are made, or none is.
        """
        reach = HALF_FADE + self.reach
        placed = [(self._place(part, window), part) for part in self.parts if self._overlaps(part, window, reach)]
        placed.sort(key=lambda one: (one[0].start, one[0].stop, one[1].index))
        for (place, _), group in groupby(placed, key=lambda one: (one[0], one[1].made)):
            yield place, [part for _, part in group]

    def drawn_in(self, window: Window, fade: int) -> list[Part]:
        """The parts that need the latents of a window that fades in and out over `fade` positions at its ends."""
        reach = HALF_FADE + self.reach + (self.margin + 1 + fade // 2) * self.hop
        return [part for part in self.parts if part.made and self._overlaps(part, window, reach)]

    def forget(self, before: int) -> None:
        """Let go of the parts that no window from position `before` on will ask for."""
        first = before * self.hop - HALF_FADE - self.reach
        self.parts = [part for part in self.parts if part.stop > first]

    def _overlaps(self, part: Part, window: Window, reach: int) -> bool:
        return part.start - reach < window.stop * self.hop and part.stop + reach > window.start * self.hop

    def _place(self, part: Part, window: Window) -> Window:
        """The positions of a window in which a part sounds, seen with as much context as there is."""
        start = max((part.start - HALF_FADE) // self.hop, window.start)
        start = min(start, window.stop - 1)
        stop = min(-(-(part.stop + HALF_FADE) // self.hop), window.stop)
        stop = max(stop, start + 1)
        return Window(start, stop, max(start - self.margin, window.first), min(stop + self.margin, window.last))


def lay_over(below: Tensor, made: Tensor, parts: Sequence[Part], place: tuple[int, int], first: int) -> None:
    """Lay what was made of parts over what there is, in place; where a part's weight is 1 its samples are the result.

    Args:
        below: (C, n) of samples from `first` on.
        made: (B, m) of samples [start, stop), a row for each part.
        parts: whose they are.
        place: start and stop.
        first: see `below`.
    """
    start, stop = place
    for part, wave in zip(parts, made, strict=True):
        under = below[part.channel, start - first : stop - first]
        under[:] = torch.lerp(under, wave, part.rise(start, stop)) if part.start else wave


@dataclass
class Latents:
    """Latents of one stretch of one channel, (Z, l, m) from position `first` on, to which windows are added."""

    first: int = 0
    _values: Tensor | None = None

    @property
    def held(self) -> int:
        """So many positions are held."""
        return 0 if self._values is None else self._values.shape[1]

    def add(self, part: Tensor, first: int) -> None:
        """Add a window's, faded at its ends, from position `first` on; windows come in order."""
        if self._values is None:
            self._values, self.first = part.new_zeros(part.shape[0], 0, part.shape[2]), first
        last = first + part.shape[1]
        grown = part.new_zeros(part.shape[0], max(last - self.first, self._values.shape[1]), part.shape[2])
        grown[:, : self._values.shape[1]] = self._values
        grown[:, first - self.first : last - self.first] += part
        self._values = grown

    def take(self, window: Window) -> Tensor:
        """Those that a window looks at. (Z, l, m)"""
        assert self._values is not None, "a window is decoded after its latents are drawn"
        return self._values[:, window.first - self.first : window.last - self.first]

    def forget(self, before: int) -> None:
        """Let go of positions that no window will look at again."""
        if self._values is not None and before > self.first:
            gone = min(before - self.first, self._values.shape[1])
            self._values, self.first = self._values[:, gone:], self.first + gone
