"""The command line of a training script: `--config FILE [--resume] [--max-minutes M] [key=value ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from latentsr.config import load
from latentsr.data.dataset import Corpus
from latentsr.training.loop import fit
from latentsr.training.stage import Stage, StageConfig

INTERRUPTED = 130  # the shell's code for SIGINT


def launch(
    stage: type[Stage], config_type: type[StageConfig], default_config: Path, argv: Sequence[str] | None = None
) -> int:
    """Parse, build the stage, train. Returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    parser = argparse.ArgumentParser(description=f"Train {stage.__name__}. Any config key can be given as key=value.")
    parser.add_argument("--config", type=Path, default=default_config, help=f"YAML (default {default_config})")
    parser.add_argument("--resume", action="store_true", help="go on even if values have changed")
    parser.add_argument("--max-minutes", type=float, help="stop cleanly after this time, leaving a resumable state")
    parser.add_argument("--tracker", action="append", default=[], help="tensorboard, wandb, ... (repeatable)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for instance data=FOLDER batch_size=8")
    args = parser.parse_intermixed_args(argv)
    try:
        config = load(config_type, args.config, args.overrides)
        if not config.data:
            parser.error("no training data: add data=FOLDER (audio files) or data=manifest.csv")
        run = Path(config.out or f"runs/{stage.__name__.removesuffix('Stage').lower()}")
        torch.manual_seed(config.seed)  # the networks' initial weights
        built = stage(config)
        corpus = Corpus.open(config.data, config.corpus)
        exported = fit(
            built, corpus, run, resume=args.resume, max_minutes=args.max_minutes, trackers=args.tracker
        )  # fmt: skip
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if exported is None:
        print(f"stopped and saved in {run}; the same command goes on from there")
        return INTERRUPTED
    print(f"weights are in {exported}")
    return 0
