"""The selective scan in three backends: the reference, a chunked one in plain torch, and mamba-ssm's kernel.

The letters are those of `models/ssm.py`. Which backend runs is picked at run time; all give the same result.
The kernel's layout and behaviour are taken from its published source and tested with a stand-in: it was never run here.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

logger = logging.getLogger(__name__)

CHUNK_ELEMENTS = 2**19  # states of one chunk, all together: few enough for a CPU's cache, enough for whole operations
# States of one position; sequences beyond it wait their turn. Half of it is what torch divides between two threads.
POSITION_ELEMENTS = 2**16
KERNEL_DEVICE = "cuda"
KERNEL_STATES = 256  # the most that mamba-ssm's kernel takes

Scan = Callable[..., Tensor]
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # u, delta, A, B, C, as in `selective_scan`


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    backend: str | None = None,
) -> Tensor:
    """Run the recurrence from states of zero.

    Args:
        u: (B, L, D) input.
        delta: (B, L, D) step sizes.
        A: (D, N) decays.
        B: (B, L, N) input to states.
        C: (B, L, N) states to output.
        backend: a name in `BACKENDS`. None: mamba-ssm's kernel where it can run, else the chunked one.

    Returns:
        (B, L, D).
    """
    if backend is None:
        backend = "cuda" if why_not_cuda(u, A) is None else "chunked"
    if backend not in BACKENDS:
        raise ValueError(f"no scan backend is called {backend!r}; there are {', '.join(BACKENDS)}")
    return BACKENDS[backend](u, delta, A, B, C)


def selective_scans(scans: Sequence[Inputs]) -> list[Tensor]:
    """`selective_scan` of several inputs of one shape: each has decays of its own."""
    u, _, A, _, _ = scans[0]
    return [scan_cuda(*each) for each in scans] if why_not_cuda(u, A) is None else scans_chunked(scans)


def scan_reference(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The recurrence as the paper writes it, a position at a time. Shapes as in `selective_scan`."""
    h, y = u.new_zeros(u.shape[0], *A.shape), []
    for u_t, delta_t, B_t, C_t in zip(*(x.unbind(1) for x in (u, delta, B, C)), strict=True):
        h = torch.exp(delta_t.unsqueeze(-1) * A) * h + (delta_t * u_t).unsqueeze(-1) * B_t.unsqueeze(1)
        y.append((h * C_t.unsqueeze(1)).sum(dim=-1))
    return torch.stack(y, dim=1)


# --- chunked ---------------------------------------------------------------------------------------------------------


def scan_chunked(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk: int | None = None) -> Tensor:
    """Whole operations over a chunk of positions; only the recurrence itself goes step by step.

    How many positions a `chunk` has changes time and memory, not the result; None: by their size.
    """
    return scans_chunked([(u, delta, A, B, C)], chunk)[0]


