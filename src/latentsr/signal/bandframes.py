"""What the cutoff estimator looks at: power over absolute frequency and time, taken at a recording's own rate.

A frame is 64 ms, a bin 93.75 Hz wide whatever the rate, so that one network hears all files alike. Above the file's own
Nyquist frequency there is no evidence, neither floor nor silence: `Frames.nyquist_hz` says where that begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from latentsr.signal.transforms import fast_length

Array = NDArray[np.float32]

BINS, BIN_HZ = 256, 93.75  # up to 24 kHz
WINDOW_S, HOPS = 2048 / 48_000, 3  # windows, half overlapping; so many make a frame
BLACKMAN_HARRIS = (0.35875, 0.48829, 0.14128, 0.01168)  # the window, as a sum of cosines
FRAME_S = HOPS * WINDOW_S / 2  # 64 ms
SILENT_DB = -300.0  # of a frame of zeros
FLOAT_DB = -300.0  # dust of samples that lie on no grid
COARSEST_BITS, FINEST_BITS = 7, 32  # grids that integer files can have, 8 bit to far below 24 bit
GRID_RANGE = 2.0**25  # a grid finer than this below the peak is that of single precision itself
WHOLE_BAND_HZ = BINS * BIN_HZ
AT_ONCE = 64  # frames, from the first on: how a recording is cut into blocks does not change a bit


@dataclass(frozen=True)
class Frames:
    """What was heard of a recording, or of a part of it."""

    power_db: Array  # (C, L, BINS) per 24 kHz of band: white noise of variance v at 48 kHz has 10 log10(v)
    nyquist_hz: float  # of the file
    dust_db: float  # level that rounding to the file's depth leaves, white; FLOAT_DB where it was not rounded
    seconds: float


class FrameMaker:
    """Frames of a recording that comes in blocks, in bounded memory.

    Args:
        sample_rate: Hz, the recording's own.
        most: frames that are held; where there are more, neighbours are averaged, and a frame lasts twice as long.
    """

    def __init__(self, sample_rate: int, most: int = 2**31) -> None:
        self.sample_rate, self.most = sample_rate, most
        self.length = max(round(sample_rate * WINDOW_S), 16)  # samples of a window
        self.hop = max(round(sample_rate * WINDOW_S / 2), 1)
        self.merged = 1  # frames of FRAME_S in one of those that are held
        self._rest: Array | None = None
        self._frames: list[Array] = []  # (C, l, BINS)
        self._pending: Array | None = None  # (C, l, BINS) frames that do not make a merged one yet
        self._count = self.samples = 0
        # The coarsest grid of powers of two on which all samples lie: the depth of an integer file.
        self._bits: int | None = COARSEST_BITS
        self._peak = 0.0

    def update(self, block: Array) -> None:
        """Hear samples (C, n)."""
        if block.size:
            self._peak = max(self._peak, float(block.max()), -float(block.min()))
        while self._bits is not None:
            scaled = block * np.float32(2.0**self._bits)
            if (scaled == np.rint(scaled)).all():
                break
            self._bits = self._bits + 1 if self._bits < FINEST_BITS else None
        self.samples += block.shape[1]
        rest = block if self._rest is None else np.concatenate([self._rest, block], axis=1)
        while rest.shape[1] >= self._needed(AT_ONCE):
            self._add(self._spectra(rest[:, : self._needed(AT_ONCE)]))
            rest = rest[:, AT_ONCE * HOPS * self.hop :]
        self._rest = np.ascontiguousarray(rest)

    def result(self) -> Frames:
        """All that was heard; what does not fill a frame at the end is filled up with zeros."""
        channels = 1 if self._rest is None else len(self._rest)
        last = np.zeros((channels, 0, BINS), np.float32)
        if self._rest is not None and (not self._frames or self._rest.shape[1] > self.length):
            count = max(-(-(self._rest.shape[1] - self.length) // (HOPS * self.hop)), 1)
            filled = np.pad(self._rest, ((0, 0), (0, max(self._needed(count) - self._rest.shape[1], 0))))
            last = self._spectra(filled[:, : self._needed(count)])
        last = last if self._pending is None else np.concatenate([self._pending, last], axis=1)
        if self.merged > 1 and last.size:
            last = np.pad(last, ((0, 0), (0, -last.shape[1] % self.merged), (0, 0)), mode="edge")
            last = _averaged(last, self.merged)
        power = np.concatenate([*self._frames, last], axis=1)
        power_db = (10 * np.log10(np.maximum(power, 10 ** (SILENT_DB / 10)))).astype(np.float32)
        bits = self._bits if self._bits is None or 0 < 2.0**self._bits * self._peak <= GRID_RANGE else None
        dust = FLOAT_DB if bits is None else dust_db(bits, self.sample_rate)
        return Frames(power_db, self.sample_rate / 2, dust, self.samples / self.sample_rate)

    def _needed(self, count: int) -> int:
        """Samples of so many frames."""
        return (count * HOPS - 1) * self.hop + self.length

    def _spectra(self, samples: Array) -> Array:
        """(C, T) -> (C, l, BINS) power"""
        window, size, to_bins = _front(self.sample_rate, self.length)
        views = np.lib.stride_tricks.sliding_window_view(samples, self.length, axis=1)[:, :: self.hop]
        # torch's FFT takes half of the time of scipy's in single precision.
        spectra = torch.fft.rfft(torch.from_numpy(views * window), size).numpy()[..., : len(to_bins)]
        power = (spectra.real**2 + spectra.imag**2).astype(np.float32)
        grouped = power.reshape(len(samples), -1, HOPS, power.shape[2]).mean(axis=2)
        return np.asarray(grouped @ to_bins)

    def _add(self, frames: Array) -> None:
        if self.merged > 1:
            frames = frames if self._pending is None else np.concatenate([self._pending, frames], axis=1)
            whole = frames.shape[1] // self.merged * self.merged
            frames, self._pending = _averaged(frames[:, :whole], self.merged), frames[:, whole:]
        self._frames.append(frames)
        self._count += frames.shape[1]
        if self._count > self.most:
            held = np.concatenate(self._frames, axis=1)
            held = _averaged(held[:, : held.shape[1] // 2 * 2], 2)
            self._frames, self._count, self.merged = [held], held.shape[1], 2 * self.merged


def _averaged(frames: Array, count: int) -> Array:
    """Means of so many neighbours. (C, l, BINS) -> (C, l / count, BINS)"""
    return np.asarray(frames.reshape(len(frames), -1, count, BINS).mean(axis=2))


def dust_db(bits: int, sample_rate: int) -> float:
    """Level of rounding to steps of 2^-bits with triangular dither, as `Frames.power_db` counts it."""
    return 20 * math.log10(2.0**-bits / 2) + 10 * math.log10(48_000 / sample_rate)


@lru_cache(maxsize=32)
def _front(sample_rate: int, length: int) -> tuple[Array, int, Array]:
    """Window, FFT size, and the matrix (F, BINS) that takes bins of the FFT to ours, scaled to density."""
    turn = np.linspace(-np.pi, np.pi, length + 1)[:-1]
    window = np.sum([share * np.cos(k * turn) for k, share in enumerate(BLACKMAN_HARRIS)], axis=0)
    size = fast_length(length)
    bin_hz = sample_rate / size
    centres = np.arange(min(size // 2 + 1, int(WHOLE_BAND_HZ / bin_hz) + 2))[:, None] * bin_hz
    edges = (np.arange(BINS + 1) - 0.5) * BIN_HZ
    overlap = np.minimum(centres + bin_hz / 2, edges[1:]) - np.maximum(centres - bin_hz / 2, edges[:-1])
    overlap = np.maximum(overlap, 0)
    weights = overlap / np.maximum(overlap.sum(0), 1e-9)
    scale = 48_000 / sample_rate / (window**2).sum()
    return window.astype(np.float32), size, (weights * scale).astype(np.float32)
