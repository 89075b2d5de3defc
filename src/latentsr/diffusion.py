"""Latents of the wide band, drawn on the condition of the low band, window by window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, SchedulerMixin
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.models.unet import DenoisingUNet, frame_multiple, predict_v
from latentsr.models.vae import mode, strides
from latentsr.sampling import absolute_noise, guided, sample
from latentsr.signal.chunks import Window
from latentsr.signal.mel import MelSpectrogram


@dataclass(frozen=True)
class Sampling:
    """How latents are drawn. `temperature` scales the initial noise: below 1 the draws lie nearer to the mean."""

    steps: int
    guidance_scale: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        limits = {"steps": (1, 1000), "guidance_scale": (0, 100), "temperature": (0, 2)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be {low} to {high}, got {getattr(self, name)}")


class Diffusion:
    """Low band -> mel -> VAE encode -> denoiser and scheduler -> latents of the wide band."""

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: DenoisingUNet,
        scheduler: SchedulerMixin,
        sampling: Sampling,
        batch_size: int = 1,
        unconditional_latent: float = 0.0,
        device: torch.device | None = None,
    ) -> None:
        self.device = vae.device if device is None else device
        self.vae, self.unet, self.scheduler = vae, unet, scheduler
        self.sampling, self.batch_size = sampling, batch_size
        # What the denoiser was trained to take for "no condition"; the model states it before scaling.
        self.unconditional = unconditional_latent * (vae.config.scaling_factor if unconditional_latent else 1.0)
        self.mel = MelSpectrogram(AUDIO).to(self.device)
        self.stride, mel_stride = strides(vae)
        self.multiple = frame_multiple(unet)
        self.shape = (vae.config.latent_channels, AUDIO.n_mels // mel_stride)

    def __call__(self, low: list[Tensor], group: list[Window], seed: int, cutoff_hz: float) -> list[Tensor]:
        """Latents (C, Z, l, m) of the low bands (C, 1, T) of windows of one length, on the CPU."""
        channels = low[0].shape[0]
        noise = [absolute_noise(seed, w.first, w.last - w.first, *self.shape) for w in group]
        # The same for every channel, however alike they are: with others their levels drift apart.
        shared = torch.stack(noise).repeat_interleave(channels, dim=0)
        z = self.denoise(self.encode(torch.cat(low)), shared, cutoff_hz)
        return list(z.float().cpu().split(channels))

    def encode(self, wave: Tensor) -> Tensor:
        """Scaled latents of waves. (B, 1, T) -> (B, Z, l, m)"""
        mel = self.mel(wave.to(self.device, torch.float32)).to(self.vae.dtype)
        rows = mel.split(1) if self.device.type == "cpu" else [mel]  # as the head does, for memory
        return torch.cat([mode(self.vae, row) for row in rows])

    def denoise(self, condition: Tensor, noise: Tensor, cutoff_hz: float) -> Tensor:
        """Run the scheduler on a batch of windows. (B, Z, l, m) -> (B, Z, l, m)"""
        sampling = self.sampling
        end = torch.full((condition.shape[0],), cutoff_hz, device=condition.device)
        wanted = torch.full_like(end, AUDIO.sample_rate / 2)
        conditions = torch.cat([condition, torch.full_like(condition, self.unconditional)])

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            x = x.to(condition.dtype)
            if sampling.guidance_scale == 1.0:
                return predict_v(self.unet, x, condition, t, end, wanted).float()
            # Both halves in one batch: at 5 s, a fifth less time than one after the other.
            x, t, ends, bandwidths = (torch.cat([one, one]) for one in (x, t, end, wanted))
            told, free = predict_v(self.unet, x, conditions, t, ends, bandwidths).float().chunk(2)
            return guided(told, free, sampling.guidance_scale)

        return sample(velocity, sampling.temperature * noise.to(condition.device), self.scheduler, sampling.steps)
