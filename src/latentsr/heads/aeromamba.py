"""AEROMamba as published: the low band at a quarter of 44.1 kHz in, the whole band at 44.1 kHz out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from latentsr.config import AUDIO
from latentsr.heads.base import Head, LowBand
from latentsr.models.aeromamba import AeroMamba
from latentsr.signal.spectral import resample


class AeroMambaHead(Head):
    """One pass of the network; what it makes ends at half of its own rate, 22.05 kHz for the published one.

    Whatever the recording's cutoff, the network gets the rate that it was trained on: content above half of that rate
    is not shown to it, and comes back by the merge alone.
    """

    context_frames = 64

    def __init__(self, aeromamba: AeroMamba, device: torch.device | None = None) -> None:
        self.network = aeromamba
        self.device = aeromamba.device if device is None else device
        self.dtype = aeromamba.dtype
        sizes: Any = aeromamba.config
        self.rate = int(sizes.sample_rate)  # of what it makes, Hz
        self.low_rate = self.rate // int(sizes.scale)

    def decode(self, low: LowBand) -> tuple[Tensor, Tensor | None]:
        rate, samples = AUDIO.sample_rate, low.wave.shape[-1]
        given = resample(low.wave.float(), rate, self.low_rate)
        made = torch.cat([self.network(row) for row in given.split(1)]).float()
        wide = resample(made, self.rate, rate)[..., :samples]
        return F.pad(wide, (0, samples - wide.shape[-1])), None
