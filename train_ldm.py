"""Train the latent diffusion: accelerate launch train_ldm.py data=FOLDER [vae=FOLDER] [--config FILE].

`--config configs/ldm/distill.yaml` distils a finished one into few steps.
"""

import sys
from pathlib import Path

from latentsr.training.launch import launch_architecture
from latentsr.training.stages import STAGES

if __name__ == "__main__":
    default = Path(__file__).parent / "configs/ldm/small.yaml"
    choices = {"latent": STAGES["ldm"], "audioldm2": STAGES["ldm"], "distill": STAGES["distill"]}
    sys.exit(launch_architecture(choices, default))
