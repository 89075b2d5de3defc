"""The part of audiosr.py that runs latentsr: one task per process, one line of JSON.

python benchmarks/audiosr_ours.py '{"do": "restore", "model": "model-float32", "file": "clip.wav", ...}'
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

CLIP_RATE = 16_000  # Hz


def main() -> None:
    task = json.loads(sys.argv[1])
    print(json.dumps(TASKS[task.pop("do")](**task)))


def make_clip(file: str, duration_s: float, channels: int) -> dict[str, Any]:
    """Write bursts of noise at 16 kHz, other noise in every channel."""
    import soundfile

    seconds = np.arange(round(duration_s * CLIP_RATE)) / CLIP_RATE
    noise = np.random.default_rng(0).normal(size=(len(seconds), channels))
    soundfile.write(file, 0.1 * np.exp(-5 * (seconds % 0.5))[:, None] * noise, CLIP_RATE, "PCM_16")
    return {}


def convert(checkpoint: str, folder: str, dtype: str) -> dict[str, Any]:
    """Write our folder of an official checkpoint."""
    from latentsr.convert import audiosr

    started = time.perf_counter()
    audiosr.convert(checkpoint, folder, dtype=getattr(torch, dtype))
    return {"seconds": time.perf_counter() - started}


def restore(
    model: str,
    file: str,
    dtype: str,
    steps: int | None,
    guidance_scale: float | None,
    scheduler: str | None,
    vocoder: str | None,
    threads: int,
    calls: int,
) -> dict[str, Any]:
    """Seconds of each of some calls on a file, the model being loaded."""
    from latentsr.diffusion.sampling import SCHEDULERS

    pipe = load(model, dtype, threads, vocoder)
    if scheduler is not None:
        pipe.scheduler = SCHEDULERS[scheduler].from_config(pipe.scheduler.config)
    wall, cpu = [], []
    for _ in range(calls):
        started, cpu_started = time.perf_counter(), time.process_time()
        out = pipe(file, steps=steps, guidance_scale=guidance_scale, seed=42)
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - cpu_started)
    return {
        "seconds": wall,
        "cpu_seconds": cpu,
        "steps": pipe.config.default_steps if steps is None else steps,
        "scheduler": type(pipe.scheduler).__name__,
        "shape": list(out.audio.shape),
        "rms": float(np.sqrt(np.mean(out.audio**2))),
    }


def stages(model: str, dtype: str, frames: int, repeats: int, threads: int) -> dict[str, Any]:
    """Least seconds of each network on `frames` mel frames."""
    from latentsr.models.hifigan import vocode
    from latentsr.models.unet import predict_v
    from latentsr.models.vae import mode, to_mel

    pipe = load(model, dtype, threads)
    generator = torch.Generator().manual_seed(0)
    mel = (torch.randn(1, 1, frames, 256, generator=generator) - 5).to(pipe.vae.dtype)
    latents = torch.randn(2, 16, frames // 8, 32, generator=generator).to(pipe.vae.dtype)

    def unet(batch: int) -> Callable[[], Any]:
        x, t, ends = latents[:batch], torch.full((batch,), 981), torch.full((batch,), 8000.0)
        return lambda: predict_v(pipe.unet, x, x, t, ends, ends)

    parts: dict[str, Callable[[], Any]] = {
        "VAE encode": lambda: mode(pipe.vae, mel),
        "UNet, batch 1": unet(1),
        "UNet, batch 2": unet(2),
        "VAE decode": lambda: to_mel(pipe.vae, latents[:1]),
        "vocoder": lambda: vocode(pipe.vocoder, mel),
    }
    with torch.inference_mode():
        return {"stages": {name: least_seconds(part, repeats) for name, part in parts.items()}}


def load(model: str, dtype: str, threads: int, vocoder: str | None = None) -> Any:
    from latentsr import Pipeline

    torch.set_num_threads(threads)
    other = {} if vocoder is None else {"vocoder": vocoder}
    pipe = Pipeline.from_pretrained(model, torch_dtype=getattr(torch, dtype), **other)
    pipe.set_progress_bar_config(disable=True)
    for network in (part for part in pipe.components.values() if isinstance(part, torch.nn.Module)):
        for weight in network.parameters():
            weight.sum()  # weights may be views of files: reading them belongs to loading, as the peer's does
    return pipe


def least_seconds(part: Callable[[], Any], repeats: int) -> float:
    """Of `repeats` calls."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        part()
        taken.append(time.perf_counter() - started)
    return min(taken)


TASKS = {"make_clip": make_clip, "convert": convert, "restore": restore, "stages": stages}

if __name__ == "__main__":
    main()
