"""Where a recording's band ends, for every channel over time: a cutoff that stays until it changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from latentsr.config import AUDIO

FULL_BAND_HZ = AUDIO.sample_rate / 2  # in the place of a cutoff: nothing is missing, and nothing is made
SNAPPED_S = 0.5  # so near to a mark a change is at the mark
SKIRT_BIN_HZ = 93.75  # a skirt is given at multiples of it, from 0 Hz on


@dataclass(frozen=True)
class Skirt:
    """How a recording fades out around its cutoff, at multiples of `SKIRT_BIN_HZ`.

    What a gentle filter left of the recording is raised back by what that filter took, and the made band fades in where
    the recording sinks into its floor; of a steep end nothing is raised, and the made band fades in at the edge. Below
    0.88 of the cutoff the raise is 0 and the share is 1.
    """

    raise_db: tuple[float, ...]  # gain of the recording, dB, 0 or more
    kept: tuple[float, ...]  # its share in amplitude, 1 to 0; the made band has the rest


@dataclass(frozen=True)
class Stretch:
    """From `start_s` on a channel ends at `cutoff_hz`."""

    start_s: float
    cutoff_hz: float  # FULL_BAND_HZ: nothing is made here
    skirt: Skirt | None = None  # None: nobody looked at the end; the cross-fade lies below the cutoff

    @property
    def full_band(self) -> bool:
        return self.cutoff_hz >= FULL_BAND_HZ


@dataclass(frozen=True)
class Track:
    """The stretches of each channel; the first ones start at 0 s, each lasts until the next begins."""

    channels: tuple[tuple[Stretch, ...], ...]
    seconds: float  # of the recording

    def __post_init__(self) -> None:
        for stretches in self.channels:
            starts = [stretch.start_s for stretch in stretches]
            if not starts or starts[0] != 0 or any(b <= a for a, b in zip(starts, starts[1:], strict=False)):
                raise ValueError(f"the stretches of a channel start at 0 and one after the other, got {starts}")

    @classmethod
    def constant(cls, cutoff_hz: float, channels: int, seconds: float) -> Track:
        """One cutoff for all of a recording."""
        return cls(((Stretch(0.0, float(cutoff_hz)),),) * channels, seconds)

    @property
    def cutoff_hz(self) -> float:
        """Median over time and channels of what ends below full band; FULL_BAND_HZ where nothing does."""
        ends, lengths = [], []
        for stretches in self.channels:
            stops = [*(stretch.start_s for stretch in stretches[1:]), max(self.seconds, stretches[-1].start_s)]
            for stretch, stop in zip(stretches, stops, strict=True):
                if not stretch.full_band:
                    ends.append(stretch.cutoff_hz)
                    lengths.append(max(stop - stretch.start_s, 1e-9))
        if not ends:
            return FULL_BAND_HZ
        order = np.argsort(ends, kind="stable")
        total = np.cumsum(np.asarray(lengths)[order])
        return float(np.asarray(ends)[order][np.searchsorted(total, total[-1] / 2)])

    @property
    def ends_hz(self) -> tuple[float, ...]:
        """The highest end of each channel."""
        return tuple(max(stretch.cutoff_hz for stretch in stretches) for stretches in self.channels)

    def part(self, start_s: float, stop_s: float) -> Track:
        """What holds from `start_s` to `stop_s`, as of a recording of its own."""
        channels = []
        for stretches in self.channels:
            first = max(number for number, one in enumerate(stretches) if one.start_s <= start_s)
            inside = [one for one in stretches[first:] if one.start_s < stop_s]
            channels.append(tuple(replace(one, start_s=max(one.start_s - start_s, 0.0)) for one in inside))
        return Track(tuple(channels), stop_s - start_s)

    def snapped(self, marks_s: Sequence[float]) -> Track:
        """The same, but for changes so near to a mark, between stretches of twice that: they are at the mark."""
        channels = []
        for stretches in self.channels:
            starts = [one.start_s for one in stretches]
            stops = [*starts[1:], self.seconds]
            snapped = list(starts)
            for number in range(1, len(starts)):
                long = min(starts[number] - starts[number - 1], stops[number] - starts[number]) >= 2 * SNAPPED_S
                near = [mark_s for mark_s in marks_s if abs(mark_s - starts[number]) < SNAPPED_S]
                snapped[number] = near[0] if long and near else starts[number]
            moved = (replace(one, start_s=start_s) for one, start_s in zip(stretches, snapped, strict=True))
            channels.append(tuple(moved))
        return Track(tuple(channels), self.seconds)

    @property
    def full_band(self) -> bool:
        return all(stretch.full_band for stretches in self.channels for stretch in stretches)

    @property
    def changes_s(self) -> set[float]:
        """Where the band of a channel begins to end elsewhere."""
        return {stretch.start_s for stretches in self.channels for stretch in stretches[1:]}

    @property
    def pairs(self) -> list[list[tuple[float, float]]]:
        """Per channel (start_s, cutoff_hz), as outputs and JSON have it."""
        return [[(stretch.start_s, stretch.cutoff_hz) for stretch in stretches] for stretches in self.channels]
