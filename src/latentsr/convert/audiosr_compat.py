"""The faithful mode: what audiosr 0.0.7 computes, stage by stage, with the networks passed in.

Its posterior is sampled, its DDIM stochastic (eta 1), its step counts peculiar, its unconditional input a log-mel
constant in latent space. Given the same noise every stage equals the original's within 1e-4; `tests/convert`
measures that against a recorded run. It fails where the original fails. Use the default mode unless you need this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.convert.audiosr import DEFAULTS
from latentsr.convert.audiosr_compat_signal import (
    energy_index,
    fails,
    find_cutoff_hz,
    front_end,
    low_pass,
    normalise,
    replace_low_band,
)
from latentsr.models.fastconv import ordinary_convolutions
from latentsr.signal.mel import MelSpectrogram

TRAIN_STEPS = 1000  # the last of which leaves no signal: zero terminal SNR
Velocity: TypeAlias = Callable[[Tensor, int], Tensor]  # (latents, t) -> v
UNCONDITIONAL = DEFAULTS["unconditional_latent"]  # in unscaled latent space; meant as silence, and trained so


@dataclass(frozen=True)
class Noises:
    """All standard normal draws of one run, in the order in which audiosr 0.0.7 draws them. Each (1, Z, l, m)."""

    discarded: Tensor  # for the posterior of the unfiltered mel, of which only the shape is used
    condition: Tensor  # for the posterior of the low-passed mel
    start: Tensor  # the sampler's first latents
    steps: Sequence[Tensor]  # one for each DDIM step, the last included

    @classmethod
    def draw(cls, shape: torch.Size, steps: int, seed: int) -> Noises:
        """The original's draws for `seed` when it runs on a CPU; on a GPU it takes some of them from there."""
        generator = torch.Generator().manual_seed(seed)
        first, second, third, *rest = (torch.randn(shape, generator=generator) for _ in range(3 + steps))
        return cls(first, second, third, rest)


@dataclass(frozen=True)
class Networks:
    """AudioSR's own: diffusers' `AutoencoderKL` with the condition encoder and the first stage's decoder, diffusers'
    `AudioLDM2UNet2DConditionModel`, transformers' `SpeechT5HifiGan`, and the noise schedule of the checkpoint."""

    vae: Any
    unet: Any
    vocoder: Any
    betas: Tensor | Sequence[float]  # (1000,)


@dataclass(frozen=True)
class Settings:
    """What can be asked of audiosr 0.0.7.

    Attributes:
        filter: of the low-pass: butter, cheby1, ellip or bessel. The original draws it; for seed 42 it is ellip.
        steps: asked of DDIM; the original does more where 1000 is no multiple: 31 for 30, 125 for 120.
        guidance_scale: 1 leaves out the unconditional half.
        seed: of the noise, as in the original on a CPU.
    """

    filter: str = "ellip"
    steps: int = 50
    guidance_scale: float = 3.5
    seed: int = 42


@dataclass(frozen=True)
class Stages:
    """What each stage made. Waves (1, 1, T), log-mels (1, 1, L, 256), latents (1, Z, L / 8, 32), all on the CPU."""

    wave: Tensor  # channel 0 of the recording, normalised and padded: T = 480 L
    cutoff_hz: float
    low: Tensor  # `wave` low-passed there
    condition: Tensor  # posterior sample of the mel of `low`, not scaled
    latents: Tensor  # of the diffusion, scaled
    decoded: Tensor  # mel of `latents`
    mel: Tensor  # `decoded` with the known bands of `low` put in
    vocoded: Tensor  # T = 480 L + 16, as all that follows
    audio: Tensor  # the result, as long as the padded recording
    samples: int  # length of the recording itself at 48 kHz


