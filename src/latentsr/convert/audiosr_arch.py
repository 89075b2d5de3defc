"""The networks of AudioSR, read from the configuration dict of audiosr 0.0.7.

basic and speech share one configuration, the default here; other sizes are read from a file in the same layout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import nn

from latentsr.config import AUDIO
from latentsr.errors import reason_of
from latentsr.model_folder.loading import ModelError
from latentsr.models.hifigan import UPSAMPLE_KERNELS, UPSAMPLE_RATES, hifigan
from latentsr.models.unet import audioldm2_unet

VAE_GROUPS = 32  # of every GroupNorm in the VAE; diffusers' UNet has the same by default
_VAE, _UNET = "model.params.first_stage_config.params", "model.params.unet_config.params"
_CONDITION = "model.params.cond_stage_config.concat_lowpass_cond.params.first_stage_config.params"
# What cannot be another way here. The mel spectrogram has one home, and it is AudioSR's.
_FIXED: dict[str, Any] = {
    "preprocessing.audio.sampling_rate": AUDIO.sample_rate,
    "preprocessing.stft.filter_length": AUDIO.n_fft,
    "preprocessing.stft.win_length": AUDIO.n_fft,
    "preprocessing.stft.hop_length": AUDIO.hop_length,
    "preprocessing.mel.n_mel_channels": AUDIO.n_mels,
    "preprocessing.mel.mel_fmin": AUDIO.fmin_hz,
    "preprocessing.mel.mel_fmax": AUDIO.fmax_hz,
    f"{_VAE}.ddconfig.double_z": True,
    f"{_VAE}.ddconfig.in_channels": 1,
    f"{_VAE}.ddconfig.out_ch": 1,
    f"{_VAE}.ddconfig.attn_resolutions": [],
    f"{_UNET}.extra_sa_layer": True,
    f"{_UNET}.use_spatial_transformer": True,
    f"{_UNET}.transformer_depth": 1,
    "model.params.parameterization": "v",
    "model.params.timesteps": 1000,
}


@dataclass(frozen=True)
class Architecture:
    """Sizes of VAE, UNet and vocoder; the defaults are those of the official checkpoints."""

    latent_channels: int = 16
    vae_channels: tuple[int, ...] = (128, 256, 512, 1024)  # of each level, the finest first
    vae_layers: int = 2  # residual blocks of a level in the encoder; the decoder has one more
    unet_channels: tuple[int, ...] = (128, 256, 384, 640)
    unet_layers: int = 2  # likewise
    unet_attention: tuple[int, ...] = (1, 2, 3)  # levels with two transformers behind every residual block
    head_channels: int = 32  # of one attention head
    vocoder_channels: int = 1536
    upsample_rates: tuple[int, ...] = UPSAMPLE_RATES
    upsample_kernels: tuple[int, ...] = UPSAMPLE_KERNELS
    vocoder_kernels: tuple[int, ...] = (3, 7, 11, 15)
    vocoder_dilations: tuple[int, ...] = (1, 3, 5)

    def build(self, device: str | torch.device = "meta") -> dict[str, Any]:
        """Fresh networks {vae, unet, vocoder}; on "meta" they cost neither memory nor initialisation."""
        with torch.device(device):
            networks: dict[str, nn.Module] = {"vae": self.vae(), "unet": self.unet(), "vocoder": self.vocoder()}
        return {name: network.eval().requires_grad_(False) for name, network in networks.items()}

    def vae(self) -> AutoencoderKL:
        """The mel VAE: (B, 1, L, M) <-> (B, Z, L/8, M/8)."""
        levels = len(self.vae_channels)
        return AutoencoderKL(
            in_channels=1,
            out_channels=1,
            latent_channels=self.latent_channels,
            block_out_channels=self.vae_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=self.vae_layers,
            norm_num_groups=VAE_GROUPS,
            scaling_factor=1.0,  # the checkpoint knows
            force_upcast=False,
        )

    def unet(self) -> nn.Module:
        """The denoiser: (B, 2 Z, l, m) -> (B, Z, l, m)."""
        return audioldm2_unet(
            self.latent_channels, self.head_channels, self.unet_channels, self.unet_layers, self.unet_attention
        )

    def vocoder(self) -> nn.Module:
        """The wave generator: (B, L, M) -> (B, 480 L + 16)."""
        return hifigan(
            self.vocoder_channels,
            upsample_rates=self.upsample_rates,
            upsample_kernels=self.upsample_kernels,
            resblock_kernels=self.vocoder_kernels,
            resblock_dilations=self.vocoder_dilations,
        )


def architecture(config: Mapping[str, Any] | str | os.PathLike[str] | None = None) -> Architecture:
    """Read the configuration of audiosr, a dict or a JSON file of it; None is the official one.

    A key "vocoder" beside "model" may hold the sizes of the vocoder, which audiosr itself does not configure.

    Raises:
        ModelError: a key is missing, or has a value that changes the network in a way not known here.
    """
    if config is None:
        return Architecture()
    if not isinstance(config, Mapping):
        config = _from_file(Path(config))
    read = _Reader(config)
    for key, value in _FIXED.items():
        read.must_be(key, value)
    latent_channels = read.whole(f"{_VAE}.embed_dim")
    read.must_be(f"{_VAE}.ddconfig.z_channels", latent_channels)
    read.must_be(f"{_CONDITION}.ddconfig", read(f"{_VAE}.ddconfig"))
    read.must_be(f"{_UNET}.in_channels", 2 * latent_channels)
    read.must_be(f"{_UNET}.out_channels", latent_channels)
    widths = [read.whole(f"{_UNET}.model_channels") * m for m in read.wholes(f"{_UNET}.channel_mult")]
    factors = read.wholes(f"{_UNET}.attention_resolutions")  # of downsampling, for all the name says
    levels = tuple(i for i in range(len(widths)) if 2**i in factors)
    head = read.whole(f"{_UNET}.num_head_channels")
    if any(widths[level] % head for level in (*levels, -1)):  # the middle always attends
        raise ModelError(f"the configuration's num_head_channels {head} does not divide the widths {widths}")
    ch = read.whole(f"{_VAE}.ddconfig.ch")
    return Architecture(
        latent_channels=latent_channels,
        vae_channels=tuple(ch * m for m in read.wholes(f"{_VAE}.ddconfig.ch_mult")),
        vae_layers=read.whole(f"{_VAE}.ddconfig.num_res_blocks"),
        unet_channels=tuple(widths),
        unet_layers=read.whole(f"{_UNET}.num_res_blocks"),
        unet_attention=levels,
        head_channels=head,
        **(_vocoder_sizes(read) if "vocoder" in config else {}),
    )


def _from_file(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"the configuration {path} cannot be read: {reason_of(error)}") from None
    except ValueError as error:
        raise ModelError(f"the configuration {path} is not JSON: {error}") from None
    if not isinstance(config, Mapping):
        raise ModelError(f"the configuration {path} must hold a mapping, got {type(config).__name__}")
    return config


def _vocoder_sizes(read: _Reader) -> dict[str, Any]:
    read.must_be("vocoder.resblock", "1")
    read.must_be("vocoder.num_mels", AUDIO.n_mels)
    kernels = read.wholes("vocoder.resblock_kernel_sizes")
    dilations = read.wholes("vocoder.resblock_dilation_sizes.0")
    read.must_be("vocoder.resblock_dilation_sizes", [list(dilations)] * len(kernels))
    return {
        "vocoder_channels": read.whole("vocoder.upsample_initial_channel"),
        "upsample_rates": read.wholes("vocoder.upsample_rates"),
        "upsample_kernels": read.wholes("vocoder.upsample_kernel_sizes"),
        "vocoder_kernels": kernels,
        "vocoder_dilations": dilations,
    }


class _Reader:
    """Values of nested dicts by dotted key; what is missing or odd is an error that names the key."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def __call__(self, key: str) -> Any:
        value: Any = self.config
        for part in key.split("."):
            try:
                value = value[int(part) if isinstance(value, list) else part]
            except (KeyError, IndexError, TypeError, ValueError):
                raise ModelError(
                    f"the configuration has no {key}; pass that of audiosr (default_audioldm_config) as JSON"
                ) from None
        return value

    def must_be(self, key: str, wanted: Any) -> None:
        if self(key) != wanted:
            raise ModelError(f"the configuration says {key} = {self(key)!r}; only {wanted!r} can be converted")

    def whole(self, key: str) -> int:
        value = self(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"the configuration says {key} = {value!r}; it must be a positive integer")
        return value

    def wholes(self, key: str) -> tuple[int, ...]:
        value = self(key)
        if not isinstance(value, (list, tuple)) or not value:
            raise ModelError(f"the configuration says {key} = {value!r}; it must be a list of positive integers")
        return tuple(self.whole(f"{key}.{i}") for i in range(len(value)))
