"""The mel autoencoder: diffusers' `AutoencoderKL` behind a patch of the mel spectrogram.

At AudioSR's size (patch 1 x 1, no normalisation) this is AutoencoderKL as it stands. The small model folds
patches of 2 frames x 4 bands into channels first, because the full-resolution convolutions are what a CPU
spends its time on: a training step on 10 s of audio takes 0.47 s with the patch and 1.46 s without, at half
the width (one core).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers import AutoencoderKL
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from einops import rearrange
from torch import Tensor

from latentsr.models.config_mixin import FixedParentMixin


class MelAutoencoderKL(FixedParentMixin, AutoencoderKL):
    """Log-mel (B, 1, L, M) <-> latents (B, Z, L / p, M / q), p and q its `strides`.

    L and M must be multiples of the strides. `mel_mean` and `mel_std` bring log-mels (nats) to about unit scale.
    `scaling_factor` and `shift_factor` are measured after training: see `scaled` and `unscaled`.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        block_out_channels: tuple[int, ...] = (32, 64, 128),
        layers_per_block: int = 1,
        norm_num_groups: int = 8,
        mid_block_add_attention: bool = False,
        patch_frames: int = 2,
        patch_bands: int = 4,
        mel_mean: float = -5.0,
        mel_std: float = 3.0,
        scaling_factor: float | None = None,
        shift_factor: float | None = None,
    ) -> None:
        patch = patch_frames * patch_bands
        levels = len(block_out_channels)
        super().__init__(
            in_channels=patch,
            out_channels=patch,
            latent_channels=latent_channels,
            block_out_channels=block_out_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            mid_block_add_attention=mid_block_add_attention,
            scaling_factor=scaling_factor,
            shift_factor=shift_factor,
        )
        self.register_to_config(patch_frames=patch_frames, patch_bands=patch_bands, mel_mean=mel_mean, mel_std=mel_std)

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[Any, ...]:
        """Posterior of the latents of a log-mel (B, 1, L, M)."""
        x = (x - self.config.mel_mean) / self.config.mel_std
        p, q = self.config.patch_frames, self.config.patch_bands
        return super().encode(rearrange(x, "b c (l p) (m q) -> b (c p q) l m", p=p, q=q), return_dict=return_dict)

    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Tensor, ...]:
        """Log-mel (B, 1, L, M) of unscaled latents (B, Z, l, m)."""
        folded = super().decode(z, return_dict=True).sample
        p, q = self.config.patch_frames, self.config.patch_bands
        mel = rearrange(folded, "b (c p q) l m -> b c (l p) (m q)", p=p, q=q)
        mel = mel * self.config.mel_std + self.config.mel_mean
        return DecoderOutput(sample=mel) if return_dict else (mel,)


def mode(vae: AutoencoderKL, mel: Tensor) -> Tensor:
    """Scaled latents (B, Z, l, m) of log-mels (B, 1, L, M): the posterior's mean."""
    return scaled(vae, cast(Any, vae.encode(mel)).latent_dist.mode())


def to_mel(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Log-mels (B, 1, L, M) of scaled latents (B, Z, l, m)."""
    return cast(Any, vae.decode(unscaled(vae, latents))).sample


def strides(vae: AutoencoderKL) -> tuple[int, int]:
    """(mel frames per latent frame, mel bands per latent row) of our VAE or of a plain AutoencoderKL."""
    config: Any = vae.config
    stride = 2 ** (len(config.block_out_channels) - 1)
    return config.get("patch_frames", 1) * stride, config.get("patch_bands", 1) * stride


def scaled(vae: AutoencoderKL, z: Tensor) -> Tensor:
    """Latents at about zero mean and unit variance, as the diffusion sees them."""
    return (z - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


def unscaled(vae: AutoencoderKL, z: Tensor) -> Tensor:
    """The inverse of `scaled`."""
    return z / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
