"""What may be restored, brought to (C, T) float32 at 48 kHz: files, arrays, and blocks as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from latentsr import audio
from latentsr.audio.arrays import Samples, checked_rate, checked_samples
from latentsr.audio.tags.metadata import Metadata
from latentsr.config import AUDIO
from latentsr.options import Options

Tap: TypeAlias = Callable[[np.ndarray], None]  # takes blocks (C, n) on their way
CutoffTrack: TypeAlias = list[list[tuple[float, float]]]  # per channel (start_s, cutoff_hz), each until the next
Source: TypeAlias = str | os.PathLike[str] | Samples


@dataclass
class Recording:
    """Samples (C, T) float32 at their own rate, and the subtype and metadata of a file."""

    samples: np.ndarray
    sample_rate: int
    subtype: str | None = None
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()  # what was salvaged or repaired


def read(source: Source, sample_rate: int | None, options: Options) -> Recording:
    """A file, or samples (T,) or (C, T) with their rate, checked."""
    if isinstance(source, (np.ndarray, Tensor)):
        if sample_rate is None:
            raise ValueError("an array does not say its rate; pass sample_rate=")
        return Recording(checked_samples(source), checked_rate(sample_rate))
    recording = audio.read(source, **options.reading)
    if sample_rate not in (None, recording.sample_rate):
        raise ValueError(
            f"{source} is at {recording.sample_rate} Hz, not {sample_rate}; leave sample_rate out for files"
        )
    about = recording.subtype, recording.metadata, tuple(recording.notes)
    return Recording(recording.samples, recording.sample_rate, *about)


def resampled(
    blocks: Iterable[np.ndarray], sample_rate: int, to_hz: int = AUDIO.sample_rate, tap: Tap | None = None
) -> Iterator[Tensor]:
    """Blocks (C, n) float32 of any lengths at another rate; `tap` gets those at `sample_rate` as they pass."""
    resampler = audio.Resampler(sample_rate, to_hz)
    for block in blocks:
        if tap is not None:
            tap(block)
        yield torch.from_numpy(resampler.push(block))
    rest = torch.from_numpy(resampler.finish())
    if rest.shape[-1]:
        yield rest
