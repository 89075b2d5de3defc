"""The log-mel spectrogram that every network sees: AudioSR's front end, so that weights can be shared."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from latentsr.config import AUDIO, AudioConfig
from latentsr.signal.transforms import power_of

SMALL = 1e-9
_LINEAR_HZ_PER_MEL = 200.0 / 3.0  # Slaney: linear below 1 kHz ...
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27.0  # ... and logarithmic above (Auditory Toolbox, 1998)


def hz_to_mel(hz: Tensor) -> Tensor:
    """Slaney mel number of a frequency in Hz."""
    above = _LOG_START_MEL + torch.log(hz.clamp(min=_LOG_START_HZ) / _LOG_START_HZ) / _LOG_STEP
    return torch.where(hz < _LOG_START_HZ, hz / _LINEAR_HZ_PER_MEL, above)


def mel_to_hz(mel: Tensor) -> Tensor:
    """Frequency in Hz of a Slaney mel number."""
    above = _LOG_START_HZ * torch.exp(_LOG_STEP * (mel - _LOG_START_MEL))
    return torch.where(mel < _LOG_START_MEL, mel * _LINEAR_HZ_PER_MEL, above)


def mel_edges_hz(config: AudioConfig = AUDIO) -> Tensor:
    """(M + 2,) float64 corner frequencies: band m rises from edge m, peaks at m + 1 and ends at m + 2."""
    low, high = hz_to_mel(torch.tensor([config.fmin_hz, config.fmax_hz], dtype=torch.float64))
    return mel_to_hz(torch.linspace(float(low), float(high), config.n_mels + 2, dtype=torch.float64))


@cache
@torch.inference_mode(False)  # a tensor of inference mode could not be trained through
def mel_filterbank(config: AudioConfig = AUDIO) -> Tensor:
    """(M, n_fft / 2 + 1) triangles of unit area per Hz (Slaney norm), as librosa builds them; shared, not to change."""
    edges = mel_edges_hz(config)
    bins_hz = torch.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1, dtype=torch.float64)
    left, peak, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = torch.minimum((bins_hz - left) / (peak - left), (right - bins_hz) / (right - peak)).clamp(min=0)
    return (triangles * 2.0 / (right - left)).float()


def bands_below(cutoff_hz: Tensor, config: AudioConfig = AUDIO) -> Tensor:
    """Mask (B, M), true where a mel band ends at or below `cutoff_hz` (B,)."""
    ends = mel_edges_hz(config)[2:].to(cutoff_hz.device, cutoff_hz.dtype)
    return ends[None, :] <= cutoff_hz[:, None]


def _overlap_add(frames: Tensor, config: AudioConfig) -> Tensor:
    """(B, n_fft, L) -> (B, 1, T)"""
    length = (frames.shape[-1] - 1) * config.hop_length + config.n_fft
    size: Any = {"kernel_size": (1, config.n_fft), "stride": (1, config.hop_length)}
    return nn.functional.fold(frames, (1, length), **size)[:, :, 0]


class MelSpectrogram(nn.Module):
    """Natural-log mel spectrogram. (B, 1, T) -> (B, 1, T // hop, M)."""

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: AudioConfig = AUDIO) -> None:
        super().__init__()
        self.config, self.padding = config, config.padding
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.register_buffer("filterbank", mel_filterbank(config), persistent=False)

    def complex(self, wave: Tensor) -> Tensor:
        """STFT, frame l centred on sample (l + 1/2) * hop. (B, 1, T) -> (B, n_fft / 2 + 1, T // hop)"""
        config, padding = self.config, self.padding
        if wave.shape[-1] <= padding:
            raise ValueError(f"got {wave.shape[-1]} samples; pad to more than {padding} before the mel")
        padded = nn.functional.pad(wave, (padding, padding), mode="reflect").squeeze(1)
        return torch.stft(
            padded, config.n_fft, config.hop_length, window=self.window, center=False, return_complex=True
        )

    def gain_of_bins(self, gain: Tensor) -> Tensor:
        """Gains of mel bands on STFT bins, by the filterbank's own weights. (B, L, M) -> (B, n_fft / 2 + 1, L)"""
        weights = self.filterbank / self.filterbank.sum(dim=0).clamp(min=SMALL)
        weights[0, 0] = weights[-1, -1] = 1.0  # no triangle covers 0 Hz and the highest bin
        return (gain @ weights).transpose(1, 2)

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """The wave of `complex`, however its bins were weighed. (B, n_fft / 2 + 1, L) -> (B, 1, samples)"""
        config = self.config
        frames = torch.fft.irfft(spectrum, n=config.n_fft, dim=1) * self.window[:, None]
        envelope = self.window.square()[None, :, None].expand(1, -1, frames.shape[-1])
        made, weight = (_overlap_add(x, config) for x in (frames, envelope))
        inside = slice(self.padding, self.padding + samples)
        return made[..., inside] / weight[..., inside]

    def linear(self, wave: Tensor) -> Tensor:
        """Magnitude spectrogram. (B, 1, T) -> (B, n_fft / 2 + 1, T // hop)."""
        spectrum = self.complex(wave)
        # The root of 0 has no gradient; `abs` has, and takes three times as long.
        return spectrum.abs() if spectrum.requires_grad else power_of(spectrum).sqrt_()

    def of_magnitude(self, magnitude: Tensor) -> Tensor:
        """Log-mel of a magnitude spectrogram. (B, n_fft / 2 + 1, L) -> (B, L, M)"""
        return (self.filterbank @ magnitude).clamp(min=self.config.floor).log().transpose(1, 2)

    def forward(self, wave: Tensor) -> Tensor:
        return self.of_magnitude(self.linear(wave)).unsqueeze(1)
