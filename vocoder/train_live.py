"""Train the live head: accelerate launch vocoder/train_live.py data=FOLDER."""

import sys
from pathlib import Path

import torch

from latentsr.training.launch import launch
from latentsr.training.stages import STAGES

if __name__ == "__main__":
    torch.set_flush_denormal(True)  # states that have decayed to denormal numbers cost a CPU ten times a product
    sys.exit(launch(*STAGES["live"], Path(__file__).parents[1] / "configs/vocoder/live.yaml"))
