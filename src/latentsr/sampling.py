"""From noise to latents: a scheduler of diffusers, a denoiser, and noise that belongs to absolute time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, SchedulerMixin
from torch import Tensor

Denoiser: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # (noisy latents, time step (B,)) -> velocity

# Every offered scheduler is safe at zero terminal SNR: it starts at pure noise without dividing by the signal.
ZERO_SNR: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
}
SCHEDULERS: dict[str, type[SchedulerMixin]] = {"ddim": DDIMScheduler, "dpmsolver++": DPMSolverMultistepScheduler}

NOISE_BLOCK = 64  # latent frames drawn with one generator


def training_scheduler() -> DDIMScheduler:
    """Cosine schedule (Nichol & Dhariwal 2021) rescaled to zero terminal SNR (Lin et al. 2024), v-prediction."""
    return DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False, set_alpha_to_one=True, **ZERO_SNR)


def sample(
    denoiser: Denoiser,
    noise: Tensor,
    scheduler: SchedulerMixin,
    steps: int,
    on_step: Callable[[], None] | None = None,
) -> Tensor:
    """Run the scheduler from `noise` (B, Z, l, m) in `steps` evaluations of the denoiser."""
    set_steps(scheduler, steps, noise.device)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        v = denoiser(scheduler.scale_model_input(x, t), t.expand(x.shape[0]))
        x = scheduler.step(v, t, x).prev_sample
        if on_step is not None:
            on_step()
    return x


def set_steps(scheduler: SchedulerMixin, steps: int, device: torch.device) -> None:
    """Have the scheduler take exactly `steps` steps.

    Trailing times are counted down in floats, which for 62 of the counts up to 1000 (61, 103, ...) leaves one more,
    at the time -1.
    """
    scheduler.set_timesteps(steps, device=device)
    if len(scheduler.timesteps) > steps:
        times = scheduler.timesteps[:steps]
        if isinstance(scheduler, DPMSolverMultistepScheduler):
            scheduler.set_timesteps(timesteps=times.tolist(), device=device)  # it derives noise levels from them
        else:
            scheduler.timesteps = times


def guided(conditional: Tensor, unconditional: Tensor, scale: float, rescale: float = 0.7) -> Tensor:
    """Classifier-free guidance with the standard deviation partly brought back (Lin et al. 2024, eqs. 14-16)."""
    v = unconditional + scale * (conditional - unconditional)
    axes = tuple(range(1, v.ndim))
    matched = v * (conditional.std(dim=axes, keepdim=True) / v.std(dim=axes, keepdim=True).clamp(min=1e-8))
    return rescale * matched + (1 - rescale) * v


def absolute_noise(seed: int, first: int, frames: int, channels: int, rows: int) -> Tensor:
    """Standard normal noise (channels, frames, rows) of the latent frames from `first` on.

    It depends on the seed and on the absolute frame alone, so that overlapping windows and every channel of a
    recording get the same.
    """
    blocks = []
    for block in range(first // NOISE_BLOCK, (first + frames - 1) // NOISE_BLOCK + 1):
        # Windows may begin before the recording does: negative blocks get seeds of their own.
        generator = torch.Generator().manual_seed((seed * 1_000_003 + block) % (2**63))
        blocks.append(torch.randn(channels, NOISE_BLOCK, rows, generator=generator))
    start = first - (first // NOISE_BLOCK) * NOISE_BLOCK
    return torch.cat(blocks, dim=1)[:, start : start + frames]
