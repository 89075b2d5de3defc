"""From one rate to another as the samples come, a few milliseconds late: a short filter in as many phases as it takes.

`audio.resampling` is sharper, and waits for ten times as many samples.
"""

from __future__ import annotations

import math

import numpy as np

TRANSITION = 0.16  # of the lower Nyquist frequency, half of it above: images above 1.08 of it are 70 dB down
STOP_DB = 70.0


class Polyphase:
    """Resamples blocks (C, n) of any length; the output begins at the instant of the input's first sample.

    Args:
        from_hz: rate of the blocks, Hz.
        to_hz: rate wanted, Hz.
        channels: C.
    """

    def __init__(self, from_hz: int, to_hz: int, channels: int) -> None:
        common = math.gcd(from_hz, to_hz)
        self.up, self.down = to_hz // common, from_hz // common
        self.table = _filters(self.up, from_hz, min(from_hz, to_hz))  # (up, 2 reach)
        self.reach = self.table.shape[1] // 2  # samples on either side that an output depends on
        self._held = np.zeros((channels, self.reach - 1), np.float32)
        self._first = 1 - self.reach  # number of the first sample that is held
        self._next = 0  # number of the next output

    @property
    def late(self) -> int:
        """Samples at the wanted rate by which the output is behind, at most."""
        return -(-self.reach * self.up // self.down) + 1

    def push(self, block: np.ndarray) -> np.ndarray:
        """(C, n) -> (C, m): every output for which the samples are there."""
        held = np.concatenate([self._held, block], axis=1)
        stop = self._first + held.shape[1] - self.reach  # outputs at or before this sample's instant, but not beyond it
        last = max(-(-stop * self.up // self.down), self._next)
        made = held[:, :0]
        if last > self._next:
            at = np.arange(self._next, last) * self.down
            starts = at // self.up + 1 - self.reach - self._first
            views = np.lib.stride_tricks.sliding_window_view(held, 2 * self.reach, axis=1)
            made = np.einsum("cnk,nk->cn", views[:, starts], self.table[at % self.up])
        self._next = last
        gone = min(max(last * self.down // self.up + 1 - self.reach - self._first, 0), held.shape[1])
        self._held, self._first = held[:, gone:].copy(), self._first + gone
        return np.asarray(made, np.float32)


def _filters(up: int, from_hz: int, lower_hz: int) -> np.ndarray:
    """Kaiser-windowed sinc, one row per phase. (up, 2 reach)"""
    width = math.pi * TRANSITION * lower_hz / from_hz
    reach = math.ceil((STOP_DB - 8) / (2.285 * width) / 2)
    ends = lower_hz / from_hz  # of the band, in Nyquist frequencies of the input
    place = np.arange(1 - reach, reach + 1) - np.arange(up)[:, None] / up
    window = np.i0(0.1102 * (STOP_DB - 8.7) * np.sqrt(np.clip(1 - (place / reach) ** 2, 0, None)))
    taps = ends * np.sinc(ends * place) * window
    return (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)
