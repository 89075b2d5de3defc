"""The AudioSR path: latents -> VAE decode -> known mel bins put back -> vocoder."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.config import AUDIO
from latentsr.heads.base import Head, LowBand
from latentsr.models.hifigan import context_frames, vocode
from latentsr.models.vae import mode, strides, to_mel
from latentsr.signal.mel import MelSpectrogram, bands_below

# Latent frames on each side that the VAE's decoder is given. More changes little: with 4 the small VAE's mel differs by
# 0.015 nats from the whole one, with 13 by 0.012, which is the group normalisation's doing (AudioSR's architecture with
# random weights: 0.04 and 0.03).
VAE_CONTEXT = 5


class VocoderHead(Head):
    """Decode the diffusion's latents with the VAE and the vocoder, which draws no noise."""

    def __init__(
        self,
        vae: AutoencoderKL,
        vocoder: nn.Module,
        device: torch.device | None = None,
    ) -> None:
        self.vae = vae
        self.vocoder = vocoder
        self.device = vae.device if device is None else device
        self.dtype = vae.dtype
        self.mel = MelSpectrogram(AUDIO).to(self.device)
        self.reach = context_frames(vocoder)
        self.context_frames = self.reach + VAE_CONTEXT * strides(vae)[0]

    def decode(self, low: LowBand) -> tuple[Tensor, Tensor | None]:
        if low.latents is None:
            raise ValueError(
                "the vocoder head decodes latents, and was given none; call the pipeline, which samples latents"
            )
        # On a CPU a batch saves no time, but holds all its channels in memory.
        parts = low.split(1) if self.device.type == "cpu" else [low]
        waves, mels = zip(
            *(self._decode(part, part.latents) for part in parts if part.latents is not None), strict=True
        )
        return torch.cat(waves), torch.cat(mels)

    def _decode(self, low: LowBand, latents: Tensor) -> tuple[Tensor, Tensor]:
        clean = mel = to_mel(self.vae, latents)
        given = self.mel(low.wave.float()).to(mel)[:, :, : mel.shape[2]]  # latents hold whole strides
        if low.keep_known:
            known = bands_below(low.cutoff_hz, AUDIO)[:, None, None, :]
            mel = torch.where(known, given, mel)
        else:
            # What the VAE cannot say is missing from both decoded mels, and is no noise that was taken away.
            clean = given + mel - to_mel(self.vae, mode(self.vae, given))
        before, after = (max(frames - self.reach, 0) for frames in low.ignored)
        wave = vocode(self.vocoder, mel[:, :, before : mel.shape[2] - after], AUDIO)
        return F.pad(wave, (before * AUDIO.hop_length, after * AUDIO.hop_length)), clean[:, 0]
