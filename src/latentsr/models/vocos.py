"""A frame-rate vocoder: convolutions at 100 frames a second, one inverse STFT at the end (Vocos, arXiv 2306.00814)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.models.network import Network

MAX_LOG_MAGNITUDE = 6.0  # nats; e^6 is far above any STFT bin of full-scale audio at this window


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer perceptron on channels. (B, L, D) -> (B, L, D)."""

    def __init__(self, channels: int, hidden: int, kernel_size: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, hidden)
        self.contract = nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        y = self.contract(F.gelu(self.expand(self.norm(y))))
        return torch.addcmul(x, self.scale, y)


class ISTFTVocoder(Network):
    """Log-mel (B, L, M) -> wave (B, L * hop_length), trimmed so that frame l is centred on sample (l + 1/2) * hop.

    The network predicts log-magnitude and phase of an STFT of `n_fft` samples with the same hop.
    """

    window: Tensor

    def __init__(
        self,
        n_mels: int = 256,
        channels: int = 256,
        hidden: int = 768,
        layers: int = 8,
        kernel_size: int = 7,
        n_fft: int = 1920,
        hop_length: int = 480,
        mel_mean: float = -5.0,
        mel_std: float = 3.0,
    ) -> None:
        super().__init__()
        self.embed = nn.Conv1d(n_mels, channels, kernel_size, padding=kernel_size // 2)
        self.norm_in = nn.LayerNorm(channels, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, hidden, kernel_size, scale=1.0 / layers) for _ in range(layers)
        )
        self.norm_out = nn.LayerNorm(channels, eps=1e-6)
        self.head = nn.Linear(channels, 2 * (n_fft // 2 + 1))
        self.register_buffer("window", torch.hann_window(n_fft, device="cpu"), persistent=False)

    @property
    def context_frames(self) -> int:
        """Mel frames on each side that an output sample depends on."""
        reach = (self.config.kernel_size // 2) * (1 + self.config.layers)
        return int(reach + self.config.n_fft // self.config.hop_length // 2 + 1)

    def forward(self, mel: Tensor) -> Tensor:
        log_magnitude, phase = self.spectra(mel).transpose(1, 2).chunk(2, dim=1)
        return self._synthesise(log_magnitude, phase)

    def spectra(self, mel: Tensor) -> Tensor:
        """Log-magnitudes, then phases, of each frame's spectrum. (B, L, M) -> (B, L, 2 (n_fft / 2 + 1))"""
        x = (mel - self.config.mel_mean) / self.config.mel_std
        x = self.norm_in(self.embed(x.transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm_out(x)).float()

    def _synthesise(self, log_magnitude: Tensor, phase: Tensor) -> Tensor:
        return inverse_stft(log_magnitude, phase, self.window, self.config.hop_length)


def inverse_stft(log_magnitude: Tensor, phase: Tensor, window: Tensor, hop_length: int) -> Tensor:
    """Overlap-add of the frames' inverse FFTs, divided by the sum of squared windows.

    Args:
        log_magnitude: (B, n_fft / 2 + 1, L) in nats.
        phase: (B, n_fft / 2 + 1, L) in radians.
        window: (n_fft,).
        hop_length: samples.

    Returns:
        (B, L * hop_length), frame l centred on sample (l + 1/2) * hop_length.
    """
    window, n_fft = window.float(), len(window)
    spectrum = torch.complex(*cartesian(log_magnitude, phase))
    frames = torch.fft.irfft(spectrum, n=n_fft, dim=1) * window[:, None]
    length = (frames.shape[-1] - 1) * hop_length + n_fft
    wave = _overlap_add(frames, length, hop_length)
    envelope = _overlap_add(window.square()[None, :, None].expand(1, n_fft, frames.shape[-1]), length, hop_length)
    trim = (n_fft - hop_length) // 2
    return wave[:, trim : length - trim] / envelope[:, trim : length - trim].clamp(min=1e-4)


def cartesian(log_magnitude: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts of spectra, shaped as both are given."""
    magnitude = log_magnitude.clamp(max=MAX_LOG_MAGNITUDE).exp()
    return magnitude * phase.cos(), magnitude * phase.sin()


def _overlap_add(frames: Tensor, length: int, hop: int) -> Tensor:
    """(B, n_fft, L) -> (B, length)."""
    return F.fold(frames, (1, length), kernel_size=(1, frames.shape[1]), stride=(1, hop))[:, 0, 0]
