"""DiffWave-Mamba: a diffusion of the band above the cutoff, on a strided sequence, over a prior that knows loudness.

The sequence is the MDCT of (wide - low), 200 frames a second. A condition network looks at the low band and says how
loud each coefficient is expected to be (the data-dependent prior of PriorGrad, Lee et al. 2022, arXiv 2106.06406).
Divided by that, the coefficients have about unit variance from the cutoff to 24 kHz, although the top may lie 60 dB
below; the denoiser works on them (layers after DiffWave, Kong et al. 2021, arXiv 2009.09761, with Mamba over time in
place of dilated convolutions).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.models.network import Network
from latentsr.models.ssm import Mamba

FLOOR = 1e-10  # of energies: the dust of 16-bit rounding is 8e-11 per coefficient
TIME_WEIGHTS = (1.0, 2.0, 3.0, 2.0, 1.0)  # over 5 frames, by which energies are smoothed
# E[ln e] of noise of unit variance smoothed so, measured; chi-squared of as many degrees of freedom gives -0.26.
LOG_BIAS = -0.236
LOG_MEAN, LOG_SPAN = -14.0, 5.0  # nats; what networks see of a log-energy is (x - mean) / span
MADE_FROM = 0.9  # of the cutoff: coefficients above are made, as the merge takes them from there
STEP_FEATURES = 64
LONGEST_PERIOD = 10_000.0  # of the waves that a step is told by, over the shortest
LATENT_FRAMES = 8  # mel frames of one latent position


@dataclass
class Condition:
    """What the denoiser knows of the low band; it does not change from step to step."""

    hidden: Tensor  # (B, L, D)
    log_energy: Tensor  # (B, L, N) of the coefficients above the cutoff, nats: the prior
    made: Tensor  # (B, 1, N) 1 where coefficients are made, 0 below the cutoff

    @property
    def scale(self) -> Tensor:
        """(B, L, N) standard deviation of the prior; 0 below the cutoff."""
        return (0.5 * self.log_energy).exp() * self.made


class Perceptron(nn.Sequential):
    """Two layers on channels. (B, L, D) -> (B, L, D)"""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))


class Block(nn.Module):
    """Mamba over time in both directions, then a perceptron on channels. (B, L, D) -> (B, L, D)"""

    def __init__(self, channels: int, hidden: int, state: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mamba = Mamba(channels, state, expand=1, bidirectional=True)
        self.perceptron = Perceptron(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mamba(self.norm(x))
        return x + self.perceptron(x)


class StepBlock(Block):
    """A block that is told the diffusion step (B, D) and the condition (B, L, D). (B, L, D) -> (B, L, D)"""

    def __init__(self, channels: int, hidden: int, state: int) -> None:
        super().__init__(channels, hidden, state)
        self.step = nn.Linear(channels, 2 * channels)
        self.condition = nn.Linear(channels, channels)

    def forward(self, x: Tensor, step: Tensor, condition: Tensor) -> Tensor:  # type: ignore[override]
        scale, shift = self.step(step)[:, None].chunk(2, dim=-1)
        x = x + self.mamba(self.norm(x) * (1 + scale) + shift + self.condition(condition))
        return x + self.perceptron(x)


class DiffWaveMamba(Network):
    """Noisy whitened coefficients, time step, condition -> velocity, all (B, L, N).

    `condition` is computed once per recording, `forward` once per step. With `latent_size` = Z m it can also be told
    the pipeline's latents.
    """

    def __init__(
        self,
        bands: int = 240,
        channels: int = 128,
        hidden: int = 256,
        condition_layers: int = 3,
        layers: int = 4,
        state: int = 8,
        latent_size: int | None = None,
        sample_rate: int = 48_000,
    ) -> None:
        super().__init__()
        self.features = nn.Linear(2 * bands, channels)
        self.cutoff = nn.Sequential(nn.Linear(STEP_FEATURES, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.latents = nn.Linear(latent_size, channels) if latent_size else None
        self.blocks = nn.ModuleList(Block(channels, hidden, state) for _ in range(condition_layers))
        self.prior = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, bands))
        self.step = nn.Sequential(nn.Linear(STEP_FEATURES, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.noisy = nn.Linear(bands, channels)
        self.denoiser = nn.ModuleList(StepBlock(channels, hidden, state) for _ in range(layers))
        out = nn.Linear(channels, bands)
        nn.init.zeros_(out.weight)  # training begins at the velocity's mean
        nn.init.zeros_(out.bias)
        self.velocity = nn.Sequential(nn.LayerNorm(channels), out)

    def condition(
        self, low: Tensor, cutoff_hz: Tensor, latents: Tensor | None = None, told: Tensor | None = None
    ) -> Condition:
        """What the low band's coefficients (B, L, N), its end (B,) in Hz and latents (B, Z, l, m) tell.

        `told` (B,) is true for the examples that may know the latents; None: all of them.
        """
        self._check(low, cutoff_hz)
        log_energy = smooth_log_energy(low.float())
        fine = low.float() / (log_energy.exp() + 100 * FLOOR).sqrt()
        seen = torch.cat([(log_energy - LOG_MEAN) / LOG_SPAN, fine], dim=-1)
        octaves = torch.log2(cutoff_hz.float() / 1000.0)
        dtype = self.features.weight.dtype
        x = self.features(seen.to(dtype)) + self.cutoff(_waves(250.0 * octaves).to(dtype))[:, None]
        if latents is not None:
            from_latents = self._told(latents, frames=low.shape[1])
            x = x + (from_latents if told is None else from_latents * told[:, None, None])
        for block in self.blocks:
            x = block(x)
        log_energy = LOG_MEAN + LOG_SPAN * self.prior(x).float()
        return Condition(x, log_energy.clamp(-25.0, 10.0), self._made(cutoff_hz))

    def forward(self, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        dtype = self.noisy.weight.dtype
        step = F.silu(self.step(_waves(timestep).to(dtype)))
        x = self.noisy((noisy * condition.made).to(dtype)) + condition.hidden
        for layer in self.denoiser:
            x = layer(x, step, condition.hidden)
        return self.velocity(x).float() * condition.made

    def louder(self, nats: float) -> None:
        """Raise the energies that the prior says."""
        bias = self.prior[-1].bias
        assert isinstance(bias, nn.Parameter)
        with torch.no_grad():
            bias.add_(nats / LOG_SPAN)

    def _told(self, latents: Tensor, frames: int) -> Tensor:
        """Latents (B, Z, l, m) at the frames' rate. -> (B, L, D)"""
        if self.latents is None:
            raise ValueError("this DiffWave-Mamba was trained without latents; use one whose config has a latent_size")
        positions = latents.permute(0, 2, 1, 3).flatten(2)
        if positions.shape[-1] != self.latents.in_features:
            raise ValueError(
                f"latents of {positions.shape[-1]} values a position, trained on {self.latents.in_features}; "
                "these latents are of another VAE"
            )
        told = self.latents(positions.to(self.latents.weight.dtype))
        return F.interpolate(told.mT, size=frames, mode="linear").mT

    def _made(self, cutoff_hz: Tensor) -> Tensor:
        width_hz = self.config.sample_rate / (2 * self.config.bands)
        centres_hz = (torch.arange(self.config.bands, device=cutoff_hz.device) + 0.5) * width_hz
        return (centres_hz > MADE_FROM * cutoff_hz[:, None]).float()[:, None]

    def _check(self, low: Tensor, cutoff_hz: Tensor) -> None:
        if low.ndim != 3 or low.shape[-1] != self.config.bands:
            raise ValueError(f"expected coefficients (B, L, {self.config.bands}), got {tuple(low.shape)}")
        if cutoff_hz.shape != low.shape[:1]:
            raise ValueError(f"{low.shape[0]} recordings need as many cutoffs, got shape {tuple(cutoff_hz.shape)}")


def smooth_log_energy(coefficients: Tensor) -> Tensor:
    """Natural logarithm of the energy over a few frames; 0 on average for noise of unit variance.

    (B, L, N) -> (B, L, N)
    """
    weights = coefficients.new_tensor(TIME_WEIGHTS)
    energy = coefficients.square().mT.flatten(0, 1)[:, None]  # (B N, 1, L)
    energy = F.conv1d(energy, (weights / weights.sum())[None, None], padding=len(TIME_WEIGHTS) // 2)
    return (energy.view(coefficients.mT.shape).mT + FLOOR).log() - LOG_BIAS


def _waves(value: Tensor) -> Tensor:
    """Sines and cosines of a value (B,) of about 0 to 1000. -> (B, STEP_FEATURES)"""
    falls = torch.arange(STEP_FEATURES // 2, dtype=torch.float32, device=value.device)
    radians = (-math.log(LONGEST_PERIOD) * falls / (STEP_FEATURES // 2 - 1)).exp()
    angles = value.float()[:, None] * radians
    return torch.cat([angles.sin(), angles.cos()], dim=1)
