"""Convolutions by fewer multiplications, for inference on a CPU.

A convolution of k taps that yields M outputs from N = M + k - 1 inputs is bilinear: y = A [(G w) * (B x)], where A, B
and G are small fixed matrices and * multiplies R numbers instead of M k (Winograd, *Arithmetic Complexity of
Computations*, 1980; Lavin & Gray 2016, eq. 8). Over channels each of the R products is a matrix product, which is what
a CPU does best, as long as channels lie last in memory: then tiles are views, and nothing is copied in between.

Long kernels take the real Fourier transform with the complex product in three real ones (R = 3 N / 2 - 1); kernels of
three taps Toom-Cook's points. Weights stay what they are; their transform is made at each call, which costs less than
the memory to keep it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TILES = 96  # of one block, so that it stays in the cache
CACHED_BYTES = 16 * 2**20  # of transformed weights at a time; where they are more, all tiles share one pass over them
LEAST_CHANNELS = 48  # below that the transforms cost more than they save
LEAST_SAMPLES = 1024
BLOCK_BYTES_2D = 8 * 2**20

Matrices = tuple[Tensor, Tensor, Tensor]  # A (M, R), B (R, N), G (R, k)
_ordinary: ContextVar[bool] = ContextVar("ordinary", default=False)


@contextmanager
def ordinary_convolutions() -> Iterator[None]:
    """Within, every convolution is the library's own: for results that must equal another program's."""
    token = _ordinary.set(True)
    try:
        yield
    finally:
        _ordinary.reset(token)


def speed_up(network: nn.Module) -> nn.Module:
    """Let the network's convolutions of stride 1 run by fewer multiplications, in place.

    Only inference on a CPU changes, by rounding: relative to the largest output 3e-6 in fp32 for one dimension and 1e-5
    for two; in bf16, about twice the error of the ordinary convolution.
    """
    for module in network.modules():
        # Taps outermost in memory, input channels innermost: what the transforms of the weights read in order.
        if type(module) is nn.Conv1d:
            module.__class__ = FastConv1d
            module.weight.data = module.weight.data.permute(2, 0, 1).contiguous().permute(1, 2, 0)
        elif type(module) is nn.Conv2d:
            module.__class__ = FastConv2d
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return network


class FastConv1d(nn.Conv1d):
    """`nn.Conv1d` that tiles the time axis where that pays: (B, C, T) -> (B, C', T), channels last in memory."""

    def forward(self, x: Tensor) -> Tensor:
        matrices = self._matrices(x)
        if matrices is None:
            return super().forward(x)
        taps, dilation = self.kernel_size[0], self.dilation[0]
        weight = self.weight.permute(2, 0, 1).reshape(taps, -1)
        rows = x.transpose(1, 2).contiguous()
        padding = taps // 2 * dilation
        made = [_correlate(one, weight, self.out_channels, matrices, dilation, padding) for one in rows]
        y = torch.stack(made) if len(made) > 1 else made[0][None]
        return (y if self.bias is None else y.add_(self.bias)).transpose(1, 2)

    def _matrices(self, x: Tensor) -> Matrices | None:
        """The algorithm for this input; None where the ordinary convolution is faster or must serve."""
        taps = self.kernel_size[0]
        same = self.padding == (taps // 2 * self.dilation[0],) and taps % 2 == 1 and self.padding_mode == "zeros"
        wide = min(self.in_channels, self.out_channels) >= LEAST_CHANNELS and x.shape[-1] >= LEAST_SAMPLES
        plain = same and wide and self.stride == (1,) and self.groups == 1
        shortest = {torch.float32: 3, torch.bfloat16: 7}.get(x.dtype)
        if not (plain and _for_inference(x)) or shortest is None or taps < shortest:
            return None
        a, b, g = toom_cook(6, 3) if taps == 3 else fourier(32 if taps <= 7 else 48 if taps <= 17 else 4 * taps, taps)
        return a.to(x.dtype), b.to(x.dtype), g.to(x.dtype)


class FastConv2d(nn.Conv2d):
    """`nn.Conv2d` that makes 4 x 4 outputs at a time where that pays: 3 x 3 taps, fp32."""

    def forward(self, x: Tensor) -> Tensor:
        if not self._pays(x):
            return super().forward(x)
        a, b, g = (torch.kron(m, m) for m in toom_cook(4, 3))
        weight = (g @ self.weight.permute(2, 3, 0, 1).reshape(9, -1)).view(36, self.out_channels, self.in_channels)
        made = [_correlate_2d(one, weight.transpose(1, 2), a, b) for one in x.permute(0, 2, 3, 1).contiguous()]
        y = torch.stack(made) if len(made) > 1 else made[0][None]
        return (y if self.bias is None else y.add_(self.bias)).permute(0, 3, 1, 2)

    def _pays(self, x: Tensor) -> bool:
        positions, channels = x.shape[-1] * x.shape[-2], (self.in_channels, self.out_channels)
        plain = self.kernel_size == (3, 3) and self.stride == self.dilation == (1, 1) and self.groups == 1
        same = self.padding == (1, 1) and self.padding_mode == "zeros"
        wide = min(channels) >= LEAST_CHANNELS and positions >= 2 * math.sqrt(math.prod(channels))
        return plain and same and wide and x.dtype == torch.float32 and _for_inference(x)


def _for_inference(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not _ordinary.get()


def _correlate(x: Tensor, weight: Tensor, out_channels: int, matrices: Matrices, dilation: int, padding: int) -> Tensor:
    """(T, C) with weights (k, C' C) -> (T, C'), zeros beyond both ends."""
    (samples, channels), (a, b, g) = x.shape, matrices
    step, length = a.shape[0], b.shape[1]
    period = step * dilation
    tiles = -(-samples // period)
    padded = x.new_zeros((tiles * step + length - step) * dilation, channels)
    padded[padding : padding + samples] = x
    y = x.new_empty(tiles * period, out_channels)

    rows = max(CACHED_BYTES // (weight.shape[1] * weight.element_size()), 1)  # of weights transformed at a time
    groups = g.split(rows)

    def transformed(part: Tensor) -> Tensor:
        return (part @ weight).view(-1, out_channels, channels).transpose(1, 2)

    kept = transformed(g) if len(groups) == 1 else None
    block = max(TILES // dilation, 1) if kept is not None else tiles
    for first in range(0, tiles, block):
        count = min(block, tiles - first)
        shape = (count, dilation, length, channels)
        tile = padded.as_strided(
            shape, (period * channels, channels, dilation * channels, 1), first * period * channels
        )
        u = (b @ tile).flatten(0, 1).transpose(0, 1)  # (R, tiles, C)
        if kept is not None:
            v = torch.bmm(u, kept)
        else:
            v = torch.cat([torch.bmm(p, transformed(q)) for p, q in zip(u.split(rows), groups, strict=True)])
        made = a @ v.transpose(0, 1).unflatten(0, (count, dilation))
        y[first * period : (first + count) * period].view(count, step, dilation, -1).copy_(made.transpose(1, 2))
    return y[:samples]


def _correlate_2d(x: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """(H, W, C) with transformed weights (36, C, C') -> (H, W, C'), zeros beyond the edges."""
    (height, width, channels), out_channels = x.shape, weight.shape[-1]
    down, across = -(-height // 4), -(-width // 4)
    padded = F.pad(x, (0, 0, 1, across * 4 + 1 - width, 1, down * 4 + 1 - height))
    row = padded.shape[1] * channels
    y = x.new_empty(down, 4, across, 4, out_channels)
    large = weight.numel() * weight.element_size() > CACHED_BYTES
    block = down if large else max(BLOCK_BYTES_2D // (36 * across * (channels + out_channels) * x.element_size()), 1)
    for first in range(0, down, block):
        count = min(block, down - first)
        tile = padded.as_strided((6, 6, count, across, channels), (row, channels, 4 * row, 4 * channels, 1), first * 4 * row)  # fmt: skip  # noqa: E501
        v = torch.bmm((b @ tile.reshape(36, -1)).view(36, count * across, channels), weight)
        y[first : first + count] = (a @ v.view(36, -1)).view(4, 4, count, across, -1).permute(2, 0, 3, 1, 4)
    return y.view(down * 4, across * 4, out_channels)[:height, :width]


@lru_cache
def fourier(length: int, taps: int) -> Matrices:
    """Correlation of `taps` taps over tiles of `length` (even) samples by the real Fourier transform."""
    step = length - taps + 1
    n, k, m = (torch.arange(size, dtype=torch.float64) for size in (length, taps, step))
    a, b, g = ([torch.ones(step) / length, (-1) ** m / length], [torch.ones(length), (-1) ** n], [torch.ones(taps), (-1) ** k])  # fmt: skip  # noqa: E501
    for frequency in range(1, length // 2):
        w = 2 * math.pi * frequency / length
        # (p + iq)(c + id) = c(p + q) - q(c + d) + i [c(p + q) + p(d - c)], with the kernel's transform conjugated.
        p, q, c, d = torch.cos(w * n), -torch.sin(w * n), torch.cos(w * k), torch.sin(w * k)
        real, imaginary = 2 / length * torch.cos(w * m), -2 / length * torch.sin(w * m)
        b += [p + q, p, q]
        g += [c, d - c, c + d]
        a += [real + imaginary, imaginary, -real]
    return torch.stack(a, dim=1).float(), torch.stack(b).float(), torch.stack(g).float()


@lru_cache
def toom_cook(step: int, taps: int) -> Matrices:
    """Correlation of `taps` taps with `step` outputs a tile from step + taps - 1 products: Winograd's F(step, taps)."""
    points = [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5][: step + taps - 2]

    def evaluated(width: int) -> Tensor:
        rows = [[point**power for power in range(width)] for point in points]
        return torch.tensor([*rows, [0.0] * (width - 1) + [1.0]], dtype=torch.float64)

    # The transposed product of polynomials (Lavin & Gray 2016, section 2).
    b = torch.linalg.inv(evaluated(step + taps - 1)).T
    return evaluated(step).T.float().contiguous(), b.float(), evaluated(taps).float()
