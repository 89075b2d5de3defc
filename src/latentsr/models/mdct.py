"""The modified discrete cosine transform: a lapped orthonormal transform, for networks that work on a strided wave.

Each frame of 2 N samples gives N coefficients, and frames begin every N samples (Princen & Bradley 1987; time-domain
aliasing of one frame is cancelled by its neighbours'). Seen as filters it is a pseudo-QMF bank of N bands. It is
orthonormal: white noise in the wave is white noise in the coefficients, so that a diffusion of the coefficients is a
diffusion of the wave.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MDCT(nn.Module):
    """Wave (B, 1, T) <-> coefficients (B, L, N), T a multiple of N and L = T / N + 1, under a sine window.

    Frame k covers the samples (k - 1) N ... (k + 1) N - 1, zeros beyond both ends. Coefficient i is the band from
    i to i + 1 times rate / (2 N).
    """

    basis: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.bands = bands
        n = torch.arange(2 * bands, dtype=torch.float64)[:, None] + 0.5
        k = torch.arange(bands, dtype=torch.float64)[None, :] + 0.5
        window = torch.sin(math.pi / (2 * bands) * n)
        basis = math.sqrt(2 / bands) * window * torch.cos(math.pi / bands * (n + bands / 2) * k)
        self.register_buffer("basis", basis.float(), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        if wave.shape[-1] % self.bands:
            raise ValueError(f"{wave.shape[-1]} samples are not a multiple of {self.bands}; pad the wave")
        padded = F.pad(wave[:, 0], (self.bands, self.bands))
        return padded.unfold(-1, 2 * self.bands, self.bands) @ self.basis

    def inverse(self, coefficients: Tensor) -> Tensor:
        """(B, L, N) -> (B, 1, (L - 1) N)"""
        first, second = (coefficients @ self.basis.T).chunk(2, dim=-1)  # halves of the frames
        return (first[:, 1:] + second[:, :-1]).flatten(1)[:, None]

    def centres_hz(self, sample_rate: int) -> Tensor:
        """(N,) middles of the bands."""
        width_hz = sample_rate / (2 * self.bands)
        return (torch.arange(self.bands, device=self.basis.device) + 0.5) * width_hz
