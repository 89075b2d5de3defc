"""The DiffWave-Mamba head: a few steps of diffusion make the band above the cutoff, straight from the low band."""

from __future__ import annotations

from functools import partial

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.diffusion.sampling import sample, training_scheduler
from latentsr.head_kinds import HEADS
from latentsr.heads.base import Head, LowBand
from latentsr.models.diffwave_mamba import LATENT_FRAMES, Condition, DiffWaveMamba
from latentsr.models.mdct import MDCT
from latentsr.signal.noise import absolute_noise, noises

STEPS = 5  # a divisor of the 1000 of training: six leave 2 % of noise, as diffusers rounds times and strides apart
MIN_STEPS, MAX_STEPS = HEADS["diffwave-mamba"].steps


class DiffWaveMambaHead(Head):
    """Diffuse the coefficients above the cutoff and add their wave to the low band.

    Nothing is made below the cutoff: `keep_known` changes nothing here. The ends of a window lack the overlap of their
    neighbours, half a frame of the MDCT; that lies within `context_frames`.
    """

    context_frames = 64

    def __init__(self, diffwave_mamba: DiffWaveMamba, device: torch.device | None = None) -> None:
        self.network = diffwave_mamba
        self.device = diffwave_mamba.device if device is None else device
        self.dtype = diffwave_mamba.dtype
        self.mdct = MDCT(diffwave_mamba.config.bands).to(self.device)
        self.scheduler = training_scheduler()
        if AUDIO.hop_length % self.mdct.bands:  # windows would begin between frames, and draw other noise
            raise ValueError(f"{self.mdct.bands} bands do not divide the hop of {AUDIO.hop_length} samples")

    def decode(self, low: LowBand) -> tuple[Tensor, Tensor | None]:
        steps = STEPS if low.steps is None else low.steps
        if not MIN_STEPS <= steps <= MAX_STEPS:
            raise ValueError(f"steps of the diffwave-mamba head must be {MIN_STEPS} to {MAX_STEPS}, got {steps}")
        if low.latents is not None:
            low.check_latents(low.latents, AUDIO.hop_length, LATENT_FRAMES)
        bands = self.mdct.bands
        first, frames = low.first_frame * AUDIO.hop_length // bands, low.wave.shape[-1] // bands + 1
        noise = noises(low.noise_mix, len(low.wave), partial(absolute_noise, low.seed, first, frames, 1, bands))
        if self.device.type == "cpu":  # where a batch saves no time, but holds all its channels in memory
            return torch.cat([self._restore(part, next(noise), steps) for part in low.split(1)]), None
        return self._restore(low, torch.cat(list(noise)).to(low.wave.device), steps), None

    def _restore(self, low: LowBand, noise: Tensor, steps: int) -> Tensor:
        coefficients = self.mdct(low.wave.float())
        condition = self.network.condition(coefficients, low.cutoff_hz, low.latents)
        made = diffuse(self.network, self.scheduler, condition, noise, steps)
        return low.wave + self.mdct.inverse(made)


def diffuse(
    network: DiffWaveMamba, scheduler: SchedulerMixin, condition: Condition, noise: Tensor, steps: int
) -> Tensor:
    """Coefficients of what is missing above the cutoff.

    Args:
        network: the denoiser and its prior.
        scheduler: the schedule that the network was trained on.
        condition: what `network.condition` makes of the low band.
        noise: (B, L, N) of unit variance.
        steps: evaluations of the denoiser.

    Returns:
        (B, L, N), 0 below the cutoff.
    """
    start = noise / (kept_amplitude(scheduler, steps) or 1.0)
    whitened = sample(lambda x, t: network(x, t, condition), start, scheduler, steps)
    return whitened * condition.scale


def kept_amplitude(scheduler: SchedulerMixin, steps: int) -> float:
    """What so many steps leave of noise that the denoiser cannot foretell, i.e. at zero velocity.

    Few large steps shrink it (five of DDIM to 0.78), and with it the loudness of hiss and sibilants; noise that is
    divided by this comes out at unit variance. A known wave comes out the same from any noise. One step leaves 0.
    """
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    return float(sample(lambda x, _: torch.zeros_like(x), one, scheduler, steps))
