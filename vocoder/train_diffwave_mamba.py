"""Train the DiffWave-Mamba: accelerate launch vocoder/train_diffwave_mamba.py data=FOLDER [--config FILE]."""

import sys
from pathlib import Path

import torch

from latentsr.training.diffwave_mamba import DiffWaveMambaStage, DiffWaveMambaStageConfig
from latentsr.training.launch import launch

if __name__ == "__main__":
    torch.set_flush_denormal(True)  # states that have decayed to denormal numbers cost a CPU ten times a product
    default = Path(__file__).parents[1] / "configs/vocoder/diffwave_mamba.yaml"
    sys.exit(launch(DiffWaveMambaStage, DiffWaveMambaStageConfig, default))
