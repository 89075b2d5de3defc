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

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.models.scan import BACKENDS, scan_reference, selective_scan

__all__ = ["BACKENDS", "Direction", "Mamba", "State", "scan_reference", "selective_scan"]


class State(NamedTuple):
    """What one direction remembers of the positions before."""

    window: Tensor  # (B, D, kernel_size - 1) last inputs of the convolution
    h: Tensor  # (B, D, N) states of the scan


class Mamba(nn.Module):
    """The Mamba block (fig. 3): gate beside convolution and selective scan. (B, L, channels) -> (B, L, channels)

    Bidirectional blocks run a second convolution and scan from the end (Vision Mamba, arXiv 2401.09417) and share the
    projections in and out; the two outputs are summed.

    A block of one direction also runs on a stream, in pieces of any length: `state = block.start(batch)`, then
    `y, state = block.step(x, state)` for each piece. The pieces together equal `forward` on the whole.
    """

    def __init__(
        self,
        channels: int,
        state: int = 16,
        kernel_size: int = 4,
        expand: float = 2,
        bidirectional: bool = False,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        inner = int(expand * channels)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.directions = nn.ModuleList(
            Direction(inner, state, kernel_size, rank or -(-channels // 16)) for _ in range(1 + bidirectional)
        )
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        y = self.directions[0](u)
        if len(self.directions) == 2:
            y = y + self.directions[1](u.flip(1)).flip(1)
        return self._out(y, gate)

    def start(self, batch: int) -> State:
        """The state before the first position."""
        return self._only_direction().start(batch)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next positions of a stream: output (B, L, channels), and the state after them."""
        direction = self._only_direction()
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        y, state = direction.step(u, state)
        return self._out(y, gate), state

    def _out(self, y: Tensor, gate: Tensor) -> Tensor:
        """Gate and project; the scan's fp32 goes back to the type of the weights."""
        return self.out_proj((y * F.silu(gate)).to(self.out_proj.weight.dtype))

    def _only_direction(self) -> Direction:
        if len(self.directions) == 2:
            raise ValueError(
                "a bidirectional Mamba needs the whole sequence; call forward, or build it with one direction"
            )
        return cast(Direction, self.directions[0])


class Direction(nn.Module):
    """Causal convolution, then the selective scan with parameters made of its output. (B, L, D) -> (B, L, D)"""

    def __init__(self, channels: int, state: int, kernel_size: int, rank: int) -> None:
        super().__init__()
        self.rank, self.state = rank, state
        self.conv = nn.Conv1d(channels, channels, kernel_size, groups=channels)
        self.x_proj = nn.Linear(channels, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        self.A_log = nn.Parameter(torch.arange(1, state + 1, dtype=torch.float32).log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        # Step sizes begin between 0.001 and 0.1, evenly in their logarithm; the bias is softplus' inverse of them.
        steps = torch.exp(torch.empty(channels).uniform_(-6.9, -2.3))
        with torch.no_grad():  # a copy: loading builds the module on the meta device first
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def forward(self, u: Tensor) -> Tensor:
        return self._run(self._pad(u, self._empty_window(len(u))), None)[0]

    def start(self, batch: int) -> State:
        """The state before the first position."""
        return State(self._empty_window(batch), self.A_log.new_zeros(batch, *self.A_log.shape, dtype=torch.float32))

    def step(self, u: Tensor, state: State) -> tuple[Tensor, State]:
        """The next positions of a stream: output (B, L, D), and the state after them."""
        padded = self._pad(u, state.window)
        y, h = self._run(padded, state.h)
        return y, State(padded[..., u.shape[1] :].clone(), h)  # a view would hold the whole piece

    def _empty_window(self, batch: int) -> Tensor:
        channels, _, kernel_size = self.conv.weight.shape
        return self.conv.weight.new_zeros(batch, channels, kernel_size - 1)

    def _pad(self, u: Tensor, window: Tensor) -> Tensor:
        """(B, L, D) -> (B, D, kernel_size - 1 + L)"""
        return torch.cat([window.to(u.dtype), u.transpose(1, 2)], dim=-1)

    def _run(self, padded: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        u = F.silu(self.conv(padded).transpose(1, 2).contiguous())  # one copy, where each use would make its own
        low_rank, B, C = self.x_proj(u).split([self.rank, self.state, self.state], dim=-1)
        with torch.autocast(u.device.type, enabled=False):
            dt_weight, dt_bias = self.dt_proj.weight.float(), self.dt_proj.bias.float()
            delta = F.softplus(F.linear(low_rank.float(), dt_weight, dt_bias))
            y, h = selective_scan(u.float(), delta, -self.A_log.float().exp(), B.float(), C.float(), h)
        return y + self.D * u, h
