"""The AudioSR path: latents -> VAE decode -> known mel bins put back -> vocoder."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.config import AUDIO, AudioConfig
from latentsr.models.hifigan import context_frames, vocode
from latentsr.models.vae import mode, strides, to_mel
from latentsr.signal.mel import MelSpectrogram, bands_below

# Latent frames on each side that the VAE's decoder is given. More changes little: with 4 the small VAE's mel differs by
# 0.015 nats from the whole one, with 13 by 0.012, which is the group normalisation's doing (AudioSR's architecture with
# random weights: 0.04 and 0.03).
VAE_CONTEXT = 5


class VocoderHead:
    """Decode the diffusion's latents with the VAE and the vocoder, which draws no noise."""

    components: ClassVar[tuple[str, ...]] = ("vae", "vocoder")
    needs_latents: ClassVar[bool] = True
    takes_steps: ClassVar[bool] = True
    can_denoise: ClassVar[bool] = True

    def __init__(
        self,
        vae: AutoencoderKL,
        vocoder: nn.Module,
        audio: AudioConfig = AUDIO,
        device: torch.device | None = None,
    ) -> None:
        self.vae = vae
        self.vocoder = vocoder
        self.audio = audio
        self.device = vae.device if device is None else device
        self.dtype = vae.dtype
        self.mel = MelSpectrogram(audio).to(self.device)
        self.reach = context_frames(vocoder)
        self.context_frames = self.reach + VAE_CONTEXT * strides(vae)[0]

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
        if latents is None:
            raise ValueError("the vocoder head decodes latents; call it through the pipeline, which samples them")
        if self.device.type == "cpu":  # where a batch saves no time, but holds all its channels in memory
            parts = zip(low.split(1), cutoff_hz.split(1), latents.split(1), strict=True)
            waves, mels = zip(*(self._decode(*part, keep_known, ignored) for part in parts), strict=True)
            return torch.cat(waves), torch.cat(mels)
        return self._decode(low, cutoff_hz, latents, keep_known, ignored)

    def _decode(
        self, low: Tensor, cutoff_hz: Tensor, latents: Tensor, keep_known: bool, ignored: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        clean = mel = to_mel(self.vae, latents)
        given = self.mel(low.float()).to(mel)[:, :, : mel.shape[2]]  # latents hold whole strides
        if keep_known:
            known = bands_below(cutoff_hz, self.audio)[:, None, None, :]
            mel = torch.where(known, given, mel)
        else:
            # What the VAE cannot say is missing from both decoded mels, and is no noise that was taken away.
            clean = given + mel - to_mel(self.vae, mode(self.vae, given))
        before, after = (max(frames - self.reach, 0) for frames in ignored)
        wave = vocode(self.vocoder, mel[:, :, before : mel.shape[2] - after], self.audio)
        return F.pad(wave, (before * self.audio.hop_length, after * self.audio.hop_length)), clean[:, 0]