def restore(
    wave: np.ndarray,
    sample_rate: int,
    networks: Networks,
    settings: Settings = Settings(),
    *,
    noises: Noises | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Stages:
    """Restore a recording as audiosr 0.0.7 does, whole and in one piece.

    Args:
        wave: (C, T) at its own rate; only channel 0 is used.
        sample_rate: Hz.
        networks: of the checkpoint.
        settings: how.
        noises: recorded draws in place of the seed's.
        on_step: called with the time step and the latents after each step.

    Raises:
        ValueError: audiosr 0.0.7 fails on this recording or these settings.
    """
    times, vae = step_times(settings.steps), networks.vae
    with torch.inference_mode(), ordinary_convolutions():
        mel = MelSpectrogram()
        source = front_end(wave, sample_rate)
        cutoff_hz = find_cutoff_hz(mel.linear(source)[0])
        low = low_pass(source, cutoff_hz, settings.filter)
        low_mel = mel(low)
        posterior = encode(vae, low_mel)
        if noises is None:
            noises = Noises.draw(posterior[0].shape, len(times), settings.seed)
        condition = posterior[0] + posterior[1] * noises.condition
        velocity = guided_velocity(networks.unet, condition, vae.config.scaling_factor, settings.guidance_scale)
        for t, latents in ddim(velocity, noises.start, networks.betas, times, noises.steps):
            if on_step is not None:
                on_step(t, latents)
        decoded = decode(vae, latents / vae.config.scaling_factor)
        known = replace_known_bands(decoded, low_mel)
        vocoded = vocode(networks.vocoder, known)
        audio = normalise(replace_low_band(low, vocoded))
    samples = -(-wave.shape[-1] * AUDIO.sample_rate // sample_rate)
    return Stages(source, cutoff_hz, low, condition, latents, decoded, known, vocoded, audio, samples)


# --- the networks, called on their own device and in their own dtype, as float32 on the CPU outside -------------------


def encode(vae: Any, mel: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (1, Z, l, m) of the posterior of a log-mel (1, 1, L, M)."""
    posterior = vae.encode(_onto(vae, mel)).latent_dist
    return posterior.mean.float().cpu(), posterior.std.float().cpu()


def decode(vae: Any, z: Tensor) -> Tensor:
    """Log-mel (1, 1, L, M) of latents (1, Z, l, m) that are not scaled."""
    return vae.decode(_onto(vae, z)).sample.float().cpu()


def vocode(vocoder: Any, mel: Tensor) -> Tensor:
    """Wave (1, 1, 480 L + 16) of a log-mel (1, 1, L, M)."""
    return vocoder(_onto(vocoder, mel.squeeze(1)))[:, None].float().cpu()


def guided_velocity(unet: Any, condition: Tensor, scale: float, guidance_scale: float) -> Velocity:
    """The UNet with guidance, by two evaluations; `condition` (1, Z, l, m) is not scaled yet."""
    conditions = [condition * scale]
    if guidance_scale != 1:
        conditions.append(torch.full_like(condition, UNCONDITIONAL) * scale)

    def velocity(x: Tensor, t: int) -> Tensor:
        time = torch.full((x.shape[0],), t, device=next(unet.parameters()).device)
        v, *rest = (
            unet(_onto(unet, torch.cat([x, c], dim=1)), time, encoder_hidden_states=None).sample.float().cpu()
            for c in conditions
        )
        return rest[0] + guidance_scale * (v - rest[0]) if rest else v

    return velocity


def _onto(network: Any, x: Tensor) -> Tensor:
    return x.to(next(network.parameters()))


# --- diffusion --------------------------------------------------------------------------------------------------------


def step_times(steps: int) -> list[int]:
    """The time steps 1, 1 + c, 1 + 2 c, ... with c = 1000 // steps, last first; they may be more than `steps`."""
    if not 1 <= steps <= TRAIN_STEPS:
        raise fails(f"{steps} steps are not within 1 and {TRAIN_STEPS}")
    times = [t + 1 for t in range(0, TRAIN_STEPS, TRAIN_STEPS // steps)]
    if times[-1] == TRAIN_STEPS:
        raise fails(f"{steps} steps begin at the time {TRAIN_STEPS}, which does not exist (10, 50, 100 and 200 run)")
    if times[-1] == TRAIN_STEPS - 1:
        # There 1 - abar - sigma^2 is zero, and in float32 -6e-8: its square root makes everything NaN.
        raise fails(f"{steps} steps begin where no signal is left, which gives NaN (10, 50, 100 and 200 run)")
    return times[::-1]


def ddim(
    velocity: Velocity,
    x: Tensor,
    betas: Tensor | Sequence[float],
    times: Sequence[int],
    noises: Sequence[Tensor],
    eta: float = 1.0,
) -> Iterator[tuple[int, Tensor]]:
    """Yield (t, latents after the step); Song et al. 2021, eqs. 12 and 16, for v-prediction."""
    if len(noises) != len(times):
        raise ValueError(f"got {len(noises)} noises for {len(times)} steps")
    alpha_bars = torch.cumprod(1 - torch.as_tensor(betas, dtype=torch.float64), dim=0).float()
    for t, before, noise in zip(times, [*times[1:], 0], noises, strict=True):
        a, a_before = float(alpha_bars[t]), float(alpha_bars[before])
        v = velocity(x, t)
        x0 = math.sqrt(a) * x - math.sqrt(1 - a) * v
        eps = math.sqrt(a) * v + math.sqrt(1 - a) * x
        sigma = eta * math.sqrt((1 - a_before) / (1 - a) * (1 - a / a_before))
        x = math.sqrt(a_before) * x0 + math.sqrt(1 - a_before - sigma**2) * eps + sigma * noise
        yield t, x


def replace_known_bands(decoded: Tensor, low_mel: Tensor) -> Tensor:
    """The decoded log-mel, with the low-passed input's below its 98.5 % band. (1, 1, L, M)"""
    end = energy_index(low_mel[0, 0].exp().T)
    return torch.cat([low_mel[..., :end], decoded[..., end:]], dim=-1)
