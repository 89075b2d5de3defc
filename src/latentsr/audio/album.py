"""Recordings on disk that are gone through more than once: one alone, or several that play one after the other."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Unpack

import numpy as np

from latentsr.audio.facts import Account, Asks
from latentsr.audio.reader import Reader
from latentsr.audio.resampling import output_length
from latentsr.errors import AudioError, UsageError

NEAR_S = 0.001  # beside a joint
STEEPER = 2.0  # a step across a joint is at most so many times the largest near it, where tracks play through


class SourceFile:
    """A recording on disk that is gone through more than once, block by block.

    It is opened once for its facts, and stays open for the first pass unless `release` is called.

    Args:
        path: the recording.
        asks: see `latentsr.audio.facts.How`.

    Raises:
        AudioError: it cannot be read, or is another file than at first.
    """

    def __init__(self, path: str | os.PathLike[str], **asks: Unpack[Asks]) -> None:
        self.path, self._asks = Path(path), asks
        self._opened: Reader | None = Reader(self.path, **asks)
        self.info = self._opened.info
        self.sample_rate = self.info.sample_rate  # Hz, its own
        self.account: Account | None = None  # what was read, by whom; known behind the first pass
        self.notes: tuple[str, ...] = ()  # what was salvaged or repaired; known behind the first pass
        self.frames = 0  # that were decoded, per channel; known behind the first pass, as is
        self.peak = 0.0  # their largest absolute sample
        self._stamp = _stamp(self.path)

    def release(self) -> None:
        """Close the file; the next pass opens it again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def native(self) -> Iterator[np.ndarray]:
        """Blocks (C, n) float32 at its own rate."""
        opened, self._opened = self._opened or Reader(self.path, known=self.info, **self._asks), None
        with opened as reader:
            if _stamp(self.path) != self._stamp:
                raise AudioError(f"{self.path} was changed while it was being read; restore it again when it is whole")
            frames = 0
            for block in reader:
                frames += block.shape[1]
                yield block
        self.frames, self.peak, self.notes, self.account = frames, reader.peak, tuple(reader.notes), reader.account


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


def _stamp(path: Path) -> tuple[int, int, int, int]:
    """Changes when a file is written to or replaced."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
