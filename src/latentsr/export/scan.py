"""The Mamba block as ONNX has it: both directions in one `Scan`, a position at a time.

ONNX has no selective scan, but it has loops. Of the forms that were measured (docs/onnx.md) the plainest is among the
fastest in onnxruntime: a `Scan` over time whose body is the recurrence itself. The states, a few thousand numbers, stay
in the cache, any length needs the same graph and hardly any memory, and nothing is padded.

Tracing would unroll a loop to the length of the example. So it is an `autograd.Function`, traced as one node of our own
domain, and put in afterwards as a `Scan` whose body is written in ONNX' text form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import onnx
import torch
from onnx import helper, parser
from torch import Tensor
from torch.nn import functional as F

from latentsr.models.ssm import Direction, Mamba

DOMAIN = "latentsr"
# The state, what is scanned, then what is made; A is read from outside. The letters are those of `models/ssm.py`.
BODY = """
selective_scan (float[b,k,n,d] h, float[b,k,one,d] delta, float[b,k,one,d] entering, float[b,k,n,one] B,
                float[b,k,one,n] C) => (float[b,k,n,d] h_next, float[b,k,one,d] y) {
    exponent = Mul(delta, A)
    decay = Exp(exponent)
    kept = Mul(decay, h)
    added = Mul(B, entering)
    h_next = Add(kept, added)
    y = MatMul(C, h_next)
}
"""


@contextmanager
def scans_for_export() -> Iterator[None]:
    """Within, every Mamba block is traced as ONNX wants it; its results stay what they are, but for rounding."""
    kind: Any = Mamba
    original = kind.forward
    kind.forward = mamba_forward
    try:
        yield
    finally:
        kind.forward = original


def mamba_forward(block: Mamba, x: Tensor) -> Tensor:
    """What `Mamba.forward` computes. (B, L, channels) -> (B, L, channels)"""
    u, gate = block.in_proj(x).chunk(2, dim=-1)
    directions = cast("list[Direction]", list(block.directions))
    inputs = [u, u.flip(1)][: len(directions)]
    parts = [_parameters(direction, each) for direction, each in zip(directions, inputs, strict=True)]
    # Time first and the directions side by side: (L, B, directions, ...)
    u, delta, B, C = (torch.stack(each, dim=2).transpose(0, 1) for each in zip(*parts, strict=True))
    A = torch.stack([-direction.A_log.float().exp().T for direction in directions])  # (directions, N, D)
    y = recurrence(u, delta, A, B, C) + torch.stack([direction.D for direction in directions]) * u
    y = y.transpose(0, 1)
    made = y[:, :, 0] if len(directions) == 1 else y[:, :, 0] + y[:, :, 1].flip(1)
    return block._out(made, gate)


def recurrence(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """h_t = exp(Δ_t A) h_(t-1) + Δ_t B_t u_t, y_t = C_t h_t, in the letters of `models/ssm.py`.

    Args:
        u: (L, B, K, D) input of K directions.
        delta: (L, B, K, D) step sizes.
        A: (K, N, D) decays.
        B: (L, B, K, N) input to states.
        C: (L, B, K, N) states to output.

    Returns:
        (L, B, K, D).
    """
    h = u.new_zeros(u.shape[1], *A.shape)
    # Brought into shape before the loop, where each costs one operation and not one per position.
    at = delta.unsqueeze(3), (delta * u).unsqueeze(3), B.unsqueeze(4), C.unsqueeze(3)
    return cast(Tensor, _SelectiveScan.apply(h, *at, A)).squeeze(3)


class _SelectiveScan(torch.autograd.Function):
    """The loop, traced as one node."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, *inputs: Tensor) -> Tensor:
        *scanned, A = inputs
        y = []
        for delta_t, entering_t, B_t, C_t in zip(*scanned, strict=True):
            h = torch.exp(delta_t * A) * h + B_t * entering_t
            y.append(torch.matmul(C_t, h))
        return torch.stack(y)

    @staticmethod
    def symbolic(g: Any, *inputs: Any) -> Any:
        _, _, entering, *_ = inputs
        return g.op(f"{DOMAIN}::SelectiveScan", *inputs).setType(entering.type())


def put_loops(model: onnx.ModelProto) -> None:
    """Replace every stand-in of a model by its `Scan`, in place."""
    for number, node in enumerate(model.graph.node):
        if node.domain == DOMAIN:
            node.CopyFrom(_scan(node, f"scan_{number}"))
    kept = [each for each in model.opset_import if each.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _scan(stand_in: onnx.NodeProto, prefix: str) -> onnx.NodeProto:
    *inputs, decays = stand_in.input
    body = parser.parse_graph(BODY)

    def renamed(name: str) -> str:  # a name of a body may not be one of the graph around it
        return decays if name == "A" else f"{prefix}.{name}"

    for value in (*body.input, *body.output):
        value.name = renamed(value.name)
    for node in body.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    outputs = [f"{prefix}.last_state", *stand_in.output]
    return helper.make_node("Scan", inputs, outputs, name=prefix, body=body, num_scan_inputs=len(inputs) - 1)


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x); onnxruntime's own is four times slower than the operations it is made of."""
    return x.clamp(min=0) + torch.log(1 + torch.exp(-x.abs()))


def _parameters(direction: Direction, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """u, Δ, B and C of the scan. (B, L, D) -> 2 x (B, L, D), 2 x (B, L, N)"""
    padded = F.pad(u.transpose(1, 2), (direction.conv.kernel_size[0] - 1, 0))
    u = F.silu(direction.conv(padded).transpose(1, 2))
    low_rank, B, C = direction.x_proj(u).split([direction.rank, direction.state, direction.state], dim=-1)
    return u.float(), softplus(direction.dt_proj(low_rank).float()), B.float(), C.float()
