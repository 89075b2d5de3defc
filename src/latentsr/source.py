"""What may be restored, brought to (C, T) float32 at 48 kHz: files, arrays, and blocks as they come."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import soxr
import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.signal import audio
from latentsr.signal.bandwidth import CutoffEstimator
from latentsr.signal.floor import OVER_TO_SEE, find_floors, subtract_floors
from latentsr.signal.image import Image, ImageEstimator
from latentsr.signal.lines import remove_lines
from latentsr.signal.mel import MelSpectrogram

Samples: TypeAlias = np.ndarray | Tensor
Source: TypeAlias = str | os.PathLike[str] | Samples

BLOCK_SAMPLES = 480_000  # 10 s at a time for the cutoff estimate


@dataclass
class Recording:
    """Samples (C, T) float32 at their own rate, and the subtype and tags of a file."""

    samples: np.ndarray
    sample_rate: int
    subtype: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


def read(source: Source, sample_rate: int | None) -> Recording:
    """A file, or samples (T,) or (C, T) with their rate, checked."""
    if isinstance(source, (np.ndarray, Tensor)):
        if sample_rate is None:
            raise ValueError("samples need their rate; pass sample_rate=")
        return Recording(checked_samples(_array(source)), sample_rate)
    recording = audio.read(source)
    if sample_rate not in (None, recording.sample_rate):
        raise ValueError(
            f"{source} is at {recording.sample_rate} Hz, not {sample_rate}; leave sample_rate out for files"
        )
    return Recording(recording.samples, recording.sample_rate, recording.subtype, recording.tags)


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


def estimate(wave: Tensor, floor: float = 0.0, lines_hz: Sequence[float] = ()) -> float:
    """Cutoff of a recording (C, T) in Hz, one for all channels: less its lines, and of what rises above its floor."""
    estimator = CutoffEstimator(AUDIO.sample_rate)
    mel = MelSpectrogram(AUDIO)
    for block in wave.split(BLOCK_SAMPLES, dim=-1):
        floors = torch.full((len(block),), floor)
        block = remove_lines(block, lines_hz, AUDIO.sample_rate) if lines_hz else block
        estimator.update(subtract_floors(block[:, None], floors, mel, OVER_TO_SEE, power=1.0))
    return estimator.result_together()


def floor_of(wave: Tensor) -> float:
    """Standard deviation of the steady hiss in a recording (C, T), of the channel with most; 0 where there is none."""
    return float(find_floors(wave, MelSpectrogram(AUDIO)).max())


def image_of(wave: Tensor, cutoff_hz: float) -> Image | None:
    """How alike the channels of a recording (C, T) are just below its cutoff; None for a single channel."""
    estimator = ImageEstimator(AUDIO.sample_rate)
    for block in wave.split(BLOCK_SAMPLES, dim=-1):
        estimator.update(block)
    return estimator.result(cutoff_hz)


def peak_of(wave: Tensor) -> float:
    return max(float(wave.max()), -float(wave.min()))  # abs() would copy a long recording


def checked_cutoff(cutoff_hz: float) -> float:
    if not 500 <= cutoff_hz <= AUDIO.sample_rate / 2:
        raise ValueError(f"cutoff_hz must be 500 to {AUDIO.sample_rate // 2}, got {cutoff_hz}")
    return float(cutoff_hz)


def resampled(blocks: Iterable[Samples], sample_rate: int) -> Iterator[Tensor]:
    """Blocks (C, n) at 48 kHz, in all as long as a recording resampled at once."""
    resampler, channels, taken, given = None, None, 0, 0
    for block in blocks:
        samples = checked_samples(_array(block))
        if channels not in (None, samples.shape[0]):
            raise audio.AudioError(f"a block has {samples.shape[0]} channels, those before it {channels}")
        channels, taken = samples.shape[0], taken + samples.shape[1]
        if sample_rate == AUDIO.sample_rate:
            yield torch.from_numpy(samples)
            continue
        if resampler is None:
            resampler = soxr.ResampleStream(sample_rate, AUDIO.sample_rate, channels, dtype="float32", quality="VHQ")
        made = resampler.resample_chunk(np.ascontiguousarray(samples.T)).reshape(-1, channels)
        given += len(made)
        yield torch.from_numpy(made.T.copy())
    if resampler is not None and channels is not None:
        rest = resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True).reshape(-1, channels)
        missing = audio.output_length(taken, sample_rate, AUDIO.sample_rate) - given
        rest = np.pad(rest, ((0, max(missing - len(rest), 0)), (0, 0)))[: max(missing, 0)]
        yield torch.from_numpy(rest.T.copy())


def _array(samples: Samples) -> np.ndarray:
    return samples.detach().cpu().numpy() if isinstance(samples, Tensor) else samples
