"""The cutoff estimate as ONNX has it: the Kalman filter of `signal/passband.py` as a `Scan` over the bands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from latentsr.export.loops import DOMAIN
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
    bands, losses = torch.broadcast_tensors(bands, losses)
    state = -bands[0]
    variance = torch.full_like(state, START_DB2 / DB**2)
    numbers = (
        GRAIN_DB2 / DB**2, FLOOR_DB2 / DB**2, 1 / (TAIL + 1), DRIFT_DB2 / DB**2, jump, TAIL / 2, (TAIL + 1) / 2
    )  # fmt: skip
    constants = [torch.tensor(number) for number in numbers]
    return cast(Tensor, _KalmanFilter.apply(state, variance, bands, losses, *constants)).sum(0)


class _KalmanFilter(torch.autograd.Function):
    """The loop, traced as one node; its body in `loops.py` is what a graph computes."""

    @staticmethod
    def forward(
        ctx: Any, state: Tensor, variance: Tensor, bands: Tensor, losses: Tensor, grain: Tensor, floor: Tensor,
        doubt: Tensor, drift: Tensor, jump: Tensor, spread_weight: Tensor, scale_weight: Tensor,
    ) -> Tensor:  # fmt: skip
        likelihoods = []
        for band, loss in zip(bands, losses, strict=True):
            log_share = -softplus(-state - loss)
            slope, error = 1 - log_share.exp(), log_share + band
            moved = slope * variance
            spread = floor + grain * slope * slope + slope * moved
            scale = spread + (error.square() - spread) * doubt
            doubted = torch.maximum(scale, spread)
            gain = moved / doubted
            state = state - gain * error
            variance = variance - gain * moved + drift + jump * slope * (doubted - spread)
            likelihoods.append(spread_weight * spread.log() - scale_weight * scale.log())
        return torch.stack(likelihoods)

    @staticmethod
    def symbolic(g: Any, *inputs: Any) -> Any:
        return g.op(f"{DOMAIN}::KalmanFilter", *inputs).setType(inputs[2].type())


def highest_from(x: Tensor) -> Tensor:
    """The largest value at each place or behind it. (B, K) -> (B, K)"""
    ahead = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(-1)  # (place, others): those before it
    return x[:, None].masked_fill(ahead, -1e30).amax(-1)


def first_at_least(ascending: Tensor, values: Tensor) -> Tensor:
    """How many of (N,) are smaller than each of (B,). -> (B,)"""
    return (ascending < values[:, None]).sum(-1)
