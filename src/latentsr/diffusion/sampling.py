"""From noise to latents: a scheduler of diffusers and a denoiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
)
from torch import Tensor

Denoiser: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # (noisy latents, time step (B,)) -> velocity

# Every offered scheduler is safe at zero terminal SNR: it starts at pure noise without dividing by the signal.
ZERO_SNR: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
}
# By what the network predicts: v on the cosine schedule, or the velocity of the straight path.
SCHEDULERS: dict[str, type[SchedulerMixin]] = {"ddim": DDIMScheduler, "dpmsolver++": DPMSolverMultistepScheduler}
FLOW_SCHEDULERS: dict[str, type[SchedulerMixin]] = {"flow-euler": FlowMatchEulerDiscreteScheduler}

GUIDANCE_RESCALE = 0.7


def training_scheduler() -> DDIMScheduler:
    """Cosine schedule (Nichol & Dhariwal 2021) rescaled to zero terminal SNR (Lin et al. 2024), v-prediction."""
    return DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False, set_alpha_to_one=True, **ZERO_SNR)


def flow_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Euler steps along the straight path of rectified flow, times 0 (data) to 1000 (noise)."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=ZERO_SNR["num_train_timesteps"])


class Objective(Protocol):
    """A path from data to noise, and what the denoiser predicts on it."""

    scheduler: SchedulerMixin  # how a trained network is sampled
    schedulers: Mapping[str, type[SchedulerMixin]]  # that can follow the path

    def times(self, share: Tensor) -> Tensor:
        """What the network is told (B,) at a share (B,) of the way from data (0) to noise (1)."""

    def diffuse(self, x0: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Point of the path at the times (B,), and the network's target there; both as `x0` (B, ...)."""


class Velocity:
    """v-prediction (Salimans & Ho 2022): x_t = alpha x0 + sigma noise, v = alpha noise - sigma x0."""

    schedulers: Mapping[str, type[SchedulerMixin]] = SCHEDULERS

    def __init__(self) -> None:
        self.scheduler = training_scheduler()

    def times(self, share: Tensor) -> Tensor:
        count = self.scheduler.config.num_train_timesteps
        return (count * share).long().clamp(max=count - 1)

    def diffuse(self, x0: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.scheduler.add_noise(x0, noise, t), self.scheduler.get_velocity(x0, noise, t)


class Flow:
    """Flow matching on straight paths (Lipman et al. 2023, Liu et al. 2023): x_t = (1 - t) x0 + t noise, v = dx/dt."""

    schedulers: Mapping[str, type[SchedulerMixin]] = FLOW_SCHEDULERS

    def __init__(self) -> None:
        self.scheduler = flow_scheduler()

    def times(self, share: Tensor) -> Tensor:
        return share * self.scheduler.config.num_train_timesteps

    def diffuse(self, x0: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        share = (t / self.scheduler.config.num_train_timesteps).view(-1, *[1] * (x0.ndim - 1))
        return (1 - share) * x0 + share * noise, noise - x0


OBJECTIVES: dict[str, type[Objective]] = {"velocity": Velocity, "flow": Flow}


def sample(denoiser: Denoiser, noise: Tensor, scheduler: SchedulerMixin, steps: int) -> Tensor:
    """Run the scheduler from `noise` (B, Z, l, m) in `steps` evaluations of the denoiser."""
    set_steps(scheduler, steps, noise.device)
    # Those of flow matching know neither of the two scales.
    x = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    scaled = getattr(scheduler, "scale_model_input", lambda x, _: x)
    for t in scheduler.timesteps:
        v = denoiser(scaled(x, t), t.expand(x.shape[0]))
        x = scheduler.step(v, t, x).prev_sample
    return x


def set_steps(scheduler: SchedulerMixin, steps: int, device: torch.device) -> None:
    """Have the scheduler take exactly `steps` steps.

    Trailing times are counted down in floats, which for 62 of the counts up to 1000 (61, 103, ...) leaves one more,
    at the time -1. diffusers' own times of a flow end a thousandth before the data, which wastes an evaluation.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        scheduler.set_timesteps(sigmas=torch.linspace(1, 0, steps + 1)[:-1].tolist(), device=device)
        return
    scheduler.set_timesteps(steps, device=device)
    if len(scheduler.timesteps) > steps:
        times = scheduler.timesteps[:steps]
        if isinstance(scheduler, DPMSolverMultistepScheduler):
            scheduler.set_timesteps(timesteps=times.tolist(), device=device)  # it derives noise levels from them
        else:
            scheduler.timesteps = times


def guided(conditional: Tensor, unconditional: Tensor, scale: float, rescale: float = GUIDANCE_RESCALE) -> Tensor:
    """Classifier-free guidance with the standard deviation partly brought back (Lin et al. 2024, eqs. 14-16)."""
    v = unconditional + scale * (conditional - unconditional)
    axes = tuple(range(1, v.ndim))
    matched = v * (conditional.std(dim=axes, keepdim=True) / v.std(dim=axes, keepdim=True).clamp(min=1e-8))
    return rescale * matched + (1 - rescale) * v
