"""Where the band of each channel ends: a graph hears frames that are taken at the recording's own rate.

The frames are those of `latentsr/signal/bandframes.py`; the recording is heard as a whole, and each channel has one
cutoff from beginning to end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from heads import Model

Array = np.ndarray


@dataclass(frozen=True)
class Band:
    """Where channels end, and how: at multiples of a bin, what raises the recording, and its share in what is made."""

    cutoff_hz: Array  # (C,)
    raise_db: Array  # (C, K)
    kept: Array  # (C, K); 0 all over: not known, the cross-fade lies below the cutoff

    @classmethod
    def at(cls, cutoff_hz: Array) -> Band:
        nothing = np.zeros((len(cutoff_hz), 1), np.float32)
        return cls(cutoff_hz, nothing, nothing)

    @property
    def known(self) -> Array:
        return self.kept.any(axis=1)

    def of(self, channels: Array) -> Band:
        return Band(self.cutoff_hz[channels], self.raise_db[channels], self.kept[channels])


def bands_of(model: Model, samples: Array, rate: int) -> Band:
    """Where the channels of a recording (C, T) end, at its own rate; 24 kHz: full band."""
    if not model.has("cutoff"):
        raise SystemExit(
            "a single graph has no cutoff estimator; pass --cutoff HZ, or export a folder: latentsr export model_onnx"
        )
    about, channels = model.about["frames"], len(samples)
    power = frames(samples, rate, about)
    while power.shape[1] > max(about["most"] // channels, about["heard_at_once"]):
        power = power[:, : power.shape[1] // 2 * 2].reshape(channels, -1, 2, about["bins"]).mean(axis=2)
    heard = power[:, :: max(-(-power.shape[1] // about["heard_at_once"]), 1)]
    cutoff_hz, _, raise_db, kept = model.run(
        "cutoff",
        power_db=10 * np.log10(np.maximum(heard, np.float32(10 ** (about["silent_db"] / 10)))),
        nyquist_hz=np.full(channels, rate / 2, np.float32),
        dust_db=np.full(channels, dust_db(samples, rate, model.about["dust"]), np.float32),
    )
    ratio = np.maximum(cutoff_hz[:, None] / cutoff_hz, cutoff_hz / cutoff_hz[:, None])
    highest = np.where(ratio < about["alike"], cutoff_hz, 0).argmax(axis=1)  # of those that end alike
    return Band(cutoff_hz, raise_db, kept).of(highest)


def frames(samples: Array, rate: int, about: dict[str, Any]) -> Array:
    """Power per 24 kHz of band. (C, T) -> (C, L, K)"""
    hops, length = about["hops"], max(round(rate * about["window_s"]), 16)
    hop = max(round(rate * about["window_s"] / 2), 1)
    count = max(-(-(samples.shape[1] - length) // (hops * hop)), 1)  # the last one filled up with zeros
    needed = (count * hops - 1) * hop + length
    samples = np.pad(samples, ((0, 0), (0, max(needed - samples.shape[1], 0))))[:, :needed]
    phase = 2 * np.pi * np.arange(length) / length
    window = sum((-1) ** k * a * np.cos(k * phase) for k, a in enumerate(about["window"]))
    size = scipy.fft.next_fast_len(length, real=True)
    to_bins = _to_bins(rate, size, about) * np.float32(48_000 / rate / (window**2).sum())
    views = sliding_window_view(samples, length, axis=1)[:, ::hop]
    made = []
    for first in range(0, count, 64):  # a few at a time, for memory
        taken = views[:, first * hops : min(first + 64, count) * hops] * window.astype(np.float32)
        spectra = scipy.fft.rfft(taken, size, axis=2)[..., : len(to_bins)]
        power = (spectra.real**2 + spectra.imag**2).reshape(len(samples), -1, hops, len(to_bins))
        made.append(power.mean(axis=2) @ to_bins)
    return np.concatenate(made, axis=1)


def _to_bins(rate: int, size: int, about: dict[str, Any]) -> Array:
    """The matrix (F, K) that averages bins of the FFT over ours."""
    fine_hz, bin_hz, bins = rate / size, about["bin_hz"], about["bins"]
    centres = np.arange(min(size // 2 + 1, int(bins * bin_hz / fine_hz) + 2))[:, None] * fine_hz
    edges = (np.arange(bins + 1) - 0.5) * bin_hz
    overlap = np.minimum(centres + fine_hz / 2, edges[1:]) - np.maximum(centres - fine_hz / 2, edges[:-1])
    overlap = np.maximum(overlap, 0)
    return (overlap / np.maximum(overlap.sum(0), 1e-9)).astype(np.float32)


def dust_db(samples: Array, rate: int, about: dict[str, Any]) -> float:
    """Level of rounding to the file's depth, as `frames` count it: that of the coarsest grid that has all samples."""
    peak = float(np.abs(samples).max(initial=0))
    for bits in range(about["coarsest_bits"], about["finest_bits"] + 1):
        step = 2.0**-bits
        if all(_on_grid(each, step) for each in (samples[:, :65_536], samples)):
            if 0 < peak <= about["grid_range"] * step:
                return 20 * math.log10(step / 2) + 10 * math.log10(48_000 / rate)
            break
    return about["float_db"]


def _on_grid(samples: Array, step: float) -> bool:
    scaled = samples * np.float32(1 / step)
    return bool((scaled == np.rint(scaled)).all())
