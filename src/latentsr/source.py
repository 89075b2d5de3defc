"""What may be restored, brought to (C, T) float32 at 48 kHz: files, arrays, and blocks as they come."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import soxr
import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.signal import audio
from latentsr.signal.metadata import Metadata

Samples: TypeAlias = np.ndarray | Tensor
Source: TypeAlias = str | os.PathLike[str] | Samples


@dataclass
class Recording:
    """Samples (C, T) float32 at their own rate, and the subtype and metadata of a file."""

    samples: np.ndarray
    sample_rate: int
    subtype: str | None = None
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()  # what was salvaged or repaired


def read(
    source: Source,
    sample_rate: int | None,
    *,
    salvage: bool = False,
    on_nonfinite: Literal["error", "zero"] = "error",
) -> Recording:
    """A file, or samples (T,) or (C, T) with their rate, checked."""
    if isinstance(source, (np.ndarray, Tensor)):
        if sample_rate is None:
            raise ValueError("samples need their rate; pass sample_rate=")
        return Recording(checked_samples(_array(source)), sample_rate)
    recording = audio.read(source, salvage=salvage, on_nonfinite=on_nonfinite)
    if sample_rate not in (None, recording.sample_rate):
        raise ValueError(
            f"{source} is at {recording.sample_rate} Hz, not {sample_rate}; leave sample_rate out for files"
        )
    about = recording.subtype, recording.metadata, tuple(recording.notes)
    return Recording(recording.samples, recording.sample_rate, *about)


def at_our_rate(recording: Recording) -> Tensor:
    """Its samples (C, T) at 48 kHz; the recording lets go of its own."""
    samples, recording.samples = recording.samples, np.zeros((0, 0), np.float32)
    return torch.from_numpy(audio.resample(samples, recording.sample_rate, AUDIO.sample_rate))


def checked_samples(samples: np.ndarray) -> np.ndarray:
    """(C, T) float32 of an array; raise AudioError where it is no audio."""
    if samples.ndim not in (1, 2) or samples.size == 0 or not np.issubdtype(samples.dtype, np.floating):
        raise audio.AudioError(
            "samples must be float, (samples,) or (channels, samples), full scale 1.0; "
            f"got {samples.dtype} {samples.shape}"
        )
    samples = np.atleast_2d(samples).astype(np.float32)
    if samples.shape[0] > audio.MAX_CHANNELS:
        raise audio.AudioError(f"samples are (channels, samples); {samples.shape[0]} channels are too many: transpose?")
    bad = np.flatnonzero(~np.isfinite(samples).all(axis=0))
    if bad.size:
        raise audio.AudioError(f"{bad.size} samples are NaN or infinite, the first at {bad[0]}; repair them first")
    return samples


def checked_cutoff(cutoff_hz: float) -> float:
    if not 500 <= cutoff_hz <= AUDIO.sample_rate / 2:
        raise ValueError(f"cutoff_hz must be 500 to {AUDIO.sample_rate // 2}, got {cutoff_hz}")
    return float(cutoff_hz)


class Resampler:
    """soxr VHQ on blocks: what comes out is as long in all as a recording resampled at once, and the same."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self.from_hz, self.to_hz = from_hz, to_hz
        self._soxr: soxr.ResampleStream | None = None
        self._channels = self._taken = self._given = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """(C, n) -> (C, m)"""
        if self._channels not in (0, samples.shape[0]):
            raise audio.AudioError(f"a block has {samples.shape[0]} channels, those before it {self._channels}")
        self._channels, self._taken = samples.shape[0], self._taken + samples.shape[1]
        if self.from_hz == self.to_hz:
            return samples
        if self._soxr is None:
            self._soxr = soxr.ResampleStream(self.from_hz, self.to_hz, self._channels, dtype="float32", quality="VHQ")
        made = self._soxr.resample_chunk(np.ascontiguousarray(samples.T)).reshape(-1, self._channels)
        self._given += len(made)
        return np.ascontiguousarray(made.T)

    def finish(self) -> np.ndarray:
        """The rest. (C, m)"""
        if self._soxr is None:
            return np.zeros((self._channels, 0), np.float32)
        rest = self._soxr.resample_chunk(np.zeros((0, self._channels), np.float32), last=True)
        rest = rest.reshape(-1, self._channels)
        missing = max(audio.output_length(self._taken, self.from_hz, self.to_hz) - self._given, 0)
        rest = np.pad(rest, ((0, max(missing - len(rest), 0)), (0, 0)))[:missing]
        return np.ascontiguousarray(rest.T)


def resampled(blocks: Iterable[Samples], sample_rate: int, to_hz: int = AUDIO.sample_rate) -> Iterator[Tensor]:
    """Blocks (C, n) of any lengths at another rate, checked."""
    resampler = Resampler(sample_rate, to_hz)
    for block in blocks:
        yield torch.from_numpy(resampler.push(checked_samples(_array(block))))
    rest = torch.from_numpy(resampler.finish())
    if rest.shape[-1]:
        yield rest


def _array(samples: Samples) -> np.ndarray:
    return samples.detach().cpu().numpy() if isinstance(samples, Tensor) else samples
