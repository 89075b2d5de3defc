"""Repair: the holes that a codec left are filled before the top is made, by the same head asked at a lower cutoff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from latentsr.options import Options
from latentsr.restoring.chain import Chain
from latentsr.restoring.stretches import Part
from latentsr.signal.holes import fill
from latentsr.signal.lowband import MERGE_FROM
from latentsr.signal.track import FULL_BAND_HZ, Stretch, Track


class RepairChain(Chain):
    """What is done to every window of a recording that has holes: they are filled with a prediction from below.

    Args:
        chain: of the same recording, which makes its top.
    """

    def __init__(self, chain: Chain) -> None:
        heard, options = chain.heard, Options(head=chain.options.head, seed=chain.options.seed)
        self.ends = torch.tensor(heard.track.ends_hz).clamp(max=MERGE_FROM * FULL_BAND_HZ)
        begin = [FULL_BAND_HZ if hz is None else hz for hz in heard.holes_hz]
        self.lowest_hz = min(begin)
        track = Track(tuple((Stretch(0.0, hz),) for hz in begin), heard.track.seconds)
        alone = replace(heard, track=track, lines_hz=(), floor=0.0, mid_side=None, holes_hz=(), floors=())
        super().__init__(chain.head, None, alone, options)
        self.cells: list[tuple[int, int]] = []  # of each window: those that were filled, and those that were looked at

    def merged(self, own: Tensor, made: Tensor, parts: Sequence[Part]) -> Tensor:
        begin, end = torch.tensor([part.cutoff_hz for part in parts]), self.ends[[part.channel for part in parts]]
        filled, holes, cells = fill(own, made, begin, end)
        self.cells.append((holes, cells))
        return filled

    @property
    def note(self) -> str | None:
        filled, looked_at = (sum(counts) for counts in zip(*self.cells, strict=True)) if self.cells else (0, 1)
        share = filled / max(looked_at, 1)
        return f"holes of a codec were filled from {self.lowest_hz:.0f} Hz on, {share:.1%} of the band from there"
