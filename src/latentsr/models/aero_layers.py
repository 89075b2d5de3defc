"""Layers of AERO (arXiv 2211.12232), a U-Net on complex spectra: frequency is strided, time never is.

Letters: B batch, C channels, F frequency bins, L frames. Levels take and return (B, C, F, L).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.models.ssm import Mamba

# Where the Mamba of a residual layer runs: nowhere, before its first convolution, or between the two.
MambaPlace = Literal["dead", "time", "bottleneck"]
LAYER_SCALE = 1e-3
SNAKE_EPS = 1e-12


class FrequencyAttention(nn.Module):
    """The frequency transformation block of PHASEN (arXiv 1911.04697): gates each frame, then mixes all its bins."""

    def __init__(self, bins: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU())
        self.gate = nn.Sequential(nn.Conv1d(hidden * bins, channels, 9, padding=4), nn.BatchNorm1d(channels), nn.ReLU())
        self.mix = nn.Linear(bins, bins, bias=False)
        self.fuse = nn.Sequential(nn.Conv2d(2 * channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        gated = x * self.gate(self.squeeze(x).flatten(1, 2)).unsqueeze(2)
        mixed = self.mix(gated.transpose(2, 3)).transpose(2, 3)
        return self.fuse(torch.cat([mixed, x], dim=1))


class Snake(nn.Module):
    """x + sin²(a x) / a (arXiv 2006.08195) with one `a` per frequency bin. (B F, C, L) -> (B F, C, L)"""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(bins).exponential_(0.1))

    def forward(self, x: Tensor) -> Tensor:
        a = self.a.float()
        # a / (a² + eps) is 1 / a to single precision from |a| = 0.003 on, and goes to 0, as sin² does, at a = 0.
        a, inverse = (v.to(x.dtype).repeat(len(x) // len(v))[:, None, None] for v in (a, a / (a.square() + SNAKE_EPS)))
        return x + inverse * (a * x).sin().square()


class LayerScale(nn.Module):
    """A gain per channel that starts near zero (arXiv 2103.17239), so that a residual branch starts near nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale[:, None] * x


class ResidualLayer(nn.Module):
    """A dilated convolution over time at a fraction of the width, bin by bin. (B F, C, L) -> (B F, C, L)"""

    def __init__(self, channels: int, hidden: int, bins: int, dilation: int, place: MambaPlace) -> None:
        super().__init__()
        self.place = place
        self.squeeze = nn.Sequential(
            nn.Conv1d(channels, hidden, 3, dilation=dilation, padding=dilation), nn.GroupNorm(1, hidden)
        )
        self.activation = Snake(bins)
        self.expand = nn.Sequential(
            nn.Conv1d(hidden, 2 * channels, 1), nn.GroupNorm(1, 2 * channels), nn.GLU(dim=1), LayerScale(channels)
        )
        self.mamba = Mamba(hidden if place == "bottleneck" else channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.place == "time":
            # Normalised without parameters of its own: the count stays that of the released network.
            rows = x.transpose(1, 2)
            y = x + self.mamba(F.layer_norm(rows, rows.shape[-1:])).transpose(1, 2)
        y = self.activation(self.squeeze(y))
        if self.place == "bottleneck":
            y = self.mamba(y.transpose(1, 2)).transpose(1, 2)
        return x + self.expand(y)


class EncoderLevel(nn.Module):
    """Attention over frequency, a strided convolution along it, residual layers along time, a gated 1x1 convolution.

    `bins` are those of the input, of which there are `stride` times fewer in the output. `groups` 0: no normalisation.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        bins: int,
        stride: int,
        kernel_size: int,
        groups: int,
        first: bool,
        attention_channels: int,
        compression: int,
        depth: int,
        place: MambaPlace,
    ) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels_in, channels_out, 1) if first else nn.Identity()
        channels_in = channels_out if first else channels_in
        self.attention = FrequencyAttention(bins, channels_in, attention_channels)
        padding = (kernel_size - stride) // 2
        self.down = nn.Conv2d(channels_in, channels_out, (kernel_size, 1), (stride, 1), (padding, 0))
        self.norm1 = _norm(groups, channels_out)
        self.residual = nn.Sequential(
            *(
                ResidualLayer(channels_out, channels_out // compression, bins // stride, 2**i, place)
                for i in range(depth)
            )
        )
        self.rewrite = nn.Conv2d(channels_out, 2 * channels_out, 1)
        self.norm2 = _norm(groups, 2 * channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(self.down(self.attention(self.enter(x)))))
        rows = self.residual(x.transpose(1, 2).flatten(0, 1))
        x = rows.unflatten(0, (len(x), -1)).transpose(1, 2)
        return F.glu(self.norm2(self.rewrite(x)), dim=1)


class DecoderLevel(nn.Module):
    """A gated 3x3 convolution of the signal beside the encoder's, then a transposed convolution along frequency."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, kernel_size: int, groups: int, last: bool
    ) -> None:
        super().__init__()
        self.last = last
        self.crop = (kernel_size - stride) // 2
        width = 2 * channels_in
        self.rewrite = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.norm1 = _norm(groups, 2 * width)
        self.up = nn.ConvTranspose2d(width, channels_out, (kernel_size, 1), (stride, 1))
        self.norm2 = _norm(groups, channels_out)

    def forward(self, x: Tensor | None, skip: Tensor) -> Tensor:
        """`x` None stands for the zeros that the deepest level gets: the weights for them are left out."""
        if x is None:
            y = F.conv2d(skip, self.rewrite.weight[:, skip.shape[1] :], self.rewrite.bias, padding=1)
        else:
            y = self.rewrite(torch.cat([x, skip], dim=1))
        y = self.norm2(self.up(F.glu(self.norm1(y), dim=1)))
        y = y[:, :, self.crop : y.shape[2] - self.crop]
        return y if self.last else F.gelu(y)


def _norm(groups: int, channels: int) -> nn.Module:
    return nn.GroupNorm(groups, channels) if groups else nn.Identity()
