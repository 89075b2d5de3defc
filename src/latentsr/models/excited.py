"""A decoder that shapes excitations: log-mel of the low band -> Mamba over time -> gains every 5 ms -> wave.

Front and back are the Mamba-GAN's, but the back draws no spectrum: it says how loud each band is, and a small network
at twice the rate corrects that and says of which excitations (`models/excitation.py`) the band consists. These are ten
times fewer numbers a second than a spectrum has; attack, pitch and phases are the low band's own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentsr.models import excitation
from latentsr.models.mamba_gan import MelFront, make_mixers, started_at_zero
from latentsr.models.vocos import ConvNeXtBlock
from latentsr.signal.transforms import power_of

PARTS = 4  # of a 5 ms frame, whose powers are told to the network: where in it an attack lies
BLOCK = 164  # 5 ms frames that are made at a time, so that they stay in the cache
FEATURES = excitation.FEATURE_KNOTS + PARTS  # of a frame
POWER_MEAN, POWER_STD = -5.0, 3.0  # nats, of the amplitude of a band or a part
MAX_LOG_GAIN = 6.0  # nats; e^6 is far above any band of full-scale audio


class ExcitationGenerator(MelFront):
    """Generator that shapes excitations.

    Args:
        n_mels: M.
        channels: width of the front.
        mixer: what looks along time, a key of `models.mamba_gan.MIXERS`.
        mixer_size: inner width of the mixer over `channels`.
        mixer_layers: how many.
        state: states per channel of the Mamba mixers.
        hidden: inner width of the back's layers.
        layers: of the back.
        kernel_size: of all convolutions.
        fine: width of the layers that run at 200 frames a second.
        fine_layers: how many, of twice the width inside.
        latent_size: values of one latent position, Z * m.
        latent_frames: mel frames of one latent position.
        mel_mean: nats; the log-mel is normalised by it
        mel_std: and by this.
        context_frames: mel frames on each side after which nothing is heard of the input (measured; docs/heads.md).
    """

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
        fine: int = 128,
        fine_layers: int = 2,
        latent_size: int = 256,
        latent_frames: int = 8,
        mel_mean: float = -5.0,
        mel_std: float = 3.0,
        context_frames: int = 64,
    ) -> None:
        super().__init__()
        mixers = make_mixers(mixer, channels, mixer_size, state, mixer_layers)
        self.build_front(n_mels, channels, mixers, latent_size, latent_frames)
        knots, kinds = excitation.FEATURE_KNOTS, len(excitation.NAMES)
        self.build_back(n_mels, channels, hidden, layers, kernel_size)
        self.loudness = nn.Linear(channels, knots)
        self.embed_back = nn.Linear(channels, fine)
        self.embed_low = nn.Linear(FEATURES, fine)
        self.embed_loudness = nn.Linear(knots, fine)
        self.norm_fine = nn.LayerNorm(fine, eps=1e-6)
        self.fine = nn.ModuleList(
            ConvNeXtBlock(fine, 2 * fine, kernel_size, scale=1.0 / fine_layers) for _ in range(fine_layers)
        )
        self.norm_shares = nn.LayerNorm(fine, eps=1e-6)
        self.gains = nn.Linear(fine, (1 + kinds) * knots)
        started_at_zero(self.gains, self.loudness)
        nn.init.constant_(self.loudness.bias, POWER_MEAN)

    def forward(
        self,
        low: Tensor,
        mel: Tensor,
        cutoff_hz: Tensor,
        noise: Tensor,
        latents: Tensor | None = None,
        told: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Restore.

        Args:
            low: (B, T) the low band, T = L * 480.
            mel: (B, L, M) its log-mel.
            cutoff_hz: (B,) where it ends.
            noise: (B, T) or (1, T) of unit variance.
            latents: (B, Z, L / latent_frames, m) scaled latents of the wide band; None: do without.
            told: (B,) which examples are told their latents; None: all.

        Returns:
            Wave (B, T), whose band below the cutoff means nothing, the log-mel (B, L, M) of the wide band, and the
            envelope of the wave (B, 2 L, bins): log power of a bin of `excitation.spectra`, nats.
        """
        with torch.autocast(low.device.type, enabled=False):
            spectra = excitation.spectra(low.float())
            heard = heard_in(low.float(), spectra)
        amplitudes, wide = self.amplitudes(heard, mel, cutoff_hz, latents, told)
        with torch.autocast(low.device.type, enabled=False):
            made = excitation.excitations(low.float(), spectra, cutoff_hz, noise.float())
            wave = excitation.synthesise(excitation.shaped(made, amplitudes))
            return wave, wide, amplitudes.square().sum(dim=0).clamp(min=excitation.SILENT).log()

    def restore(
        self,
        low: Tensor,
        mel: Tensor,
        cutoff_hz: Tensor,
        noise: Tensor,
        latents: Tensor | None = None,
        ignored: tuple[int, int] = (0, 0),
    ) -> tuple[Tensor, Tensor]:
        x, normalised = self.front(mel, cutoff_hz, latents)
        # What lies further beyond than the back hears needs no back.
        start, stop = max(ignored[0] - self.reach, 0), mel.shape[1] - max(ignored[1] - self.reach, 0)
        wave, hop = torch.zeros_like(low), 2 * excitation.HOP
        inside = slice(start * hop, stop * hop)
        low, noise, made = low[:, inside], noise.expand_as(low)[:, inside], wave[:, inside]
        spectra = excitation.spectra(low)
        level, shares = self._said(heard_in(low, spectra), x[:, start:stop], normalised[:, start:stop])
        end = 2 * (mel.shape[1] - ignored[1] - start)
        for first in range(2 * (ignored[0] - start), end, BLOCK):
            last = min(first + BLOCK, end)
            near = slice(max(first - 2, 0), min(last + 2, spectra.shape[1]))  # the outermost lacks what lies beside it
            at = slice(near.start * excitation.HOP, near.stop * excitation.HOP)
            kinds = excitation.excitations(low[:, at], spectra[:, near], cutoff_hz, noise[:, at])
            block = excitation.synthesise(excitation.shaped(kinds, in_bins(level[:, near], shares[:, :, near])))
            kept = slice((first - near.start) * excitation.HOP, (last - near.start) * excitation.HOP)
            made[:, first * excitation.HOP : last * excitation.HOP] = block[:, kept]
        return wave, self.in_nats(normalised).float()

    @property
    def reach(self) -> int:
        """Mel frames on each side that the back and the fine layers hear."""
        config = self.config
        edge = config.kernel_size // 2
        return int(edge * (1 + config.layers) + -(-edge * config.fine_layers // 2) + 1)

    def amplitudes(
        self,
        heard: Tensor,
        mel: Tensor,
        cutoff_hz: Tensor,
        latents: Tensor | None = None,
        told: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`forward` short of the excitations, for the features `heard_in` the low band (B, 2 L, knots + PARTS).

        Returns:
            Amplitude of each excitation, (K, B, 2 L, bins), and the log-mel (B, L, M).
        """
        x, normalised = self.front(mel, cutoff_hz, latents, told)
        return in_bins(*self._said(heard, x, normalised)), self.in_nats(normalised).float()

    def _said(self, heard: Tensor, x: Tensor, normalised: Tensor) -> tuple[Tensor, Tensor]:
        """At the knots, level in nats (B, 2 L, knots), and the excitations' shares (K, B, 2 L, knots)."""
        found = self.back(x, normalised)
        level = _twice(self.loudness(found).float())
        y = _twice(self.embed_back(found)) + self.embed_low(heard.to(x.dtype))
        y = self.norm_fine(y + self.embed_loudness(((level - POWER_MEAN) / POWER_STD).to(x.dtype)))
        for block in self.fine:
            y = block(y)
        said = self.gains(self.norm_shares(y)).float().unflatten(-1, (-1, excitation.FEATURE_KNOTS))
        level = (level + said[:, :, 0]).clamp(max=MAX_LOG_GAIN)
        shares = said[:, :, 1:].permute(2, 0, 1, 3).softmax(dim=0).sqrt()
        return level, shares


def in_bins(level: Tensor, shares: Tensor) -> Tensor:
    """The amplitudes (K, B, 2 L, bins) of what is said at knots."""
    bins = excitation.bins_of_knots().to(level.device)
    # A bin of white noise of unit variance has a power of FRAME / 2 under the square root of a Hann window.
    amplitude = (level @ bins).exp() * (excitation.FRAME / 2) ** 0.5
    return amplitude * (shares @ bins)


def _twice(x: Tensor) -> Tensor:
    """100 frames a second -> 200, between neighbours. (B, L, C) -> (B, 2 L, C)"""
    before, after = torch.cat([x[:, :1], x[:, :-1]], dim=1), torch.cat([x[:, 1:], x[:, -1:]], dim=1)
    return torch.stack([x.lerp(before, 0.25), x.lerp(after, 0.25)], dim=2).flatten(1, 2)


def heard_in(low: Tensor, spectra: Tensor) -> Tensor:
    """Log amplitudes of the low band every 5 ms, normalised: of each band, and of each part. (B, 2 L, knots + PARTS)"""
    bins = excitation.bins_of_knots().to(low.device)
    bands = power_of(spectra) @ (bins / (bins.sum(dim=1, keepdim=True) * (excitation.FRAME / 2))).T
    parts = low.unflatten(1, (-1, PARTS, excitation.HOP // PARTS)).square().mean(-1)
    return (0.5 * torch.cat([bands, parts], dim=2).add(excitation.SILENT).log() - POWER_MEAN) / POWER_STD
