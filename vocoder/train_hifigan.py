"""Train a vocoder: accelerate launch vocoder/train_hifigan.py data=FOLDER [--config configs/vocoder/istft.yaml]."""

import sys

from latentsr.training.launch import launch_stage

if __name__ == "__main__":
    sys.exit(launch_stage("vocoder"))
