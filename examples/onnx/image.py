"""How alike the channels of a recording are, and noises that are as alike (`signal/correlation.py` in numpy)."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from dsp import Array
from numpy.lib.stride_tricks import sliding_window_view


def polarities_and_mix(wave: Array, cutoff_hz: float, rate: int, about: dict[str, Any]) -> tuple[Array, Array]:
    """Signs (C,) that make the channels of (C, T) alike, and rows (C, K) that mix K independent noises into theirs."""
    if len(wave) == 1:
        return np.ones(1, np.float32), np.ones((1, 1), np.float32)
    matrix = _correlations(wave, cutoff_hz, rate, about)
    leading = np.linalg.eigh(matrix)[1][:, -1]
    signs = np.where(leading < -about["alike"], -1.0, 1.0)
    signs *= signs[0]
    return signs.astype(np.float32), _mix(matrix * np.outer(signs, signs), about["alike"]).astype(np.float32)


def _correlations(wave: Array, cutoff_hz: float, rate: int, about: dict[str, Any]) -> Array:
    """(C, C), from the bands just below the cutoff, each counted alike."""
    size, hop = about["n_fft"], about["hop"]
    missing = -(wave.shape[1] - size) % hop if wave.shape[1] > size else size - wave.shape[1]
    frames = sliding_window_view(np.pad(wave, ((0, 0), (0, missing))), size, axis=1)[:, ::hop]
    window = np.hanning(size + 2)[1:-1]
    width_hz = about["band_bins"] * rate / size
    bands = size // 2 // about["band_bins"]
    first = min(int(about["from"] * cutoff_hz / width_hz), bands - 1)
    last = max(int(about["to"] * cutoff_hz / width_hz), first + 1)
    sums = np.zeros((last - first, len(wave), len(wave)))
    for start in range(0, frames.shape[1], 256):  # a few at a time, for memory
        spectra = scipy.fft.rfft(frames[:, start : start + 256].astype(np.float64) * window, axis=-1)[..., 1:]
        used = spectra.reshape(*spectra.shape[:2], bands, -1)[:, :, first:last]  # (C, L, bands, bins)
        sums += np.einsum("clbk,dlbk->bcd", used, used.conj()).real
    levels = np.sqrt(np.diagonal(sums, axis1=1, axis2=2))
    scale = np.divide(1, levels, out=np.zeros_like(levels), where=levels > 0)
    heard = np.sqrt(np.maximum((scale > 0).sum(axis=0), 1))  # a channel may be silent in some bands
    return _tidied((sums * scale[:, :, None] * scale[:, None]).sum(axis=0) / np.outer(heard, heard), about["alike"])


def _tidied(matrix: Array, alike: float) -> Array:
    """What is 1 but for rounding made so, whatever channels it is of; 1 on the diagonal."""
    for i in range(len(matrix)):
        for j in range(i):
            if abs(matrix[i, j]) > 1 - alike:
                sign = np.sign(matrix[i, j])
                matrix[i], matrix[:, i] = sign * matrix[j], sign * matrix[:, j]
                matrix[i, j] = matrix[j, i] = sign
                break
        matrix[i, i] = 1.0
    return matrix


def _mix(matrix: Array, alike: float) -> Array:
    """Cholesky's factor, in which a channel that those before it tell all about adds no noise of its own."""
    rows = np.zeros_like(matrix)
    for i, row in enumerate(rows):
        twins = np.flatnonzero(np.abs(matrix[i, :i]) > 1 - alike)
        if twins.size:
            row[:] = np.sign(matrix[i, twins[0]]) * rows[twins[0]]
            continue
        for j in np.flatnonzero(rows.diagonal()[:i]):
            row[j] = (matrix[i, j] - row[:j] @ rows[j, :j]) / rows[j, j]
        own = max(1 - row @ row, 0.0)
        row[i] = own**0.5 if own > alike else 0.0
        row /= np.linalg.norm(row)
    return rows
