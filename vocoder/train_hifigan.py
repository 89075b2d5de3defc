"""Train a vocoder: accelerate launch vocoder/train_hifigan.py data=FOLDER [--config configs/vocoder/istft.yaml]."""

import sys
from pathlib import Path

from latentsr.training.launch import launch
from latentsr.training.stages import STAGES

if __name__ == "__main__":
    default = Path(__file__).parents[1] / "configs/vocoder/istft.yaml"
    sys.exit(launch(*STAGES["vocoder"], default))
