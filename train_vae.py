"""Train the mel autoencoder: accelerate launch train_vae.py data=FOLDER [--config configs/vae/small.yaml]."""

import sys
from pathlib import Path

from latentsr.training.launch import launch
from latentsr.training.stages import STAGES

if __name__ == "__main__":
    default = Path(__file__).parent / "configs/vae/small.yaml"
    sys.exit(launch(*STAGES["vae"], default))
