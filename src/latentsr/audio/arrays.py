"""Recordings that come as arrays or tensors: what is no audio, and no rate, is refused in a sentence."""

from __future__ import annotations

from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from latentsr.audio.decoders import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, MAX_CHANNELS
from latentsr.errors import AudioError, UsageError

Samples: TypeAlias = np.ndarray | Tensor


def checked_rate(given: Any) -> int:
    """A rate in Hz; raise UsageError where it is none, or too low or high."""
    if (
        isinstance(given, bool)
        or not isinstance(given, Integral)
        or not LOWEST_RATE_HZ <= int(given) <= HIGHEST_RATE_HZ
    ):
        raise UsageError(f"sample_rate must be a whole number of {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}, got {given!r}")
    return int(given)


def as_numpy(given: Any) -> np.ndarray:
    """The values of a tensor on any device, or of what numpy takes for an array."""
    if not isinstance(given, Tensor):
        return np.asarray(given)
    return (given.float() if given.dtype == torch.bfloat16 else given).detach().cpu().numpy()  # numpy has no bfloat16


def checked_samples(given: Samples) -> np.ndarray:
    """(C, T) float32 of an array or tensor; raise AudioError where it is no audio."""
    samples = as_numpy(given)
    if samples.ndim not in (1, 2) or samples.size == 0 or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            "samples must be float, (samples,) or (channels, samples), full scale 1.0; "
            f"got {samples.dtype} {samples.shape}"
        )
    samples = np.atleast_2d(samples).astype(np.float32)
    if samples.shape[0] > MAX_CHANNELS:
        raise AudioError(
            f"samples are (channels, samples); {samples.shape[0]} channels are too many; transpose the array"
        )
    bad = np.flatnonzero(~np.isfinite(samples).all(axis=0))
    if bad.size:
        raise AudioError(f"{bad.size} samples are NaN or infinite, the first at {bad[0]}; repair the samples first")
    return samples
