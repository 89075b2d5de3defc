"""The vocoders: mel spectrogram to wave, sized by config, one table.

`hifigan` is transformers' `SpeechT5HifiGan` at 48 kHz (rates 6, 5, 4, 2, 2), which expresses AudioSR's vocoder exactly;
`istft` is the frame-rate generator for CPUs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from latentsr.config import AUDIO, AudioConfig
from latentsr.models.vocos import ISTFTVocoder

UPSAMPLE_RATES = (6, 5, 4, 2, 2)  # their product is the hop length
UPSAMPLE_KERNELS = (12, 10, 8, 4, 4)


def hifigan(
    channels: int = 128,
    n_mels: int = AUDIO.n_mels,
    sample_rate: int = AUDIO.sample_rate,
    upsample_rates: tuple[int, ...] = UPSAMPLE_RATES,
    upsample_kernels: tuple[int, ...] = UPSAMPLE_KERNELS,
    resblock_kernels: tuple[int, ...] = (3, 7, 11, 15),
    resblock_dilations: tuple[int, ...] = (1, 3, 5),
) -> SpeechT5HifiGan:
    """HiFi-GAN generator (Kong et al. 2020) that makes 480 L + 16 samples of L mel frames; `vocode` trims them."""
    return SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=n_mels,
            sampling_rate=sample_rate,
            upsample_initial_channel=channels,
            upsample_rates=list(upsample_rates),
            upsample_kernel_sizes=list(upsample_kernels),
            resblock_kernel_sizes=list(resblock_kernels),
            resblock_dilation_sizes=[list(resblock_dilations)] * len(resblock_kernels),
            leaky_relu_slope=0.1,
            normalize_before=False,
        )
    )


VOCODERS: dict[str, Callable[..., nn.Module]] = {"hifigan": hifigan, "istft": ISTFTVocoder}


def build_vocoder(kind: str, **sizes: Any) -> nn.Module:
    """A vocoder of the table; `sizes` are the keyword arguments of its constructor."""
    if kind not in VOCODERS:
        raise ValueError(f"unknown vocoder {kind!r}; choose one of {', '.join(VOCODERS)}")
    return VOCODERS[kind](**sizes)


def vocoder_class(folder: Path) -> type[nn.Module]:
    """Which class wrote the vocoder in `folder`: diffusers' configs name it, transformers' name the model type."""
    config = json.loads((folder / "config.json").read_text())
    return ISTFTVocoder if config.get("_class_name") == ISTFTVocoder.__name__ else SpeechT5HifiGan


def load_vocoder(folder: Path) -> nn.Module:
    """A finished vocoder of either kind, frozen, in fp32."""
    kind: Any = vocoder_class(folder)
    return kind.from_pretrained(folder, torch_dtype=torch.float32, use_safetensors=True).requires_grad_(False).eval()


def vocode(vocoder: nn.Module, mel: Tensor, audio: AudioConfig = AUDIO) -> Tensor:
    """Wave (B, 1, L * hop) of a log-mel (B, 1, L, M)."""
    wave = vocoder(mel.squeeze(1))
    return wave[:, None, : mel.shape[2] * audio.hop_length]


def context_frames(vocoder: nn.Module) -> int:
    """Mel frames on each side that an output sample depends on."""
    if isinstance(vocoder, ISTFTVocoder):
        return vocoder.context_frames
    return _hifigan_reach(vocoder.config)


def _hifigan_reach(config: SpeechT5HifiGanConfig) -> int:
    """Receptive field of the generator on one side, in mel frames, rounded up."""
    reach, rate = 3.0, 1.0
    for factor, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
        reach += kernel / 2 / rate / factor
        rate *= factor
        widest = max(config.resblock_kernel_sizes)
        dilations = config.resblock_dilation_sizes[0]
        reach += sum((d + 1) * (widest // 2) for d in dilations) / rate
    return int(reach + 3 / rate) + 1
