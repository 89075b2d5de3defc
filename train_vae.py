"""Train the mel autoencoder: accelerate launch train_vae.py data=FOLDER [--config configs/vae/small.yaml]."""

import sys

from latentsr.training.launch import launch_stage

if __name__ == "__main__":
    sys.exit(launch_stage("vae"))
