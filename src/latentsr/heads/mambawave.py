"""MambaWave as published, on one schedule: the low band at half the rate in, the diffused wave out."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.diffusion.sampling import sample, training_scheduler
from latentsr.heads.base import Head, LowBand
from latentsr.models.mambawave import MambaWave
from latentsr.signal.level import NETWORK_PEAK
from latentsr.signal.noise import absolute_noise, noises
from latentsr.signal.spectral import half_rate

STEPS = 5


class MambaWaveHead(Head):
    """Diffuse the wave itself. It is slow: a step takes seconds of a CPU core for each second of audio."""

    context_frames = 64

    def __init__(self, mambawave: MambaWave, device: torch.device | None = None) -> None:
        self.network = mambawave
        self.device = mambawave.device if device is None else device
        self.dtype = mambawave.dtype
        self.scheduler = training_scheduler()

    def decode(self, low: LowBand) -> tuple[Tensor, Tensor | None]:
        hop, steps = AUDIO.hop_length, STEPS if low.steps is None else low.steps
        draw = partial(absolute_noise, low.seed, low.first_frame, low.wave.shape[-1] // hop, 1, hop)
        made = []
        for part, noise in zip(low.split(1), noises(low.noise_mix, len(low.wave), draw), strict=True):
            # It was trained on low bands that reach full scale; one gain for the recording, so that windows agree.
            half = half_rate(part.wave.float(), AUDIO.sample_rate) / NETWORK_PEAK
            noise = noise.flatten(1)[None].to(part.wave.device)
            made.append(self._restored(half.to(self.dtype), noise, steps) * NETWORK_PEAK)
        return torch.cat(made), None

    def _restored(self, half: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Wide-band wave (1, 1, T) of one at half the rate (1, 1, T / 2) and noise of unit variance."""
        return sample(lambda x, t: self.network(x.to(half), t, half).float(), noise, self.scheduler, steps)
