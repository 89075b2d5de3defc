"""Train the Mamba-GAN: accelerate launch vocoder/train_mamba_gan.py data=FOLDER [--config configs/vocoder/mamba_gan.yaml]."""  # noqa: E501

import sys
from pathlib import Path

from latentsr.training.launch import launch
from latentsr.training.mamba_gan import MambaGanStage, MambaGanStageConfig

if __name__ == "__main__":
    default = Path(__file__).parents[1] / "configs/vocoder/mamba_gan.yaml"
    sys.exit(launch(MambaGanStage, MambaGanStageConfig, default))
