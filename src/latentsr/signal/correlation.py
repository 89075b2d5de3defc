"""How alike the channels of a recording are near the top of the known band, for the band that is made.

What is made above the cutoff is noise to a large part. The same noise in all channels folds a wide recording into the
middle there; noise of its own in each tears a narrow one apart. So the noises are drawn as alike as the channels were
just below the cutoff. Measured on 55 stereo recordings that tells the image above it as well, moment by moment, as a
matrix for each moment does (`docs/stereo.md`): one matrix serves the whole recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Correlation: TypeAlias = tuple[
    tuple[float, ...], ...
]  # correlation of every channel with every other, 1 on the diagonal

N_FFT, HOP = 2048, 1024  # samples
BAND_BINS = 4  # every band of 94 Hz counts the same, or the loudest partial would speak for all
FRAMES = 32  # summed at a time, from the first sample on: the sums do not depend on how the blocks are cut
FROM, TO = 0.7, 0.95  # of the cutoff: half an octave, less the skirt
ALIKE = 1e-6  # short of 1 that still means the same wave: rounding of the sums


class CorrelationEstimator:
    """Correlation of the channels of a recording at `sample_rate` Hz that comes in blocks."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._rest: Tensor | None = None  # (C, n) samples that no whole group of frames has taken yet
        self._sums: Tensor | None = None  # (bands, C, C) of products, real parts

    def update(self, block: Tensor) -> None:
        """Listen to samples (C, n); blocks may have any length."""
        rest = block if self._rest is None else torch.cat([self._rest, block], dim=-1)
        while rest.shape[-1] >= (FRAMES - 1) * HOP + N_FFT:
            self._sums = self._with(rest[:, : (FRAMES - 1) * HOP + N_FFT])
            rest = rest[:, FRAMES * HOP :]
        self._rest = rest.clone()  # a view would hold on to the block

    def result(self, cutoff_hz: float) -> Correlation | None:
        """Mean correlation in the bands just below the cutoff; None for a single channel or nothing heard.

        A channel that is silent there is like none but itself. Channels that are equal have a row of equal figures.
        """
        if self._rest is None or len(self._rest) < 2:
            return None
        missing = -(self._rest.shape[-1] - N_FFT) % HOP if self._rest.shape[-1] > N_FFT else N_FFT - len(self._rest[0])
        sums = self._with(torch.nn.functional.pad(self._rest, (0, missing)))
        width_hz = BAND_BINS * self.sample_rate / N_FFT
        first = min(int(FROM * cutoff_hz / width_hz), len(sums) - 1)
        used = sums[first : max(int(TO * cutoff_hz / width_hz), first + 1)]
        levels = used.diagonal(dim1=1, dim2=2).sqrt()  # (bands, C)
        scale = torch.where(levels > 0, 1 / levels.clamp(min=1e-300), 0.0)
        total = (used * scale[:, :, None] * scale[:, None, :]).sum(dim=0)
        heard = (scale > 0).sum(dim=0).clamp(min=1).sqrt()  # a channel may be silent in some bands
        return tuple(tuple(row) for row in _tidied(total / (heard[:, None] * heard)).tolist())

    def _with(self, samples: Tensor) -> Tensor:
        """The sums so far and those of the frames of (C, n)."""
        window = torch.hann_window(N_FFT + 2, periodic=False, dtype=torch.float64)[1:-1]  # nowhere 0
        frames = samples.double().unfold(-1, N_FFT, HOP) * window
        bins = torch.view_as_real(torch.fft.rfft(frames)[..., 1:])  # (C, frames, bins, 2)
        bands = bins.unflatten(2, (-1, BAND_BINS)).permute(2, 0, 1, 3, 4).flatten(2)  # (bands, C, values)
        products = bands @ bands.mT
        return products if self._sums is None else self._sums + products


def _tidied(matrix: Tensor) -> Tensor:
    """Correlations that are 1 but for rounding made so, whatever channels they are of; 1 on the diagonal."""
    matrix = matrix.clone()
    count = len(matrix)
    for i in range(count):
        for j in range(i):
            if abs(matrix[i, j]) > 1 - ALIKE:  # the same wave: what the first of them is to the others, it is too
                sign = matrix[i, j].sign()
                matrix[i], matrix[:, i] = sign * matrix[j], sign * matrix[:, j]
                matrix[i, j] = matrix[j, i] = sign
                break
        matrix[i, i] = 1.0
    return matrix


def polarities(correlation: Correlation) -> Tensor:
    """1 or -1 for each channel, (C,), such that few channels are each other's opposite; that of the first is 1.

    Heads hear no polarity in a mel: what they make of a channel is turned round where the channel is.
    """
    leading = np.linalg.eigh(np.array(correlation))[1][:, -1]
    signs = np.where(leading < -ALIKE, -1.0, 1.0)
    return torch.from_numpy(signs * signs[0]).float()


def noise_mix(correlation: Sequence[Sequence[float]], signs: Tensor) -> Tensor:
    """Rows (C, C) by which independent noises become noises as alike as the channels, each of unit variance.

    Channels that are the same get the same row, bit for bit, and the first channel takes the first noise as it is. It
    is Cholesky's factor, in which a channel that those before it tell all about adds no noise of its own: the matrix
    may be of any rank.

    Args:
        correlation: of every channel with every other.
        signs: (C,) that the channels are multiplied by.

    >>> noise_mix(((1.0, -0.6), (-0.6, 1.0)), torch.tensor([1.0, -1.0]))
    tensor([[1.0000, 0.0000],
            [0.6000, 0.8000]])
    """
    matrix = np.array(correlation) * np.outer(signs, signs)
    rows = np.zeros_like(matrix)
    for i, row in enumerate(rows):
        twins = np.flatnonzero(np.abs(matrix[i, :i]) > 1 - ALIKE)
        if twins.size:
            row[:] = np.sign(matrix[i, twins[0]]) * rows[twins[0]]
            continue
        for j in np.flatnonzero(rows.diagonal()[:i]):
            row[j] = (matrix[i, j] - row[:j] @ rows[j, :j]) / rows[j, j]
        own = max(1 - row @ row, 0.0)
        row[i] = own**0.5 if own > ALIKE else 0.0
        row /= np.linalg.norm(row)
    return torch.from_numpy(rows).float()
