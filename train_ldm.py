"""Train the latent diffusion: accelerate launch train_ldm.py data=FOLDER [vae=FOLDER] [--config FILE].

`--config configs/ldm/distill.yaml` distils a finished one into few steps.
"""

import sys

from latentsr.training.launch import launch_stage

if __name__ == "__main__":
    sys.exit(launch_stage("ldm"))
