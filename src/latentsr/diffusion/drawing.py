"""Latents of the wide band, drawn on the condition of the low band, window by window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, SchedulerMixin
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.diffusion.sampling import guided, sample
from latentsr.head_kinds import DIFFUSION
from latentsr.models.unet import Bands, DenoisingUNet, frame_multiple, predict_v
from latentsr.models.vae import mode, strides
from latentsr.options import Options
from latentsr.signal.chunks import Window
from latentsr.signal.mel import MelSpectrogram
from latentsr.signal.noise import absolute_noise


@dataclass(frozen=True)
class Sampling:
    """How latents are drawn."""

    steps: int
    guidance_scale: float = 1.0
    temperature: float = 1.0  # of the initial noise: below 1 the draws lie nearer to the mean
    unconditional_latent: float = 0.0  # what the denoiser was trained to take for "no condition", before scaling


class Diffusion:
    """Low band -> mel -> VAE encode -> denoiser and scheduler -> latents of the wide band."""

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: DenoisingUNet,
        scheduler: SchedulerMixin,
        sampling: Sampling,
        device: torch.device | None = None,
    ) -> None:
        self.device = vae.device if device is None else device
        self.vae, self.unet, self.scheduler = vae, unet, scheduler
        self.sampling = sampling
        empty = sampling.unconditional_latent
        self.unconditional = empty * (vae.config.scaling_factor if empty else 1.0)
        self.mel = MelSpectrogram(AUDIO).to(self.device)
        self.stride, mel_stride = strides(vae)
        self.multiple = frame_multiple(unet)
        self.shape = (vae.config.latent_channels, AUDIO.n_mels // mel_stride)

    @classmethod
    def of(cls, model: Any, parts: Mapping[str, Any], options: Options) -> Diffusion:
        """The diffusion of a model (a `restoring.flow.Restores`) and its components: what was asked for, and the
        model's own values for the rest."""
        config, kind = model.config, options.kind
        steps = None if kind.takes_steps and not kind.needs_latents else options.steps  # of the latents, not the head's
        sampling = Sampling(
            config.default_steps if steps is None else steps,
            config.default_guidance_scale if options.guidance_scale is None else options.guidance_scale,
            config.default_temperature if options.temperature is None else options.temperature,
            config.unconditional_latent,
        )
        vae, unet, scheduler = (parts[name] for name in DIFFUSION)
        return cls(vae, unet, scheduler, sampling, model.execution_device)

    def __call__(self, low: Tensor, windows: list[Window], seed: int, cutoff_hz: Tensor) -> Tensor:
        """Latents (B, Z, l, m) of low bands (B, 1, T) that end at `cutoff_hz` (B,), on the CPU.

        `windows`: of one length, that of each wave. The noise is the same for every channel of a window, however alike
        they are: with others their levels drift apart.
        """
        noise = {w: absolute_noise(seed, w.first, w.last - w.first, *self.shape) for w in windows}
        z = self.denoise(self.encode(low), torch.stack([noise[w] for w in windows]), cutoff_hz)
        return z.float().cpu()

    def encode(self, wave: Tensor) -> Tensor:
        """Scaled latents of waves. (B, 1, T) -> (B, Z, l, m)"""
        mel = self.mel(wave.to(self.device, torch.float32)).to(self.vae.dtype)
        rows = mel.split(1) if self.device.type == "cpu" else [mel]  # as the head does, for memory
        return torch.cat([mode(self.vae, row) for row in rows])

    def denoise(self, condition: Tensor, noise: Tensor, cutoff_hz: Tensor) -> Tensor:
        """Run the scheduler on a batch of windows, (B,) of cutoffs. (B, Z, l, m) -> (B, Z, l, m)"""
        sampling = self.sampling
        known = cutoff_hz.to(condition.device)
        bands = Bands(known, torch.full_like(known, AUDIO.sample_rate / 2))
        twice = Bands(bands.known_hz.repeat(2), bands.wanted_hz.repeat(2))
        conditions = torch.cat([condition, torch.full_like(condition, self.unconditional)])

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            x = x.to(condition.dtype)
            if sampling.guidance_scale == 1.0:
                return predict_v(self.unet, x, condition, t, bands).float()
            # Both halves in one batch: at 5 s, a fifth less time than one after the other.
            both = predict_v(self.unet, torch.cat([x, x]), conditions, torch.cat([t, t]), twice)
            told, free = both.float().chunk(2)
            return guided(told, free, sampling.guidance_scale)

        return sample(velocity, sampling.temperature * noise.to(condition.device), self.scheduler, sampling.steps)
