"""What is measured in the samples themselves, block by block: level, depth, clipping, likeness of channels, clicks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

FULL_STEPS = 2**23  # of 24 bit, up to full scale
PIECE_SAMPLES = 8_192
SHORTEST_RUN = 3  # samples at the peak in a row
STEEP_STEPS = 8 / 2**15  # how far the samples around such a run lie below it, together: a round top lies near
FEWEST_RUNS = 3


class Levels:
    """Peak, mean, mean square and correlation of the channels, and how many bits their samples use."""

    def __init__(self, channels: int) -> None:
        self.samples = 0
        self.peak = np.zeros(channels)
        self._sum = np.zeros(channels)
        self._pieces, self._squares = 0, np.zeros(channels)  # of the means of pieces
        self._products = np.zeros((channels, channels))
        self._differ = np.zeros((channels, channels), dtype=bool)
        self._bits, self._float = 0, False

    def update(self, block: np.ndarray) -> None:
        """Hear samples (C, n)."""
        exact = block.astype(np.float64)
        self.samples += block.shape[1]
        self.peak = np.maximum(self.peak, np.abs(block).max(axis=1, initial=0.0))
        self._sum += exact.sum(axis=1)
        for piece in np.array_split(exact, max(block.shape[1] // PIECE_SAMPLES, 1), axis=1):
            self._squares += np.square(piece.mean(axis=1))
            self._pieces += 1
        self._products += exact @ exact.T
        for channel in range(1, len(block)):
            self._differ[channel, channel - 1] |= not np.array_equal(block[channel], block[channel - 1])
        if not self._float and self.peak.max(initial=0.0) < 2**39:
            steps = exact * FULL_STEPS
            whole = steps.astype(np.int64)
            self._float = bool((whole != steps).any())
            self._bits |= int(np.bitwise_or.reduce(np.abs(whole), axis=None))

    @property
    def offset(self) -> NDArray[np.float64]:
        """Mean of each channel, full scale 1. (C,)"""
        return self._sum / max(self.samples, 1)

    @property
    def steady_offset(self) -> NDArray[np.float64]:
        """The same where it hardly moves from piece to piece, 0 where it is the sound that does not swing around 0."""
        spread = np.sqrt(np.maximum(self._squares / max(self._pieces, 1) - self.offset**2, 0))
        return np.where(np.abs(self.offset) > spread, self.offset, 0.0)

    @property
    def rms(self) -> NDArray[np.float64]:
        """Of each channel, its offset left out. (C,)"""
        return np.sqrt(np.maximum(np.diag(self._products) / max(self.samples, 1) - self.offset**2, 0))

    @property
    def bits(self) -> int | None:
        """That the samples use; None where they are no integers of 24 bit or all are 0."""
        return None if self._float or not self._bits else 24 - (self._bits & -self._bits).bit_length() + 1

    def identical(self, channel: int) -> bool:
        """Whether a channel holds the same samples as the one before it."""
        return not bool(self._differ[channel, channel - 1])

    def correlation(self, one: int, other: int) -> float:
        """Of two channels, -1 to 1; 0 where one is silent."""
        level = self.rms[one] * self.rms[other]
        covariance = self._products[one, other] / max(self.samples, 1) - self.offset[one] * self.offset[other]
        return float(covariance / level) if level > 1e-14 else 0.0


class Clipping:
    """Samples that lie at the peak, of each side and channel, where they do so in runs with steep flanks."""

    def __init__(self, channels: int) -> None:
        self._sides = [[_Top() for _ in range(channels)] for _ in range(2)]
        self._samples = 0

    def update(self, block: np.ndarray) -> None:
        """Hear samples (C, n)."""
        self._samples += block.size
        for sign, tops in zip((1, -1), self._sides, strict=True):
            for channel, top in zip(block, tops, strict=True):
                top.update(sign * channel)

    @property
    def share(self) -> float:
        """Of all samples, 0 to 1."""
        clipped = sum(top.count for tops in self._sides for top in tops if top.runs >= FEWEST_RUNS)
        return clipped / max(self._samples, 1)


class _Top:
    """The highest value of one channel so far, and how often it comes."""

    def __init__(self) -> None:
        self.peak, self.count, self.runs = 0.0, 0, 0

    def update(self, samples: np.ndarray) -> None:
        peak = float(samples.max(initial=0.0))
        if peak < self.peak or peak <= 0:
            return
        if peak > self.peak:
            self.peak, self.count, self.runs = peak, 0, 0
        at_peak = np.concatenate([[False], samples == peak, [False]])
        self.count += int(at_peak.sum())
        starts, ends = (np.flatnonzero(at_peak[1:] & ~at_peak[:-1]), np.flatnonzero(at_peak[:-1] & ~at_peak[1:]))
        inside = (ends - starts >= SHORTEST_RUN) & (starts > 0) & (ends < len(samples))
        starts, ends = starts[inside], ends[inside]
        self.runs += int((2 * peak - samples[starts - 1] - samples[ends] > STEEP_STEPS).sum())


class Clicks:
    """Moments far above what comes before and after them: an attack is followed by its sound, a click by nothing.

    The second difference is looked at in cells of 0.5 ms. A click is a cell `TIMES` as high as every cell from 6 to 1.5
    ms before and from 2 to 12 ms after.
    """

    CELL_S, TIMES, LOWEST = 0.0005, 12.0, 2e-3
    BEFORE, AFTER = (12, 3), (4, 24)  # cells

    def __init__(self, sample_rate: int) -> None:
        self._cell = max(round(self.CELL_S * sample_rate), 1)
        self._samples: np.ndarray | None = None  # not yet a cell, and two before them
        self._cells: NDArray[np.floating] = np.zeros(self.BEFORE[0])
        self.count = 0

    def update(self, block: np.ndarray) -> None:
        """Hear samples (C, n)."""
        samples = block if self._samples is None else np.concatenate([self._samples, block], axis=1)
        cells = max(samples.shape[1] - 2, 0) // self._cell
        bent = np.abs(np.diff(samples[:, : cells * self._cell + 2], n=2, axis=1)).max(axis=0, initial=0.0)
        self._samples = samples[:, cells * self._cell :].copy()
        self._look(np.concatenate([self._cells, bent.reshape(cells, self._cell).max(axis=1, initial=0.0)]))

    def _look(self, cells: NDArray[np.floating]) -> None:
        first, last = self.BEFORE[0], len(cells) - self.AFTER[1]
        if last <= first:
            self._cells = cells
            return
        here = cells[first:last]
        beside = np.maximum(
            _highest(cells, first - self.BEFORE[0], self.BEFORE[0] - self.BEFORE[1] + 1, len(here)),
            _highest(cells, first + self.AFTER[0], self.AFTER[1] - self.AFTER[0] + 1, len(here)),
        )
        alone = here >= maximum_filter1d(cells, 7)[first:last]  # one click is one cell
        self.count += int((alone & (here > self.LOWEST) & (here > self.TIMES * beside)).sum())
        self._cells = cells[last - first :]


def _highest(cells: NDArray[np.floating], start: int, width: int, count: int) -> NDArray[np.floating]:
    """Of `width` cells from `start` on, from the next one on, ... (count,)"""
    windows = np.lib.stride_tricks.sliding_window_view(np.append(cells, np.zeros(width)), width)
    return windows[start : start + count].max(axis=1)


def dust_dbfs(bits: float) -> float:
    """Level of rounding to so many bits, dB of full scale.

    >>> round(dust_dbfs(16), 1)
    -101.1
    """
    return 20 * math.log10(2 ** (1 - bits) / math.sqrt(12))
