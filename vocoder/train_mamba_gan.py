"""Train the Mamba-GAN or AEROMamba: accelerate launch vocoder/train_mamba_gan.py data=FOLDER [--config FILE].

The config's key `architecture` says which: fast (the default), excitation or aeromamba.
"""

import sys
from pathlib import Path

from latentsr.training.launch import launch_architecture
from latentsr.training.stages import STAGES

if __name__ == "__main__":
    default = Path(__file__).parents[1] / "configs/vocoder/mamba_gan.yaml"
    names = {"fast": "mamba_gan", "excitation": "excitation", "aeromamba": "aeromamba"}
    architectures = {architecture: STAGES[name] for architecture, name in names.items()}
    sys.exit(launch_architecture(architectures, default))
