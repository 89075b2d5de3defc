"""The low band in, the wide band out, in one pass of the Mamba-GAN's generator."""

from __future__ import annotations

from itertools import islice, repeat
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentsr.config import AUDIO, AudioConfig
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.sampling import absolute_noise, noises
from latentsr.signal.mel import MelSpectrogram
from latentsr.signal.texture import as_noise


class MambaGanHead:
    """Restore without diffusion; where latents are given, decode them in the vocoder's place."""

    components: ClassVar[tuple[str, ...]] = ("mamba_gan",)
    needs_latents: ClassVar[bool] = False
    takes_steps: ClassVar[bool] = False
    can_denoise: ClassVar[bool] = True

    def __init__(
        self, mamba_gan: MambaGenerator, audio: AudioConfig = AUDIO, device: torch.device | None = None
    ) -> None:
        self.network = mamba_gan
        self.audio = audio
        self.device = mamba_gan.device if device is None else device
        self.dtype = mamba_gan.dtype
        self.mel = MelSpectrogram(audio).to(self.device)
        self.context_frames = int(mamba_gan.config.context_frames)

    def __call__(self, low: Tensor, cutoff_hz: Tensor, latents: Tensor | None = None, **options: Any) -> Tensor:
        return self.decode(low, cutoff_hz, latents, **options)[0]

    def decode(
        self,
        low: Tensor,
        cutoff_hz: Tensor,
        latents: Tensor | None = None,
        *,
        steps: int | None = None,
        generator: torch.Generator | None = None,
        keep_known: bool = True,
        ignored: tuple[int, int] = (0, 0),
        first_frame: int = 0,
        noise_mix: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        frames = low.shape[-1] // self.audio.hop_length
        if latents is not None and latents.shape[2] * self.network.config.latent_frames != frames:
            raise ValueError(
                f"{latents.shape[2]} latent frames are not {frames} mel frames / "
                f"{self.network.config.latent_frames}; these latents are of another VAE"
            )
        seed = 0 if generator is None else int(torch.randint(2**62, (), generator=generator))

        def draw(source: int) -> Tensor:
            return absolute_noise(seed, first_frame, frames, 1, self.audio.hop_length, source).view(1, 1, -1)

        noise = noises(noise_mix, len(low), draw)
        # On a CPU a batch saves no time, but holds all its channels in memory: only two run together.
        count = 1 if self.device.type == "cpu" and len(low) > 2 else max(len(low), 1)
        given = repeat(None) if latents is None else latents.split(count)
        parts = zip(low.split(count), cutoff_hz.split(count), given, strict=False)
        made = [self._made(*part, list(islice(noise, count))) for part in parts]
        waves, mels = zip(*made, strict=True)
        return torch.cat(waves), torch.cat(mels)

    def _made(
        self, low: Tensor, cutoff_hz: Tensor, latents: Tensor | None, noise: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Waves (B, 1, T) of low bands, and the clean log-mels (B, L, M)."""
        mel = self.mel(low.float())[:, 0].to(self.dtype)
        wave, clean = self.network(mel, cutoff_hz, latents)
        share = float(self.network.config.noise_share)
        if share:
            wave = as_noise(wave[:, None], torch.cat(noise).to(wave.device), share)[:, 0]
        return wave[:, None], clean
