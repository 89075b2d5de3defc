"""Selective state spaces (Mamba, Gu & Dao 2023, arXiv 2312.00752): the scan in several backends, and its blocks.

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

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK_ELEMENTS = 2**18  # states of one chunk, all together: few enough for a CPU's cache, enough for whole operations


def scan_reference(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The recurrence as the paper writes it, a position at a time. Shapes as in `selective_scan`."""
    h = u.new_zeros(u.shape[0], *A.shape) if h is None else h
    y = []
    for t in range(u.shape[1]):
        decay = torch.exp(delta[:, t, :, None] * A)
        h = decay * h + (delta[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        y.append((h * C[:, t, None, :]).sum(dim=-1))
    return torch.stack(y, dim=1), h


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor | None = None, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Run the recurrence from the states `h`.

    Args:
        u: (B, L, D) input.
        delta: (B, L, D) step sizes.
        A: (D, N) decays.
        B: (B, L, N) input to states.
        C: (B, L, N) states to output.
        h: (B, D, N) states to begin with; None: zeros.
        chunk: positions worked on together, which changes time and memory but not the result; None: by their size.

    Returns:
        Output (B, L, D), and the states (B, D, N) after the last position.
    """
    h = u.new_zeros(u.shape[0], *A.shape) if h is None else h
    chunk = max(CHUNK_ELEMENTS // h.numel(), 2) if chunk is None else chunk
    y, last = _ChunkedScan.apply(
        *(x.transpose(0, 1) for x in (u, delta)), A.T, *(x.transpose(0, 1) for x in (B, C)), h.transpose(1, 2), chunk
    )
    return y.transpose(0, 1), last.transpose(1, 2)


def _states(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Decays and states (S, B, N, D) of one chunk, channels last: broadcasts then run along contiguous rows."""
    decay = (delta.unsqueeze(2) * A).exp_()
    states = (delta * u).unsqueeze(2) * B.unsqueeze(3)
    for decay_t, state_t in zip(decay.unbind(0), states.unbind(0), strict=True):
        h = state_t.addcmul_(decay_t, h)
    return decay, states


class _ChunkedScan(torch.autograd.Function):
    """Time first, channels last. Keeps the states at the chunks' borders alone and computes the others again."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        u, delta, A, B, C, h = (x.contiguous() for x in (u, delta, A, B, C, h))
        y = torch.empty_like(u)
        keep = any(ctx.needs_input_grad)
        borders = []
        for s in range(0, u.shape[0], chunk):
            part = slice(s, s + chunk)
            borders.append(h) if keep else None
            _, states = _states(u[part], delta[part], A, B[part], h)
            y[part] = torch.matmul(C[part].unsqueeze(2), states).squeeze(2)
            h = states[-1].clone()
        if keep:
            ctx.save_for_backward(u, delta, A, B, C, torch.stack(borders))
            ctx.chunk = chunk
        return y, h

    @staticmethod
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
        """Adjoint: g_t = C_t dy_t + exp(Δ_(t+1) A) g_(t+1), the gradient of the loss by h_t, from the end on."""
        u, delta, A, B, C, borders = ctx.saved_tensors
        dy = dy.contiguous()
        du, ddelta, dB, dC = (torch.empty_like(x) for x in (u, delta, B, C))
        dA = torch.zeros_like(A)
        g = dlast.clone()  # by the states after the chunk
        for i in reversed(range(len(borders))):
            part = slice(i * ctx.chunk, (i + 1) * ctx.chunk)
            U, S, Bp, dyp = u[part], delta[part], B[part], dy[part]
            decay, states = _states(U, S, A, Bp, borders[i])
            dC[part] = torch.matmul(states, dyp.unsqueeze(3)).squeeze(3)
            grads = C[part].unsqueeze(3) * dyp.unsqueeze(2)
            grads[-1] += g
            steps = grads.unbind(0)
            for t in range(len(steps) - 1, 0, -1):
                steps[t - 1].addcmul_(decay[t], steps[t])
            g = decay[0] * steps[0]
            by_input = torch.matmul(Bp.unsqueeze(2), grads).squeeze(2)  # of the loss by Δ u
            dB[part] = torch.matmul(grads, (S * U).unsqueeze(3)).squeeze(3)
            # exp(Δ A) h_(t-1), by which g is multiplied on its way to Δ A
            decay[0].mul_(borders[i])
            decay[1:].mul_(states[:-1])
            by_exponent = decay.mul_(grads)
            ddelta[part] = torch.addcmul((by_exponent * A).sum(dim=2), U, by_input)
            du[part] = S * by_input
            dA += torch.einsum("sbnd,sbd->nd", by_exponent, S)
        return du, ddelta, dA, dB, dC, g, None


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
        return self.out_proj(y * F.silu(gate))


class Direction(nn.Module):
    """Causal convolution, then the selective scan with parameters made of its output. (B, L, D) -> (B, L, D)"""

    def __init__(self, channels: int, state: int, kernel_size: int, rank: int) -> None:
        super().__init__()
        self.rank, self.state = rank, state
        self.conv = nn.Conv1d(channels, channels, kernel_size, groups=channels, padding=kernel_size - 1)
        self.x_proj = nn.Linear(channels, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        self.A_log = nn.Parameter(torch.arange(1, state + 1, dtype=torch.float32).log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        # Step sizes begin between 0.001 and 0.1, evenly in their logarithm; the bias is softplus' inverse of them.
        steps = torch.exp(torch.empty(channels).uniform_(-6.9, -2.3))
        self.dt_proj.bias.data = steps + torch.log(-torch.expm1(-steps))

    def forward(self, u: Tensor) -> Tensor:
        u = F.silu(self.conv(u.transpose(1, 2))[..., : u.shape[1]]).transpose(1, 2)
        low_rank, B, C = self.x_proj(u).split([self.rank, self.state, self.state], dim=-1)
        with torch.autocast(u.device.type, enabled=False):
            delta = F.softplus(self.dt_proj(low_rank.float()))
            y, _ = selective_scan(u.float(), delta, -self.A_log.float().exp(), B.float(), C.float())
        return y + self.D * u
