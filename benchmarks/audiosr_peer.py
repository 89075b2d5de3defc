"""The part of audiosr.py that runs in the peer's environment: audiosr 0.0.7, one task per process, one line of JSON.

    python -I benchmarks/audiosr_peer.py '{"do": "restore", "checkpoint": "pytorch_model.bin", "file": "clip.wav", ...}'

Its own code runs: build_model, super_resolution, the networks. What it imports and never calls on this path is left
out (CLAP above all, 0.8 GB and a download), which is to its advantage. `-I` keeps this folder off the path, where a
script has the package's name.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import resource
import sys
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

# Imported by audiosr 0.0.7, never called by super_resolution: no need to install or to download what they want.
LEFT_OUT = (
    "torchvision",
    "progressbar",
    "audiosr.clap",
    "audiosr.utilities.data",
    "audiosr.latent_diffusion.modules.audiomae",
    "audiosr.latent_diffusion.modules.phoneme_encoder",
)
# Of audiosr_basic, by the manifest of github.com/santiquiroz/port-audiosr-onnx; times do not depend on it.
SCALE_FACTOR = 0.3342401385307312


def main() -> None:
    task = json.loads(sys.argv[1])
    with contextlib.redirect_stdout(sys.stderr):  # the peer prints as it goes
        answer = TASKS[task.pop("do")](**task)
    print(json.dumps(answer))


def write_checkpoint(file: str, seed: int = 0) -> dict[str, Any]:
    """Write random weights in the official layout, without CLAP and without the EMA copy, which inference ignores."""
    import torch

    pipeline = import_peer()
    torch.manual_seed(seed)
    params = pipeline.default_audioldm_config("basic")["model"]["params"]
    model = pipeline.LatentDiffusion(**params, device=torch.device("cpu"))
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():  # layers that start at zero would make the UNet's output zero
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    model.scale_factor.fill_(SCALE_FACTOR)
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("model_ema.")}
    unfinished = Path(f"{file}.part")
    torch.save({"state_dict": state}, unfinished)
    unfinished.rename(file)
    return {"tensors": len(state), "elements": sum(tensor.numel() for tensor in state.values())}


def restore(checkpoint: str, file: str, steps: int, guidance_scale: float, threads: int, calls: int) -> dict[str, Any]:
    """Seconds of each of some super_resolution calls on a file, the model being loaded."""
    import librosa
    import numpy as np

    pipeline, model, built_gib = load(checkpoint, threads)
    librosa.istft(librosa.stft(np.zeros(48_000, dtype=np.float32)))  # compiled when first used
    wall, cpu = [], []
    for _ in range(calls):
        started, cpu_started = time.perf_counter(), time.process_time()
        wave = pipeline.super_resolution(model, file, seed=42, ddim_steps=steps, guidance_scale=guidance_scale)
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - cpu_started)
    return {
        "seconds": wall,
        "cpu_seconds": cpu,
        "built_gib": built_gib,
        "steps": steps,
        "shape": list(wave.shape),
        "rms": float(np.sqrt(np.mean(wave**2))),
    }


def stages(checkpoint: str, frames: int, repeats: int, threads: int) -> dict[str, Any]:
    """Least seconds of each network on `frames` mel frames."""
    import torch

    _, model, _ = load(checkpoint, threads)
    generator = torch.Generator().manual_seed(0)
    mel = torch.randn(1, 1, frames, 256, generator=generator) - 5
    latents = torch.randn(2, 16, frames // 8, 32, generator=generator)

    def unet(batch: int) -> Any:
        x, t = latents[:batch], torch.full((batch,), 981)
        return lambda: model.apply_model(x, t, {"concat_lowpass_cond": x})

    parts = {
        "VAE encode": lambda: model.encode_first_stage(mel),
        "UNet, batch 1": unet(1),
        "UNet, batch 2": unet(2),
        "VAE decode": lambda: model.decode_first_stage(latents[:1]),
        "vocoder": lambda: model.mel_spectrogram_to_waveform(mel, save=False),
    }
    with torch.no_grad():
        return {"stages": {name: least_seconds(part, repeats) for name, part in parts.items()}}


def load(checkpoint: str, threads: int) -> tuple[ModuleType, Any, float]:
    """The peer's pipeline module, its model with the checkpoint's weights, and the peak GiB before these were read."""
    import torch

    torch.set_num_threads(threads)
    pipeline = import_peer()
    build, peaks = pipeline.LatentDiffusion, []

    def build_and_note(**params: Any) -> Any:
        model = build(**params)
        peaks.append(peak_gib())
        return model

    pipeline.LatentDiffusion = build_and_note
    pipeline.download_checkpoint = lambda name: checkpoint
    return pipeline, pipeline.build_model(device=torch.device("cpu")), peaks[0]


def import_peer() -> ModuleType:
    """`audiosr.pipeline`, made to import beside current libraries; each line that follows was needed."""
    import torch

    extension = ModuleType("torchaudio._extension")  # PyPI's links CUDA, and nothing here needs it
    names = {"_IS_TORCHAUDIO_EXT_AVAILABLE": False, "_IS_ALIGN_AVAILABLE": False, "fail_if_no_align": lambda f: f}
    extension.__dict__.update(names)
    sys.modules["torchaudio._extension"] = extension
    torchaudio = importlib.import_module("torchaudio")
    torchaudio.load = load_audio  # type: ignore[attr-defined]  # its own wants torchcodec
    transformers = importlib.import_module("transformers")
    _ = transformers.T5EncoderModel  # loaded before it could take what is left out for a torchvision
    sys.meta_path.insert(0, LeftOut())
    ddpm = importlib.import_module("audiosr.latent_diffusion.models.ddpm")
    ddpm.CLAPAudioEmbeddingClassifierFreev2 = torch.nn.Identity  # type: ignore[attr-defined]
    return importlib.import_module("audiosr.pipeline")


def load_audio(file: str) -> tuple[Any, int]:
    """torchaudio.load by soundfile: samples (C, T) and the rate in Hz."""
    import soundfile
    import torch

    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T.copy()), rate


class LeftOut(MetaPathFinder, Loader):
    """Finds an empty module for every name in LEFT_OUT; whatever is imported from one is an empty class."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not any(fullname == name or fullname.startswith(f"{name}.") for name in LEFT_OUT):
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        def placeholder(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__getattr__ = placeholder  # type: ignore[method-assign]


def least_seconds(part: Any, repeats: int) -> float:
    """Of `repeats` calls."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        part()
        taken.append(time.perf_counter() - started)
    return min(taken)


def peak_gib() -> float:
    """Most resident memory that this process has had, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30


TASKS = {"write_checkpoint": write_checkpoint, "restore": restore, "stages": stages}

if __name__ == "__main__":
    main()
