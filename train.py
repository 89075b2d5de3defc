"""Train all stages of a recipe, in order: accelerate launch train.py --config configs/recipes/default.yaml data=DIR."""

import sys
from pathlib import Path

from latentsr.training.driver import launch_recipe

if __name__ == "__main__":
    default = Path(__file__).parent / "configs/recipes/default.yaml"
    sys.exit(launch_recipe(default))
