"""Train the cutoff estimator: accelerate launch train_cutoff.py data=FOLDER [--config configs/cutoff/small.yaml]."""

import sys

from latentsr.training.launch import launch_stage

if __name__ == "__main__":
    sys.exit(launch_stage("cutoff"))
