"""Learning rate over steps."""

from __future__ import annotations

import math

from latentsr.training.stage import OptimizerConfig


def learning_rate_factor(config: OptimizerConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a half cosine down to `final_rate`."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    decay = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return warmup * (config.final_rate + (1 - config.final_rate) * decay)