def scans_chunked(scans: Sequence[Inputs], chunk: int | None = None) -> list[Tensor]:
    """`scan_chunked` of K scans of one shape side by side: each operation is for all of them."""
    us, deltas, As, Bs, Cs = zip(*scans, strict=True)
    # Time first: (L, B, K, D); what belongs to a position lies together.
    u, delta, B, C = (torch.stack([x.transpose(0, 1) for x in same], dim=2) for same in (us, deltas, Bs, Cs))
    A = torch.stack([each.T for each in As])
    rows = max(min(POSITION_ELEMENTS // A.numel(), u.shape[1]), 1)
    if chunk is None:
        # The states at the borders are kept for the backward: with N positions or more between them that is L x D.
        # Without a backward a quarter of them is faster: decays and states stay in a CPU's second cache together.
        elements = CHUNK_ELEMENTS if torch.is_grad_enabled() else CHUNK_ELEMENTS // 4
        chunk = max(elements // (rows * A.numel()), A.shape[1])
    y = _ChunkedScan.apply(u, delta, A, B, C, max(min(chunk, len(u)), 1), rows)
    return [each.transpose(0, 1) for each in y.unbind(2)]


class _Chunk:
    """Room for one chunk, time first: decays (S, b, K, N, D), and states (S + 1, b, K, N, D) before and after a step.

    It is used again for every chunk: memory that is in the cache, and one view per position made once.
    """

    def __init__(self, A: Tensor, rows: int, size: int) -> None:
        self.decay = A.new_empty(size, rows, *A.shape)
        self.states = A.new_empty(size + 1, rows, *A.shape)
        self.decay_steps, self.state_steps = self.decay.unbind(0), self.states.unbind(0)
        self.state_steps[0].zero_()

    def run(self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decays, states before and after each of n <= S positions (n, b, K, N, D), and Δ u (n, b, K, D)."""
        n, by_step = len(u), delta * u
        decay = torch.mul(delta.unsqueeze(-2), A, out=self.decay[:n]).exp_()
        torch.mul(by_step.unsqueeze(-2), B.unsqueeze(-1), out=self.states[1 : n + 1])
        h = self.state_steps[0]
        for decay_t, state_t in zip(self.decay_steps[:n], self.state_steps[1 : n + 1], strict=True):
            h = state_t.addcmul_(decay_t, h)
        return decay, self.states[:n], self.states[1 : n + 1], by_step


class _ChunkedScan(torch.autograd.Function):
    """Keeps the states at the chunks' borders alone and computes the others again. u (L, B, K, D), A (K, N, D)"""

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *sizes: int) -> Tensor:
        chunk, sequences = sizes
        y = torch.empty_like(u)
        starts = range(0, len(u), chunk)
        keep = any(ctx.needs_input_grad)
        borders = A.new_empty(len(starts) if keep else 0, u.shape[1], *A.shape)
        for first in range(0, u.shape[1], sequences):
            rows = slice(first, first + sequences)
            work = _Chunk(A, u[:, rows].shape[1], chunk)
            for i, start in enumerate(starts):
                at = slice(start, start + chunk), rows
                if keep:
                    borders[i, rows] = work.state_steps[0]
                _, _, states, _ = work.run(u[at], delta[at], A, B[at])
                y[at] = torch.matmul(C[at].unsqueeze(-2), states).squeeze(-2)
                work.state_steps[0].copy_(states[-1])
        if keep:
            ctx.save_for_backward(u, delta, A, B, C, borders)
            ctx.chunk, ctx.sequences = chunk, sequences
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Adjoint: g_t = C_t dy_t + exp(Δ_(t+1) A) g_(t+1), the gradient of the loss by h_t, from the end on."""
        u, delta, A, B, C, borders = ctx.saved_tensors
        dy = dy.contiguous()
        du, ddelta, dB, dC = (torch.empty_like(x) for x in (u, delta, B, C))
        dA = torch.zeros_like(A)
        ones = A.new_ones(1, A.shape[1])
        for first in range(0, u.shape[1], ctx.sequences):
            rows = slice(first, first + ctx.sequences)
            work = _Chunk(A, u[:, rows].shape[1], ctx.chunk)
            room = torch.empty_like(work.decay)
            steps = room.unbind(0)
            by_decay = torch.zeros_like(work.decay)  # summed over chunks here, over positions once at the end
            g = torch.zeros_like(borders[0, rows])  # by the states after the chunk
            for i in reversed(range(len(borders))):
                at = slice(i * ctx.chunk, (i + 1) * ctx.chunk), rows
                n = len(u[at])
                work.state_steps[0].copy_(borders[i, rows])
                decay, before, states, by_step = work.run(u[at], delta[at], A, B[at])
                dC[at] = torch.matmul(dy[at].unsqueeze(-2), states.mT).squeeze(-2)
                grads = torch.mul(C[at].unsqueeze(-1), dy[at].unsqueeze(-2), out=room[:n])
                after = steps[n - 1].add_(g)
                for step, decay_t in zip(steps[: n - 1][::-1], work.decay_steps[1:n][::-1], strict=True):
                    after = step.addcmul_(decay_t, after)
                torch.mul(work.decay_steps[0], after, out=g)
                by_input = torch.matmul(B[at].unsqueeze(-2), grads).squeeze(-2)  # of the loss by Δ u
                dB[at] = torch.matmul(by_step.unsqueeze(-2), grads.mT).squeeze(-2)
                by_exponent = decay.mul_(before).mul_(grads)  # of the loss by Δ A
                by_decay[:n].addcmul_(by_exponent, delta[at].unsqueeze(-2))
                du[at] = delta[at] * by_input
                over_states = torch.matmul(ones, by_exponent.mul_(A)).squeeze(-2)
                ddelta[at] = torch.addcmul(over_states, u[at], by_input)
            dA += by_decay.sum(dim=(0, 1))
        return du, ddelta, dA, dB, dC, None, None


# --- mamba-ssm's kernel ----------------------------------------------------------------------------------------------


def scan_cuda(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """mamba-ssm's kernel."""
    problem = why_not_cuda(u, A)
    if problem is not None:
        raise RuntimeError(f"the scan backend 'cuda' cannot run: {problem}; or take backend='chunked'")
    kernel, _ = _kernel()
    assert kernel is not None  # why_not_cuda has asked
    return _call(kernel, u, delta, A, B, C)


def why_not_cuda(u: Tensor, A: Tensor) -> str | None:
    """What stands in the way of mamba-ssm's kernel and what helps; None: nothing."""
    if u.device.type != KERNEL_DEVICE:
        return f"the tensors are on {u.device}; move them to a CUDA device"
    if u.dtype != torch.float32:
        return f"it is used with float32, not with {u.dtype}; convert the tensors"
    if A.shape[1] > KERNEL_STATES:
        return f"it takes at most {KERNEL_STATES} states per channel, not {A.shape[1]}"
    return _kernel()[1]


@functools.cache
def _kernel() -> tuple[Scan | None, str | None]:
    """The kernel, or why there is none. It is tried on a few positions, once, and a broken one is logged, once."""
    try:
        kernel: Scan = importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
        x = torch.linspace(0.1, 1, 64, device=KERNEL_DEVICE).view(1, 8, 8)
        inputs = x, x, -x[0], x, x
        if not torch.allclose(_call(kernel, *inputs), scan_reference(*inputs), rtol=1e-3, atol=1e-3):
            raise ValueError("its results are not the recurrence's")
    except ModuleNotFoundError as error:
        if error.name == "mamba_ssm":
            return None, "mamba-ssm is not installed; pip install 'latentsr[mamba]'"
        problem: Exception = error
    except Exception as error:  # a build for another CUDA, torch or GPU fails in ways of its own
        problem = error
    else:
        return kernel, None
    what = " ".join(f"{type(problem).__name__}: {problem}".split())
    reason = f"mamba-ssm is installed but broken ({what}); install a build for this torch"
    logger.warning("The selective scan runs in plain torch: %s", reason)
    return None, reason


def _call(kernel: Scan, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """In the kernel's layout: time last."""
    return kernel(*(x.transpose(1, 2) if x.dim() == 3 else x for x in (u, delta, A, B, C))).transpose(1, 2)


BACKENDS: dict[str, Scan] = {
    "chunked": scan_chunked,
    "cuda": scan_cuda,
    "reference": scan_reference,
}
