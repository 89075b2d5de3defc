"""Recordings that play one after the other, gone through as one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np

from latentsr.audio.resampling import output_length
from latentsr.audio.source_file import SourceFile
from latentsr.errors import UsageError

NEAR_S = 0.001  # beside a joint
STEEPER = 2.0  # a step across a joint is at most so many times the largest near it, where tracks play through


class Album:
    """Recordings of one rate and number of channels, one after the other; of one alone it is that recording.

    Args:
        sources: the recordings, in the order in which they play.
        start_s: where the first begins, if they are part of a longer one.

    Raises:
        UsageError: rates or numbers of channels differ.
    """

    def __init__(self, sources: Sequence[SourceFile], start_s: float = 0.0) -> None:
        self.sources, self.start_s = list(sources), start_s
        self.sample_rate = self.sources[0].info.sample_rate  # Hz, their own
        declared = [source.info.frames for source in self.sources]  # None: duration of all, by their own account
        self.declared_s = None if None in declared else sum(map(int, filter(None, declared))) / self.sample_rate
        self._edges: list[tuple[np.ndarray, np.ndarray]] = []  # first and last samples of each; behind the first pass
        first = self.sources[0].info
        for info in (source.info for source in self.sources[1:]):
            if (info.sample_rate, info.channels) != (first.sample_rate, first.channels):
                raise UsageError(
                    f"an album has one rate and number of channels, but {info.path} has {info.channels} at "
                    f"{info.sample_rate} Hz, and {first.path} {first.channels} at {first.sample_rate} Hz; restore them "
                    "without --album"
                )

    @property
    def peak(self) -> float:
        """Largest absolute sample; known behind the first pass."""
        return max(source.peak for source in self.sources)

    @property
    def bounds_s(self) -> list[float]:
        """Where each begins, and where the last ends; known behind the first pass."""
        ends = accumulate((source.frames for source in self.sources), initial=0)
        return [self.start_s + frames / self.sample_rate for frames in ends]

    def lengths(self, rate: int) -> list[int]:
        """Samples per channel of each at another rate; their sum is that of all as one recording."""
        ends = accumulate((source.frames for source in self.sources), initial=0)
        made = [output_length(frames, self.sample_rate, rate) for frames in ends]
        return [after - before for before, after in pairwise(made)]

    def native(self) -> Iterator[np.ndarray]:
        """Blocks (C, n) float32 of all, at their own rate."""
        count, self._edges = max(round(NEAR_S * self.sample_rate), 2), []
        for source in self.sources:
            first = last = np.zeros((source.info.channels, 0), np.float32)
            for block in source.native():
                first = np.concatenate([first, block[:, :count]], axis=1)[:, :count]
                last = np.concatenate([last, block[:, -count:]], axis=1)[:, -count:]
                yield block
            self._edges.append((first, last))

    def runs(self, changes_s: Collection[float] = ()) -> list[Album]:
        """The same, parted where they do not play through, or change; known behind a pass."""
        bounds_s, edges, starts = self.bounds_s, self._edges, [0]
        for number in range(1, len(edges)):
            if bounds_s[number] in changes_s or not _plays_through(edges[number - 1][1], edges[number][0]):
                starts.append(number)
        stops = [*starts[1:], len(self.sources)]
        return [Album(self.sources[a:b], bounds_s[a]) for a, b in zip(starts, stops, strict=True)]


def _plays_through(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether samples (C, n) go on in others: neither is digital silence, and the step between is none of a cut."""
    steps = [np.abs(np.diff(side, axis=1)).max(initial=0) for side in (before, after)]
    across = np.abs(after[:, 0] - before[:, -1]).max()
    return bool(before.any() and after.any() and across <= STEEPER * max(steps))
