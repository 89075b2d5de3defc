"""The DiffWave-Mamba head: a few steps of diffusion make the band above the cutoff, straight from the low band."""

from __future__ import annotations

from typing import ClassVar

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from latentsr.config import AUDIO, AudioConfig
from latentsr.models.diffwave_mamba import DiffWaveMamba
from latentsr.models.mdct import MDCT
from latentsr.sampling import absolute_noise, sample, training_scheduler

STEPS = 5  # a divisor of the 1000 of training: six leave 2 % of noise, as diffusers rounds times and strides apart
MAX_STEPS = 1000


class DiffWaveMambaHead:
    """Diffuse the coefficients above the cutoff and add their wave to the low band."""

    components: ClassVar[tuple[str, ...]] = ("diffwave_mamba",)
    needs_latents: ClassVar[bool] = False
    takes_steps: ClassVar[bool] = True
    context_frames = 40

    def __init__(
        self, diffwave_mamba: DiffWaveMamba, audio: AudioConfig = AUDIO, device: torch.device | None = None
    ) -> None:
        self.network = diffwave_mamba
        self.audio = audio
        self.device = diffwave_mamba.device if device is None else device
        self.dtype = diffwave_mamba.dtype
        self.mdct = MDCT(diffwave_mamba.config.bands).to(self.device)
        self.scheduler = training_scheduler()

    def __call__(
        self,
        low: Tensor,
        cutoff_hz: Tensor,
        latents: Tensor | None = None,
        *,
        steps: int | None = None,
        generator: torch.Generator | None = None,
        keep_known: bool = True,
        ignored: tuple[int, int] = (0, 0),
        first_frame: int = 0,
    ) -> Tensor:
        steps = STEPS if steps is None else steps
        if not 1 <= steps <= MAX_STEPS:
            raise ValueError(f"steps must be 1 to {MAX_STEPS}, got {steps}")
        seed = 0 if generator is None else int(torch.randint(2**62, (), generator=generator))
        coefficients = self.mdct(low.float())
        frames, bands = coefficients.shape[1:]
        first = first_frame * self.audio.hop_length // bands
        noise = absolute_noise(seed, first, frames, 1, bands).expand(low.shape[0], -1, -1)
        made = diffuse(self.network, self.scheduler, coefficients, cutoff_hz, noise.to(low.device), steps, latents)
        return low + self.mdct.inverse(made)


def diffuse(
    network: DiffWaveMamba,
    scheduler: SchedulerMixin,
    low: Tensor,
    cutoff_hz: Tensor,
    noise: Tensor,
    steps: int,
    latents: Tensor | None = None,
) -> Tensor:
    """Coefficients of what is missing above the cutoff.

    Args:
        network: the denoiser and its prior.
        scheduler: the schedule that the network was trained on.
        low: (B, L, N) coefficients of the low band.
        cutoff_hz: (B,) its end.
        noise: (B, L, N) of unit variance.
        steps: evaluations of the denoiser.
        latents: (B, Z, l, m) of the pipeline, for a network that was trained with them.

    Returns:
        (B, L, N), 0 below the cutoff.
    """
    condition = network.condition(low, cutoff_hz, latents)
    start = noise / kept_amplitude(scheduler, steps)
    whitened = sample(lambda x, t: network(x, t, condition), start, scheduler, steps)
    return whitened * condition.scale


def kept_amplitude(scheduler: SchedulerMixin, steps: int) -> float:
    """What so many steps leave of noise that the denoiser cannot foretell, i.e. at zero velocity.

    Few large steps shrink it (five of DDIM to 0.78), and with it the loudness of hiss and sibilants; noise that is
    divided by this comes out at unit variance. A known wave comes out the same from any noise.
    """
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    return float(sample(lambda x, _: torch.zeros_like(x), one, scheduler, steps))
