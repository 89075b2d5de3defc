"""A decoder that restores in one pass: log-mel of the low band -> Mamba over time -> wide log-mel -> wave.

Everything runs at 100 frames a second, so that a sequence of ten seconds has a thousand steps, and one inverse STFT
makes the wave (the form of Vocos, arXiv 2306.00814). AEROMamba (Abreu & Biscainho 2024) gave the idea of Mamba in a
GAN for audio super-resolution; nothing of its network is left here: `models/aeromamba.py` has that one.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.models.network import Network
from latentsr.models.ssm import Mamba
from latentsr.models.vocos import ConvNeXtBlock, inverse_stft
from latentsr.signal.texture import as_noise

LOWEST_CUTOFF_HZ = 500.0
CUTOFF_FEATURES = 32


class BidirectionalLSTM(nn.Module):
    """One layer, both directions, projected back. (B, L, channels) -> (B, L, channels)"""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden, batch_first=True, bidirectional=True)
        self.project = nn.Linear(2 * hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.lstm(x)[0])


class Convolution(nn.Module):
    """A ConvNeXt block without its residual: the mixer that sees 7 frames and no more."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.block = ConvNeXtBlock(channels, hidden, kernel_size=7, scale=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) - x


# What looks along time, (channels, size, state) -> layer: the rows of the ablation.
MIXERS: dict[str, Callable[[int, float, int], nn.Module]] = {
    "bimamba": lambda channels, size, state: Mamba(channels, state, expand=size, bidirectional=True),
    "mamba": lambda channels, size, state: Mamba(channels, state, expand=size),
    "lstm": lambda channels, size, state: BidirectionalLSTM(channels, int(size * channels)),
    "none": lambda channels, size, state: Convolution(channels, int(size * channels)),
}


