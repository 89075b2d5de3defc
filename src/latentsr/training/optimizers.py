"""What moves the weights: AdamW and a learning rate for each phase, gradients shared by processes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from accelerate import Accelerator
from torch import nn

from latentsr.training.stage import OptimizerConfig, Stage, StageConfig


def learning_rate_factor(config: OptimizerConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a half cosine down to `final_rate`."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    decay = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return warmup * (config.final_rate + (1 - config.final_rate) * decay)


def learning_rates(config: StageConfig, phases: Iterable[str], step: int) -> dict[str, float]:
    """Of a step, by phase."""
    optimizer, factor = config.optimizer, learning_rate_factor(config.optimizer, step, config.steps)
    return {phase: optimizer.learning_rate * optimizer.phase_rates.get(phase, 1.0) * factor for phase in phases}


def build_optimizer(stage: Stage, phase: str) -> torch.optim.Optimizer:
    """AdamW; biases, norms and scales are not decayed."""
    config = stage.config.optimizer
    parameters = [p for network in stage.networks(phase) for p in network.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)


def average_gradients(parameters: list[nn.Parameter], accelerator: Accelerator) -> None:
    """Mean over the processes, in one message: the same gradients as one process with the whole batch."""
    if accelerator.num_processes == 1:
        return
    flat = accelerator.reduce(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]), "mean")
    offset = 0
    for p in parameters:
        p.grad = flat[offset : offset + p.numel()].view_as(p).clone()
        offset += p.numel()
