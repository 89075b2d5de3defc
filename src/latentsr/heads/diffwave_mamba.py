"""The DiffWave-Mamba head: a few steps of diffusion make the band above the cutoff, straight from the low band."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from latentsr.config import AUDIO, AudioConfig
from latentsr.models.diffwave_mamba import LATENT_FRAMES, DiffWaveMamba
from latentsr.models.mdct import MDCT
from latentsr.sampling import absolute_noise, noises, sample, training_scheduler

STEPS = 5  # a divisor of the 1000 of training: six leave 2 % of noise, as diffusers rounds times and strides apart
MIN_STEPS, MAX_STEPS = 2, 1000  # in one step from pure noise comes the mean of all waves, which is silence


class DiffWaveMambaHead:
    """Diffuse the coefficients above the cutoff and add their wave to the low band.

    Nothing is made below the cutoff: `keep_known` changes nothing here, and the pipeline refuses `denoise`. The ends of
    a window lack the overlap of their neighbours, half a frame of the MDCT; that lies within `context_frames`.
    """

    components: ClassVar[tuple[str, ...]] = ("diffwave_mamba",)
    needs_latents: ClassVar[bool] = False
    takes_steps: ClassVar[bool] = True
    can_denoise: ClassVar[bool] = False
    context_frames = 64

    def __init__(
        self, diffwave_mamba: DiffWaveMamba, audio: AudioConfig = AUDIO, device: torch.device | None = None
    ) -> None:
        self.network = diffwave_mamba
        self.audio = audio
        self.device = diffwave_mamba.device if device is None else device
        self.dtype = diffwave_mamba.dtype
        self.mdct = MDCT(diffwave_mamba.config.bands).to(self.device)
        self.scheduler = training_scheduler()
        if audio.hop_length % self.mdct.bands:  # windows would begin between frames, and draw other noise
            raise ValueError(f"{self.mdct.bands} bands do not divide the hop of {audio.hop_length} samples")

    def __call__(self, low: Tensor, cutoff_hz: Tensor, latents: Tensor | None = None, **options: Any) -> Tensor:
        return self.decode(low, cutoff_hz, latents, **options)[0]

    def decode(
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
        noise_mix: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        steps = STEPS if steps is None else steps
        if not MIN_STEPS <= steps <= MAX_STEPS:
            raise ValueError(f"steps of the diffwave-mamba head must be {MIN_STEPS} to {MAX_STEPS}, got {steps}")
        mel_frames = low.shape[-1] // self.audio.hop_length
        if latents is not None and latents.shape[2] * LATENT_FRAMES != mel_frames:
            raise ValueError(
                f"{latents.shape[2]} latent frames are not {mel_frames} mel frames / {LATENT_FRAMES}; "
                "these latents are of another VAE"
            )
        seed = 0 if generator is None else int(torch.randint(2**62, (), generator=generator))
        bands = self.mdct.bands
        first, frames = first_frame * self.audio.hop_length // bands, low.shape[-1] // bands + 1

        def draw(source: int) -> Tensor:
            return absolute_noise(seed, first, frames, 1, bands, source)

        noise = noises(noise_mix, len(low), draw)
        if self.device.type == "cpu":  # where a batch saves no time, but holds all its channels in memory
            given = [None] * len(low) if latents is None else latents.split(1)
            parts = zip(low.split(1), cutoff_hz.split(1), given, noise, strict=True)
            return torch.cat([self._restore(*part, steps) for part in parts]), None
        return self._restore(low, cutoff_hz, latents, torch.cat(list(noise)).to(low.device), steps), None

    def _restore(self, low: Tensor, cutoff_hz: Tensor, latents: Tensor | None, noise: Tensor, steps: int) -> Tensor:
        coefficients = self.mdct(low.float())
        made = diffuse(self.network, self.scheduler, coefficients, cutoff_hz, noise, steps, latents)
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
