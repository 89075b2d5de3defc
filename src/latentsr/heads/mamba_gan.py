"""The low band in, the wide band out, in one pass of the Mamba-GAN's generator."""

from __future__ import annotations

from functools import partial
from itertools import islice

import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.heads.base import Head, LowBand
from latentsr.models.mamba_gan import MelFront
from latentsr.signal.mel import MelSpectrogram
from latentsr.signal.noise import absolute_noise, noises

REACH = 16  # frames beside the ignored ones: fades, limiter and filters look at 0.16 s of them at most


class MambaGanHead(Head):
    """Restore without diffusion; where latents are given, decode them in the vocoder's place."""

    def __init__(self, mamba_gan: MelFront, device: torch.device | None = None) -> None:
        self.network = mamba_gan
        self.device = mamba_gan.device if device is None else device
        self.dtype = mamba_gan.dtype
        self.mel = MelSpectrogram(AUDIO).to(self.device)
        self.context_frames = int(mamba_gan.config.context_frames)

    def decode(self, low: LowBand) -> tuple[Tensor, Tensor | None]:
        if low.latents is not None:
            low.check_latents(low.latents, AUDIO.hop_length, self.network.config.latent_frames)
        rows, frames = len(low.wave), low.wave.shape[-1] // AUDIO.hop_length
        draw = partial(absolute_noise, low.seed, low.first_frame, frames, 1, AUDIO.hop_length)
        noise = noises(low.noise_mix, rows, draw)
        # On a CPU a batch saves no time, but holds all its channels in memory: only two run together.
        count = 1 if self.device.type == "cpu" and rows > 2 else max(rows, 1)
        parts = [low] if count >= rows else low.split(count)
        made = [self._made(part, list(islice(noise, count))) for part in parts]
        waves, mels = zip(*made, strict=True)
        return torch.cat(waves), torch.cat(mels)

    def _made(self, low: LowBand, noise: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Waves (B, 1, T) and clean log-mels (B, L, M)."""
        mel = self.mel(low.wave.float())[:, 0].to(self.dtype)
        heard = torch.cat(noise).flatten(1).to(low.wave.device)
        ignored = max(low.ignored[0] - REACH, 0), max(low.ignored[1] - REACH, 0)
        wave, clean = self.network.restore(
            low.wave[:, 0].float(), mel, low.cutoff_hz, heard.float(), low.latents, ignored
        )
        return wave[:, None], clean
