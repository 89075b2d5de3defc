"""A recording on disk that is read more than once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Unpack

import numpy as np

from latentsr.audio.facts import Account, Asks
from latentsr.audio.reader import Reader
from latentsr.errors import AudioError


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


def _stamp(path: Path) -> tuple[int, int, int, int]:
    """Changes when a file is written to or replaced."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
