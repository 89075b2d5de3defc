"""How far few steps end from many: python benchmarks/audiosr_steps.py [--model MODEL] [--guidance 3.5] [--steps 4,6,8]

For each solver and number of steps, the distance to a 500-step DDIM solution from the same noise and condition: of the
latents (L2, relative) and of the mels that the VAE decodes from them (mean difference, dB). MODEL is a folder, or an
AudioSR checkpoint with `--config` where its sizes are not the official ones; the embedded default unless given. On
random weights the figures say how smooth that network's trajectory is, not how it sounds.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentsr import Pipeline
from latentsr.audio import read, resample
from latentsr.config import AUDIO
from latentsr.convert import audiosr
from latentsr.diffusion.drawing import Diffusion, Sampling
from latentsr.diffusion.sampling import SCHEDULERS, ZERO_SNR
from latentsr.models.vae import mode, to_mel
from latentsr.signal.level import network_gain
from latentsr.signal.lowband import cut_sharply
from latentsr.signal.mel import MelSpectrogram

SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("ddim", {}),
    "dpmsolver++": ("dpmsolver++", {"solver_order": 2}),
    "dpmsolver++, order 3": ("dpmsolver++", {"solver_order": 3}),
}
DB_PER_NAT = 20 / math.log(10)  # mels are natural logs of amplitude


@torch.inference_mode()
def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    model = load(options)
    condition = mode(model.vae, log_mel(options))
    noises = torch.randn(options.seeds, *condition.shape, generator=torch.Generator().manual_seed(0))
    started = time.perf_counter()
    reference = solve(model, condition, noises, "ddim", options.reference, options)
    print(f"{options.reference} steps of ddim: {time.perf_counter() - started:.0f} s\n")
    counts = [int(count) for count in options.steps.split(",")]
    print("| solver | " + " | ".join(str(count) for count in counts) + " |")
    print("|---|" + "---|" * len(counts))
    for solver in SOLVERS:
        cells = [
            distance(model, solve(model, condition, noises, solver, count, options), reference) for count in counts
        ]
        print(f"| {solver} | " + " | ".join(cells) + " |", flush=True)
    about = f"{options.frames} mel frames, {options.seeds} draws, guidance {options.guidance:g}, timesteps trailing"
    print(f"\nrelative L2 of the latents / mean difference of the mels in dB; {about}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder, or checkpoint of AudioSR")
    parser.add_argument("--config", type=Path, help="JSON file of the checkpoint's configuration")
    parser.add_argument("--steps", default="4,6,8,10,15,20,25,50", help="numbers of steps, separated by commas")
    parser.add_argument("--reference", type=int, default=500, help="steps of the solution that they are held against")
    parser.add_argument("--guidance", type=float, default=3.5)
    parser.add_argument("--seeds", type=int, default=1, help="draws of the initial noise")
    parser.add_argument("--file", help="recording for the condition, its beginning; bursts of noise unless given")
    parser.add_argument("--cutoff", type=float, default=4000, help="Hz, where the condition's band ends")
    parser.add_argument("--frames", type=int, default=512, help="mel frames, a multiple of 64")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


class Model(NamedTuple):
    """What makes latents and mels of them; `unconditional_latent` stands for no condition, before scaling."""

    vae: Any
    unet: Any
    scheduler: Any
    unconditional_latent: float


def load(options: argparse.Namespace) -> Model:
    """A checkpoint of AudioSR, or a folder of ours."""
    if options.model is not None and options.model.is_file():
        parts = audiosr.load(options.model, options.config)
    else:
        pipe = Pipeline.from_pretrained(options.model)
        parts = {**pipe.components, "unconditional_latent": pipe.config.get("unconditional_latent", 0.0)}
    return Model(**{name: parts[name] for name in Model._fields})


def log_mel(options: argparse.Namespace) -> Tensor:
    """What the condition is encoded from. (1, 1, L, M)"""
    samples = options.frames * AUDIO.hop_length
    if options.file:
        recording = read(options.file)
        wave = torch.from_numpy(resample(recording.samples, recording.sample_rate, AUDIO.sample_rate))[:1, :samples]
    else:
        seconds = torch.arange(samples) / AUDIO.sample_rate
        noise = torch.randn(1, samples, generator=torch.Generator().manual_seed(1))
        wave = torch.exp(-5 * (seconds % 0.5)) * noise
    if wave.shape[-1] < samples:
        raise SystemExit(f"audiosr_steps.py: {options.file} is too short for {options.frames} frames; ask for fewer")
    low = cut_sharply(
        wave[None] * network_gain(wave.abs().max().item()), torch.tensor([options.cutoff]), AUDIO.sample_rate
    )
    return MelSpectrogram(AUDIO)(low)


def solve(
    model: Model, condition: Tensor, noises: Tensor, solver: str, steps: int, options: argparse.Namespace
) -> Tensor:
    """Latents from each noise. (draws, 1, Z, l, m) -> the same"""
    kind, settings = SOLVERS[solver]
    scheduler = SCHEDULERS[kind].from_config(model.scheduler.config, **ZERO_SNR, **settings)
    sampling = Sampling(steps, options.guidance, unconditional_latent=model.unconditional_latent)
    diffusion = Diffusion(model.vae, model.unet, scheduler, sampling)
    ends = torch.full((len(condition),), float(options.cutoff))
    return torch.stack([diffusion.denoise(condition, noise, ends) for noise in noises])


def distance(model: Model, latents: Tensor, reference: Tensor) -> str:
    relative = (latents - reference).norm() / reference.norm()
    pairs = zip(latents, reference, strict=True)
    decibels = [DB_PER_NAT * (to_mel(model.vae, a) - to_mel(model.vae, b)).abs().mean() for a, b in pairs]
    return f"{relative:.3f} / {torch.stack(decibels).mean():.2f}"


if __name__ == "__main__":
    main()
