"""Train the DiffWave-Mamba: accelerate launch vocoder/train_diffwave_mamba.py data=FOLDER [--config FILE].

The config's `architecture` says which: fast, or mambawave (configs/vocoder/mambawave.yaml).
"""

import sys
from pathlib import Path

import torch

from latentsr.training.launch import launch_architecture
from latentsr.training.stages import STAGES

if __name__ == "__main__":
    torch.set_flush_denormal(True)  # states that have decayed to denormal numbers cost a CPU ten times a product
    choices = {"fast": STAGES["diffwave_mamba"], "mambawave": STAGES["mambawave"]}
    default = Path(__file__).parents[1] / "configs/vocoder/diffwave_mamba.yaml"
    sys.exit(launch_architecture(choices, default))
