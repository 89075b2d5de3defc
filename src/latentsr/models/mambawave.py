"""MambaWave: DiffWave (arXiv 2009.09761) with a bidirectional Mamba over all samples of the wave, 24 to 48 kHz.

The network is that of simonefacchiano/MambaWave, counted to the parameter; the code is our own. What was wrong around
it is not rebuilt:

1. Training passed the betas, 1e-6 to 0.005, as cumulative alphas: at every time the network saw at most 0.07 of the
   signal, and more of it at the later times.
2. Sampling used another schedule: 1000 betas up to 0.006, where training had 500 up to 0.005.
3. Each step of sampling jumped to the estimate of the clean wave and fed that back as the wave of the time before.
4. Input and target were stretched to [-1, 1] each by its own minimum and maximum, so that they differed in gain and DC.

Here one schedule object (`sampling.training_scheduler`) makes the noisy waves of training and takes the steps of
sampling, the network foretells the velocity, and one gain, that of the input, holds for input and target.
(`training/mambawave.py`.)

It is slow (`heads/mambawave.py`): a step takes 7.5 s of one CPU core per second of audio, where the whole of
`models/diffwave_mamba.py` takes 0.08 s.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.models.network import Network
from latentsr.models.ssm import Mamba

STEP_FREQUENCIES = 64  # 1 to 10,000 radians per time step


class MambaWave(Network):
    """Noisy wave (B, 1, T), time (B,), wave at half the rate (B, 1, T / 2) -> velocity (B, 1, T).

    Args:
        channels: width of the wave between layers; inside they are twice as wide.
        layers: residual layers, with dilations 1, 2, 4, ...
        state: states per channel of the Mamba layers.
        step_features: width of the embedding of the time.
    """

    def __init__(self, channels: int = 32, layers: int = 11, state: int = 14, step_features: int = 512) -> None:
        super().__init__()
        self.noisy = nn.Conv1d(1, channels, 1)
        self.condition = nn.Conv1d(1, channels, 1)
        self.condition_norm = nn.BatchNorm1d(channels)
        self.step = nn.Sequential(
            nn.Linear(2 * STEP_FREQUENCIES, step_features),
            nn.SiLU(),
            nn.Linear(step_features, step_features),
            nn.SiLU(),
        )
        self.blocks = nn.ModuleList(ResidualLayer(channels, 2**i, state, step_features) for i in range(layers))
        self.skipped = nn.Conv1d(channels, channels, 1)
        self.velocity = nn.Conv1d(channels, 1, 1)
        for conv in (self.noisy, self.condition, self.skipped):
            nn.init.kaiming_normal_(conv.weight)
        for parameter in self.velocity.parameters():
            nn.init.zeros_(parameter)

    def forward(self, noisy: Tensor, timestep: Tensor, half: Tensor) -> Tensor:
        if noisy.ndim != 3 or noisy.shape[1] != 1 or 2 * half.shape[-1] != noisy.shape[-1]:
            raise ValueError(
                f"expected a wave (B, 1, T) and one (B, 1, T / 2), got {tuple(noisy.shape)} and {tuple(half.shape)}"
            )
        condition = self.condition_norm(F.interpolate(self.condition(half), scale_factor=2.0, mode="linear"))
        step = self.step(step_waves(timestep).to(noisy.dtype))
        x = F.relu(self.noisy(noisy))
        total = torch.zeros_like(x)
        for layer in self.blocks:
            x, skip = layer(x, step, condition)
            total = total + skip
        return self.velocity(F.relu(self.skipped(total / math.sqrt(len(self.blocks)))))


class ResidualLayer(nn.Module):
    """Dilated convolution, Mamba over time, the condition, a gate. (B, C, T) -> (B, C, T) and its share of the output

    Nothing leads around the Mamba: what the gate gets of the wave has been through it.
    """

    def __init__(self, channels: int, dilation: int, state: int, step_features: int) -> None:
        super().__init__()
        inner = 2 * channels
        self.step = nn.Linear(step_features, channels)
        self.conv = nn.Conv1d(channels, inner, 3, padding=dilation, dilation=dilation)
        self.norm = nn.BatchNorm1d(inner)
        self.mamba = Mamba(inner, state, bidirectional=True)
        self.condition = nn.Conv1d(channels, inner, 1)
        self.out = nn.Conv1d(channels, inner, 1)
        for conv in (self.conv, self.condition, self.out):
            nn.init.kaiming_normal_(conv.weight)

    def forward(self, x: Tensor, step: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        y = self.norm(self.conv(x + self.step(step)[:, :, None]))
        y = self.mamba(y.mT).mT + F.relu(self.condition(condition))
        gate, value = y.chunk(2, dim=1)
        residual, skip = self.out(gate.sigmoid() * value.tanh()).chunk(2, dim=1)
        return (x + residual) / math.sqrt(2), skip


def step_waves(timestep: Tensor) -> Tensor:
    """Sines, then cosines, of the time. (B,) -> (B, 2 STEP_FREQUENCIES)

    In float64: 10,000 radians a step leave nothing of the phase in float32 after a thousand steps.
    """
    per_step = torch.logspace(0, 4, STEP_FREQUENCIES, dtype=torch.float64, device=timestep.device)
    angles = timestep.double()[:, None] * per_step
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()
