"""Noise that belongs to absolute time: overlapping windows, and channels that are alike, draw the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat

import torch
from torch import Tensor

NOISE_BLOCK = 64  # frames drawn with one generator
SOURCE_STRIDE = 0x9E3779B1  # of seeds: the generator keeps 32 bits, in which 64 sources of any length stay apart


def absolute_noise(seed: int, first: int, frames: int, channels: int, rows: int, source: int = 0) -> Tensor:
    """Standard normal noise (channels, frames, rows) of the frames from `first` on.

    It depends on the seed, on the absolute frame and on which of the independent sources is asked alone, so that
    overlapping windows get the same.
    """
    blocks = []
    for block in range(first // NOISE_BLOCK, (first + frames - 1) // NOISE_BLOCK + 1):
        # Windows may begin before the recording does: negative blocks get seeds of their own.
        generator = torch.Generator().manual_seed((seed * 1_000_003 + block + source * SOURCE_STRIDE) % (2**63))
        blocks.append(torch.randn(channels, NOISE_BLOCK, rows, generator=generator))
    start = first - (first // NOISE_BLOCK) * NOISE_BLOCK
    return torch.cat(blocks, dim=1)[:, start : start + frames]


def noises(mix: Tensor | None, count: int, draw: Callable[[int], Tensor]) -> Iterator[Tensor]:
    """Noise for each of `count` waves of a recording, one after the other.

    Args:
        mix: (count, K) how much each takes of K independent sources (`signal.correlation.noise_mix`); None: all take
            the first, and get the same noise.
        count: of waves.
        draw: the noise of a source.
    """
    if mix is None:
        yield from repeat(draw(0), count)
        return
    if len(mix) != count:
        raise ValueError(
            f"channel_correlation was measured on {len(mix)} channels, but this recording has {count}; measure it again"
        )
    drawn = {source: draw(source) for source in mix.any(dim=0).nonzero()[:, 0].tolist()}
    for row in mix.tolist():
        # One after the other, and nothing of what a row does not take: equal rows make equal noise, bit for bit.
        yield sum((share * drawn[source] for source, share in enumerate(row) if share), torch.zeros(()))
