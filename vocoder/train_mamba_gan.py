"""Train the Mamba-GAN or AEROMamba: accelerate launch vocoder/train_mamba_gan.py data=FOLDER [--config FILE].

The config's key `architecture` says which: fast (the default), excitation or aeromamba.
"""

import sys

from latentsr.training.launch import launch_stage

if __name__ == "__main__":
    sys.exit(launch_stage("mamba_gan"))
