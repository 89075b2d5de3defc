"""A file in, a file out, in bounded memory, whatever its length: listen first, then restore while writing.

`mixing.mixed` says what is written at which rate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from latentsr.config import AUDIO
from latentsr.listening import Heard, peak_of
from latentsr.mixing import mixed
from latentsr.output import note_on_cutoff
from latentsr.signal import audio
from latentsr.signal.audio import AudioError
from latentsr.source import resampled
from latentsr.windowed import Restorer

SOURCE = "source"  # in the place of a rate: the recording's own

Rate = int | Literal["source"] | None


@dataclass(frozen=True)
class RestoredFile:
    """What was written, and what was found out on the way."""

    path: Path
    sample_rate: int  # Hz, of the file
    channels: int
    samples: int  # per channel, of the file
    subtype: str
    cutoff_hz: float  # half of 48 kHz: full band, nothing to do
    seconds: float  # duration of the recording
    gain: float  # 1.0 unless a recording above full scale went into a format that ends there
    lines_hz: tuple[float, ...] = ()  # steady tones that were taken out
    notes: tuple[str, ...] = ()  # what should be known of the result, a line each


class SourceFile:
    """A recording on disk that is gone through more than once, block by block.

    Args:
        path: the recording.
        salvage: take what can be decoded of one that is cut short.
        on_nonfinite: "zero" replaces samples that are NaN or infinite.

    Raises:
        AudioError: it cannot be read, or is another file than at first.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        salvage: bool = False,
        on_nonfinite: Literal["error", "zero"] = "error",
    ) -> None:
        self.path, self._salvage, self._on_nonfinite = Path(path), salvage, on_nonfinite
        self.info = audio.probe(path, salvage=salvage)
        self.notes: tuple[str, ...] = ()  # what was salvaged or repaired; known behind the first pass
        self.frames = 0  # that were decoded, per channel; known behind the first pass, as is
        self.peak = 0.0  # their largest absolute sample
        self._stamp = _stamp(self.path)

    @property
    def declared_s(self) -> float | None:
        """Its duration by its own account."""
        return None if self.info.frames is None else self.info.frames / self.info.sample_rate

    def native(self) -> Iterator[np.ndarray]:
        """Blocks (C, n) float32 at its own rate."""
        with audio.Reader(self.path, salvage=self._salvage, on_nonfinite=self._on_nonfinite) as reader:
            if _stamp(self.path) != self._stamp:
                raise AudioError(f"{self.path} was changed while it was being read; restore it again when it is whole")
            frames, peak = 0, 0.0
            for block in reader:
                frames, peak = frames + block.shape[1], max(peak, float(block.max()), -float(block.min()))
                yield block
        self.frames, self.peak, self.notes = frames, peak, tuple(reader.notes)

    def blocks(self) -> Iterator[torch.Tensor]:
        """Blocks (C, n) at 48 kHz."""
        return resampled(self.native(), self.info.sample_rate)


def restore_file(
    source: SourceFile,
    target: str | os.PathLike[str],
    heard: Heard,
    restorer: Restorer | None,
    *,
    sample_rate: Rate = None,
    format: str | None = None,
    subtype: str | None = None,
    overwrite: bool = False,
) -> RestoredFile:
    """Write a recording restored; the file appears when it is whole.

    Args:
        source: the recording.
        target: where; its extension says the format unless `format` does.
        heard: of `listen(source.blocks)`.
        restorer: fresh; None writes the recording as it is.
        sample_rate: of the file, Hz; "source": the recording's own; None: 48000.
        format: 'wav', 'flac', 'mp3', 'ogg', 'opus', ...
        subtype: libsndfile's; None takes the shallowest that is as deep as the recording.
        overwrite: replace an existing file.
    """
    info = source.info
    rate = output_rate(sample_rate, info.sample_rate)
    name = audio.container(target, format)
    subtype = subtype or audio.choose_subtype(name, info.subtype)
    ceiling = max(1.0, _peak_at(rate, source, heard))
    gain = audio.full_scale_gain(ceiling, subtype)
    frames = audio.output_length(source.frames, info.sample_rate, rate)
    with audio.Writer(
        target, heard.channels, rate, frames, subtype=subtype, format=name, overwrite=overwrite, metadata=info.metadata
    ) as writer:
        for piece in mixed(source.native(), info.sample_rate, restorer, rate, ceiling):
            writer.write(piece if gain == 1.0 else np.clip(piece * np.float32(gain), -1.0, 1.0))
    lost = (audio.depth_note(name, subtype, info.subtype), *writer.notes)
    notes = (note_on_cutoff(heard.cutoff_hz), *source.notes, *(restorer.notes if restorer else ()), *lost)
    return RestoredFile(
        path=Path(target),
        sample_rate=rate,
        channels=heard.channels,
        samples=frames,
        subtype=subtype,
        cutoff_hz=heard.cutoff_hz,
        seconds=source.frames / info.sample_rate,
        gain=gain,
        lines_hz=heard.lines_hz,
        notes=tuple(note for note in notes if note),
    )


def _peak_at(rate: int, source: SourceFile, heard: Heard) -> float:
    """Largest absolute sample of the recording at this rate: between the samples that were heard it may be larger."""
    if rate in (AUDIO.sample_rate, source.info.sample_rate):
        return heard.peak if rate == AUDIO.sample_rate else source.peak
    return max(peak_of(block) for block in resampled(source.native(), source.info.sample_rate, rate))


def _stamp(path: Path) -> tuple[int, int, int, int]:
    """Changes when a file is written to or replaced."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def output_rate(sample_rate: Rate, source_rate: int) -> int:
    """The rate in Hz that was asked for."""
    return source_rate if sample_rate == SOURCE else int(sample_rate or AUDIO.sample_rate)
