"""Discriminators: multi-period (HiFi-GAN, arXiv 2010.05646), multi-resolution (UnivNet, arXiv 2106.07889) and
multi-scale (MelGAN, arXiv 1910.06711).

Each takes a wave (B, 1, T) and returns, per sub-discriminator, a list of feature maps whose last entry is the score.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

Features = list[list[Tensor]]
SLOPE = 0.1
SCALE_SLOPE = 0.2  # MelGAN's
LOG_FLOOR = 1e-4 / 2048**0.5  # of a magnitude, per root sample: the floor of LSD
LOG_MEAN, LOG_SPAN = -5.0, 4.0  # nats; a magnitude is seen as (its logarithm - mean) / span
EMPHASIS_GAIN = 10.0  # what two pre-emphases take from music, about


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
        # The logarithm, so that the quiet top weighs beside the loud bottom.
        log_magnitude = spectrum.abs().clamp(min=LOG_FLOOR * self.n_fft**0.5).log()
        return _features(((log_magnitude - LOG_MEAN) / LOG_SPAN).unsqueeze(1), self.convs, self.score)


class ScaleDiscriminator(nn.Module):
    """Looks at the wave itself, averaged to 1 / 2^`halvings` of its rate, through strided grouped convolutions.

    Widths: `channels`, then four times as many per layer up to `max_channels`; four channels per group of the input.
    """

    def __init__(self, halvings: int, channels: int, max_channels: int, layers: int = 4) -> None:
        super().__init__()
        self.halvings = halvings
        convs = [weight_norm(nn.Conv1d(1, channels, 15, padding=7, padding_mode="reflect"))]
        width = channels
        for _ in range(layers):
            wider = min(4 * width, max_channels)
            convs.append(weight_norm(nn.Conv1d(width, wider, 41, stride=4, padding=20, groups=max(width // 4, 1))))
            width = wider
        wider = min(2 * width, max_channels)
        convs.append(weight_norm(nn.Conv1d(width, wider, 5, padding=2)))
        self.convs = nn.ModuleList(convs)
        self.score = weight_norm(nn.Conv1d(wider, 1, 3, padding=1))

    def forward(self, wave: Tensor) -> list[Tensor]:
        for _ in range(self.halvings):
            wave = F.avg_pool1d(wave, 4, stride=2, padding=1, count_include_pad=False)
        return _features(wave, self.convs, self.score, SCALE_SLOPE)


class Discriminators(nn.Module):
    """All sub-discriminators. (B, 1, T) -> a list of feature lists.

    `emphasis` above 0 is the coefficient of two pre-emphases before those that look at the wave itself. Where only the
    band above a cutoff is made, it lies 20 to 60 dB below the rest, and they learn nothing without.
    """

    def __init__(
        self,
        periods: tuple[int, ...] = (2, 3, 5, 7, 11),
        period_channels: tuple[int, ...] = (16, 64, 256, 256),
        resolutions: tuple[int, ...] = (512, 1024, 2048),
        resolution_channels: int = 32,
        scales: int = 0,
        scale_channels: int = 16,
        scale_max_channels: int = 1024,
        scale_layers: int = 4,
        emphasis: float = 0.0,
    ) -> None:
        super().__init__()
        self.emphasis = emphasis
        self.parts = nn.ModuleList(
            [PeriodDiscriminator(p, period_channels) for p in periods]
            + [ResolutionDiscriminator(n, resolution_channels) for n in resolutions]
            + [ScaleDiscriminator(i, scale_channels, scale_max_channels, scale_layers) for i in range(scales)]
        )

    def forward(self, wave: Tensor) -> Features:
        emphasised = wave
        if self.emphasis:
            for _ in range(2):
                emphasised = emphasised[..., 1:] - self.emphasis * emphasised[..., :-1]
            emphasised = EMPHASIS_GAIN * emphasised
        return [part(wave if isinstance(part, ResolutionDiscriminator) else emphasised) for part in self.parts]


class BandDiscriminator(nn.Module):
    """Looks at the log magnitude of one STFT, and scores no more than the band that was made.

    2-D convolutions of 7 bins x 3 frames, as N-GAN and Opus' BBWENet have them. Beside the magnitude each bin is told
    where it lies, by sine and cosine, and whether it belongs to the made band; those that do not are hidden.
    """

    window: Tensor
    place: Tensor

    def __init__(self, n_fft: int, channels: int, layers: int = 4) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        turn = torch.linspace(0, torch.pi, n_fft // 2)
        self.register_buffer("place", torch.stack([turn.sin(), turn.cos()])[None, :, :, None], persistent=False)
        convs = [weight_norm(nn.Conv2d(4, channels, (7, 3), (2, 1), padding=(3, 1)))]
        convs += [weight_norm(nn.Conv2d(channels, channels, (7, 3), (2, 1), padding=(3, 1))) for _ in range(layers - 1)]
        self.convs = nn.ModuleList(convs)
        self.score = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    def forward(self, wave: Tensor, band: Tensor) -> tuple[list[Tensor], Tensor]:
        """Feature maps of waves (B, 1, T), the scores (B, 1, bins, frames) last, and the weight of each score.

        Args:
            wave: (B, 1, T).
            band: (B, 2) from where to where it was made, as shares of half the sampling rate.
        """
        spectrum = torch.stft(
            wave.squeeze(1).float(), self.n_fft, self.n_fft // 4, window=self.window, return_complex=True
        )[:, :-1]
        log_magnitude = spectrum.abs().clamp(min=LOG_FLOOR * self.n_fft**0.5).log()
        bins = torch.linspace(0, 1, self.n_fft // 2, device=wave.device)
        made = ((bins >= band[:, :1]) & (bins <= band[:, 1:]))[:, None, :, None].float()
        seen = (log_magnitude[:, None] - LOG_MEAN) / LOG_SPAN * made
        x = torch.cat([seen, *(t.expand(len(wave), -1, -1, seen.shape[-1]) for t in (made, self.place))], dim=1)
        maps = _features(x, self.convs, self.score)
        weight = F.adaptive_avg_pool2d(made, (maps[-1].shape[2], 1)).expand_as(maps[-1])
        return maps, weight / weight.sum().clamp(min=1.0)


class BandDiscriminators(nn.Module):
    """One `BandDiscriminator` per STFT size."""

    def __init__(self, sizes: tuple[int, ...] = (2048, 512, 128), channels: int = 16, layers: int = 4) -> None:
        super().__init__()
        self.parts = nn.ModuleList(BandDiscriminator(size, channels, layers) for size in sizes)

    def forward(self, wave: Tensor, band: Tensor) -> list[tuple[list[Tensor], Tensor]]:
        return [part(wave, band) for part in self.parts]


def _features(x: Tensor, convs: nn.ModuleList, score: nn.Module, slope: float = SLOPE) -> list[Tensor]:
    maps = []
    for conv in convs:
        x = F.leaky_relu(conv(x), slope)
        maps.append(x)
    return [*maps, score(x)]
