"""The cutoff estimate as ONNX has it: the Kalman filter of `signal/passband.py` as a `Scan` over the bands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan

from latentsr.export.scan import softplus
from latentsr.signal import passband
from latentsr.signal.passband import DB, DRIFT_DB2, FLOOR_DB2, GRAIN_DB2, SLOPE_DB, START_DB2, TAIL


@contextmanager
def filters_for_export() -> Iterator[None]:
    """Within, the estimate is traced as ONNX wants it; its results stay what they are, but for rounding."""
    original = passband._log_likelihood, passband._highest_from, passband._first_at_least
    passband._log_likelihood, passband._highest_from, passband._first_at_least = (
        log_likelihood, highest_from, first_at_least
    )  # fmt: skip
    try:
        yield
    finally:
        passband._log_likelihood, passband._highest_from, passband._first_at_least = original


def log_likelihood(bands_db: Tensor, floor_db: Tensor, gain_db: Tensor, jump: float = 0.0) -> Tensor:
    """What `passband._log_likelihood` computes, whose docstring explains it; the loop is not unrolled."""
    bands = (bands_db.T[..., None] - floor_db) / DB
    gain_db = gain_db + (floor_db[:1] - floor_db)
    losses = torch.arange(len(bands), device=bands.device)[:, None, None] * (-SLOPE_DB / DB) - gain_db / DB
    bands, losses = torch.broadcast_tensors(bands, losses)  # within the loop, tracing takes sizes of 1 for any size

    def step(carry: tuple[Tensor, Tensor], at: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, Tensor], Tensor]:
        (state, variance), (band, loss) = carry, at
        log_floor_share = -softplus(-state - loss)  # onnxruntime's sigmoid ends at 0, whose logarithm is none
        slope = 1 - log_floor_share.exp()
        error = log_floor_share + band
        moved = slope * variance
        spread = FLOOR_DB2 / DB**2 + GRAIN_DB2 / DB**2 * slope * slope + slope * moved
        scale = spread + (error.square() - spread) / (TAIL + 1)
        doubted = torch.maximum(scale, spread)
        gain = moved / doubted
        variance = variance - gain * moved + DRIFT_DB2 / DB**2 + jump * slope * (doubted - spread)
        likelihood = TAIL / 2 * spread.log() - (TAIL + 1) / 2 * scale.log()
        return (state - gain * error, variance), likelihood

    state = -bands[0]
    return scan(step, (state, torch.full_like(state, START_DB2 / DB**2)), (bands, losses))[1].sum(0)


def highest_from(x: Tensor) -> Tensor:
    """The largest value at each place or behind it. (B, K) -> (B, K)"""
    ahead = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(-1)  # (place, others): those before it
    return x[:, None].masked_fill(ahead, -1e30).amax(-1)


def first_at_least(ascending: Tensor, values: Tensor) -> Tensor:
    """How many of (N,) are smaller than each of (B,). -> (B,)"""
    return (ascending < values[:, None]).sum(-1)
