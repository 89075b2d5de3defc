"""Put the weights of finished runs into one model folder: python scripts/assemble.py OUT [--base MODEL] [--vae RUN] ...

Without --base, VAE, UNet and vocoder come from runs/. With it, all that is not named comes from that model.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from latentsr import Pipeline
from latentsr.folder import EMBEDDED, INDEX, read_index
from latentsr.models.diffwave_mamba import DiffWaveMamba
from latentsr.models.hifigan import load_vocoder
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.models.unet import LatentUNet
from latentsr.sampling import SCHEDULERS, training_scheduler
from latentsr.training.vae import load_vae

DTYPES = {"fp16": torch.float16, "fp32": torch.float32}


def of(kind: Any) -> Any:
    """How a class loads a component's folder."""
    return lambda folder: kind.from_pretrained(
        folder, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
    ).eval()


LOADERS: dict[str, Any] = {
    "vae": load_vae,
    "unet": of(LatentUNet),
    "vocoder": load_vocoder,
    "mamba_gan": of(MambaGenerator),
    "diffwave_mamba": of(DiffWaveMamba),
}
DEFAULT_RUNS = {"vae": "runs/vae", "unet": "runs/ldm", "vocoder": "runs/vocoder"}
VALUES = ("default_steps", "default_guidance_scale", "default_temperature", "default_head")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the model folder to write")
    parser.add_argument("--base", help="model folder, or 'embedded': where everything else comes from")
    for name in LOADERS:
        note = f" (default {DEFAULT_RUNS[name]} without --base)" if name in DEFAULT_RUNS else ""
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, metavar="RUN", help=f"run folder{note}")
    parser.add_argument("--scheduler", choices=SCHEDULERS, help="default ddim without --base")
    parser.add_argument("--default-steps", type=int)
    parser.add_argument("--default-guidance-scale", type=float)
    parser.add_argument("--default-temperature", type=float)
    parser.add_argument("--default-head", help="of the command line")
    parser.add_argument("--dtype", choices=DTYPES, default="fp16")
    options = parser.parse_args()
    runs = {name: getattr(options, name) for name in LOADERS}
    values = {name: getattr(options, name) for name in VALUES if getattr(options, name) is not None}
    parts: dict[str, Any] = {}
    if options.base is None:
        runs = {name: run or (Path(DEFAULT_RUNS[name]) if name in DEFAULT_RUNS else None) for name, run in runs.items()}
        parts["scheduler"] = SCHEDULERS[options.scheduler or "ddim"].from_config(training_scheduler().config)
    else:
        folder = EMBEDDED if options.base == "embedded" else Path(options.base)
        index = read_index(folder)
        values = {key: index[key] for key in VALUES if key in index} | values
        for name in (n for n in LOADERS if runs[n] is None and (index.get(n) or [None])[0]):
            parts[name] = LOADERS[name](folder / name)
        kind = SCHEDULERS[options.scheduler] if options.scheduler else _scheduler(index["scheduler"][1])
        parts["scheduler"] = kind.from_pretrained(folder / "scheduler")
    parts |= {name: LOADERS[name](run / "weights" / name) for name, run in runs.items() if run is not None}
    Pipeline(**parts, **values).save_pretrained(options.out, dtype=DTYPES[options.dtype])
    size = sum(file.stat().st_size for file in options.out.rglob("*.safetensors"))
    print(f"{options.out / INDEX}: {size / 1e6:.1f} MB")


def _scheduler(class_name: str) -> Any:
    return next(kind for kind in SCHEDULERS.values() if kind.__name__ == class_name)


if __name__ == "__main__":
    main()
