"""Put the weights of three finished runs into one model folder: python scripts/assemble.py OUT [--vae RUN] ..."""

import argparse
from pathlib import Path

import torch

from latentsr import Pipeline
from latentsr.models.hifigan import load_vocoder
from latentsr.models.unet import LatentUNet
from latentsr.sampling import SCHEDULERS, training_scheduler
from latentsr.training.vae import load_vae

DTYPES = {"fp16": torch.float16, "fp32": torch.float32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the model folder to write")
    parser.add_argument("--vae", type=Path, default=Path("runs/vae"), help="run folder (default runs/vae)")
    parser.add_argument("--unet", type=Path, default=Path("runs/ldm"), help="run folder (default runs/ldm)")
    parser.add_argument("--vocoder", type=Path, default=Path("runs/vocoder"), help="run folder (default runs/vocoder)")
    parser.add_argument("--scheduler", choices=SCHEDULERS, default="ddim")
    parser.add_argument("--default-steps", type=int, default=4)
    parser.add_argument("--default-guidance-scale", type=float, default=1.0)
    parser.add_argument("--default-temperature", type=float, default=1.0)
    parser.add_argument("--dtype", choices=DTYPES, default="fp16")
    options = parser.parse_args()
    pipe = Pipeline(
        vae=load_vae(options.vae / "weights/vae"),
        unet=LatentUNet.from_pretrained(options.unet / "weights/unet", use_safetensors=True).eval(),
        scheduler=SCHEDULERS[options.scheduler].from_config(training_scheduler().config),
        vocoder=load_vocoder(options.vocoder / "weights/vocoder"),
        default_steps=options.default_steps,
        default_guidance_scale=options.default_guidance_scale,
        default_temperature=options.default_temperature,
    )
    pipe.save_pretrained(options.out, dtype=DTYPES[options.dtype])
    size = sum(file.stat().st_size for file in options.out.rglob("*.safetensors"))
    print(f"{options.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
