"""Train the DiffWave-Mamba: accelerate launch vocoder/train_diffwave_mamba.py data=FOLDER [--config FILE].

The config's `architecture` says which: fast, or mambawave (configs/vocoder/mambawave.yaml).
"""

import sys

from latentsr.training.launch import launch_stage

if __name__ == "__main__":
    sys.exit(launch_stage("diffwave_mamba"))
