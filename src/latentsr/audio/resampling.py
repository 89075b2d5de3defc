"""From one rate to another by soxr VHQ, at once or in blocks.

Both ends are extended oddly first, as filtfilt does: a filter that met silence there would ring at the ends, and tracks
that play through would not join.
"""

from __future__ import annotations

import math

import numpy as np
import soxr

from latentsr.errors import AudioError

LEAD_S = 0.1  # of extension at each end, at least
EDGE = 48  # samples at either end that must not overshoot


def output_length(samples: int, from_hz: int, to_hz: int) -> int:
    """samples x to / from, rounded half up, in whole numbers.

    >>> output_length(1, 32_000, 48_000)
    2
    """
    return (2 * samples * to_hz + from_hz) // (2 * from_hz)


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample with soxr VHQ: flat to 0.95 of the lower Nyquist frequency, nothing above it.

    Args:
        samples: (..., T) float32 or float64.
        from_hz: sampling rate of `samples`.
        to_hz: sampling rate wanted.

    Returns:
        (..., `output_length(T, from_hz, to_hz)`) of the same type, starting at the same instant.
    """
    if from_hz == to_hz:
        return samples.copy()
    length = output_length(samples.shape[-1], from_hz, to_hz)
    rows = samples.reshape(-1, samples.shape[-1])
    out = np.zeros((len(rows), length), dtype=samples.dtype)
    before, first = _lead(from_hz, to_hz)
    for row, target in zip(rows[:, None], out, strict=True):
        if not row.size:
            continue
        extended = np.concatenate([_odd_start(row, before), row, _odd_start(row[:, ::-1], before)[:, ::-1]], axis=1)[0]
        target[:] = soxr.resample(extended, from_hz, to_hz, quality="VHQ")[first : first + length]
        _hold(target[None, :EDGE], row[:, :before])
        _hold(target[None, -EDGE:], row[:, -before:])
    return out.reshape(*samples.shape[:-1], length)


def _lead(from_hz: int, to_hz: int) -> tuple[int, int]:
    """So many samples are put before a recording and behind it, and so many come of those before: whole numbers."""
    unit = from_hz // math.gcd(from_hz, to_hz)
    before = -(-round(LEAD_S * from_hz) // unit) * unit
    return before, before * to_hz // from_hz


def _odd_start(wave: np.ndarray, count: int) -> np.ndarray:
    """`count` samples that lead into (C, T > 0): its start turned about the first sample, and what is lacking, held."""
    turned = 2 * wave[:, :1] - wave[:, 1 : count + 1][:, ::-1]
    held = (turned if turned.size else wave)[:, :1].repeat(count - turned.shape[1], axis=1)
    return np.concatenate([held, turned], axis=1)


def _hold(made: np.ndarray, near: np.ndarray) -> None:
    """Hold samples (C, n) at an end, in place, where they overshoot what was near: what is turned may be steep."""
    limit = np.abs(near).max(axis=1, keepdims=True, initial=0)
    np.clip(made, -limit, limit, out=made)


class Resampler:
    """soxr VHQ on blocks: what comes out is as long in all as a recording resampled at once, and the same."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self.from_hz, self.to_hz = from_hz, to_hz
        self._before, self._skipped = _lead(from_hz, to_hz)
        self._soxr: soxr.ResampleStream | None = None
        self._held = np.zeros((0, 0), np.float32)  # the start until there is enough of it, then the last samples
        self._channels = self._taken = self._given = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """(C, n) -> (C, m)"""
        if self._channels not in (0, samples.shape[0]):
            raise AudioError(f"a block has {samples.shape[0]} channels, those before it {self._channels}")
        self._channels, self._taken = samples.shape[0], self._taken + samples.shape[1]
        if self.from_hz == self.to_hz:
            return samples
        seen = np.concatenate([self._held, samples], axis=1) if self._held.size else samples
        self._held = seen[:, -self._before - 1 :] if self._soxr is not None else seen
        if self._soxr is not None:
            return self._resampled(samples)
        return self._begun() if seen.shape[1] > self._before else seen[:, :0]

    def finish(self) -> np.ndarray:
        """The rest. (C, m)"""
        if self.from_hz == self.to_hz or not self._taken:
            return np.zeros((self._channels, 0), np.float32)
        short, near = self._soxr is None, self._held
        parts = [self._begun()] if short else []
        parts.append(self._resampled(_odd_start(near[:, ::-1], self._before)[:, ::-1], last=True))
        rest = np.concatenate(parts, axis=1)
        if short:  # its start may have come out just now
            _hold(rest[:, :EDGE], near[:, : self._before])
        _hold(rest[:, max(rest.shape[1] - EDGE, 0) :], near[:, -self._before :])
        return rest

    def _begun(self) -> np.ndarray:
        """What comes of the start, all of which is held."""
        self._soxr = soxr.ResampleStream(self.from_hz, self.to_hz, self._channels, dtype="float32", quality="VHQ")
        start, self._held = self._held, self._held[:, -self._before - 1 :]
        made = self._resampled(np.concatenate([_odd_start(start, self._before), start], axis=1))
        _hold(made[:, :EDGE], start[:, : self._before])
        return made

    def _resampled(self, samples: np.ndarray, *, last: bool = False) -> np.ndarray:
        """What belongs to the recording alone, of samples (C, n) that may lie before or behind it."""
        assert self._soxr is not None, "it has begun"
        made = self._soxr.resample_chunk(np.ascontiguousarray(samples.T, np.float32), last=last)
        made = made.reshape(-1, self._channels)
        made, self._skipped = made[self._skipped :], max(self._skipped - len(made), 0)
        made = made[: max(output_length(self._taken, self.from_hz, self.to_hz) - self._given, 0)]
        self._given += len(made)
        return np.ascontiguousarray(made.T)
