"""Selective state spaces (Mamba, Gu & Dao 2023, arXiv 2312.00752): the block; its scan is in `models/scan.py`.

Glossary, in the paper's letters; shapes of one sequence:

    B, L     batch, length of the sequence
    D, N     channels, states per channel
    u        (L, D)  input
    Δ delta  (L, D)  step size, > 0: how far each channel moves on at each position
    A        (D, N)  decay, < 0, of each state
    B        (L, N)  how the input enters the states ("selective": it depends on the position)
    C        (L, N)  how the output reads the states
    h        (D, N)  states

    h_t = exp(Δ_t A) h_(t-1) + Δ_t B_t u_t        (eq. 2a, discretised as in eq. 4; B by Euler's rule)
    y_t = C_t h_t                                 (eq. 2b)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.models.scan import BACKENDS, Inputs, scan_reference, selective_scan, selective_scans

__all__ = ["BACKENDS", "Direction", "Mamba", "scan_reference", "selective_scan"]


class Mamba(nn.Module):
    """The Mamba block (fig. 3): gate beside convolution and selective scan. (B, L, channels) -> (B, L, channels)

    Bidirectional blocks run a second convolution and scan from the end (Vision Mamba, arXiv 2401.09417) and share the
    projections in and out; the two outputs are summed.
    """

    def __init__(
        self,
        channels: int,
        state: int = 16,
        kernel_size: int = 4,
        expand: float = 2,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        inner = int(expand * channels)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        rank = -(-channels // 16)
        self.directions = nn.ModuleList(Direction(inner, state, kernel_size, rank) for _ in range(1 + bidirectional))
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        inputs = [u, u.flip(1)][: len(self.directions)]
        scans = [direction(each) for direction, each in zip(self.directions, inputs, strict=True)]
        skips = [direction.D * convolved for direction, (convolved, *_) in zip(self.directions, scans, strict=True)]
        made = [y + skip for y, skip in zip(selective_scans(scans), skips, strict=True)]
        return self._out(made[0] if len(made) == 1 else made[0] + made[1].flip(1), gate)

    def _out(self, y: Tensor, gate: Tensor) -> Tensor:
        """Gate and project; the scan's fp32 goes back to the type of the weights."""
        return self.out_proj((y * F.silu(gate)).to(self.out_proj.weight.dtype))


class Direction(nn.Module):
    """Causal convolution, and the parameters of the selective scan that are made of its output."""

    def __init__(self, channels: int, state: int, kernel_size: int, rank: int) -> None:
        super().__init__()
        self.rank, self.state = rank, state
        self.conv = nn.Conv1d(channels, channels, kernel_size, groups=channels)
        self.x_proj = nn.Linear(channels, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        self.A_log = nn.Parameter(torch.empty(channels, state))
        self.D = nn.Parameter(torch.ones(channels))
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        # Step sizes begin between 0.001 and 0.1, evenly in their logarithm; the bias is softplus' inverse of them.
        steps = torch.exp(torch.empty(channels, device="cpu").uniform_(-6.9, -2.3))
        with torch.no_grad():  # copies of what is computed on the CPU: on meta it takes a second to import the way
            self.A_log.copy_(torch.arange(1, state + 1, dtype=torch.float32, device="cpu").log())
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def forward(self, u: Tensor) -> Inputs:
        """(B, L, D) -> u (B, L, D), Δ (B, L, D), A (D, N), B and C (B, L, N), in fp32"""
        padded = F.pad(u, (0, 0, self.conv.kernel_size[0] - 1, 0)).transpose(1, 2)
        u = F.silu(self.conv(padded).transpose(1, 2).contiguous())  # one copy, where each use would make its own
        low_rank, B, C = self.x_proj(u).split([self.rank, self.state, self.state], dim=-1)
        with torch.autocast(u.device.type, enabled=False):
            dt_weight, dt_bias = self.dt_proj.weight.float(), self.dt_proj.bias.float()
            delta = F.softplus(F.linear(low_rank.float(), dt_weight, dt_bias))
            return u.float(), delta, -self.A_log.float().exp(), B.float(), C.float()
