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
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TILES = 160  # of one block, so that it stays in the cache
CACHED_BYTES = 40 * 2**20  # of transformed weights at a time; where they are more, many tiles share one pass over them
LENGTH = 32  # of a tile: longer ones save products, and cost more in the transforms, of weights too
LEAST_CHANNELS = 48  # below that the transforms cost more than they save
LEAST_SAMPLES = 1024
BLOCK_BYTES_2D = 8 * 2**20  # of transformed inputs and outputs at a time
LARGE_BLOCK_BYTES_2D = 48 * 2**20  # where the weights are transformed anew for each block

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
        plain = self.groups == self.in_channels == self.out_channels and self.stride == self.dilation == (1,)
        if plain and self.padding_mode == "zeros" and x.dim() == 3 and _for_inference(x):
            return self._depthwise(x)
        matrices = self._matrices(x)
        if matrices is None:
            return super().forward(x)
        (a, b, g), dilation = matrices, self.dilation[0]
        products = _Products(g, self.weight.permute(2, 0, 1))
        made = [_correlate(one, products, a, b, dilation) for one in x.transpose(1, 2).contiguous()]
        y = torch.stack(made) if len(made) > 1 else made[0][None]
        return (y if self.bias is None else y.add_(self.bias)).transpose(1, 2)

    def _depthwise(self, x: Tensor) -> Tensor:
        """A product and a sum a tap, channels last: half of the library's time, with its copies there and back."""
        edge = int(self.padding[0])
        padded = F.pad(x.transpose(1, 2), (0, 0, edge, edge))
        samples = padded.shape[1] - self.kernel_size[0] + 1
        y = padded[:, :samples] * self.weight[:, 0, 0]
        for tap in range(1, self.kernel_size[0]):
            y.addcmul_(padded[:, tap : tap + samples], self.weight[:, 0, tap])
        return (y if self.bias is None else y.add_(self.bias)).transpose(1, 2)

    def _matrices(self, x: Tensor) -> Matrices | None:
        """The algorithm for this input; None where the ordinary convolution is faster or must serve."""
        taps = self.kernel_size[0]
        same = self.padding == (taps // 2 * self.dilation[0],) and taps % 2 == 1 and self.padding_mode == "zeros"
        wide = min(self.in_channels, self.out_channels) >= LEAST_CHANNELS and x.shape[-1] >= LEAST_SAMPLES
        plain = same and wide and self.stride == (1,) and self.groups == 1
        shortest = {torch.float32: 3, torch.bfloat16: 7}.get(x.dtype)
        if not (plain and x.dim() == 3 and _for_inference(x)) or shortest is None or taps < shortest:
            return None
        a, b, g = toom_cook(6, 3) if taps == 3 else fourier(LENGTH if 2 * taps < LENGTH else 4 * taps, taps)
        return a.to(x.dtype), b.to(x.dtype), g.to(x.dtype)


class FastConv2d(nn.Conv2d):
    """`nn.Conv2d` that makes 4 x 4 outputs at a time where that pays: 3 x 3 taps, fp32."""

    def forward(self, x: Tensor) -> Tensor:
        if not self._pays(x):
            # The group norm that follows is less exact where channels lie last, as the weights' layout makes them.
            y = super().forward(x)
            return y.contiguous() if _ordinary.get() else y
        a, b, g = (torch.kron(m, m) for m in toom_cook(4, 3))
        products = _Products(g, self.weight.permute(2, 3, 0, 1).flatten(0, 1))
        made = [_correlate_2d(one, products, a, b) for one in x.permute(0, 2, 3, 1).contiguous()]
        y = torch.stack(made) if len(made) > 1 else made[0][None]
        return (y if self.bias is None else y.add_(self.bias)).permute(0, 3, 1, 2)

    def _pays(self, x: Tensor) -> bool:
        positions, channels = x.shape[-1] * x.shape[-2], (self.in_channels, self.out_channels)
        plain = self.kernel_size == (3, 3) and self.stride == self.dilation == (1, 1) and self.groups == 1
        same = self.padding == (1, 1) and self.padding_mode == "zeros"
        wide = min(channels) >= LEAST_CHANNELS and positions >= 2 * math.sqrt(math.prod(channels))
        return plain and same and wide and x.dim() == 4 and x.dtype == torch.float32 and _for_inference(x)


def _for_inference(x: Tensor) -> bool:
    cast = torch.is_autocast_enabled("cpu")  # it would cast some of the steps and not others
    return x.device.type == "cpu" and len(x) > 0 and not (torch.is_grad_enabled() or cast or _ordinary.get())


class _Products:
    """Multiplies transformed inputs (R, n, C) with the transforms of weights (k, C', C): (R, n, C')."""

    _workspace = threading.local()  # one for every conversion of weights: fresh memory of this size is slow to get

    def __init__(self, g: Tensor, weight: Tensor) -> None:
        _, self.out_channels, self.channels = weight.shape
        self.weight = weight.reshape(len(weight), -1)
        self.groups = g.split(max(CACHED_BYTES // (self.weight.shape[1] * g.element_size()), 1))
        self.large = len(self.groups) > 1
        self.kept = None if self.large else self._transform(g)

    def __call__(self, u: Tensor) -> Tensor:
        if self.kept is not None:
            return torch.bmm(u, self.kept)
        v = u.new_empty(*u.shape[:2], self.out_channels)
        parts = (tensor.split(len(self.groups[0])) for tensor in (u, v))
        for group, part, out in zip(self.groups, *parts, strict=True):
            torch.bmm(part, self._transform(group), out=out)
        return v

    def _transform(self, group: Tensor) -> Tensor:
        """(r, C, C') of rows of G, in memory that the next call uses again."""
        elements = len(group) * self.weight.shape[1]
        kept, name = self._workspace.__dict__, str(group.dtype)
        if name not in kept or kept[name].numel() < elements:
            with torch.inference_mode(False):  # a tensor of inference mode could not be written outside of it
                kept[name] = group.new_empty(max(elements, CACHED_BYTES // group.element_size()))
        out = kept[name][:elements].view(len(group), -1)
        return torch.mm(group, self.weight, out=out).view(-1, self.out_channels, self.channels).transpose(1, 2)


def _correlate(x: Tensor, products: _Products, a: Tensor, b: Tensor, dilation: int) -> Tensor:
    """(T, C) -> (T, C'), zeros beyond both ends."""
    samples, channels = x.shape
    step, length = a.shape[0], b.shape[1]
    period, taps = step * dilation, length - step + 1
    tiles, padding = -(-samples // period), taps // 2 * dilation
    padded = x.new_zeros((tiles * step + taps - 1) * dilation, channels)
    padded[padding : padding + samples] = x
    y = x.new_empty(tiles * period, products.out_channels)
    block = tiles if products.large else max(TILES // dilation, 1)
    for first in range(0, tiles, block):
        count = min(block, tiles - first)
        shape = (count, dilation, length, channels)
        strides = (period * channels, channels, dilation * channels, 1)
        tile = padded.as_strided(shape, strides, first * period * channels)
        v = products((b @ tile).flatten(0, 1).transpose(0, 1))
        made = a @ v.transpose(0, 1).unflatten(0, (count, dilation))
        y[first * period : (first + count) * period].view(count, step, dilation, -1).copy_(made.transpose(1, 2))
    return y[:samples]


def _correlate_2d(x: Tensor, products: _Products, a: Tensor, b: Tensor) -> Tensor:
    """(H, W, C) -> (H, W, C'), zeros beyond the edges."""
    height, width, channels = x.shape
    down, across = -(-height // 4), -(-width // 4)
    row = (across * 4 + 2) * channels
    y = x.new_empty(down, 4, across, 4, products.out_channels)
    row_bytes = 36 * across * (channels + products.out_channels) * x.element_size()
    block = max((LARGE_BLOCK_BYTES_2D if products.large else BLOCK_BYTES_2D) // row_bytes, 1)
    for first in range(0, down, block):
        count = min(block, down - first)
        start, stop = max(first * 4 - 1, 0), min((first + count) * 4 + 1, height)
        beyond = first * 4 + 4 * count + 1 - stop
        padded = F.pad(x[start:stop], (0, 0, 1, across * 4 + 1 - width, start - first * 4 + 1, beyond))
        strides = (row, channels, 4 * row, 4 * channels, 1)
        tile = padded.as_strided((6, 6, count, across, channels), strides)
        v = products((b @ tile.reshape(36, -1)).view(36, count * across, channels))
        y[first : first + count] = (a @ v.view(36, -1)).view(4, 4, count, across, -1).permute(2, 0, 3, 1, 4)
    return y.view(down * 4, across * 4, -1)[:height, :width]


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
