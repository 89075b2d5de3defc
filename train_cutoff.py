"""Train the cutoff estimator: accelerate launch train_cutoff.py data=FOLDER [--config configs/cutoff/small.yaml]."""

import sys
from pathlib import Path

from latentsr.training.launch import launch
from latentsr.training.stages import STAGES

if __name__ == "__main__":
    default = Path(__file__).parent / "configs/cutoff/small.yaml"
    sys.exit(launch(*STAGES["cutoff"], default))
