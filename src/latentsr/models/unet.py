"""The denoiser: diffusers' UNets on latents, told where the known band ends and how wide the target is.

`LatentUNet` is the small model. The architecture of AudioSR is diffusers' `AudioLDM2UNet2DConditionModel`, which takes
no such hints. `predict_v` calls either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from diffusers import AudioLDM2UNet2DConditionModel, UNet2DModel
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from latentsr.config import AUDIO, AudioConfig
from latentsr.models.config_mixin import FixedParentMixin
from latentsr.signal.mel import bands_below

DenoisingUNet: TypeAlias = UNet2DModel | AudioLDM2UNet2DConditionModel


class LatentUNet(FixedParentMixin, UNet2DModel):
    """UNet on latents, conditioned by channel concatenation.

    Input (B, 2 Z + 2, l, m): noisy latents, condition latents, share of each latent row that is known, and the row's
    position in [-1, 1] (convolutions alone cannot tell one frequency from another). The target's bandwidth is
    embedded like a time step. Output (B, Z, l, m): the velocity.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        block_out_channels: tuple[int, ...] = (64, 128, 192),
        layers_per_block: int = 1,
        attention_levels: tuple[int, ...] = (1, 2),
        attention_head_dim: int = 32,
        norm_num_groups: int = 8,
        dropout: float = 0.0,
    ) -> None:
        levels = range(len(block_out_channels))
        super().__init__(
            in_channels=2 * latent_channels + 2,
            out_channels=latent_channels,
            block_out_channels=block_out_channels,
            down_block_types=tuple("AttnDownBlock2D" if i in attention_levels else "DownBlock2D" for i in levels),
            up_block_types=tuple("AttnUpBlock2D" if i in attention_levels else "UpBlock2D" for i in reversed(levels)),
            layers_per_block=layers_per_block,
            attention_head_dim=attention_head_dim,
            norm_num_groups=norm_num_groups,
            class_embed_type="timestep",
            dropout=dropout,
        )
        self.register_to_config(latent_channels=latent_channels, attention_levels=attention_levels)
        # diffusers gives it sines in fp32 whatever the weights are.
        self.class_embedding.register_forward_pre_hook(_in_own_dtype)


def _in_own_dtype(embedding: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(one.to(next(embedding.parameters()).dtype) for one in arguments)


def audioldm2_unet(
    latent_channels: int = 16,
    head_channels: int = 32,
    widths: tuple[int, ...] = (128, 256, 384, 640),
    layers: int = 2,
    attention_levels: tuple[int, ...] = (1, 2, 3),
) -> AudioLDM2UNet2DConditionModel:
    """AudioSR's denoiser, by default its 258,195,088 parameters: two self-attention transformers at three levels."""
    levels = range(len(widths))
    return AudioLDM2UNet2DConditionModel(
        in_channels=2 * latent_channels,
        out_channels=latent_channels,
        block_out_channels=widths,
        down_block_types=tuple("CrossAttnDownBlock2D" if i in attention_levels else "DownBlock2D" for i in levels),
        up_block_types=tuple("CrossAttnUpBlock2D" if i in attention_levels else "UpBlock2D" for i in reversed(levels)),
        layers_per_block=layers,
        attention_head_dim=tuple(width // head_channels for width in widths),  # diffusers means the number of heads
        cross_attention_dim=[[None, None]] * len(widths),
    )


UNETS: dict[str, Callable[..., DenoisingUNet]] = {"latent": LatentUNet, "audioldm2": audioldm2_unet}


def frame_multiple(unet: DenoisingUNet) -> int:
    """Latent frames that the UNet takes come in multiples of this."""
    return int(2 ** (len(unet.config.block_out_channels) - 1))


@dataclass(frozen=True)
class Bands:
    """Where the bands of a batch end, Hz, (B,) each: the one that is known, and the one that is wanted."""

    known_hz: Tensor
    wanted_hz: Tensor


def predict_v(
    unet: DenoisingUNet, noisy: Tensor, condition: Tensor, timestep: Tensor, bands: Bands, audio: AudioConfig = AUDIO
) -> Tensor:
    """Velocity (B, Z, l, m) of `noisy` latents given `condition` latents of the same shape; `timestep` (B,) integers.

    AudioSR's network is told no bands.
    """
    if isinstance(unet, LatentUNet):
        hints = _row_hints(noisy, bands.known_hz, audio)
        bandwidth = 1000.0 * bands.wanted_hz / (audio.sample_rate / 2)
        return unet(torch.cat([noisy, condition, hints], dim=1), timestep, class_labels=bandwidth).sample
    return unet(torch.cat([noisy, condition], dim=1), timestep, encoder_hidden_states=None).sample


def _row_hints(like: Tensor, cutoff_hz: Tensor, audio: AudioConfig) -> Tensor:
    """(B, 2, l, m): share of each row's mel bands below the cutoff, and the row's position."""
    batch, _, frames, rows = like.shape
    known = rows_known(cutoff_hz, rows, audio).to(like)
    position = torch.linspace(-1, 1, rows, dtype=like.dtype, device=like.device).expand(batch, rows)
    return torch.stack([known, position], dim=1)[:, :, None, :].expand(batch, 2, frames, rows)


def rows_known(cutoff_hz: Tensor, rows: int, audio: AudioConfig = AUDIO) -> Tensor:
    """(B, rows): share of the mel bands of each latent row that ends at or below `cutoff_hz` (B,)."""
    return bands_below(cutoff_hz, audio).float().unflatten(1, (rows, -1)).mean(dim=2)


def zero_output(unet: DenoisingUNet) -> None:
    """Start the last convolution at zero, so that training starts from the velocity's mean."""
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
