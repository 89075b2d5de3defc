"""Train the latent diffusion: accelerate launch train_ldm.py data=FOLDER [vae=FOLDER] [--config FILE].

`--config configs/ldm/distill.yaml` distils a finished one into few steps.
"""

import sys
from pathlib import Path

from latentsr.training.distill import DistillStage, DistillStageConfig
from latentsr.training.launch import launch_architecture
from latentsr.training.ldm import LdmStage, LdmStageConfig
from latentsr.training.stage import Stage, StageConfig

if __name__ == "__main__":
    default = Path(__file__).parent / "configs/ldm/small.yaml"
    choices: dict[str, tuple[type[Stage], type[StageConfig]]] = {
        "latent": (LdmStage, LdmStageConfig),
        "audioldm2": (LdmStage, LdmStageConfig),
        "distill": (DistillStage, DistillStageConfig),
    }
    sys.exit(launch_architecture(choices, default))
