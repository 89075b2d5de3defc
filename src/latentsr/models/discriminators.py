"""Multi-period (HiFi-GAN, arXiv 2010.05646) and multi-resolution (UnivNet, arXiv 2106.07889) discriminators.

Each takes a wave (B, 1, T) and returns, per sub-discriminator, a list of feature maps whose last entry is the score.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

Features = list[list[Tensor]]
SLOPE = 0.1


class PeriodDiscriminator(nn.Module):
    """Looks at every `period`-th sample as a row of an image."""

    def __init__(self, period: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.period = period
        widths = (1, *channels)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (3 if i < len(channels) - 1 else 1, 1), padding=(2, 0)))
            for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True))
        )
        self.score = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Tensor) -> list[Tensor]:
        wave = F.pad(wave, (0, -wave.shape[-1] % self.period), mode="reflect")
        return _features(wave.unflatten(2, (-1, self.period)), self.convs, self.score)


class ResolutionDiscriminator(nn.Module):
    """Looks at the magnitude of one STFT."""

    window: Tensor

    def __init__(self, n_fft: int, channels: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        layers = [weight_norm(nn.Conv2d(1, channels, (9, 3), padding=(4, 1)))]
        layers += [weight_norm(nn.Conv2d(channels, channels, (9, 3), (2, 1), padding=(4, 1))) for _ in range(3)]
        layers += [weight_norm(nn.Conv2d(channels, channels, (3, 3), padding=(1, 1)))]
        self.convs = nn.ModuleList(layers)
        self.score = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    def forward(self, wave: Tensor) -> list[Tensor]:
        spectrum = torch.stft(
            wave.squeeze(1).float(), self.n_fft, self.n_fft // 4, window=self.window, return_complex=True
        )
        # A compressed magnitude, so that the quiet top weighs beside the loud bottom.
        return _features(spectrum.abs().clamp(min=1e-5).pow(0.3).unsqueeze(1), self.convs, self.score)


class Discriminators(nn.Module):
    """All sub-discriminators. (B, 1, T) -> a list of feature lists."""

    def __init__(
        self,
        periods: tuple[int, ...] = (2, 3, 5, 7, 11),
        period_channels: tuple[int, ...] = (16, 64, 256, 256),
        resolutions: tuple[int, ...] = (512, 1024, 2048),
        resolution_channels: int = 32,
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [PeriodDiscriminator(p, period_channels) for p in periods]
            + [ResolutionDiscriminator(n, resolution_channels) for n in resolutions]
        )

    def forward(self, wave: Tensor) -> Features:
        return [part(wave) for part in self.parts]


def _features(x: Tensor, convs: nn.ModuleList, score: nn.Module) -> list[Tensor]:
    maps = []
    for conv in convs:
        x = F.leaky_relu(conv(x), SLOPE)
        maps.append(x)
    return [*maps, score(x)]
