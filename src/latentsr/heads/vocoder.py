"""The AudioSR path: latents -> VAE decode -> known mel bins put back -> vocoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from latentsr.config import AUDIO, AudioConfig
from latentsr.models.hifigan import context_frames, vocode
from latentsr.models.vae import strides, to_mel
from latentsr.signal.mel import MelSpectrogram, bands_below

VAE_REACH = 13  # latent frames that a decoded frame of the small VAE depends on, each side


class VocoderHead:
    """Decode the diffusion's latents with the VAE and the vocoder."""

    components: ClassVar[tuple[str, ...]] = ("vae", "vocoder")
    needs_latents: ClassVar[bool] = True

    def __init__(self, vae: AutoencoderKL, vocoder: nn.Module, audio: AudioConfig = AUDIO) -> None:
        self.vae = vae
        self.vocoder = vocoder
        self.audio = audio
        self.device, self.dtype = vae.device, vae.dtype
        self.mel = MelSpectrogram(audio).to(vae.device)
        self.context_frames = context_frames(vocoder) + VAE_REACH * strides(vae)[0]

    def __call__(
        self,
        low: Tensor,
        cutoff_hz: Tensor,
        latents: Tensor | None = None,
        *,
        steps: int | None = None,
        generator: torch.Generator | None = None,
        keep_known: bool = True,
    ) -> Tensor:
        if latents is None:
            raise ValueError("the vocoder head decodes latents; call it through the pipeline, which samples them")
        mel = to_mel(self.vae, latents)
        if keep_known:
            known = bands_below(cutoff_hz, self.audio)[:, None, None, :]
            mel = torch.where(known, self.mel(low.float()).to(mel), mel)
        return vocode(self.vocoder, mel, self.audio)
