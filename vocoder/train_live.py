"""Train the live head: accelerate launch vocoder/train_live.py data=FOLDER."""

import sys

from latentsr.training.launch import launch_stage

if __name__ == "__main__":
    sys.exit(launch_stage("live"))
