"""Spectra of a recording as it passes, in bounded memory: rows that thin out as it grows, and a codec's holes."""

from __future__ import annotations

import math

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


class Holes:
    """How often a band of the middle goes to nothing at once, while those below it stay: only coders do that.

    A band of 0.5 kHz that falls by 25 dB within 21 ms while neither of the two below it falls by 8 dB, from 2 kHz to
    16 kHz. Measured on 29 clips of the development set: at most 0.0009 of what is alive, 0.001 to 0.013 after MP3 at 48
    and 64 kb/s a channel, 0 to 0.005 after AAC at 32; at higher rates few are left.
    """

    FALLS_DB, STAYS_DB, ALIVE_DB = 25.0, 8.0, -95.0

    def __init__(self, sample_rate: int) -> None:
        length = 2 ** round(math.log2(max(0.0213 * sample_rate, 16)))
        self._framer, self._window = Framer(length, length // 2), windows.blackmanharris(length, sym=False)
        self._bins = max(round(500 * length / sample_rate), 1)
        band_hz = self._bins * sample_rate / length
        self._low, self._high = max(int(2000 // band_hz), 2), int(min(16_000, 0.45 * sample_rate) // band_hz)
        self._last: Rows | None = None
        self.events = self.alive = 0

    def update(self, block: np.ndarray) -> None:
        """Hear samples (C, n)."""
        frames = self._framer.push(block)
        if not len(frames) or self._high <= self._low:
            return
        power = np.stack([np.square(np.abs(np.fft.rfft(frame * self._window))).mean(axis=0) for frame in frames])
        power = power[:, : self._high * self._bins].reshape(len(frames), self._high, self._bins).mean(axis=2)
        level = 10 * np.log10(power / np.square(self._window).sum() + 1e-14)
        level = level if self._last is None else np.concatenate([self._last, level])
        self._last = level[-2:]
        change, alive = level[2:] - level[:-2], (level[:-2] > self.ALIVE_DB)[:, self._low :]
        stays = change > -self.STAYS_DB
        falls = (change < -self.FALLS_DB)[:, self._low :] & stays[:, self._low - 1 : -1] & stays[:, self._low - 2 : -2]
        self.events += int((falls & alive).sum())
        self.alive += int(alive.sum())

    @property
    def share(self) -> float:
        """Of the cells that are alive, 0 to 1."""
        return self.events / self.alive if self.events else 0.0


def decibels(power: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """10 log10, never of nothing."""
    return 10 * np.log10(np.maximum(power, SMALL))


def line_power(rows: Rows, place: float) -> NDArray[np.float64]:
    """Amplitude squared of what stands at a fractional bin, in every row. (L, F) -> (L,)"""
    around = round(place)
    return rows[:, max(around - 2, 0) : around + 3].sum(axis=1)
