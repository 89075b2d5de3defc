"""Train all stages of a recipe, in order: accelerate launch train.py --config configs/recipes/default.yaml data=DIR."""

import sys

from latentsr.training.driver import launch_recipe
from latentsr.training.launch import default_config

if __name__ == "__main__":
    sys.exit(launch_recipe(default_config("recipes/default.yaml")))
