"""`denoise`: the known band filtered by the gain that the model's clean mel implies; phase and detail survive.

The gain lies on the frames of the mel itself, so that what the network says of a frame is done to that frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentsr.signal.mel import MelSpectrogram

LOWEST_GAIN = 0.003  # -50 dB: a tone can be 40 dB louder than the programme around it
SMALL = 1e-9


def mel_gain(clean: Tensor, noisy: Tensor, lowest: float = LOWEST_GAIN) -> Tensor:
    """Amplitude gain of each band and frame, clean / noisy, at most 1. Two log-mels (B, L, M) -> (B, L, M)"""
    return (clean - noisy).clamp(max=0.0).exp().clamp(min=lowest)


def gain_of_bins(gain: Tensor, mel: MelSpectrogram) -> Tensor:
    """The gains of mel bands on STFT bins, by the filterbank's own weights. (B, L, M) -> (B, L, n_fft / 2 + 1)"""
    weights = mel.filterbank / mel.filterbank.sum(dim=0).clamp(min=SMALL)
    weights[0, 0] = weights[-1, -1] = 1.0  # no triangle covers 0 Hz and the highest bin
    return gain @ weights


def filter_by_mel(noisy: Tensor, clean: Tensor, mel: MelSpectrogram) -> Tensor:
    """Bring the mel of a wave down to that of the clean recording.

    Args:
        noisy: (B, 1, T), T a multiple of the hop.
        clean: (B, T / hop, M) log-mel.
        mel: whose frames and bands they are.

    Returns:
        (B, 1, T)
    """
    config = mel.config
    spectrum = mel.complex(noisy)  # (B, F, L)
    given = mel.of_magnitude(spectrum.abs())
    gain = gain_of_bins(mel_gain(clean.to(given), given), mel)
    frames = torch.fft.irfft(spectrum * gain.transpose(1, 2), n=config.n_fft, dim=1) * mel.window[:, None]
    envelope = mel.window.square()[None, :, None].expand(1, -1, frames.shape[-1])
    length = (frames.shape[-1] - 1) * config.hop_length + config.n_fft
    made, weight = (
        torch.nn.functional.fold(x, (1, length), kernel_size=(1, config.n_fft), stride=(1, config.hop_length))[:, :, 0]
        for x in (frames, envelope)
    )
    inside = slice(config.padding, config.padding + noisy.shape[-1])
    return made[..., inside] / weight[..., inside]
