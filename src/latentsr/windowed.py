"""The two halves of a restoration, window by window: recording -> latents, and latents -> recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, SchedulerMixin
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.heads import Head
from latentsr.models.unet import DenoisingUNet, frame_multiple, predict_v
from latentsr.models.vae import mode, strides
from latentsr.sampling import absolute_noise, guided, sample
from latentsr.signal.chunks import Window, take, trapezoid, windows
from latentsr.signal.denoise import filter_by_mel
from latentsr.signal.level import network_gain, turn_down
from latentsr.signal.lowband import cut_sharply, merge
from latentsr.signal.mel import MelSpectrogram

Advance = Callable[[float], None]  # called with the share of the whole job that was done

CORE = 64  # latent frames that one window answers for: 5.12 s at 8 mel frames each
MARGIN = 8  # looked at on each side; the outer half is thrown away, the inner half cross-faded
FADE = 8
EDGE_SAMPLES = 9600  # 0.2 s of wave around every window, for the filters and the STFT


@dataclass
class Job:
    """A recording to restore: wave (C, T) at 48 kHz on the CPU, and what holds for all of it."""

    wave: Tensor
    cutoff_hz: float
    seed: int = 0
    denoise: bool = False

    def __post_init__(self) -> None:
        self.peak = max(float(self.wave.max()), -float(self.wave.min()))  # abs() would copy a long recording
        self.gain = network_gain(self.peak)

    def low(self, first: int, last: int) -> Tensor:
        """Low band of mel frames [first, last) as the networks get it. (C, 1, (last - first) * hop)"""
        start, stop = first * AUDIO.hop_length - EDGE_SAMPLES, last * AUDIO.hop_length + EDGE_SAMPLES
        cut = cut_sharply(take(self.wave, start, stop)[:, None] * self.gain, self.ends(), AUDIO.sample_rate)
        return cut[..., EDGE_SAMPLES:-EDGE_SAMPLES]

    def ends(self) -> Tensor:
        """The cutoff once per channel. (C,)"""
        return torch.full((self.wave.shape[0],), self.cutoff_hz)


@dataclass(frozen=True)
class Sampling:
    """How latents are drawn. `temperature` scales the initial noise: below 1 the draws lie nearer to the mean."""

    steps: int
    guidance_scale: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        limits = {"steps": (1, 1000), "guidance_scale": (0, 100), "temperature": (0, 2)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be {low} to {high}, got {getattr(self, name)}")


class Diffusion:
    """Low band -> mel -> VAE encode -> denoiser and scheduler -> latents of the wide band."""

    def __init__(self, vae: AutoencoderKL, unet: DenoisingUNet, scheduler: SchedulerMixin) -> None:
        self.vae, self.unet, self.scheduler = vae, unet, scheduler
        self.mel = MelSpectrogram(AUDIO).to(vae.device)
        self.stride, mel_stride = strides(vae)
        self.shape = (vae.config.latent_channels, AUDIO.n_mels // mel_stride)

    def __call__(self, job: Job, sampling: Sampling, batch_size: int, advance: Advance) -> Tensor:
        """Scaled latents (C, Z, l, m) on the CPU."""
        channels, samples = job.wave.shape
        depth, rows = self.shape
        total = -(-samples // (self.stride * AUDIO.hop_length))
        latents = torch.zeros(channels, depth, total, rows)
        plan = list(windows(total, CORE, MARGIN, frame_multiple(self.unet)))
        for group in _batches(plan, batch_size):
            noise = [absolute_noise(job.seed, w.first, w.last - w.first, depth, rows) for w in group]
            condition = torch.cat([self.encode(job.low(w.first * self.stride, w.last * self.stride)) for w in group])
            shared = torch.stack(noise).repeat_interleave(channels, dim=0)  # the same for every channel
            z = self.denoise(condition, shared, job.cutoff_hz, sampling)
            for window, part in zip(group, z.float().cpu().split(channels), strict=True):
                first, last = max(window.first, 0), min(window.last, total)
                inside = slice(first - window.first, last - window.first)
                weights = trapezoid(window, total, FADE)[inside, None]
                latents[:, :, first:last] += part[:, :, inside] * weights
                advance((window.stop - window.start) / total)
        return latents

    def encode(self, wave: Tensor) -> Tensor:
        """Scaled latents of waves. (B, 1, T) -> (B, Z, l, m)"""
        mel = self.mel(wave.to(self.vae.device, torch.float32)).to(self.vae.dtype)
        return mode(self.vae, mel)

    def denoise(self, condition: Tensor, noise: Tensor, cutoff_hz: float, sampling: Sampling) -> Tensor:
        """Run the scheduler on a batch of windows. (B, Z, l, m) -> (B, Z, l, m)"""
        end = torch.full((condition.shape[0],), cutoff_hz, device=condition.device)
        wanted = torch.full_like(end, AUDIO.sample_rate / 2)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            x = x.to(condition.dtype)
            v = predict_v(self.unet, x, condition, t, end, wanted)
            if sampling.guidance_scale != 1.0:
                free = predict_v(self.unet, x, torch.zeros_like(condition), t, end, wanted)
                v = guided(v, free, sampling.guidance_scale)
            return v.float()

        return sample(velocity, sampling.temperature * noise.to(condition.device), self.scheduler, sampling.steps)


def decode(job: Job, head: Head, latents: Tensor | None, stride: int, advance: Advance) -> Tensor:
    """Restored wave (C, T): the head's band above the cutoff, the recording itself below.

    `latents` are the diffusion's, `stride` mel frames each.
    """
    hop, samples = stride * AUDIO.hop_length, job.wave.shape[-1]
    restored = torch.empty_like(job.wave)
    margin = -(-head.context_frames // stride) + 1
    mel = MelSpectrogram(AUDIO)
    total = -(-samples // hop)
    for window in windows(total, CORE, margin):
        first, last = window.first * hop, window.last * hop
        low = job.low(window.first * stride, window.last * stride).to(head.device, head.dtype)
        z = None if latents is None else _take_latents(latents, window.first, window.last).to(low)
        generator = torch.Generator().manual_seed(job.seed)
        wide = head(low, job.ends().to(low.device), z, generator=generator, keep_known=not job.denoise)
        wide = wide.float().cpu() / job.gain
        source = take(job.wave, first, last)
        kept = source[:, None]
        if job.denoise:
            kept = filter_by_mel(kept * job.gain, wide * job.gain, mel) / job.gain
        merged = merge(kept, wide, job.ends(), AUDIO.sample_rate)[:, 0]
        merged = turn_down(source, merged, ceiling=max(1.0, job.peak))
        start, stop = window.start * hop, min(window.stop * hop, samples)
        restored[:, start:stop] = merged[:, start - first : stop - first]
        advance((window.stop - window.start) / total)
    return restored


def _batches(plan: list[Window], size: int) -> Iterator[list[Window]]:
    """Up to `size` windows of one length together; the last window is the one that may be shorter."""
    for same in (plan[:-1], plan[-1:]):
        for i in range(0, len(same), size):
            yield same[i : i + size]


def _take_latents(latents: Tensor, first: int, last: int) -> Tensor:
    """Latent frames [first, last) of (C, Z, l, m), mirrored beyond the ends as the wave is."""
    channels, depth, frames, rows = latents.shape
    flat = latents.permute(0, 1, 3, 2).reshape(-1, frames)
    return take(flat, first, last).view(channels, depth, rows, -1).permute(0, 1, 3, 2)
