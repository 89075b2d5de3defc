"""Restoring as audiosr 0.0.7 does, for comparison: one channel, its level lost, whole in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import SpeechT5HifiGan

from latentsr.config import AUDIO
from latentsr.convert import audiosr_compat
from latentsr.head_kinds import HEADS


@dataclass(frozen=True)
class CompatOutput:
    """What audiosr makes of a recording."""

    audio: np.ndarray  # (1, T) float32
    cutoff_hz: float
    seconds: float  # of the recording
    sample_rate: int = AUDIO.sample_rate


@torch.inference_mode()
def compat(
    model: Any,
    samples: np.ndarray,
    sample_rate: int,
    progress: Callable[[float, float], None] | None = None,
    **asked: Any,
) -> CompatOutput:
    """Restore a recording as audiosr 0.0.7 does.

    Args:
        model: a `Pipeline` of a converted AudioSR checkpoint, with its own vocoder.
        samples: (C, T) float32; channel 0 is restored.
        sample_rate: theirs, Hz.
        progress: called with (seconds done, seconds in all).
        asked: filter, steps, guidance_scale and seed: see `audiosr_compat.Settings`.

    Raises:
        ValueError: this is not an AudioSR model, or audiosr 0.0.7 fails here.
    """
    if getattr(model, "offloaded", False):
        raise ValueError("the compat preset does not run offloaded; call remove_all_hooks() first")
    settings = audiosr_compat.Settings(**asked)
    parts = model.load(HEADS["vocoder"].needs())
    vae, unet, scheduler, vocoder = (parts[name] for name in ("vae", "unet", "scheduler", "vocoder"))
    betas = scheduler.config.get("trained_betas")
    if betas is None or not isinstance(vocoder, SpeechT5HifiGan):
        raise ValueError("the compat preset is audiosr's; load a converted AudioSR checkpoint with its own vocoder")
    seconds, times = samples.shape[-1] / sample_rate, audiosr_compat.step_times(settings.steps)

    def on_step(t: int, latents: Tensor) -> None:
        if progress is not None:
            progress((times.index(t) + 1) / len(times) * seconds, seconds)

    networks = audiosr_compat.Networks(vae, unet, vocoder, betas)
    stages = audiosr_compat.restore(samples, sample_rate, networks, settings, on_step=on_step)
    return CompatOutput(stages.audio[0, :, : stages.samples].numpy(), stages.cutoff_hz, seconds)
