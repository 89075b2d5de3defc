"""Train the latent diffusion: accelerate launch train_ldm.py data=FOLDER [vae=FOLDER] [--config FILE]."""

import sys
from pathlib import Path

from latentsr.training.launch import launch
from latentsr.training.ldm import LdmStage, LdmStageConfig

if __name__ == "__main__":
    default = Path(__file__).parent / "configs/ldm/small.yaml"
    sys.exit(launch(LdmStage, LdmStageConfig, default))
