"""The vocoders: mel spectrogram to wave, sized by config, one table.

`hifigan` is transformers' `SpeechT5HifiGan` at 48 kHz (rates 6, 5, 4, 2, 2), which expresses AudioSR's vocoder exactly;
`istft` is the frame-rate generator for CPUs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from latentsr.config import AUDIO, AudioConfig
from latentsr.models.vocos import ISTFTVocoder

UPSAMPLE_RATES = (6, 5, 4, 2, 2)  # their product is the hop length
UPSAMPLE_KERNELS = (12, 10, 8, 4, 4)


def hifigan(
    channels: int = 128,
    n_mels: int = AUDIO.n_mels,
    upsample_rates: tuple[int, ...] = UPSAMPLE_RATES,
    upsample_kernels: tuple[int, ...] = UPSAMPLE_KERNELS,
    resblock_kernels: tuple[int, ...] = (3, 7, 11, 15),
    resblock_dilations: tuple[int, ...] = (1, 3, 5),
) -> SpeechT5HifiGan:
    """HiFi-GAN generator (Kong et al. 2020) that makes 480 L + 16 samples of L mel frames; `vocode` trims them."""
    return SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=n_mels,
            sampling_rate=AUDIO.sample_rate,
            upsample_initial_channel=channels,
            upsample_rates=list(upsample_rates),
            upsample_kernel_sizes=list(upsample_kernels),
            resblock_kernel_sizes=list(resblock_kernels),
            resblock_dilation_sizes=[list(resblock_dilations)] * len(resblock_kernels),
            leaky_relu_slope=0.1,
            normalize_before=False,
        )
    )


PIECE = 1920  # samples of the level where pieces begin: 0.64 s

VOCODERS: dict[str, Callable[..., nn.Module]] = {"hifigan": hifigan, "istft": ISTFTVocoder}


def build_vocoder(kind: str, **sizes: Any) -> nn.Module:
    """A vocoder of the table; `sizes` are the keyword arguments of its constructor."""
    if kind not in VOCODERS:
        raise ValueError(f"unknown vocoder {kind!r}; choose one of {', '.join(VOCODERS)}")
    return VOCODERS[kind](**sizes)


def vocode(vocoder: nn.Module, mel: Tensor, audio: AudioConfig = AUDIO) -> Tensor:
    """Wave (B, 1, L * hop) of a log-mel (B, 1, L, M)."""
    wave = whole_wave(vocoder, mel)
    return wave[:, None, : mel.shape[2] * audio.hop_length]


def whole_wave(vocoder: nn.Module, mel: Tensor) -> Tensor:
    """All that the vocoder makes of a log-mel (B, 1, L, M): (B, L * hop), and 16 samples more of AudioSR's rates."""
    if isinstance(vocoder, SpeechT5HifiGan) and not torch.is_grad_enabled():
        return _in_pieces(vocoder, mel.squeeze(1).transpose(1, 2))
    return vocoder(mel.squeeze(1))


@apply_forward_hook  # offloading moves the weights where they run, as before a forward pass
def _in_pieces(vocoder: SpeechT5HifiGan, x: Tensor) -> Tensor:
    """What the generator's own forward pass makes of a mel (B, M, L), the long levels a piece at a time.

    At 48 channels and 48 kHz a tensor is larger than any cache; in pieces the last levels take a third less time and a
    tenth of the memory. Every piece sees its receptive field, so that the wave is the same.
    """
    config = vocoder.config
    odd = [i for i, (k, s) in enumerate(zip(config.upsample_kernel_sizes, config.upsample_rates, strict=True)) if (k - s) % 2]  # fmt: skip  # noqa: E501
    whole = odd[-1] + 1 if odd else 0  # an odd level makes one sample too many, which pieces would all make
    if config.normalize_before:
        x = (x - vocoder.mean[:, None]) / vocoder.scale[:, None]
    x = vocoder.conv_pre(x)
    for level in range(whole):
        x = _level(vocoder, level, x)
    rates = config.upsample_rates[whole:]
    factor, reach, samples = math.prod(rates), _reach(config, whole), x.shape[-1]
    made = []
    for start in range(0, samples, PIECE):
        stop = min(start + PIECE, samples)
        first, last = max(start - reach, 0), min(stop + reach, samples)
        y = x[..., first:last]
        for level in range(whole, len(config.upsample_rates)):
            y = _level(vocoder, level, y)
        y = torch.tanh(vocoder.conv_post(F.leaky_relu(y)))
        made.append(y[:, 0, (start - first) * factor : (stop - first) * factor])
    return torch.cat(made, dim=-1)


def _level(vocoder: SpeechT5HifiGan, level: int, x: Tensor) -> Tensor:
    """Upsample, and average the residual blocks of the level."""
    x = vocoder.upsampler[level](F.leaky_relu(x, vocoder.config.leaky_relu_slope))
    blocks = vocoder.resblocks[level * vocoder.num_kernels : (level + 1) * vocoder.num_kernels]
    total = blocks[0](x)
    for block in blocks[1:]:
        total += block(x)
    return total.div_(vocoder.num_kernels)


def context_frames(vocoder: nn.Module) -> int:
    """Mel frames on each side that an output sample depends on."""
    if isinstance(vocoder, ISTFTVocoder):
        return vocoder.context_frames
    return _reach(vocoder.config)


def _reach(config: SpeechT5HifiGanConfig, first_level: int = 0) -> int:
    """Receptive field on one side, rounded up, in samples of what goes into a level of the generator."""
    reach, rate = 3.0 if first_level == 0 else 0.0, 1.0
    levels = list(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True))[first_level:]
    blocks = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
    widest = max(sum((d + 1) * (kernel // 2) for d in dilations) for kernel, dilations in blocks)
    for factor, kernel in levels:
        reach += kernel / 2 / rate / factor
        rate *= factor
        reach += widest / rate
    return int(reach + 3 / rate) + 1
