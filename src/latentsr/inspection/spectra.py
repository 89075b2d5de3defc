"""Spectra of a recording as it passes, in bounded memory: rows that thin out as it grows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import windows

Rows = NDArray[np.float64]  # (L, F) power: a sine's amplitude squared, over its bins; half their sum is the mean square

SMALL = 1e-20


class Framer:
    """Cuts blocks (C, n) of any lengths into frames (C, `length`), `hop` samples apart; the rest is left out."""

    def __init__(self, length: int, hop: int) -> None:
        self.length, self.hop, self.next = length, hop, 0  # `next`: number of the next frame
        self._kept: np.ndarray | None = None

    def push(self, block: np.ndarray) -> NDArray[np.floating]:
        """(C, n) -> (k, C, length), numbers `next` - k to `next` - 1 once it returns."""
        samples = block if self._kept is None else np.concatenate([self._kept, block], axis=1)
        count = max((samples.shape[1] - self.length) // self.hop + 1, 0)
        self._kept = samples[:, count * self.hop :].copy()
        self.next += count
        if not count:
            return np.empty((0, len(samples), self.length), samples.dtype)
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.length, axis=1)[:, :: self.hop][:, :count]
        return frames.transpose(1, 0, 2)


class Spectrogram:
    """Power by frame under a Hann window, at most `most` rows: where there are more, every second one is dropped.

    `loudest` takes the loudest of the channels, bin by bin; otherwise their mean counts.
    """

    def __init__(self, length: int, hop: int, most: int, loudest: bool = False) -> None:
        self.length, self._most, self._loudest = length, most, loudest
        self._framer, self._stride = Framer(length, hop), 1
        self._window = windows.hann(length, sym=False).astype(np.float32)
        self._scale = 4 / (length * float(np.square(self._window, dtype=np.float64).sum()))
        self._rows: list[NDArray[np.float32]] = []

    def update(self, block: np.ndarray) -> None:
        """Hear samples (C, n)."""
        frames = self._framer.push(block)
        for number, frame in enumerate(frames, self._framer.next - len(frames)):
            if number % self._stride:
                continue
            power = np.square(np.abs(np.fft.rfft(frame * self._window)))
            self._rows.append((power.max(axis=0) if self._loudest else power.mean(axis=0)).astype(np.float32))
            if len(self._rows) > self._most:
                self._rows = self._rows[::2]
                self._stride *= 2

    @property
    def rows(self) -> Rows:
        """(L, length / 2 + 1)"""
        empty = np.empty((0, self.length // 2 + 1))
        return np.stack(self._rows).astype(np.float64) * self._scale if self._rows else empty


def decibels(power: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """10 log10, never of nothing."""
    return 10 * np.log10(np.maximum(power, SMALL))


def line_power(rows: Rows, place: float) -> NDArray[np.float64]:
    """Amplitude squared of what stands at a fractional bin, in every row. (L, F) -> (L,)"""
    around = round(place)
    return rows[:, max(around - 2, 0) : around + 3].sum(axis=1)
