"""The low band in, the wide band out, in one pass of the Mamba-GAN's generator."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from latentsr.config import AUDIO, AudioConfig
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.signal.mel import MelSpectrogram


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

    def __call__(
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
    ) -> Tensor:
        mel = self.mel(low.float())[:, 0].to(self.dtype)
        if latents is not None and latents.shape[2] * self.network.config.latent_frames != mel.shape[1]:
            raise ValueError(
                f"{latents.shape[2]} latent frames are not {mel.shape[1]} mel frames / "
                f"{self.network.config.latent_frames}; these latents are of another VAE"
            )
        return self.network(mel, cutoff_hz, latents)[0][:, None]
