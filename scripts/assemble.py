"""Put the weights of finished runs into one model folder: python scripts/assemble.py OUT [--base MODEL] [--vae RUN] ...

Without --base, VAE, UNet and vocoder come from runs/. With it, all that is not named comes from that model.
"""

import argparse
from pathlib import Path

from latentsr.diffusion.sampling import SCHEDULERS
from latentsr.dtypes import TRAINED_DTYPES
from latentsr.model_folder.loading import INDEX
from latentsr.training.assemble import LOADERS, VALUES, assemble

DEFAULT_RUNS = {"vae": "runs/vae", "unet": "runs/ldm", "vocoder": "runs/vocoder"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the model folder to write")
    parser.add_argument("--base", default="", help="model folder, or 'embedded': where everything else comes from")
    for name in LOADERS:
        note = f" (default {DEFAULT_RUNS[name]} without --base)" if name in DEFAULT_RUNS else ""
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, metavar="RUN", help=f"run folder{note}")
    parser.add_argument("--scheduler", choices=SCHEDULERS, help="default ddim without --base")
    parser.add_argument("--default-steps", type=int)
    parser.add_argument("--default-guidance-scale", type=float)
    parser.add_argument("--default-temperature", type=float)
    parser.add_argument("--default-head", help="of the command line")
    parser.add_argument("--dtype", choices=TRAINED_DTYPES, default="fp16")
    options = parser.parse_args()
    runs = {} if options.base else {name: Path(run) for name, run in DEFAULT_RUNS.items()}
    runs |= {name: getattr(options, name) for name in LOADERS if getattr(options, name) is not None}
    values = {name: getattr(options, name) for name in VALUES if getattr(options, name) is not None}
    parts = {name: run / "weights" / name for name, run in runs.items()}
    size = assemble(
        options.out, parts, base=options.base, scheduler=options.scheduler, dtype=options.dtype, values=values
    )
    print(f"{options.out / INDEX}: {size:.1f} MB")


if __name__ == "__main__":
    main()
