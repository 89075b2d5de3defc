"""The scan of Mamba-2 (state space duality, Dao & Gu 2024, arXiv 2405.21060): matrix products only.

Channels come in H heads of P; a head has one decay, where Mamba has one for each channel and state (D x N). That makes
a chunk of positions a masked attention, and what is left between chunks is one step per chunk. The other letters are
those of `models/ssm.py`; of one sequence and head:

    u        (L, P)  input
    Δ delta  (L)     step size, > 0
    A        ()      decay, < 0
    B, C     (L, N)  shared by the heads
    h        (N, P)  states

    h_t = exp(Δ_t A) h_(t-1) + Δ_t B_t u_t^T      (eq. 16 with the discretisation of Mamba)
    y_t = C_t^T h_t
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def ssd_reference(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The recurrence a position at a time. Shapes as in `ssd_scan`."""
    heads = u.unflatten(-1, (len(A), -1))
    h = u.new_zeros(len(u), len(A), B.shape[-1], heads.shape[-1]) if h is None else h
    y = []
    for t in range(u.shape[1]):
        entering = (delta[:, t, :, None] * heads[:, t]).unsqueeze(2)  # (B, H, 1, P)
        h = torch.exp(delta[:, t] * A)[:, :, None, None] * h + B[:, t, None, :, None] * entering
        y.append(torch.matmul(C[:, t, None, None, :], h).flatten(1))
    return torch.stack(y, dim=1), h


def ssd_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor | None = None, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Run the recurrence from the states `h`.

    Args:
        u: (B, L, D) input; D is divided among the H heads in order.
        delta: (B, L, H) step sizes.
        A: (H,) decays.
        B: (B, L, N) input to states.
        C: (B, L, N) states to output.
        h: (B, H, N, P) states to begin with, P = D / H; None: zeros.
        chunk: positions worked on together, which changes time and memory but not the result. None: N, at least 32:
            then what is kept for the backward grows with L x (D + H N), not with L x D x N.

    Returns:
        Output (B, L, D), and the states (B, H, N, P) after the last position.
    """
    length, chunk = u.shape[1], chunk or max(B.shape[-1], 32)
    # Zeros at the end: a step size of 0 neither decays the states nor adds to them.
    u, delta, B, C = (F.pad(x, (0, 0, 0, -length % chunk)).unflatten(1, (-1, chunk)) for x in (u, delta, B, C))
    u = (u.unflatten(-1, (len(A), -1)) * delta.unsqueeze(-1)).transpose(2, 3)  # Δ u (B, chunks, H, S, P)
    exponent = (delta * A).transpose(2, 3).cumsum(dim=-1)  # (B, chunks, H, S): of the decay since the chunk's start
    B, C = B.unsqueeze(2), C.unsqueeze(2)  # (B, chunks, 1, S, N)

    # Within the chunk, S x S: position i reads what entered at j <= i, decayed since (eq. 20).
    future = torch.ones(chunk, chunk, dtype=torch.bool, device=u.device).triu(1)
    decay = (exponent.unsqueeze(-1) - exponent.unsqueeze(-2)).masked_fill(future, -torch.inf).exp()
    y = torch.matmul(torch.matmul(C, B.transpose(-1, -2)) * decay, u)

    # From chunk to chunk: what each adds to the states by its end, then one step of the recurrence per chunk.
    whole = exponent[..., -1:]
    added = torch.matmul(B.transpose(-1, -2), u * (whole - exponent).exp().unsqueeze(-1))  # (B, chunks, H, N, P)
    h = torch.zeros_like(added[:, 0]) if h is None else h
    before = []
    for decay_c, added_c in zip(whole.exp().unsqueeze(-1).unbind(1), added.unbind(1), strict=True):
        before.append(h)
        h = decay_c * h + added_c
    y = y + torch.matmul(C, torch.stack(before, dim=1)) * exponent.exp().unsqueeze(-1)
    return y.transpose(2, 3).flatten(3).flatten(1, 2)[:, :length], h
