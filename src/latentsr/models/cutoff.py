"""The network that hears where a band ends: spectra of a stretch of time in, a posterior over the cutoff out.

What it looks at (`Features`) are a handful of figures for each bin of `signal.bandframes`: how loud the bin is on
average, at its loudest and at its quietest, how much it moves, how far it stands above the dust of rounding, and two
that tell an image from a programme: how well the spectrum is mirrored about the bin, and how the bin moves with the
whole. They are sums over frames and products of them, so that a stretch of any length has them, and ONNX has them too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.models.network import Network
from latentsr.signal.bandframes import BIN_HZ, BINS, SILENT_DB

FEATURES = 14
RANGE_DB = 110.0  # below the loudest bin: what is quieter is as good as nothing
MARGIN_DB = 60.0  # above dust: more says no more
MIRRORED = range(2, 17)  # bins on either side of a mirror, up to 1.5 kHz
SMOOTHED = 9  # bins: the fine structure, which mirrors, is what is left over this
FINE_DB = 12.0
# A line: so steady, so far above what is so many bins beside it; its main lobe is so wide; fewer frames cannot tell.
STEADY_DB, LINE_DB, BESIDE, LOBE, FEWEST_FRAMES = 1.0, 10.0, 4, 2, 7
LOSS_DB = 20.0  # unit of the predicted loss
CELLS_PER_OCTAVE, LOWEST_CELL_HZ, CELLS = 24, 500.0, 134  # where a band can end, up to 24 kHz
UNCUT, NOTHING = CELLS, CELLS + 1  # classes behind the cells: nothing was cut; there is nothing to hear
CLASSES = CELLS + 2


class Features(nn.Module):
    """Frames (B, L, BINS) in dB -> (B, FEATURES, BINS); silent frames do not count."""

    def __init__(self) -> None:
        super().__init__()
        bins = torch.arange(BINS, device="cpu")
        reach = max(MIRRORED) + 1
        pairs = torch.tensor(MIRRORED, device="cpu")
        low = bins[:, None] - pairs + reach  # in a spectrum padded by `reach`
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", bins[:, None] + pairs + reach, persistent=False)
        self.register_buffer("octaves", torch.log2(bins.clamp(min=0.5) * BIN_HZ / 3_000), persistent=False)
        self.reach = reach
        self.low: Tensor
        self.high: Tensor
        self.octaves: Tensor

    def forward(self, power_db: Tensor, nyquist_hz: Tensor, dust_db: Tensor) -> Tensor:
        """Args: power_db (B, L, BINS); nyquist_hz (B,) of the files; dust_db (B,) level of rounding, -300: none."""
        inside = ((self.octaves.exp2() * 3_000)[None] <= nyquist_hz[:, None]).to(power_db)  # (B, BINS)
        loud_db = (power_db - 400 * (1 - inside[:, None])).amax((1, 2))
        level = (power_db - loud_db[:, None, None]).clamp(min=-RANGE_DB - 40)  # dB below the loudest moment
        heard = (level.amax(2) > -RANGE_DB).to(level)  # (B, L) frames that are not silent
        count = heard.sum(1).clamp(min=1)[:, None]
        power = (level * (math.log(10) / 10)).exp()

        def mean(values: Tensor) -> Tensor:
            return (values * heard[..., None]).sum(1) / count

        average = _db(mean(power))
        reference = (average - 400 * (1 - inside)).amax(1)[:, None]  # of the loudest bin
        typical = mean(level)
        loudest = 0.5 * _db(mean(power.square()))
        quietest = -_db(mean((-level.clamp(min=-RANGE_DB) * (math.log(10) / 10)).exp()))
        moving = mean((level - typical[:, None]).square()).clamp(min=1e-6).sqrt()
        dust = dust_db[:, None] - loud_db[:, None]
        margins = [((each - dust) / 20).clamp(-0.5, MARGIN_DB / 20) for each in (average, quietest)]
        whole = _db((power * inside[:, None]).sum(2))  # (B, L)
        together = self._together(level, typical, moving, whole, heard, count)
        mirrored, between = self._mirrored(level, inside, heard)
        relative = [((each - reference).clamp(min=-RANGE_DB)) / 20 for each in (average, typical, loudest, quietest)]
        constants = [self.octaves.expand_as(average) / 3, (count.log2() / 8 - 0.5).expand_as(average)]
        slope = F.pad(relative[0][:, 2:] - relative[0][:, :-2], (1, 1)) * 2
        stacked = torch.stack(
            [*relative, moving / 10, *margins, together, mirrored, between, slope, *constants, inside], dim=1
        )
        return stacked * inside[:, None]

    def _together(
        self, level: Tensor, typical: Tensor, moving: Tensor, whole: Tensor, heard: Tensor, count: Tensor
    ) -> Tensor:
        """Correlation over time of each bin with the level of the whole. -> (B, BINS)"""
        mean = (whole * heard).sum(1, keepdim=True) / count
        away = (whole - mean) * heard
        spread = (away.square().sum(1, keepdim=True) / count).clamp(min=1e-6).sqrt()
        product = (away[..., None] * (level - typical[:, None])).sum(1) / count
        return product / (spread * moving + 1.0)

    def _mirrored(self, level: Tensor, inside: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        """How alike the fine structures below and above each bin, and each edge between two, are. -> 2 x (B, BINS)"""
        padded = F.pad(level, (SMOOTHED // 2, SMOOTHED // 2), mode="replicate")
        fine = level - F.avg_pool1d(padded, SMOOTHED, 1)
        fine = fine.clamp(-FINE_DB, FINE_DB) * (inside[:, None] * heard[..., None])
        fine = F.pad(fine, (self.reach, self.reach))
        products = fine.transpose(1, 2) @ fine  # (B, P, P)
        energy = products.diagonal(dim1=1, dim2=2)
        size, alike = products.shape[-1], []
        for high in (self.high, (self.high + 1).clamp(max=size - 1)):
            found = products.flatten(1)[:, (self.low * size + high).flatten()].unflatten(1, self.low.shape)
            norm = (energy[:, self.low] * energy[:, high] + 1.0).sqrt()
            alike.append(found.sum(2) / norm.sum(2))
        return alike[0], alike[1]


def without_lines(power_db: Tensor) -> Tensor:
    """Steady lines, whines and pilots, brought down to what is beside them. (B, L, BINS) -> (B, L, BINS)

    Nothing that is played or spoken keeps its level so well and stands so far out.
    """
    heard = (power_db.amax(2) > SILENT_DB + 1).to(power_db)[..., None]  # (B, L, 1)
    count = heard.sum(1).clamp(min=1)
    mean = (power_db * heard).sum(1) / count  # (B, BINS)
    wavering = (((power_db - mean[:, None]) * heard).square().sum(1) / count).sqrt()
    beside = F.pad(mean[:, None], (BESIDE, BESIDE), mode="replicate")[:, 0]
    beside = torch.maximum(beside[:, : -2 * BESIDE], beside[:, 2 * BESIDE :])
    line = (wavering < STEADY_DB) & (mean > beside + LINE_DB) & (count > FEWEST_FRAMES)
    line = F.max_pool1d(line.to(power_db)[:, None], 2 * LOBE + 1, 1, LOBE) > 0  # (B, 1, BINS)
    padded = F.pad(power_db, (BESIDE, BESIDE), mode="replicate")
    around = (padded[..., : -2 * BESIDE] + padded[..., 2 * BESIDE :]) / 2
    return torch.where(line, torch.minimum(power_db, around), power_db)


def _db(power: Tensor) -> Tensor:
    return power.clamp(min=1e-16).log() * (10 / math.log(10))


class Block(nn.Module):
    """Depthwise convolution along the frequency axis, then two pointwise ones, around a shortcut."""

    def __init__(self, channels: int, hidden: int, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.along = nn.Conv1d(
            channels, channels, width, padding=dilation * (width // 2), dilation=dilation, groups=channels
        )
        self.wide = nn.Conv1d(channels, hidden, 1)
        self.back = nn.Conv1d(hidden, channels, 1)
        self.whole = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, K) -> (B, channels, K)"""
        y = self.norm(x)
        (dilation,), weight, bias = self.along.dilation, self.along.weight, self.along.bias
        if self.training or dilation == 1 or bias is None:
            along = self.along(y)
        else:  # torch's kernel for dilated ones takes thrice as long on a CPU as shifts and products
            padded, along = F.pad(y, (dilation * (weight.shape[2] // 2),) * 2), bias[:, None].expand_as(y)
            for k in range(weight.shape[2]):
                along = torch.addcmul(along, padded[..., k * dilation :][..., : y.shape[2]], weight[:, :, k])
        y = along + self.whole(y.mean(2))[:, :, None]
        return x + self.back(F.gelu(self.wide(y)))


def cells_hz() -> Tensor:
    """Middle of each cell, in Hz. (CELLS,) float64"""
    return LOWEST_CELL_HZ * 2 ** (torch.arange(CELLS, dtype=torch.float64, device="cpu") / CELLS_PER_OCTAVE)


class Interpolation(nn.Module):
    """Linear interpolation along the last axis at fixed places."""

    def __init__(self, places: Tensor, size: int) -> None:
        super().__init__()
        places = places.clamp(0, size - 1)
        below = places.floor().clamp(max=size - 2)
        self.register_buffer("below", below.long(), persistent=False)
        self.register_buffer("share", (places - below).float(), persistent=False)
        self.below: Tensor
        self.share: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., places)"""
        return torch.lerp(x[..., self.below], x[..., self.below + 1], self.share)


class CutoffNet(Network):
    """Features -> logits over CLASSES, and what the filter took from each bin.

    Edges, images and harmonics are shifts on a linear axis of frequency, skirts and the droop of a resampler on a
    logarithmic one: the first blocks run along the one, the others along the other.

    Args:
        channels: of the trunk.
        hidden: of the pointwise layers.
        width: of the depthwise kernels, in positions of 187.5 Hz, then in cells.
        dilations: one block each along the linear axis.
        log_dilations: one block each along the logarithmic axis.
    """

    def __init__(
        self,
        channels: int = 48,
        hidden: int = 96,
        width: int = 9,
        dilations: tuple[int, ...] = (1, 2, 4, 8, 1),
        log_dilations: tuple[int, ...] = (1, 2, 4, 8),
    ) -> None:
        super().__init__()
        self.features = Features()
        self.stem = nn.Conv1d(FEATURES, channels, 8, stride=2, padding=3)
        self.blocks = nn.ModuleList(Block(channels, hidden, width, dilation) for dilation in dilations)
        self.to_cells = Interpolation((cells_hz() / BIN_HZ - 0.5) / 2, BINS // 2)
        self.place = nn.Conv1d(channels, channels, 1)
        self.log_blocks = nn.ModuleList(Block(channels, hidden, width, dilation) for dilation in log_dilations)
        self.norm = nn.GroupNorm(1, channels)
        self.cells = nn.Conv1d(channels, 2, 1)  # logits and losses
        bins = torch.arange(BINS, dtype=torch.float64, device="cpu").clamp(min=1) * BIN_HZ
        self.to_bins = Interpolation(torch.log2(bins / LOWEST_CELL_HZ) * CELLS_PER_OCTAVE, CELLS)
        self.rest = nn.Linear(2 * channels, 2)

    def forward(self, power_db: Tensor, nyquist_hz: Tensor, dust_db: Tensor) -> tuple[Tensor, Tensor]:
        """Hear stretches of L frames.

        Args:
            power_db: (B, L, BINS), `Frames.power_db`.
            nyquist_hz: (B,) of the files.
            dust_db: (B,) `Frames.dust_db`.

        Returns:
            Logits (B, CLASSES) of the cell in which the pass band ends, then UNCUT and NOTHING; and the loss (B, BINS)
            in dB of the filter that ended it.
        """
        x = self.features(power_db, nyquist_hz, dust_db)
        for part in self.parts():
            x = part(x)
        logits, loss = x.unbind(1)
        return logits, self.to_bins(loss[..., :CELLS]) * LOSS_DB

    def parts(self) -> list[Callable[[Tensor], Tensor]]:
        """What is done to the features, one part after the other: who must not stop for long takes one at a time.

        The last one gives (B, 2, CLASSES): logits, and losses of which the first `CELLS` mean something.
        """
        return [self.stem, *self.blocks, self._on_cells, *self.log_blocks, self._said]

    def _on_cells(self, x: Tensor) -> Tensor:
        return self.place(self.to_cells(x))

    def _said(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        whole = self.rest(torch.cat([x.mean(2), x.amax(2)], dim=1))
        return torch.cat([self.cells(x), whole[:, None].expand(-1, 2, -1)], dim=2)