class Residual(nn.Module):
    """x + f(norm(x)). (B, L, channels) -> (B, L, channels)"""

    def __init__(self, channels: int, layer: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(self.norm(x))


class MelFront(Network):
    """What both generators begin with: along time it corrects the log-mel of the low band to that of the wide band.

    Latents of the diffusion, if given, enter here. Arguments as in `MambaGenerator`.
    """

    def build_front(
        self, n_mels: int, channels: int, mixers: list[nn.Module], latent_size: int, latent_frames: int
    ) -> None:
        self.embed_mel = nn.Linear(n_mels, channels)
        self.embed_cutoff = nn.Linear(2 * CUTOFF_FEATURES, channels)
        self.unfold_latents = nn.Linear(latent_size, latent_frames * channels // 4)
        self.embed_latents = nn.Linear(channels // 4, channels)
        self.mixers = nn.ModuleList(Residual(channels, mixer) for mixer in mixers)
        self.norm_mixed = nn.LayerNorm(channels, eps=1e-6)
        self.correct_mel = nn.Linear(channels, n_mels)
        started_at_zero(self.correct_mel, self.embed_latents)

    @abstractmethod
    def restore(
        self,
        low: Tensor,
        mel: Tensor,
        cutoff_hz: Tensor,
        noise: Tensor,
        latents: Tensor | None = None,
        ignored: tuple[int, int] = (0, 0),
    ) -> tuple[Tensor, Tensor]:
        """The wide band in use.

        Args:
            low: (B, T) the low band, T = L * hop_length.
            mel: (B, L, M) its log-mel.
            cutoff_hz: (B,) where it ends.
            noise: (B, T) of unit variance.
            latents: (B, Z, L / latent_frames, m) scaled latents of the wide band; None: do without.
            ignored: of so many frames at the start and at the end the wave may be anything.

        Returns:
            Wave (B, T), and the log-mel (B, L, M) of the wide band as the front has it.
        """

    def front(
        self, mel: Tensor, cutoff_hz: Tensor, latents: Tensor | None = None, told: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What was found along time (B, L, channels), and the wide band's log-mel (B, L, M), normalised."""
        given = (mel - self.config.mel_mean) / self.config.mel_std
        x = self.embed_mel(given) + self.embed_cutoff(cutoff_features(cutoff_hz).to(given))[:, None]
        if latents is not None:
            embedded = self._of_latents(latents.to(x.dtype))
            x = x + (embedded if told is None else embedded * told[:, None, None])
        for mixer in self.mixers:
            x = mixer(x)
        x = self.norm_mixed(x)
        return x, given + self.correct_mel(x)

    def build_back(self, n_mels: int, channels: int, hidden: int, layers: int, kernel_size: int) -> None:
        self.skip = nn.Linear(channels, channels)
        self.embed = nn.Conv1d(n_mels, channels, kernel_size, padding=kernel_size // 2)
        self.norm_in = nn.LayerNorm(channels, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, hidden, kernel_size, scale=1.0 / layers) for _ in range(layers)
        )
        self.norm_out = nn.LayerNorm(channels, eps=1e-6)
        started_at_zero(self.skip)

    def back(self, found: Tensor, wide: Tensor) -> Tensor:
        """What the back makes of what the front found (B, L, channels) and of its log-mel (B, L, M), normalised."""
        y = self.norm_in(self.embed(wide.transpose(1, 2)).transpose(1, 2) + self.skip(found))
        for block in self.blocks:
            y = block(y)
        return self.norm_out(y)

    def in_nats(self, wide: Tensor) -> Tensor:
        """A normalised log-mel as it is."""
        return wide * self.config.mel_std + self.config.mel_mean

    def _of_latents(self, latents: Tensor) -> Tensor:
        """(B, Z, l, m) -> (B, l * latent_frames, channels)"""
        unfolded = F.gelu(self.unfold_latents(latents.permute(0, 2, 1, 3).flatten(2))).unflatten(
            2, (self.config.latent_frames, -1)
        )
        return self.embed_latents(unfolded).flatten(1, 2)


def make_mixers(mixer: str, channels: int, size: float, state: int, count: int) -> list[nn.Module]:
    """Layers that look along time, by a key of `MIXERS`."""
    if mixer not in MIXERS:
        raise ValueError(f"unknown mixer {mixer!r}; choose one of {', '.join(MIXERS)}")
    return [MIXERS[mixer](channels, size, state) for _ in range(count)]


def started_at_zero(*layers: nn.Linear) -> None:
    for layer in layers:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


class MambaGenerator(MelFront):
    """Generator of the Mamba-GAN: the front, then an iSTFT vocoder that decodes what the front found.

    Args:
        n_mels: M.
        channels: width of all layers.
        mixer: what looks along time, a key of `MIXERS`.
        mixer_size: inner width of the mixer over `channels`.
        mixer_layers: how many.
        state: states per channel of the Mamba mixers.
        hidden: inner width of the back's layers.
        layers: of the back.
        kernel_size: of the back.
        n_fft: samples of the inverse STFT.
        hop_length: samples between frames.
        latent_size: values of one latent position, Z * m.
        latent_frames: mel frames of one latent position.
        mel_mean: nats; the log-mel is normalised by it
        mel_std: and by this.
        noise_share: of the made wave's power that the head replaces by noise under the wave's own envelope.
        context_frames: mel frames on each side after which nothing is heard of the input (measured; docs/heads.md).
    """

    window: Tensor

    def __init__(
        self,
        n_mels: int = 256,
        channels: int = 256,
        mixer: str = "bimamba",
        mixer_size: float = 2.0,
        mixer_layers: int = 3,
        state: int = 8,
        hidden: int = 768,
        layers: int = 3,
        kernel_size: int = 7,
        n_fft: int = 1920,
        hop_length: int = 480,
        latent_size: int = 256,
        latent_frames: int = 8,
        mel_mean: float = -5.0,
        mel_std: float = 3.0,
        noise_share: float = 0.0,
        context_frames: int = 64,
    ) -> None:
        super().__init__()
        mixers = make_mixers(mixer, channels, mixer_size, state, mixer_layers)
        self.build_front(n_mels, channels, mixers, latent_size, latent_frames)
        self.build_back(n_mels, channels, hidden, layers, kernel_size)
        self.head = nn.Linear(channels, 2 * (n_fft // 2 + 1))
        self.register_buffer("window", torch.hann_window(n_fft, device="cpu"), persistent=False)

    def forward(
        self, mel: Tensor, cutoff_hz: Tensor, latents: Tensor | None = None, told: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Restore.

        Args:
            mel: (B, L, M) log-mel of the low band.
            cutoff_hz: (B,) where it ends.
            latents: (B, Z, L / latent_frames, m) scaled latents of the wide band; None: do without.
            told: (B,) which examples are told their latents; None: all.

        Returns:
            Wave (B, L * hop_length), and the log-mel (B, L, M) of the wide band as the front has it.
        """
        spectra, wide = self.spectra(mel, cutoff_hz, latents, told)
        log_magnitude, phase = spectra.transpose(1, 2).chunk(2, dim=1)
        return inverse_stft(log_magnitude, phase, self.window, self.config.hop_length), wide

    def restore(
        self,
        low: Tensor,
        mel: Tensor,
        cutoff_hz: Tensor,
        noise: Tensor,
        latents: Tensor | None = None,
        ignored: tuple[int, int] = (0, 0),
    ) -> tuple[Tensor, Tensor]:
        wave, wide = self(mel, cutoff_hz, latents)
        share = float(self.config.noise_share)
        return (as_noise(wave[:, None], noise[:, None], share)[:, 0] if share else wave), wide

    def spectra(
        self, mel: Tensor, cutoff_hz: Tensor, latents: Tensor | None = None, told: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`forward` short of the inverse STFT.

        Returns:
            Log-magnitudes, then phases, (B, L, 2 (n_fft / 2 + 1)), and the log-mel (B, L, M).
        """
        x, wide = self.front(mel, cutoff_hz, latents, told)
        return self.head(self.back(x, wide)).float(), self.in_nats(wide)


def cutoff_features(cutoff_hz: Tensor) -> Tensor:
    """Sines and cosines of the octave at which the known band ends. (B,) -> (B, 2 * CUTOFF_FEATURES)"""
    octave = (cutoff_hz.float().clamp(min=LOWEST_CUTOFF_HZ) / LOWEST_CUTOFF_HZ).log2()
    turns = torch.logspace(math.log10(0.125), math.log10(4), CUTOFF_FEATURES, device=cutoff_hz.device)
    angles = 2 * math.pi * octave[:, None] * turns
    return torch.cat([angles.sin(), angles.cos()], dim=1)
